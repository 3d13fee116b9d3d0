// cases_element.c: activations, axpy, conversions.
#include <math.h>

#include "core/random.h"
#include "harness.h"
#include "reference.h"

typedef struct element_context {
    int64_t n, in_count; // of the output and the input
    const shape_rows *s;
    double *x, *y, *dy;
} element_context;

static double weighted(const element_context *c)
{
    double sum = 0.0;
    for (int64_t i = 0; i < c->n; i++) {
        sum += c->dy[i] * c->y[i];
    }
    return sum;
}

// Inputs from the flat, the steep and the saturated part of the functions, and beyond the range of exp.
static void spread(double *x, int64_t n, lw_dtype type)
{
    static const double special[] = {0.0, -0.0, 1e-30, 90.0, -90.0, -103.0, 110.0, -3.0, 20.0};
    for (int64_t i = 0; i < n; i += 5) {
        int64_t j = i / 5 % (int64_t)(sizeof special / sizeof *special);
        x[i] = op_round(special[j], type);
    }
}

// --- SwiGLU. variant 1: special values; 2: a NaN

static void launch_swiglu(const op_test *t, void *const *p)
{
    const shape_rows *s = &t->of->rows;
    t->dev->ops->swiglu(t->dev, s->rows, s->d, t->type, p[0], p[1]);
}

static double *swiglu_input(op_test *t, const shape_rows *s)
{
    double *gu = op_normal(t, s->rows * 2 * s->d, 2.0, t->type);
    op_describe(t, "rows=%lld f=%lld variant=%d", (long long)s->rows, (long long)s->d, s->variant);
    if (s->variant == 1) {
        spread(gu, s->rows * 2 * s->d, t->type);
    }
    if (s->variant == 2) {
        gu[s->d / 2] = NAN;
    }
    t->bytes = (double)(s->rows * s->d) * 12.0;
    return gu;
}

static void build_swiglu(op_test *t, const op_case *o)
{
    const shape_rows *s = &o->rows;
    double *gu = swiglu_input(t, s);
    op_input(t, "gu", t->type, s->rows * 2 * s->d, gu);
    int y = op_output(t, "y", t->type, s->rows * s->d, op_tolerance(t, 5e-7));
    ref_swiglu(s->rows, s->d, gu, t->buffer[y].expect);
    t->launch = launch_swiglu;
}

static double loss_swiglu(void *context)
{
    element_context *c = context;
    ref_swiglu(c->s->rows, c->s->d, c->x, c->y);
    return weighted(c);
}

static void launch_swiglu_backward(const op_test *t, void *const *p)
{
    const shape_rows *s = &t->of->rows;
    t->dev->ops->swiglu_backward(t->dev, s->rows, s->d, t->type, p[0], p[1], p[2]);
}

static void build_swiglu_backward(op_test *t, const op_case *o)
{
    const shape_rows *s = &o->rows;
    int64_t n = s->rows * s->d;
    element_context c = {
        n, 2 * n, s, swiglu_input(t, s), op_own(t, (size_t)n, sizeof(double)), op_normal(t, n, 1.0, t->type)};
    op_input(t, "gu", t->type, 2 * n, op_copy(t, 2 * n, c.x));
    op_input(t, "dy", t->type, n, c.dy);
    int dgu = op_output(t, "dgu", t->type, 2 * n, op_tolerance(t, 1e-6));
    op_expect_gradient(t, dgu, c.x, loss_swiglu, &c, 300);
    t->launch = launch_swiglu_backward;
    t->bytes *= 5.0 / 3.0;
}

// --- GELU: rows x d elements. variant 1: special values; 2: a NaN; 4: dx is dy

static void launch_gelu(const op_test *t, void *const *p)
{
    const shape_rows *s = &t->of->rows;
    t->dev->ops->gelu(t->dev, s->rows * s->d, p[0], p[1]);
}

static double *gelu_input(op_test *t, const shape_rows *s)
{
    int64_t n = s->rows * s->d;
    double *x = op_normal(t, n, 2.0, LW_F32);
    op_describe(t, "n=%lld variant=%d", (long long)n, s->variant);
    if (s->variant == 1) {
        spread(x, n, LW_F32);
    }
    if (s->variant == 2) {
        x[n / 2] = NAN;
    }
    t->bytes = (double)n * 8.0;
    return x;
}

static void build_gelu(op_test *t, const op_case *o)
{
    const shape_rows *s = &o->rows;
    double *x = gelu_input(t, s);
    op_input(t, "x", LW_F32, s->rows * s->d, x);
    int y = op_output(t, "y", LW_F32, s->rows * s->d, 5e-7);
    ref_gelu(s->rows * s->d, x, t->buffer[y].expect);
    t->launch = launch_gelu;
}

// variant + 8: the tanh form; 4: in place

static void launch_gelu_frozen(const op_test *t, void *const *p)
{
    const shape_rows *s = &t->of->rows;
    bool in_place = (s->variant & 4) != 0;
    t->dev->ops->gelu_frozen(t->dev, s->rows * s->d, (s->variant & 8) == 0, t->type, p[0], in_place ? p[0] : p[1]);
}

static void build_gelu_frozen(op_test *t, const op_case *o)
{
    const shape_rows *s = &o->rows;
    int64_t n = s->rows * s->d;
    double *x = op_normal(t, n, 2.0, t->type);
    op_describe(t, "n=%lld variant=%d", (long long)n, s->variant);
    if ((s->variant & 3) == 1) {
        spread(x, n, t->type);
    }
    if ((s->variant & 3) == 2) {
        x[n / 2] = NAN;
    }
    t->bytes = (double)n * 8.0;
    int y;
    if ((s->variant & 4) != 0) {
        y = op_update(t, "x", t->type, n, x, op_tolerance(t, 5e-7));
    } else {
        op_input(t, "x", t->type, n, x);
        y = op_output(t, "y", t->type, n, op_tolerance(t, 5e-7));
    }
    ((s->variant & 8) != 0 ? ref_gelu : ref_gelu_erf)(n, op_copy(t, n, x), t->buffer[y].expect);
    t->launch = launch_gelu_frozen;
}

static double loss_gelu(void *context)
{
    element_context *c = context;
    ref_gelu(c->n, c->x, c->y);
    return weighted(c);
}

static void launch_gelu_backward(const op_test *t, void *const *p)
{
    const shape_rows *s = &t->of->rows;
    bool in_place = s->variant == 4;
    t->dev->ops->gelu_backward(t->dev, s->rows * s->d, p[0], p[1], in_place ? p[1] : p[2]);
}

static void build_gelu_backward(op_test *t, const op_case *o)
{
    const shape_rows *s = &o->rows;
    int64_t n = s->rows * s->d;
    element_context c = {n, n, s, gelu_input(t, s), op_own(t, (size_t)n, sizeof(double)), op_normal(t, n, 1.0, LW_F32)};
    op_input(t, "x", LW_F32, n, op_copy(t, n, c.x));
    int dx;
    if (s->variant == 4) {
        dx = op_update(t, "dy, dx", LW_F32, n, op_copy(t, n, c.dy), 1e-6);
        t->buffer[dx].start = NULL; // the gradient replaces dy
        op_expect_gradient(t, dx, c.x, loss_gelu, &c, 300);
        t->buffer[dx].start = c.dy;
    } else {
        op_input(t, "dy", LW_F32, n, c.dy);
        dx = op_output(t, "dx", LW_F32, n, 1e-6);
        op_expect_gradient(t, dx, c.x, loss_gelu, &c, 300);
    }
    t->launch = launch_gelu_backward;
    t->bytes *= 1.5;
}

static void launch_axpy(const op_test *t, void *const *p)
{
    const shape_rows *s = &t->of->rows;
    t->dev->ops->axpy(t->dev, s->rows * s->d, -0.75f, p[0], p[1]);
}

static void build_axpy(op_test *t, const op_case *o)
{
    int64_t n = o->rows.rows * o->rows.d;
    op_describe(t, "n=%lld", (long long)n);
    double *x = op_normal(t, n, 1.0, LW_F32);
    op_input(t, "x", LW_F32, n, x);
    int y = op_update(t, "y", LW_F32, n, op_normal(t, n, 1.0, LW_F32), 2e-7);
    for (int64_t i = 0; i < n; i++) {
        t->buffer[y].expect[i] += -0.75 * x[i];
    }
    t->launch = launch_axpy;
    t->bytes = (double)n * 12.0;
}

static void launch_cast(const op_test *t, void *const *p)
{
    const shape_cast *s = &t->of->cast;
    if (s->upload) {
        t->dev->ops->upload_as(t->dev, s->n, t->context, s->from, p[1], s->to);
    } else {
        t->dev->ops->cast(t->dev, s->n, p[0], s->from, p[1], s->to);
    }
}

// The result is exact: op_round is the definition.
static void build_cast(op_test *t, const op_case *o)
{
    const shape_cast *s = &o->cast;
    static const double special[] = {
        0.0,         -0.0,         1.0,           65504.0,    65519.0, 65520.0, -70000.0,         1e-8,
        6e-8,        2.98e-8,      -5.9605e-8,    6.1e-5,     6.09e-5, 1e30,    (double)INFINITY, (double)-INFINITY,
        (double)NAN, 1.0009765625, 1.00048828125, 1.00390625, 3.0e38};
    op_describe(t, "n=%lld %s to %s%s", (long long)s->n, lw_dtype_name(s->from), lw_dtype_name(s->to),
                s->upload ? " from the host" : "");
    double *x = op_own(t, (size_t)s->n, sizeof *x);
    for (int64_t i = 0; i < s->n; i++) {
        double value = i < (int64_t)(sizeof special / sizeof *special)
                           ? special[i]
                           : (op_uniform(t) - 0.5) * exp2(24.0 * (op_uniform(t) - 0.8));
        x[i] = op_round(value, s->from);
    }
    op_input(t, "in", s->from, s->n, x);
    unsigned char *host = op_own(t, (size_t)s->n, lw_dtype_bytes(s->from));
    for (int64_t i = 0; i < s->n; i++) {
        op_store(s->from, x[i], host + (size_t)i * lw_dtype_bytes(s->from));
    }
    t->context = host;
    int out = op_output(t, "out", s->to, s->n, 0.0);
    for (int64_t i = 0; i < s->n; i++) {
        t->buffer[out].expect[i] = op_round(x[i], s->to);
    }
    t->launch = launch_cast;
    t->bytes = (double)s->n * (double)(lw_dtype_bytes(s->from) + lw_dtype_bytes(s->to));
}

static void launch_random_normal(const op_test *t, void *const *p)
{
    const shape_random *s = &t->of->random;
    t->dev->ops->random_normal(
        t->dev, &(lw_random_normal_args){
                    .n = s->n, .seed = 42, .stream = 7, .mean = s->mean, .std = s->std, .type = t->type, .out = p[0]});
}

static void build_random_normal(op_test *t, const op_case *o)
{
    const shape_random *s = &o->random;
    op_describe(t, "n=%lld mean=%g std=%g", (long long)s->n, (double)s->mean, (double)s->std);
    int out = op_output(t, "out", t->type, s->n, op_tolerance(t, 1e-6));
    for (int64_t i = 0; i < s->n; i++) {
        t->buffer[out].expect[i] = (double)s->mean + (double)s->std * lw_random_normal(42, 7, (uint64_t)i);
    }
    t->launch = launch_random_normal;
    t->bytes = (double)s->n * (double)lw_dtype_bytes(t->type);
}

#define ELEMENT(name, typed_, rows_, d_, variant_)                                           \
    {                                                                                        \
        .op = #name, .build = build_##name, .typed = typed_, .rows = { rows_, d_, variant_ } \
    }
#define ELEMENT_PERF(name, rows_, d_)                                              \
    {                                                                              \
        .op = #name, .build = build_##name, .perf = true, .rows = { rows_, d_, 0 } \
    }
#define SIZES(name, typed)                                                                        \
    ELEMENT(name, typed, 1, 1, 0), ELEMENT(name, typed, 3, 5, 0), ELEMENT(name, typed, 2, 16, 0), \
        ELEMENT(name, typed, 7, 33, 0), ELEMENT(name, typed, 13, 1000, 0), ELEMENT(name, typed, 0, 3, 0)
#define CAST(n, from, to)                                          \
    {                                                              \
        .op = "cast", .build = build_cast, .cast = { n, from, to } \
    }
#define UPLOAD_AS(n, from, to)                                                \
    {                                                                         \
        .op = "upload_as", .build = build_cast, .cast = { n, from, to, true } \
    }
#define RANDOM_NORMAL(n, mean, std)                                                                    \
    {                                                                                                  \
        .op = "random_normal", .build = build_random_normal, .typed = true, .random = { n, mean, std } \
    }

const op_case element_cases[] = {
    SIZES(swiglu, true),
    ELEMENT(swiglu, true, 9, 50, 1),
    ELEMENT(swiglu, true, 2, 50, 2),
    SIZES(swiglu_backward, true),
    ELEMENT(swiglu_backward, true, 9, 50, 1),
    SIZES(gelu, false),
    ELEMENT(gelu, false, 9, 50, 1),
    ELEMENT(gelu, false, 1, 50, 2),
    SIZES(gelu_frozen, true),
    ELEMENT(gelu_frozen, true, 9, 50, 1),
    ELEMENT(gelu_frozen, true, 1, 50, 2),
    ELEMENT(gelu_frozen, true, 7, 43, 4),
    ELEMENT(gelu_frozen, true, 9, 50, 9),
    ELEMENT(gelu_frozen, true, 7, 43, 12),
    SIZES(gelu_backward, false),
    ELEMENT(gelu_backward, false, 9, 50, 1),
    ELEMENT(gelu_backward, false, 7, 43, 4),
    SIZES(axpy, false),
    CAST(1, LW_F32, LW_BF16),
    CAST(5000, LW_F32, LW_BF16),
    CAST(5000, LW_F32, LW_F16),
    CAST(5000, LW_BF16, LW_F32),
    CAST(5000, LW_F16, LW_F32),
    CAST(777, LW_BF16, LW_F16),
    CAST(777, LW_F16, LW_BF16),
    CAST(300, LW_F32, LW_F32),
    CAST(300, LW_BF16, LW_BF16),
    CAST(0, LW_F32, LW_BF16),
    UPLOAD_AS(5000, LW_F32, LW_BF16),
    UPLOAD_AS(5001, LW_BF16, LW_F32),
    UPLOAD_AS(5000, LW_F16, LW_BF16),
    UPLOAD_AS(777, LW_F16, LW_F32),
    UPLOAD_AS(300, LW_BF16, LW_BF16),
    UPLOAD_AS(0, LW_F32, LW_BF16),
    RANDOM_NORMAL(1, 0.0f, 1.0f),
    RANDOM_NORMAL(5001, 0.0f, 0.02f),
    RANDOM_NORMAL(300, 1.0f, 0.02f),
    RANDOM_NORMAL(0, 0.0f, 1.0f),
    ELEMENT_PERF(swiglu, 2000, 344),
    ELEMENT_PERF(swiglu_backward, 2000, 344),
    ELEMENT_PERF(gelu, 2000, 512),
    ELEMENT_PERF(gelu_backward, 2000, 512),
    ELEMENT_PERF(gelu_frozen, 2000, 512),
    ELEMENT_PERF(axpy, 2000, 128),
    {.op = "cast", .build = build_cast, .perf = true, .cast = {1000000, LW_BF16, LW_F32}},
    {.op = "cast", .build = build_cast, .perf = true, .cast = {1000000, LW_F16, LW_F32}},
};
const int element_case_count = (int)(sizeof element_cases / sizeof *element_cases);
