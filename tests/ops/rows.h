// rows.h: what the cases of operators on rows share: operands, losses for their gradients, and the table's macros.
#ifndef OPS_ROWS_H
#define OPS_ROWS_H

#include "harness.h"

#define FD_LIMIT 300

static inline double row_dot(int64_t n, const double *a, const double *b)
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

static inline row_context row_context_of(op_test *t, const shape_rows *s)
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

#endif
