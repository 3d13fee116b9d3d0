// cases_attention.c: rotary embedding and attention.
#include <math.h>
#include <string.h>

#include "harness.h"
#include "reference.h"

// --- rope

static void launch_rope(const op_test *t, void *const *p)
{
    const shape_rope *s = &t->of->rope;
    t->dev->ops->rope(t->dev, &(lw_rope_args){.rows = s->rows,
                                              .heads = s->heads,
                                              .head_dim = s->head_dim,
                                              .stride = s->heads * s->head_dim + s->pad,
                                              .type = t->type,
                                              .cos_sin = p[0],
                                              .position = p[1],
                                              .inverse = s->inverse,
                                              .x = p[2]});
}

typedef struct rope_context {
    const shape_rope *s;
    int64_t count, stride;
    double *cos_sin, *x, *work, *dy;
    int32_t *position;
} rope_context;

static double loss_rope(void *context)
{
    rope_context *c = context;
    memcpy(c->work, c->x, (size_t)c->count * sizeof *c->x);
    ref_rope(c->s->rows, c->s->heads, c->s->head_dim, c->stride, c->cos_sin, c->position, 1.0, c->work);
    double sum = 0.0;
    for (int64_t i = 0; i < c->count; i++) {
        sum += c->dy[i] * c->work[i];
    }
    return sum;
}

#define POSITIONS 50

static void build_rope(op_test *t, const op_case *o)
{
    const shape_rope *s = &o->rope;
    int64_t half = s->head_dim / 2, stride = s->heads * s->head_dim + s->pad, count = s->rows * stride;
    op_describe(t, "rows=%lld heads=%lld head_dim=%lld pad=%lld%s", (long long)s->rows, (long long)s->heads,
                (long long)s->head_dim, (long long)s->pad, s->inverse ? " inverse" : "");
    double *cos_sin = op_own(t, (size_t)(POSITIONS * half * 2), sizeof *cos_sin);
    for (int64_t p = 0; p < POSITIONS; p++) {
        for (int64_t i = 0; i < half; i++) {
            double angle = (double)p * pow(10000.0, -(double)i / (double)half);
            cos_sin[(p * half + i) * 2] = op_round(cos(angle), LW_F32);
            cos_sin[(p * half + i) * 2 + 1] = op_round(sin(angle), LW_F32);
        }
    }
    int32_t *position = op_own(t, (size_t)s->rows, sizeof *position);
    for (int64_t i = 0; i < s->rows; i++) {
        position[i] = (int32_t)op_below(t, POSITIONS);
    }
    op_input(t, "cos_sin", LW_F32, POSITIONS * half * 2, cos_sin);
    op_index(t, "position", s->rows, position);
    double *before = op_normal(t, count, 1.0, t->type);
    int x = op_update(t, "x", t->type, count, before, op_tolerance(t, 2e-7));
    op_buffer *b = &t->buffer[x];
    b->state = op_own(t, (size_t)count, 1);
    for (int64_t i = 0; i < count; i++) {
        b->state[i] = i % stride < s->heads * s->head_dim ? OP_CHECK : OP_KEEP;
    }
    if (s->inverse && !t->perf) { // the gradient of sum(before * rope(x))
        rope_context c = {
            s,      count,   stride, cos_sin, op_normal(t, count, 1.0, LW_F32), op_normal(t, count, 1.0, LW_F32),
            before, position};
        b->start = NULL;
        op_expect_gradient(t, x, c.x, loss_rope, &c, 300);
        b->start = before;
    } else {
        ref_rope(s->rows, s->heads, s->head_dim, stride, cos_sin, position, s->inverse ? -1.0 : 1.0, b->expect);
    }
    t->launch = launch_rope;
    t->bytes = (double)count * 8.0;
}

// --- attention

typedef struct attention_context {
    ref_attention_sizes r;
    int64_t max_q, max_k, q_rows, k_rows;
    int64_t q_count, k_count, v_count, o_count, lse_count;
    double *q, *k, *v, *o, *lse, *d_o;
    double pairs; // query-key pairs of all heads
} attention_context;

static void lay_out(op_test *t, const shape_attention *s, attention_context *c)
{
    int repeat = s->repeat > 0 ? s->repeat : 1, n = s->sequences * repeat;
    int32_t *q_start = op_own(t, (size_t)n + 1, sizeof *q_start);
    int32_t *k_start = op_own(t, (size_t)n, sizeof *k_start), *k_len = op_own(t, (size_t)n, sizeof *k_len);
    memset(c, 0, sizeof *c);
    for (int i = 0; i < n; i++) {
        int nq = s->nq[i % s->sequences], nk = s->nk[i % s->sequences];
        q_start[i + 1] = q_start[i] + nq;
        k_start[i] = (int32_t)c->k_rows;
        k_len[i] = nk;
        c->k_rows += nk + s->key_gap;
        c->max_q = nq > c->max_q ? nq : c->max_q;
        c->max_k = nk > c->max_k ? nk : c->max_k;
        for (int j = 0; j < nq; j++) {
            int seen = s->causal ? nk - nq + j + 1 : nk;
            c->pairs += (double)(seen > 0 ? seen : 0) * (double)s->q_heads;
        }
    }
    c->q_rows = q_start[n];
    c->r = (ref_attention_sizes){n,        s->q_heads, s->kv_heads, s->head_dim,
                                 q_start,  k_start,    k_len,       0,
                                 0,        0,          0,           (double)(float)(1.0 / sqrt((double)s->head_dim)),
                                 s->causal};
    c->r.q_stride = s->q_heads * s->head_dim + s->pad;
    c->r.k_stride = s->kv_heads * s->head_dim + 2 * s->pad;
    c->r.v_stride = s->kv_heads * s->head_dim + 3 * s->pad;
    c->r.o_stride = s->q_heads * s->head_dim + 4 * s->pad;
    c->q_count = c->q_rows * c->r.q_stride;
    c->k_count = c->k_rows * c->r.k_stride;
    c->v_count = c->k_rows * c->r.v_stride;
    c->o_count = c->q_rows * c->r.o_stride;
    c->lse_count = c->q_rows * s->q_heads;
    c->q = op_normal(t, c->q_count, 1.0, t->type);
    c->k = op_normal(t, c->k_count, 1.0, t->type);
    c->v = op_normal(t, c->v_count, 1.0, t->type);
    c->d_o = op_normal(t, c->o_count, 1.0, t->type);
    c->o = op_own(t, (size_t)c->o_count, sizeof *c->o);
    c->lse = op_own(t, (size_t)c->lse_count, sizeof *c->lse);
    if (s->nan) {
        c->k[c->k_count / 2] = NAN;
    }
    op_describe(t, "heads=%lld/%lld d=%lld%s nq=%d.. nk=%d.. n=%d pad=%lld%s%s", (long long)s->q_heads,
                (long long)s->kv_heads, (long long)s->head_dim, s->causal ? " causal" : "", s->nq[0], s->nk[0], n,
                (long long)s->pad, s->key_gap > 0 ? " gap" : "", s->nan ? " NaN" : "");
    if (!t->perf) {
        ref_attention(&c->r, c->q, c->k, c->v, c->o, c->lse);
    }
}

// The descriptor for the device; buffers 0, 1, 2 are the indices, 3, 4, 5 are q, k, v, 6 is the work space, 7 is o.
static lw_attention descriptor(const op_test *t, const attention_context *c, void *const *p)
{
    lw_attention a = {.sequences = c->r.sequences, .q_heads = c->r.q_heads, .kv_heads = c->r.kv_heads};
    a.head_dim = c->r.head_dim;
    a.q_rows = c->q_rows;
    a.max_q = c->max_q;
    a.max_k = c->max_k;
    if (p != NULL) {
        a.q_start = p[0];
        a.k_start = p[1];
        a.k_len = p[2];
        a.q = p[3];
        a.k = p[4];
        a.v = p[5];
        a.work = p[6];
        a.o = p[7];
    }
    a.q_stride = c->r.q_stride;
    a.k_stride = c->r.k_stride;
    a.v_stride = c->r.v_stride;
    a.o_stride = c->r.o_stride;
    a.scale = (float)c->r.scale;
    a.causal = c->r.causal;
    a.type = t->type;
    return a;
}

static unsigned char *members(op_test *t, int64_t count, int64_t stride, int64_t used)
{
    unsigned char *state = op_own(t, (size_t)count, 1);
    for (int64_t i = 0; i < count; i++) {
        state[i] = i % stride < used ? OP_CHECK : OP_KEEP;
    }
    return state;
}

// As members, and only on the key rows of the sequences.
static unsigned char *key_members(op_test *t, const attention_context *c, int64_t count, int64_t stride)
{
    unsigned char *state = op_own(t, (size_t)count, 1);
    memset(state, OP_KEEP, (size_t)count);
    for (int64_t s = 0; s < c->r.sequences; s++) {
        for (int64_t j = 0; j < c->r.k_len[s]; j++) {
            memset(state + (c->r.k_start[s] + j) * stride, OP_CHECK, (size_t)(c->r.kv_heads * c->r.head_dim));
        }
    }
    return state;
}

static void common_buffers(op_test *t, const attention_context *c)
{
    op_index(t, "q_start", c->r.sequences + 1, c->r.q_start);
    op_index(t, "k_start", c->r.sequences, c->r.k_start);
    op_index(t, "k_len", c->r.sequences, c->r.k_len);
    op_input(t, "q", t->type, c->q_count, op_copy(t, c->q_count, c->q));
    op_input(t, "k", t->type, c->k_count, op_copy(t, c->k_count, c->k));
    op_input(t, "v", t->type, c->v_count, op_copy(t, c->v_count, c->v));
    lw_attention a = descriptor(t, c, NULL);
    op_work(t, "work", t->dev->ops->attention_work_bytes(t->dev, &a));
}

static const attention_context *keep(op_test *t, const attention_context *c)
{
    attention_context *kept = op_own(t, 1, sizeof *kept);
    *kept = *c;
    t->context = kept;
    return kept;
}

static bool wants_lse(const op_test *t)
{ // with the gaps, also the call without it
    return t->of->attention.key_gap == 0;
}

static void launch_attention(const op_test *t, void *const *p)
{
    lw_attention a = descriptor(t, t->context, p);
    a.lse = wants_lse(t) ? p[8] : NULL;
    t->dev->ops->attention(t->dev, &a);
}

static void build_attention(op_test *t, const op_case *o)
{
    attention_context c;
    lay_out(t, &o->attention, &c);
    (void)keep(t, &c);
    common_buffers(t, &c);
    int out = op_output(t, "o", t->type, c.o_count, op_tolerance(t, 2e-6));
    t->buffer[out].state = members(t, c.o_count, c.r.o_stride, c.r.q_heads * c.r.head_dim);
    t->buffer[out].expect = c.o;
    if (wants_lse(t)) {
        int lse = op_output(t, "lse", LW_F32, c.lse_count, 1e-6);
        t->buffer[lse].expect = c.lse;
    }
    t->launch = launch_attention;
    t->flops = 4.0 * c.pairs * (double)c.r.head_dim;
    t->bytes = (double)(c.q_count + c.k_count + c.v_count + c.o_count) * 4.0;
}

static double loss_attention(void *context)
{
    attention_context *c = context;
    ref_attention(&c->r, c->q, c->k, c->v, c->o, c->lse);
    double sum = 0.0;
    for (int64_t i = 0; i < c->o_count; i++) {
        if (i % c->r.o_stride < c->r.q_heads * c->r.head_dim) {
            sum += c->o[i] * c->d_o[i];
        }
    }
    return sum;
}

static void launch_attention_backward(const op_test *t, void *const *p)
{
    lw_attention a = descriptor(t, t->context, p);
    a.lse = p[9];
    t->dev->ops->attention_backward(t->dev, &a, p[8], p[10], p[11], p[12]);
}

static void build_attention_backward(op_test *t, const op_case *o)
{
    attention_context c;
    lay_out(t, &o->attention, &c);
    (void)keep(t, &c);
    common_buffers(t, &c);
    op_input(t, "o", t->type, c.o_count, op_rounded(t, c.o_count, c.o, t->type));
    op_input(t, "d_o", t->type, c.o_count, c.d_o);
    op_input(t, "lse", LW_F32, c.lse_count, op_copy(t, c.lse_count, c.lse));
    double tolerance = op_tolerance(t, 4e-6);
    int dq = op_output(t, "dq", t->type, c.q_count, tolerance);
    int dk = op_output(t, "dk", t->type, c.k_count, tolerance);
    int dv = op_output(t, "dv", t->type, c.v_count, tolerance);
    t->buffer[dq].state = members(t, c.q_count, c.r.q_stride, c.r.q_heads * c.r.head_dim);
    t->buffer[dk].state = key_members(t, &c, c.k_count, c.r.k_stride);
    t->buffer[dv].state = key_members(t, &c, c.v_count, c.r.v_stride);
    int64_t limit = c.pairs > 2000.0 ? 30 : 150;
    op_expect_gradient(t, dq, c.q, loss_attention, &c, limit);
    op_expect_gradient(t, dk, c.k, loss_attention, &c, limit);
    op_expect_gradient(t, dv, c.v, loss_attention, &c, limit);
    t->launch = launch_attention_backward;
    t->flops = 10.0 * c.pairs * (double)c.r.head_dim;
}

#define ROPE(rows, heads, head_dim, pad)                                                               \
    {.op = "rope", .build = build_rope, .typed = true, .rope = {rows, heads, head_dim, pad, false}},   \
    {                                                                                                  \
        .op = "rope", .build = build_rope, .typed = true, .rope = { rows, heads, head_dim, pad, true } \
    }
#define ATTENTION(...)                                                                                             \
    {.op = "attention", .build = build_attention, .typed = true, .attention = {__VA_ARGS__}},                      \
    {                                                                                                              \
        .op = "attention_backward", .build = build_attention_backward, .typed = true, .attention = { __VA_ARGS__ } \
    }
#define FORWARD(...)                                                                             \
    {                                                                                            \
        .op = "attention", .build = build_attention, .typed = true, .attention = { __VA_ARGS__ } \
    }
#define PERF(...)                                                                                                  \
    {.op = "attention", .build = build_attention, .typed = true, .perf = true, .attention = {__VA_ARGS__}},        \
    {                                                                                                              \
        .op = "attention_backward", .build = build_attention_backward, .typed = true, .perf = true, .attention = { \
            __VA_ARGS__                                                                                            \
        }                                                                                                          \
    }
#define NQ(...) .nq = {__VA_ARGS__}
#define NK(...) .nk = {__VA_ARGS__}

// The first four: query heads, key heads, head_dim, causal; then the pad of the rows.
const op_case attention_cases[] = {
    ROPE(1, 1, 2, 0),
    ROPE(3, 2, 24, 0),
    ROPE(5, 4, 32, 16),
    ROPE(7, 3, 80, 5),
    ROPE(20, 2, 128, 128),
    ROPE(4, 1, 256, 0),
    ROPE(0, 2, 64, 0),
    ATTENTION(1, 1, 1, false, 0, NQ(1), NK(1), .sequences = 1),
    ATTENTION(1, 1, 8, true, 0, NQ(5), NK(5), .sequences = 1),
    ATTENTION(2, 2, 24, true, 0, NQ(7, 1, 19), NK(7, 1, 19), .sequences = 3),
    ATTENTION(2, 2, 24, false, 3, NQ(7, 1, 19), NK(5, 4, 33), .sequences = 3),
    ATTENTION(4, 2, 32, true, 5, NQ(13, 8, 0, 17), NK(13, 8, 0, 17), .sequences = 4),
    ATTENTION(4, 1, 64, true, 0, NQ(9, 16), NK(9, 16), .sequences = 2),
    ATTENTION(3, 3, 80, true, 8, NQ(11), NK(11), .sequences = 1),
    ATTENTION(8, 2, 128, true, 0, NQ(6, 3), NK(6, 3), .sequences = 2),
    ATTENTION(2, 1, 20, true, 1, NQ(4, 1, 9, 2), NK(30, 17, 12, 2), .sequences = 4), // keys from a cache
    ATTENTION(2, 1, 16, true, 0, NQ(12, 20), NK(5, 3), .sequences = 2),              // rows that see nothing
    ATTENTION(2, 2, 16, true, 0, NQ(3, 0, 2), NK(0, 4, 2), .sequences = 3),          // no keys, no queries
    ATTENTION(2, 2, 16, false, 0, NQ(3, 0, 2), NK(0, 4, 2), .sequences = 3),
    ATTENTION(2, 1, 24, true, 0, NQ(150), NK(150), .sequences = 1), // several tiles
    ATTENTION(1, 1, 24, false, 0, NQ(70), NK(300), .sequences = 1),
    ATTENTION(2, 1, 8, true, 2, NQ(70), NK(290), .sequences = 1),
    ATTENTION(1, 1, 8, true, 0, NQ(300), NK(200), .sequences = 1),
    ATTENTION(2, 1, 256, true, 0, NQ(40), NK(45), .sequences = 1), // the longest heads
    ATTENTION(4, 2, 200, false, 0, NQ(3, 21), NK(40, 9), .sequences = 2),
    ATTENTION(7, 1, 128, true, 8, NQ(43, 2, 12), NK(43, 2, 12), .sequences = 3), // a group that is no power of two
    FORWARD(4, 2, 64, true, 0, NQ(70, 9), NK(70, 9), .sequences = 2, .key_gap = 5),
    FORWARD(4, 1, 64, true, 3, NQ(1, 1, 1), NK(70, 1, 300), .sequences = 3, .key_gap = 11), // generation
    FORWARD(12, 1, 32, true, 0, NQ(1, 1), NK(600, 0), .sequences = 2),
    FORWARD(7, 1, 128, true, 8, NQ(1, 1, 2), NK(70, 3, 200), .sequences = 3),
    FORWARD(2, 1, 256, true, 0, NQ(1, 2), NK(100, 1), .sequences = 2),
    FORWARD(3, 1, 200, true, 1, NQ(5, 1), NK(60, 0), .sequences = 2),
    FORWARD(2, 2, 32, true, 0, NQ(600), NK(600), .sequences = 1),
    FORWARD(1, 1, 16, true, 0, NQ(20), NK(2100), .sequences = 1),
    FORWARD(1, 1, 16, true, 0, NQ(20), NK(20), .sequences = 1, .nan = true),
    FORWARD(2, 1, 64, true, 0, NQ(0), NK(0), .sequences = 1),
    FORWARD(2, 1, 64, true, 0, NQ(0), NK(0), .sequences = 0),
    PERF(4, 2, 32, true, 0, NQ(96, 110, 50, 128), NK(96, 110, 50, 128), .sequences = 4, .repeat = 5),
    PERF(8, 8, 24, true, 0, NQ(96, 110, 50, 128), NK(96, 110, 50, 128), .sequences = 4, .repeat = 5),
    PERF(4, 2, 64, true, 0, NQ(40), NK(40), .sequences = 1, .repeat = 40),
    PERF(4, 4, 32, false, 0, NQ(150), NK(150), .sequences = 1, .repeat = 10),
    PERF(4, 4, 32, false, 0, NQ(16), NK(120), .sequences = 1, .repeat = 10),
    PERF(8, 2, 128, true, 0, NQ(2048), NK(2048), .sequences = 1),
    {.op = "attention",
     .build = build_attention,
     .typed = true,
     .perf = true,
     .attention = {8, 2, 64, true, 0, NQ(1), NK(200), .sequences = 1, .repeat = 8}},
    {.op = "attention",
     .build = build_attention,
     .typed = true,
     .perf = true,
     .attention = {4, 4, 32, true, 0, NQ(1), NK(100), .sequences = 1, .repeat = 8}},
    {.op = "rope", .build = build_rope, .typed = true, .perf = true, .rope = {2000, 6, 32, 64, false}},
    {.op = "rope", .build = build_rope, .typed = true, .perf = true, .rope = {2000, 4, 128, 0, false}},
};
const int attention_case_count = (int)(sizeof attention_cases / sizeof *attention_cases);
