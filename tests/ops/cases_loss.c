// cases_loss.c: cross-entropy with distillation, argmax, squared norm, AdamW.
#include <math.h>
#include <string.h>

#include "harness.h"
#include "reference.h"

// --- xent. Rows without distillation (kl_weight 0) and rows of weight 0 are mixed in.

typedef struct xent_context {
    const shape_xent *s;
    double *z, *teacher, *weight, *kl_weight;
    int32_t *target, *teacher_row;
} xent_context;

static bool distils(const xent_context *c, int64_t r)
{
    return c->s->tau > 0.0f && c->kl_weight[r] != 0.0;
}

// nll and kl of row r
static void xent_row(const xent_context *c, int64_t r, double *nll, double *kl)
{
    int64_t v = c->s->vocab;
    ref_xent_row(v, c->z + r * v, c->target[r], distils(c, r) ? c->teacher + c->teacher_row[r] * v : NULL,
                 (double)c->s->tau, nll, kl);
}

static double loss_xent(void *context)
{
    xent_context *c = context;
    double sum = 0.0, nll, kl;
    for (int64_t r = 0; r < c->s->rows; r++) {
        xent_row(c, r, &nll, &kl);
        sum += c->weight[r] * nll;
        if (distils(c, r)) {
            sum += c->kl_weight[r] * (double)c->s->tau * (double)c->s->tau * kl;
        }
    }
    return sum;
}

// Buffers: 0 target, 1 weight, 2 teacher, 3 kl_weight, 4 logits, 5 nll, 6 kl, 7 argmax, 8 teacher_row
static void launch_xent(const op_test *t, void *const *p)
{
    const shape_xent *s = &t->of->xent;
    lw_xent x = {.rows = s->rows, .vocab = s->vocab, .logits = p[4], .type = t->type, .target = p[0]};
    x.weight = s->gradient ? p[1] : NULL;
    x.teacher = s->tau > 0.0f ? p[2] : NULL;
    x.kl_weight = s->tau > 0.0f ? p[3] : NULL;
    x.teacher_row = s->compact ? p[8] : NULL;
    x.tau = s->tau > 0.0f ? s->tau : 1.0f;
    x.gradient = s->gradient;
    x.nll = p[5];
    x.kl = p[6];
    x.argmax = p[7];
    t->dev->ops->xent(t->dev, &x);
}

// From the last row to the first; an index that must not be read lies far outside. Returns how many there are.
static int64_t place_teachers(xent_context *c)
{
    int64_t n = 0;
    for (int64_t r = c->s->rows - 1; r >= 0; r--) {
        c->teacher_row[r] = distils(c, r) ? (int32_t)n++ : INT32_MAX;
    }
    return n;
}

static void build_xent(op_test *t, const op_case *o)
{
    const shape_xent *s = &o->xent;
    int64_t n = s->rows * s->vocab;
    op_describe(t, "rows=%lld vocab=%lld tau=%g%s%s scale=%g", (long long)s->rows, (long long)s->vocab, (double)s->tau,
                s->gradient ? " gradient" : "", s->compact ? " compact" : "", (double)s->scale);
    xent_context c = {s,
                      op_normal(t, n, (double)s->scale, t->type),
                      op_normal(t, n, (double)s->scale, t->type),
                      op_normal(t, s->rows, 1.0, LW_F32),
                      op_normal(t, s->rows, 1.0, LW_F32),
                      op_own(t, (size_t)s->rows, sizeof(int32_t)),
                      op_own(t, (size_t)s->rows, sizeof(int32_t))};
    for (int64_t r = 0; r < s->rows; r++) {
        c.target[r] = (int32_t)op_below(t, s->vocab);
        c.weight[r] = r % 7 == 3 ? 0.0 : fabs(c.weight[r]);
        c.kl_weight[r] = r % 3 == 1 ? 0.0 : fabs(c.kl_weight[r]);
        c.teacher_row[r] = (int32_t)r;
    }
    int64_t teachers = s->compact ? place_teachers(&c) : s->rows;
    op_index(t, "target", s->rows, c.target);
    op_input(t, "weight", LW_F32, s->rows, c.weight);
    op_input(t, "teacher", t->type, teachers * s->vocab, c.teacher);
    op_input(t, "kl_weight", LW_F32, s->rows, c.kl_weight);
    double *before = op_copy(t, n, c.z);
    int logits = s->gradient ? op_update(t, "logits", t->type, n, before, op_tolerance(t, 2e-6))
                             : op_input(t, "logits", t->type, n, before);
    int nll = op_output(t, "nll", LW_F32, s->rows, 2e-6);
    int kl = op_output(t, "kl", LW_F32, s->rows, 1e-5);
    int argmax = op_output(t, "argmax", LW_I32, s->rows, 0.0);
    op_index(t, "teacher_row", s->rows, c.teacher_row);
    t->launch = launch_xent;
    t->bytes = (double)n * 4.0 * (s->gradient ? 2.0 : 1.0);
    if (t->perf) {
        return;
    }
    for (int64_t r = 0; r < s->rows; r++) {
        int64_t best = 0;
        for (int64_t i = 1; i < s->vocab; i++) {
            best = c.z[r * s->vocab + i] > c.z[r * s->vocab + best] ? i : best;
        }
        t->buffer[argmax].expect[r] = (double)best;
        xent_row(&c, r, &t->buffer[nll].expect[r], &t->buffer[kl].expect[r]);
    }
    if (s->gradient) {
        t->buffer[logits].start = NULL; // overwritten, not accumulated
        op_expect_gradient(t, logits, c.z, loss_xent, &c, 400);
        t->buffer[logits].start = before;
    }
}

static void launch_argmax(const op_test *t, void *const *p)
{
    const shape_rows *s = &t->of->rows;
    t->dev->ops->argmax(t->dev, s->rows, s->d, p[0], t->type, p[1]);
}

static void build_argmax(op_test *t, const op_case *o)
{ // variant 1: many equal values
    const shape_rows *s = &o->rows;
    double *x = op_normal(t, s->rows * s->d, 1.0, t->type);
    op_describe(t, "rows=%lld n=%lld variant=%d", (long long)s->rows, (long long)s->d, s->variant);
    for (int64_t i = 0; s->variant == 1 && i < s->rows * s->d; i++) {
        x[i] = floor(x[i]);
    }
    op_input(t, "logits", t->type, s->rows * s->d, x);
    int out = op_output(t, "out", LW_I32, s->rows, 0.0);
    for (int64_t r = 0; r < s->rows; r++) {
        int64_t best = 0;
        for (int64_t i = 1; i < s->d; i++) {
            best = x[r * s->d + i] > x[r * s->d + best] ? i : best;
        }
        t->buffer[out].expect[r] = (double)best;
    }
    t->launch = launch_argmax;
    t->bytes = (double)(s->rows * s->d) * 4.0;
}

static void launch_sqnorm(const op_test *t, void *const *p)
{
    t->dev->ops->sqnorm(t->dev, t->of->rows.rows, p[0], t->type, p[1]);
}

static void build_sqnorm(op_test *t, const op_case *o)
{ // variant 1: a NaN; 2: an infinity; 3: overflow
    int64_t n = o->rows.rows;
    op_describe(t, "n=%lld variant=%d", (long long)n, o->rows.variant);
    double *x = op_normal(t, n, 1.0, t->type), sum = 0.0;
    if (o->rows.variant > 0) {
        x[n / 3] = o->rows.variant == 1   ? (double)NAN
                   : o->rows.variant == 2 ? (double)INFINITY
                                          : op_round(3e38, t->type);
    }
    for (int64_t i = 0; i < n; i++) {
        sum += x[i] * x[i];
    }
    op_input(t, "x", t->type, n, x);
    int out = op_output(t, "out", LW_F32, 1, 1e-7);
    t->buffer[out].expect[0] = o->rows.variant == 3 ? (double)INFINITY : sum;
    t->launch = launch_sqnorm;
    t->bytes = (double)n * 4.0;
}

static void launch_dot(const op_test *t, void *const *p)
{
    t->dev->ops->dot(t->dev, t->of->rows.rows, p[0], p[1], p[2]);
}

static void build_dot(op_test *t, const op_case *o)
{ // variant 1: a NaN
    int64_t n = o->rows.rows;
    op_describe(t, "n=%lld variant=%d", (long long)n, o->rows.variant);
    double *x = op_normal(t, n, 1.0, LW_F32), *y = op_normal(t, n, 1.0, LW_F32);
    if (o->rows.variant == 1) {
        y[n / 3] = (double)NAN;
    }
    op_input(t, "x", LW_F32, n, x);
    op_input(t, "y", LW_F32, n, y);
    int out = op_update(t, "out", LW_F32, 1, op_normal(t, 1, 1.0, LW_F32), 1e-6);
    for (int64_t i = 0; i < n; i++) {
        t->buffer[out].expect[0] += x[i] * y[i];
    }
    t->launch = launch_dot;
    t->bytes = (double)n * 8.0;
}

// --- AdamW

static lw_adamw adamw_of(const shape_adamw *s)
{
    lw_adamw o = {.n = s->n, .lr = 1e-3f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.1f};
    o.step = s->step;
    o.clip = s->clip;
    return o;
}

static void launch_adamw(const op_test *t, void *const *p)
{
    lw_adamw o = adamw_of(&t->of->adamw);
    o.grad = p[0];
    o.grad_sqnorm = p[1];
    o.m = p[2];
    o.v = p[3];
    o.param = p[4];
    t->dev->ops->adamw(t->dev, &o);
}

static void build_adamw(op_test *t, const op_case *c)
{
    const shape_adamw *s = &c->adamw;
    lw_adamw o = adamw_of(s);
    op_describe(t, "n=%lld clip=%g step=%lld norm*%g", (long long)s->n, (double)s->clip, (long long)s->step,
                s->sqnorm_factor);
    double *grad = op_normal(t, s->n, 0.1, LW_F32), *sqnorm = op_own(t, 1, sizeof *sqnorm);
    double *m = op_normal(t, s->n, 0.05, LW_F32), *v = op_normal(t, s->n, 0.01, LW_F32);
    for (int64_t i = 0; i < s->n; i++) {
        v[i] = fabs(v[i]);
        sqnorm[0] += grad[i] * grad[i];
    }
    sqnorm[0] = op_round(sqnorm[0] * s->sqnorm_factor, LW_F32);
    op_input(t, "grad", LW_F32, s->n, grad);
    op_input(t, "sqnorm", LW_F32, 1, sqnorm);
    int bm = op_update(t, "m", LW_F32, s->n, m, 5e-7), bv = op_update(t, "v", LW_F32, s->n, v, 5e-7);
    int bp = op_update(t, "param", LW_F32, s->n, op_normal(t, s->n, 1.0, LW_F32), 2e-7);
    t->launch = launch_adamw;
    t->bytes = (double)s->n * 28.0;
    const ref_adamw_factors f = {(double)o.lr,           (double)o.beta1, (double)o.beta2, (double)o.eps,
                                 (double)o.weight_decay, (double)o.clip,  sqrt(sqnorm[0]), o.step};
    if (isfinite(sqnorm[0])) {
        ref_adamw(s->n, &f, grad, t->buffer[bm].expect, t->buffer[bv].expect, t->buffer[bp].expect);
        return;
    }
    for (int b = bm; b <= bp; b++) { // the step is skipped: not one bit changes
        t->buffer[b].state = op_own(t, (size_t)s->n, 1);
        memset(t->buffer[b].state, OP_KEEP, (size_t)s->n);
    }
}

#define XENT(rows, vocab, tau, gradient, scale)                                                                \
    {                                                                                                          \
        .op = "xent", .build = build_xent, .typed = true, .xent = { rows, vocab, tau, gradient, scale, false } \
    }
#define XENT_COMPACT(rows, vocab, tau, gradient)                                                             \
    {                                                                                                        \
        .op = "xent", .build = build_xent, .typed = true, .xent = { rows, vocab, tau, gradient, 1.0f, true } \
    }
#define XENT_ALL(rows, vocab, scale)                                                                                   \
    XENT(rows, vocab, 0.0f, false, scale), XENT(rows, vocab, 0.0f, true, scale), XENT(rows, vocab, 2.0f, true, scale), \
        XENT(rows, vocab, 1.0f, false, scale)
#define XENT_PERF(rows, vocab, tau)                                                                      \
    {                                                                                                    \
        .op = "xent", .build = build_xent, .perf = true, .xent = { rows, vocab, tau, true, 1.0f, false } \
    }
#define ARGMAX(rows_, n, variant_)                                                           \
    {                                                                                        \
        .op = "argmax", .build = build_argmax, .typed = true, .rows = { rows_, n, variant_ } \
    }
#define SQNORM(n, variant_)                                                              \
    {                                                                                    \
        .op = "sqnorm", .build = build_sqnorm, .typed = true, .rows = { n, 0, variant_ } \
    }
#define DOT(n, variant)                                            \
    {                                                              \
        .op = "dot", .build = build_dot, .rows = { n, 0, variant } \
    }
#define ADAMW(n, clip, step, factor)                                            \
    {                                                                           \
        .op = "adamw", .build = build_adamw, .adamw = { n, clip, step, factor } \
    }

const op_case loss_cases[] = {
    XENT_ALL(3, 2, 1.0f),
    XENT_ALL(1, 65, 1.0f),
    XENT_ALL(7, 33, 3.0f),
    XENT_ALL(9, 1000, 2.0f),
    XENT_ALL(4, 129, 1000.0f), // the exponentials of the raw logits would overflow
    XENT(5, 1, 0.0f, false, 1.0f),
    XENT(0, 10, 0.0f, true, 1.0f),
    XENT_COMPACT(7, 33, 2.0f, true),
    XENT_COMPACT(10, 1000, 0.5f, true),
    XENT_COMPACT(5, 129, 1.0f, false),
    ARGMAX(1, 1, 0),
    ARGMAX(5, 17, 0),
    ARGMAX(9, 1000, 0),
    ARGMAX(9, 100, 1),
    ARGMAX(0, 4, 0),
    SQNORM(0, 0),
    SQNORM(1, 0),
    SQNORM(1000, 0),
    SQNORM(300001, 0),
    SQNORM(1001, 1),
    SQNORM(1001, 2),
    SQNORM(1001, 3),
    DOT(0, 0),
    DOT(1, 0),
    DOT(1000, 0),
    DOT(300001, 0),
    DOT(1001, 1),
    ADAMW(1, 0.0f, 1, 1.0),
    ADAMW(33, 1.0f, 1, 1.0),
    ADAMW(1000, 1.0f, 2, 1.0),
    ADAMW(5003, 1.0f, 1000, 100.0),
    ADAMW(70001, 0.5f, 10, 1.0),
    ADAMW(70, 1.0f, 10, (double)NAN),
    ADAMW(70, 0.0f, 10, (double)INFINITY),
    ADAMW(0, 1.0f, 1, 1.0),
    XENT_PERF(400, 1000, 0.0f),
    XENT_PERF(400, 1000, 2.0f),
    XENT_PERF(16, 128256, 0.0f),
    {.op = "argmax", .build = build_argmax, .typed = true, .perf = true, .rows = {400, 1000, 0}},
    {.op = "sqnorm", .build = build_sqnorm, .perf = true, .rows = {1000000, 0, 0}},
    {.op = "adamw", .build = build_adamw, .perf = true, .adamw = {1000000, 1.0f, 10, 1.0}},
};
const int loss_case_count = (int)(sizeof loss_cases / sizeof *loss_cases);
