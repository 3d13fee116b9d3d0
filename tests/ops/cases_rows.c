// cases_rows.c: moving, averaging and summing rows.
#include "harness.h"
#include "reference.h"
#include "rows.h"

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
    t->dev->ops->gather(t->dev, &(lw_gather_args){.n = s->rows,
                                                  .d = s->d,
                                                  .in = p[0],
                                                  .in_type = t->type,
                                                  .in_index = (s->variant & 1) != 0 ? p[1] : NULL,
                                                  .out_index = (s->variant & 2) != 0 ? p[2] : NULL,
                                                  .accumulate = (s->variant & 4) != 0,
                                                  .out = p[3]});
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
    t->dev->ops->copy_rows(t->dev, &(lw_copy_rows_args){.n = s->rows,
                                                        .d = s->d,
                                                        .type = t->type,
                                                        .in = p[0],
                                                        .in_stride = s->d + s->variant,
                                                        .out_index = p[1],
                                                        .out = p[2],
                                                        .out_stride = s->d + 2 * s->variant});
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
    return row_dot(c->s->rows * c->s->d, c->dy, c->y);
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
    row_context c = row_context_of(t, s);
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
    row_context c = row_context_of(t, s);
    op_input(t, "dy", LW_F32, s->rows * s->d, c.dy);
    int db = op_update(t, "db", LW_F32, s->d, op_normal(t, s->d, 1.0, LW_F32), 2e-6);
    for (int64_t i = 0; i < s->rows * s->d; i++) {
        t->buffer[db].expect[i % s->d] += c.dy[i];
    }
    t->launch = launch_column_sum;
}

const op_case row_cases[] = {
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
    ROWS_PERF(gather, 2000, 128, 3),
    ROWS_PERF(scatter_add, 2000, 128, 300),
    ROWS_PERF(column_sum, 2000, 512, 0),
};
const int row_case_count = (int)(sizeof row_cases / sizeof *row_cases);
