// cases_rows.c: normalisation, moving and averaging rows.
#include <math.h>

#include "harness.h"
#include "reference.h"

#define EPS 1e-5f
#define FD_LIMIT 300

static double dot(int64_t n, const double *a, const double *b)
{
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

// What the losses of the gradients need: sum(dy y(x, ...)).
typedef struct row_context {
    const shape_rows *s;
    double *x, *w, *b, *gain, *dy, *y, *mean, *rstd;
    const int32_t *start;
} row_context;

static row_context context_of(op_test *t, const shape_rows *s)
{
    row_context c = {.s = s};
    c.x = op_normal(t, s->rows * s->d, 1.0, LW_F32);
    c.w = op_normal(t, s->d, 1.0, LW_F32);
    c.b = op_normal(t, s->d, 1.0, LW_F32);
    c.dy = op_normal(t, s->rows * s->d, 1.0, LW_F32);
    c.gain = op_normal(t, 1, 1.0, LW_F32);
    c.gain[0] = 1.25;
    c.y = op_own(t, (size_t)(s->rows * s->d), sizeof *c.y);
    c.mean = op_own(t, (size_t)s->rows, sizeof *c.mean);
    c.rstd = op_own(t, (size_t)s->rows, sizeof *c.rstd);
    op_describe(t, "rows=%lld d=%lld variant=%d", (long long)s->rows, (long long)s->d, s->variant);
    t->bytes = (double)(s->rows * s->d) * 4.0;
    return c;
}

// --- RMSNorm. variant 1: without rstd; 2: one NaN; 3: large values

static void launch_rmsnorm(const op_test *t, void *const *p)
{
    const shape_rows *s = &t->of->rows;
    t->dev->ops->rmsnorm(t->dev, s->rows, s->d, EPS, p[0], p[1], t->type, p[2], s->variant == 1 ? NULL : p[3]);
}

static void build_rmsnorm(op_test *t, const op_case *o)
{
    const shape_rows *s = &o->rows;
    row_context c = context_of(t, s);
    for (int64_t i = 0; i < s->rows * s->d && s->variant == 3; i++) {
        c.x[i] *= 16384.0;
    }
    if (s->variant == 2) {
        c.x[s->rows * s->d / 2] = NAN;
    }
    op_input(t, "x", LW_F32, s->rows * s->d, c.x);
    op_input(t, "w", LW_F32, s->d, c.w);
    int y = op_output(t, "y", t->type, s->rows * s->d, op_tolerance(t, 1e-6));
    ref_rmsnorm(s->rows, s->d, (double)EPS, c.x, c.w, t->buffer[y].expect, c.rstd);
    if (s->variant != 1) {
        int rstd = op_output(t, "rstd", LW_F32, s->rows, 1e-6);
        t->buffer[rstd].expect = c.rstd;
    }
    t->launch = launch_rmsnorm;
    t->bytes *= 2.0;
}

static double loss_rmsnorm(void *context)
{
    row_context *c = context;
    ref_rmsnorm(c->s->rows, c->s->d, (double)EPS, c->x, c->w, c->y, c->rstd);
    return dot(c->s->rows * c->s->d, c->dy, c->y);
}

static void launch_rmsnorm_backward(const op_test *t, void *const *p)
{
    const shape_rows *s = &t->of->rows;
    t->dev->ops->rmsnorm_backward(t->dev, s->rows, s->d, p[0], p[1], p[2], p[3], p[4], t->type,
                                  s->variant == 1 ? p[5] : NULL);
}

static void build_rmsnorm_backward(op_test *t, const op_case *o)
{
    const shape_rows *s = &o->rows;
    row_context c = context_of(t, s);
    (void)loss_rmsnorm(&c);
    op_input(t, "x", LW_F32, s->rows * s->d, op_copy(t, s->rows * s->d, c.x));
    op_input(t, "w", LW_F32, s->d, c.w);
    op_input(t, "rstd", LW_F32, s->rows, op_copy(t, s->rows, c.rstd));
    op_input(t, "dy", LW_F32, s->rows * s->d, c.dy);
    int dx = op_update(t, "dx", LW_F32, s->rows * s->d, op_normal(t, s->rows * s->d, 1.0, LW_F32), 1e-6);
    op_expect_gradient(t, dx, c.x, loss_rmsnorm, &c, FD_LIMIT);
    if (s->variant == 1) { // small enough that every element of dx is expected, not a sample of them
        int copy = op_output(t, "dx_copy", t->type, s->rows * s->d, op_tolerance(t, 1e-6));
        t->buffer[copy].expect = t->buffer[dx].expect;
    }
    t->launch = launch_rmsnorm_backward;
    t->bytes *= 4.0;
}

// --- LayerNorm. variant 1: dx NULL; 2: one NaN; 4: a mean far from 0

static void launch_layernorm(const op_test *t, void *const *p)
{
    const shape_rows *s = &t->of->rows;
    t->dev->ops->layernorm(t->dev, s->rows, s->d, EPS, p[0], p[1], p[2], p[3], p[4], p[5]);
}

static void build_layernorm(op_test *t, const op_case *o)
{
    const shape_rows *s = &o->rows;
    row_context c = context_of(t, s);
    for (int64_t i = 0; i < s->rows * s->d && s->variant == 4; i++) {
        c.x[i] = op_round(c.x[i] + 100.0, LW_F32);
    }
    if (s->variant == 2) {
        c.x[s->rows * s->d / 2] = NAN;
    }
    op_input(t, "x", LW_F32, s->rows * s->d, c.x);
    op_input(t, "g", LW_F32, s->d, c.w);
    op_input(t, "b", LW_F32, s->d, c.b);
    double tolerance = s->variant == 4 ? 1e-5 : 1e-6;
    int y = op_output(t, "y", LW_F32, s->rows * s->d, tolerance);
    int mean = op_output(t, "mean", LW_F32, s->rows, 3e-6);
    int rstd = op_output(t, "rstd", LW_F32, s->rows, tolerance);
    ref_layernorm(s->rows, s->d, (double)EPS, c.x, c.w, c.b, t->buffer[y].expect, t->buffer[mean].expect,
                  t->buffer[rstd].expect);
    t->launch = launch_layernorm;
    t->bytes *= 2.0;
}

static double loss_layernorm(void *context)
{
    row_context *c = context;
    ref_layernorm(c->s->rows, c->s->d, (double)EPS, c->x, c->w, c->b, c->y, c->mean, c->rstd);
    return dot(c->s->rows * c->s->d, c->dy, c->y);
}

static void launch_layernorm_backward(const op_test *t, void *const *p)
{
    const shape_rows *s = &t->of->rows;
    t->dev->ops->layernorm_backward(t->dev, s->rows, s->d, p[0], p[1], p[2], p[3], p[4], s->variant == 1 ? NULL : p[7],
                                    p[5], p[6]);
}

static void build_layernorm_backward(op_test *t, const op_case *o)
{
    const shape_rows *s = &o->rows;
    int64_t n = s->rows * s->d;
    row_context c = context_of(t, s);
    (void)loss_layernorm(&c);
    op_input(t, "x", LW_F32, n, op_copy(t, n, c.x));
    op_input(t, "g", LW_F32, s->d, op_copy(t, s->d, c.w));
    op_input(t, "mean", LW_F32, s->rows, op_copy(t, s->rows, c.mean));
    op_input(t, "rstd", LW_F32, s->rows, op_copy(t, s->rows, c.rstd));
    op_input(t, "dy", LW_F32, n, c.dy);
    int dg = op_update(t, "dg", LW_F32, s->d, op_normal(t, s->d, 1.0, LW_F32), 2e-6);
    int db = op_update(t, "db", LW_F32, s->d, op_normal(t, s->d, 1.0, LW_F32), 2e-6);
    op_expect_gradient(t, dg, c.w, loss_layernorm, &c, 100);
    op_expect_gradient(t, db, c.b, loss_layernorm, &c, 100);
    if (s->variant != 1) {
        // With d = 2 the two normalised values are +-1 whatever x is: the gradient is rounding, so bound it by dy.
        int dx = op_update(t, "dx", LW_F32, n, op_normal(t, n, 1.0, LW_F32), s->d <= 2 ? 1e-4 : 3e-6);
        op_expect_gradient(t, dx, c.x, loss_layernorm, &c, FD_LIMIT);
    }
    t->launch = launch_layernorm_backward;
    t->bytes *= 4.0;
}

// --- fixed RMS

#define SCALE 0.37f

static void launch_rmsscale(const op_test *t, void *const *p)
{
    const shape_rows *s = &t->of->rows;
    t->dev->ops->rmsscale(t->dev, s->rows, s->d, EPS, SCALE, p[0], p[1], p[2], p[3]);
}

static void build_rmsscale(op_test *t, const op_case *o)
{
    const shape_rows *s = &o->rows;
    row_context c = context_of(t, s);
    op_input(t, "gain", LW_F32, 1, c.gain);
    op_input(t, "x", LW_F32, s->rows * s->d, c.x);
    int y = op_output(t, "y", LW_F32, s->rows * s->d, 1e-6);
    int rstd = op_output(t, "rstd", LW_F32, s->rows, 1e-6);
    ref_rmsscale(s->rows, s->d, (double)EPS, (double)SCALE, c.gain[0], c.x, t->buffer[y].expect,
                 t->buffer[rstd].expect);
    t->launch = launch_rmsscale;
    t->bytes *= 2.0;
}

static double loss_rmsscale(void *context)
{
    row_context *c = context;
    ref_rmsscale(c->s->rows, c->s->d, (double)EPS, (double)SCALE, c->gain[0], c->x, c->y, c->rstd);
    return dot(c->s->rows * c->s->d, c->dy, c->y);
}

static void launch_rmsscale_backward(const op_test *t, void *const *p)
{
    const shape_rows *s = &t->of->rows;
    t->dev->ops->rmsscale_backward(t->dev, s->rows, s->d, SCALE, p[0], p[1], p[2], p[3], p[4], p[5]);
}

static void build_rmsscale_backward(op_test *t, const op_case *o)
{
    const shape_rows *s = &o->rows;
    int64_t n = s->rows * s->d;
    row_context c = context_of(t, s);
    (void)loss_rmsscale(&c);
    op_input(t, "gain", LW_F32, 1, op_copy(t, 1, c.gain));
    op_input(t, "x", LW_F32, n, op_copy(t, n, c.x));
    op_input(t, "rstd", LW_F32, s->rows, op_copy(t, s->rows, c.rstd));
    op_input(t, "dy", LW_F32, n, c.dy);
    // With d = 1 the output is the sign of x: dx is what eps leaves of it, a difference of nearly equal numbers.
    int dx = op_output(t, "dx", LW_F32, n, s->d == 1 ? 1e-2 : 2e-6);
    int dgain = op_update(t, "dgain", LW_F32, 1, op_normal(t, 1, 1.0, LW_F32), 1e-5);
    op_expect_gradient(t, dx, c.x, loss_rmsscale, &c, FD_LIMIT);
    op_expect_gradient(t, dgain, c.gain, loss_rmsscale, &c, FD_LIMIT);
    t->launch = launch_rmsscale_backward;
    t->bytes *= 3.0;
}

// --- gather and scatter. gather, variant: bits 1: in_index, 2: out_index, 4: accumulate

static int32_t *permutation(op_test *t, int64_t n, int64_t of)
{ // the first n of a permutation of `of`
    int32_t *p = op_own(t, (size_t)of, sizeof *p);
    for (int64_t i = 0; i < of; i++) {
        p[i] = (int32_t)i;
    }
    for (int64_t i = 0; i < n; i++) {
        int64_t j = i + op_below(t, of - i);
        int32_t swap = p[i];
        p[i] = p[j];
        p[j] = swap;
    }
    return p;
}

static void launch_gather(const op_test *t, void *const *p)
{
    const shape_rows *s = &t->of->rows;
    t->dev->ops->gather(t->dev, s->rows, s->d, p[0], t->type, (s->variant & 1) != 0 ? p[1] : NULL,
                        (s->variant & 2) != 0 ? p[2] : NULL, (s->variant & 4) != 0, p[3]);
}

static void build_gather(op_test *t, const op_case *o)
{
    const shape_rows *s = &o->rows;
    int64_t many = s->rows + 5, n = many * s->d;
    op_describe(t, "rows=%lld d=%lld%s%s%s", (long long)s->rows, (long long)s->d, s->variant & 1 ? " in_index" : "",
                s->variant & 2 ? " out_index" : "", s->variant & 4 ? " accumulate" : "");
    double *in = op_normal(t, n, 1.0, t->type), *before = op_normal(t, n, 1.0, LW_F32);
    int32_t *in_index = op_own(t, (size_t)s->rows, sizeof *in_index);
    for (int64_t i = 0; i < s->rows; i++) {
        in_index[i] = (int32_t)op_below(t, many);
    }
    int32_t *out_index = permutation(t, s->rows, many);
    op_input(t, "in", t->type, n, in);
    op_index(t, "in_index", s->rows, in_index);
    op_index(t, "out_index", s->rows, out_index);
    int out = op_update(t, "out", LW_F32, n, before, 1e-7);
    op_buffer *b = &t->buffer[out];
    b->state = op_own(t, (size_t)n, 1);
    for (int64_t i = 0; i < n; i++) {
        b->state[i] = OP_KEEP;
    }
    for (int64_t r = 0; r < s->rows; r++) {
        int64_t from = (s->variant & 1) != 0 ? in_index[r] : r, to = (s->variant & 2) != 0 ? out_index[r] : r;
        for (int64_t i = 0; i < s->d; i++) {
            b->state[to * s->d + i] = OP_CHECK;
            b->expect[to * s->d + i] = in[from * s->d + i] + ((s->variant & 4) != 0 ? before[to * s->d + i] : 0.0);
        }
    }
    t->launch = launch_gather;
    t->bytes = (double)(s->rows * s->d) * 8.0;
}

// --- copy_rows. variant: elements between the rows, of in and (once more) of out

static void launch_copy_rows(const op_test *t, void *const *p)
{
    const shape_rows *s = &t->of->rows;
    t->dev->ops->copy_rows(t->dev, s->rows, s->d, t->type, p[0], s->d + s->variant, p[1], p[2], s->d + 2 * s->variant);
}

static void build_copy_rows(op_test *t, const op_case *o)
{
    const shape_rows *s = &o->rows;
    const int64_t many = s->rows + 5, from = s->d + s->variant, to = s->d + 2 * s->variant;
    op_describe(t, "rows=%lld d=%lld apart=%d", (long long)s->rows, (long long)s->d, s->variant);
    double *in = op_normal(t, s->rows * from, 1.0, t->type), *before = op_normal(t, many * to, 1.0, t->type);
    int32_t *out_index = permutation(t, s->rows, many);
    op_input(t, "in", t->type, s->rows * from, in);
    op_index(t, "out_index", s->rows, out_index);
    op_buffer *b = &t->buffer[op_update(t, "out", t->type, many * to, before, 0.0)];
    b->state = op_own(t, (size_t)(many * to), 1);
    for (int64_t i = 0; i < many * to; i++) {
        b->state[i] = OP_KEEP;
    }
    for (int64_t i = 0; i < s->rows * s->d; i++) {
        int64_t at = out_index[i / s->d] * to + i % s->d;
        b->state[at] = OP_CHECK;
        b->expect[at] = in[i / s->d * from + i % s->d];
    }
    t->launch = launch_copy_rows;
    t->bytes = (double)(s->rows * s->d) * 4.0;
}

static void launch_scatter_add(const op_test *t, void *const *p)
{
    const shape_rows *s = &t->of->rows;
    t->dev->ops->scatter_add(t->dev, s->rows, s->d, p[0], p[1], s->variant, p[2]);
}

static void build_scatter_add(op_test *t, const op_case *o)
{ // variant: rows of out
    const shape_rows *s = &o->rows;
    int64_t n = s->rows * s->d, out_n = s->variant * s->d;
    op_describe(t, "rows=%lld d=%lld out_rows=%d", (long long)s->rows, (long long)s->d, s->variant);
    double *in = op_normal(t, n, 1.0, LW_F32), *before = op_normal(t, out_n, 1.0, LW_F32);
    int32_t *index = op_own(t, (size_t)s->rows, sizeof *index);
    for (int64_t i = 0; i < s->rows; i++) {
        index[i] = (int32_t)op_below(t, s->variant);
    }
    op_input(t, "in", LW_F32, n, in);
    op_index(t, "index", s->rows, index);
    int out = op_update(t, "out", LW_F32, out_n, before, 1e-6);
    for (int64_t i = 0; i < n; i++) {
        t->buffer[out].expect[index[i / s->d] * s->d + i % s->d] += in[i];
    }
    t->launch = launch_scatter_add;
    t->bytes = (double)n * 12.0;
}

// --- spans. variant: which list of lengths

static int32_t *span_starts(op_test *t, const shape_rows *s, int64_t *total)
{ // rows: spans; starts at row 2
    int32_t *start = op_own(t, (size_t)s->rows + 1, sizeof *start);
    start[0] = 2;
    for (int64_t i = 0; i < s->rows; i++) {
        start[i + 1] = start[i] + (int32_t)((s->variant + 3 * i) % 7); // some are empty
    }
    *total = start[s->rows] + 3;
    return start;
}

static void launch_span_mean(const op_test *t, void *const *p)
{
    const shape_rows *s = &t->of->rows;
    t->dev->ops->span_mean(t->dev, s->rows, s->d, p[0], p[1], p[2]);
}

static void build_span_mean(op_test *t, const op_case *o)
{
    const shape_rows *s = &o->rows;
    int64_t total;
    int32_t *start = span_starts(t, s, &total);
    op_describe(t, "spans=%lld d=%lld variant=%d", (long long)s->rows, (long long)s->d, s->variant);
    double *x = op_normal(t, total * s->d, 1.0, LW_F32);
    op_index(t, "start", s->rows + 1, start);
    op_input(t, "x", LW_F32, total * s->d, x);
    int y = op_output(t, "y", LW_F32, s->rows * s->d, 1e-6);
    ref_span_mean(s->rows, s->d, start, x, t->buffer[y].expect);
    t->launch = launch_span_mean;
    t->bytes = (double)(total * s->d) * 4.0;
}

static double loss_span_mean(void *context)
{
    row_context *c = context;
    ref_span_mean(c->s->rows, c->s->d, c->start, c->x, c->y);
    return dot(c->s->rows * c->s->d, c->dy, c->y);
}

static void launch_span_mean_backward(const op_test *t, void *const *p)
{
    const shape_rows *s = &t->of->rows;
    t->dev->ops->span_mean_backward(t->dev, s->rows, s->d, p[0], p[1], p[2]);
}

static void build_span_mean_backward(op_test *t, const op_case *o)
{
    const shape_rows *s = &o->rows;
    int64_t total;
    int32_t *start = span_starts(t, s, &total);
    row_context c = context_of(t, s);
    c.start = start;
    c.x = op_normal(t, total * s->d, 1.0, LW_F32);
    op_index(t, "start", s->rows + 1, start);
    op_input(t, "dy", LW_F32, s->rows * s->d, c.dy);
    int dx = op_output(t, "dx", LW_F32, total * s->d, 1e-6);
    op_buffer *b = &t->buffer[dx];
    b->state = op_own(t, (size_t)(total * s->d), 1);
    for (int64_t i = 0; i < total * s->d; i++) {
        int64_t row = i / s->d;
        b->state[i] = row < start[0] || row >= start[s->rows] ? OP_KEEP : OP_CHECK;
    }
    op_expect_gradient(t, dx, c.x, loss_span_mean, &c, FD_LIMIT);
    t->launch = launch_span_mean_backward;
}

static void launch_column_sum(const op_test *t, void *const *p)
{
    const shape_rows *s = &t->of->rows;
    t->dev->ops->column_sum(t->dev, s->rows, s->d, p[0], p[1]);
}

static void build_column_sum(op_test *t, const op_case *o)
{
    const shape_rows *s = &o->rows;
    row_context c = context_of(t, s);
    op_input(t, "dy", LW_F32, s->rows * s->d, c.dy);
    int db = op_update(t, "db", LW_F32, s->d, op_normal(t, s->d, 1.0, LW_F32), 2e-6);
    for (int64_t i = 0; i < s->rows * s->d; i++) {
        t->buffer[db].expect[i % s->d] += c.dy[i];
    }
    t->launch = launch_column_sum;
}

#define ROWS(name, typed_, rows_, d_, variant_)                                              \
    {                                                                                        \
        .op = #name, .build = build_##name, .typed = typed_, .rows = { rows_, d_, variant_ } \
    }
#define ROWS_PERF(name, rows_, d_, variant_)                                              \
    {                                                                                     \
        .op = #name, .build = build_##name, .perf = true, .rows = { rows_, d_, variant_ } \
    }
#define ROW_SIZES(name, typed)                                                                                       \
    ROWS(name, typed, 1, 1, 0), ROWS(name, typed, 3, 2, 0), ROWS(name, typed, 1, 64, 0), ROWS(name, typed, 5, 7, 0), \
        ROWS(name, typed, 17, 33, 0), ROWS(name, typed, 40, 128, 0), ROWS(name, typed, 3, 1001, 0),                  \
        ROWS(name, typed, 150, 96, 0), ROWS(name, typed, 0, 5, 0)

const op_case row_cases[] = {
    ROW_SIZES(rmsnorm, true),
    ROWS(rmsnorm, true, 5, 65, 1),
    ROWS(rmsnorm, true, 6, 48, 2),
    ROWS(rmsnorm, true, 6, 48, 3),
    ROWS(rmsnorm, true, 700, 256, 0),
    ROWS(rmsnorm, true, 3, 3584, 0),
    ROWS(rmsnorm, true, 2, 10004, 0),
    ROWS(rmsnorm, true, 2, 20001, 0),
    ROW_SIZES(rmsnorm_backward, false),
    ROWS(rmsnorm_backward, true, 3, 40, 1),
    ROWS(rmsnorm_backward, true, 2, 4096, 0),
    ROWS(rmsnorm_backward, true, 1, 17000, 0),
    ROWS(rmsnorm_backward, true, 5, 7, 1),
    ROW_SIZES(layernorm, false),
    ROWS(layernorm, false, 6, 48, 2),
    ROWS(layernorm, false, 7, 65, 4),
    ROWS(layernorm, false, 700, 256, 0),
    ROWS(layernorm_backward, false, 3, 2, 0),
    ROWS(layernorm_backward, false, 1, 64, 0),
    ROWS(layernorm_backward, false, 5, 7, 0),
    ROWS(layernorm_backward, false, 17, 33, 0),
    ROWS(layernorm_backward, false, 40, 128, 0),
    ROWS(layernorm_backward, false, 37, 129, 1),
    ROWS(layernorm_backward, false, 150, 96, 0),
    ROWS(layernorm_backward, false, 0, 5, 0),
    ROWS(layernorm_backward, false, 300, 80, 0),
    ROW_SIZES(rmsscale, false),
    ROW_SIZES(rmsscale_backward, false),
    ROWS(rmsscale_backward, false, 300, 80, 0),
    ROWS(gather, true, 1, 1, 0),
    ROWS(gather, true, 7, 5, 1),
    ROWS(gather, true, 7, 33, 2),
    ROWS(gather, true, 40, 64, 3),
    ROWS(gather, true, 40, 64, 4),
    ROWS(gather, true, 13, 300, 5),
    ROWS(gather, true, 13, 65, 6),
    ROWS(gather, true, 150, 600, 7),
    ROWS(gather, true, 0, 5, 3),
    ROWS(copy_rows, true, 1, 1, 0),
    ROWS(copy_rows, true, 7, 33, 0),
    ROWS(copy_rows, true, 7, 33, 5),
    ROWS(copy_rows, true, 20, 64, 0),
    ROWS(copy_rows, true, 20, 1024, 256),
    ROWS(copy_rows, true, 20, 64, 4),
    ROWS(copy_rows, true, 0, 5, 3),
    ROWS(scatter_add, false, 1, 1, 1),
    ROWS(scatter_add, false, 9, 5, 4),
    ROWS(scatter_add, false, 300, 33, 7),
    ROWS(scatter_add, false, 64, 64, 1000),
    ROWS(scatter_add, false, 500, 300, 11),
    ROWS(scatter_add, false, 0, 5, 3),
    ROWS(span_mean, false, 1, 1, 1),
    ROWS(span_mean, false, 1, 5, 0),
    ROWS(span_mean, false, 9, 33, 3),
    ROWS(span_mean, false, 60, 256, 0),
    ROWS(span_mean, false, 0, 4, 0),
    ROWS(span_mean_backward, false, 1, 1, 1),
    ROWS(span_mean_backward, false, 9, 33, 3),
    ROWS(span_mean_backward, false, 60, 64, 0),
    ROWS(span_mean_backward, false, 0, 4, 0),
    ROW_SIZES(column_sum, false),
    ROWS(column_sum, false, 1000, 300, 0),
    ROWS_PERF(rmsnorm, 2000, 128, 0),
    ROWS_PERF(rmsnorm, 2000, 256, 0),
    ROWS_PERF(rmsnorm_backward, 2000, 128, 0),
    ROWS_PERF(layernorm, 2000, 128, 0),
    ROWS_PERF(layernorm_backward, 2000, 128, 0),
    ROWS_PERF(rmsscale, 2000, 128, 0),
    ROWS_PERF(rmsscale_backward, 2000, 128, 0),
    ROWS_PERF(gather, 2000, 128, 3),
    ROWS_PERF(scatter_add, 2000, 128, 300),
    ROWS_PERF(column_sum, 2000, 512, 0),
};
const int row_case_count = (int)(sizeof row_cases / sizeof *row_cases);
