// cases_norm.c: RMSNorm, LayerNorm and rows of a fixed RMS.
#include <math.h>

#include "harness.h"
#include "reference.h"
#include "rows.h"

#define EPS 1e-5f

// --- RMSNorm. variant 1: without rstd; 2: one NaN; 3: large values

static void launch_rmsnorm(const op_test *t, void *const *p)
{
    const shape_rows *s = &t->of->rows;
    t->dev->ops->rmsnorm(t->dev, &(lw_rmsnorm_args){.rows = s->rows,
                                                    .d = s->d,
                                                    .eps = EPS,
                                                    .x = p[0],
                                                    .w = p[1],
                                                    .type = t->type,
                                                    .y = p[2],
                                                    .rstd = s->variant == 1 ? NULL : p[3]});
}

static void build_rmsnorm(op_test *t, const op_case *o)
{
    const shape_rows *s = &o->rows;
    row_context c = row_context_of(t, s);
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
    return row_dot(c->s->rows * c->s->d, c->dy, c->y);
}

static void launch_rmsnorm_backward(const op_test *t, void *const *p)
{
    const shape_rows *s = &t->of->rows;
    t->dev->ops->rmsnorm_backward(t->dev, &(lw_rmsnorm_backward_args){.rows = s->rows,
                                                                      .d = s->d,
                                                                      .x = p[0],
                                                                      .w = p[1],
                                                                      .rstd = p[2],
                                                                      .dy = p[3],
                                                                      .dx = p[4],
                                                                      .type = t->type,
                                                                      .dx_copy = s->variant == 1 ? p[5] : NULL});
}

static void build_rmsnorm_backward(op_test *t, const op_case *o)
{
    const shape_rows *s = &o->rows;
    row_context c = row_context_of(t, s);
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
    t->dev->ops->layernorm(t->dev, &(lw_layernorm_args){.rows = s->rows,
                                                        .d = s->d,
                                                        .eps = EPS,
                                                        .x = p[0],
                                                        .g = p[1],
                                                        .b = p[2],
                                                        .y = p[3],
                                                        .mean = p[4],
                                                        .rstd = p[5]});
}

static void build_layernorm(op_test *t, const op_case *o)
{
    const shape_rows *s = &o->rows;
    row_context c = row_context_of(t, s);
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
    return row_dot(c->s->rows * c->s->d, c->dy, c->y);
}

static void launch_layernorm_backward(const op_test *t, void *const *p)
{
    const shape_rows *s = &t->of->rows;
    t->dev->ops->layernorm_backward(t->dev, &(lw_layernorm_backward_args){.rows = s->rows,
                                                                          .d = s->d,
                                                                          .x = p[0],
                                                                          .g = p[1],
                                                                          .mean = p[2],
                                                                          .rstd = p[3],
                                                                          .dy = p[4],
                                                                          .dx = s->variant == 1 ? NULL : p[7],
                                                                          .dg = p[5],
                                                                          .db = p[6]});
}

static void build_layernorm_backward(op_test *t, const op_case *o)
{
    const shape_rows *s = &o->rows;
    int64_t n = s->rows * s->d;
    row_context c = row_context_of(t, s);
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
    t->dev->ops->rmsscale(
        t->dev,
        &(lw_rmsscale_args){
            .rows = s->rows, .d = s->d, .eps = EPS, .scale = SCALE, .gain = p[0], .x = p[1], .y = p[2], .rstd = p[3]});
}

static void build_rmsscale(op_test *t, const op_case *o)
{
    const shape_rows *s = &o->rows;
    row_context c = row_context_of(t, s);
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
    return row_dot(c->s->rows * c->s->d, c->dy, c->y);
}

static void launch_rmsscale_backward(const op_test *t, void *const *p)
{
    const shape_rows *s = &t->of->rows;
    t->dev->ops->rmsscale_backward(t->dev, &(lw_rmsscale_backward_args){.rows = s->rows,
                                                                        .d = s->d,
                                                                        .scale = SCALE,
                                                                        .gain = p[0],
                                                                        .x = p[1],
                                                                        .rstd = p[2],
                                                                        .dy = p[3],
                                                                        .dx = p[4],
                                                                        .dgain = p[5]});
}

static void build_rmsscale_backward(op_test *t, const op_case *o)
{
    const shape_rows *s = &o->rows;
    int64_t n = s->rows * s->d;
    row_context c = row_context_of(t, s);
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

const op_case norm_cases[] = {
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
    ROWS_PERF(rmsnorm, 2000, 128, 0),
    ROWS_PERF(rmsnorm, 2000, 256, 0),
    ROWS_PERF(rmsnorm_backward, 2000, 128, 0),
    ROWS_PERF(layernorm, 2000, 128, 0),
    ROWS_PERF(layernorm_backward, 2000, 128, 0),
    ROWS_PERF(rmsscale, 2000, 128, 0),
    ROWS_PERF(rmsscale_backward, 2000, 128, 0),
};
const int norm_case_count = (int)(sizeof norm_cases / sizeof *norm_cases);
