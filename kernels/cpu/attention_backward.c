// attention_backward.c: multi-head attention, backward.
//
// The probabilities are formed again from the scores and their log-sum-exp, tile by tile (Dao et al. 2022,
// algorithm 4): with P = exp(S - lse), delta_i = sum_d dO_id O_id,
//   dV = P^T dO,  dP = dO V^T,  dS = P (dP - delta),  dQ = scale dS K,  dK = scale dS^T Q.
// A task is one key head of one sequence, so that every element of dK and dV belongs to one thread.
#include <omp.h>

#include "attention.h"

typedef struct backward {
    const lw_attention *a;
    const float *q, *k, *v, *o, *d_o, *lse;
    float *dq, *dk, *dv;
    int64_t group;
    int64_t stride; // of tiles and blocks in the work space
} backward;

typedef struct backward_space {
    float *keys;   // (head_dim, stride): a transposed tile of keys, times the scale
    float *values; // (head_dim, stride): a transposed tile of values
    float *p, *ds; // (ATTENTION_QUERIES, stride): P, and dS times the scale
} backward_space;

// A tile of keys of one key head.
typedef struct key_tile {
    int64_t k0, n; // first key and number of keys
} key_tile;

// P and dS of one row: `n` visible keys, then LW_VL zeros, since the strips that read them are rounded up.
static void score_gradient_row(int64_t n, float lse, float delta, float scale, float *p, float *ds)
{
    LW_FOR_LANES(i, lanes, 0, n, {
        lw_vf prob = lw_vexp_low(lw_load(p + i, lanes) - lw_vset(lse));
        lw_vf gradient = prob * (lw_load(ds + i, lanes) - lw_vset(delta)) * lw_vset(scale);
        lw_store(p + i, prob, lanes);
        lw_store(ds + i, gradient, lanes);
    });
    lw_vstore(p + n, lw_vset(0.0f));
    lw_vstore(ds + n, lw_vset(0.0f));
}

// Queries [i, i + m) of `head` against the tile: fills their rows of P and dS (at `block_row`) and adds to dQ.
static void strip(const backward *b, const attention_sequence *s, const backward_space *w, int64_t head, key_tile tile,
                  int64_t i, int m, int64_t block_row)
{
    const lw_attention *a = b->a;
    int64_t d = a->head_dim, row = s->q_start + i, stride = b->stride;
    float *dq = b->dq + row * a->q_stride + head * d;
    int64_t n = lw_min_i64(tile.n, attention_visible(s, i + m - 1) - tile.k0);
    if (n <= 0) { // no key of this tile, so none of the next ones
        for (int r = 0; r < m && tile.k0 == 0; r++) {
            attention_zero(d, dq + r * a->q_stride);
        }
        return;
    }
    float *p = w->p + block_row * stride, *ds = w->ds + block_row * stride;
    const float *d_o = b->d_o + row * a->o_stride + head * d;
    const float *o = b->o + row * a->o_stride + head * d;
    const lw_micro scores = {n,      d,    b->q + row * a->q_stride + head * d, a->q_stride, 1, w->keys, stride, p,
                             stride, false};
    lw_micro_run(&scores, m);
    const lw_micro products = {n, d, d_o, a->o_stride, 1, w->values, stride, ds, stride, false};
    lw_micro_run(&products, m);
    for (int r = 0; r < m; r++) {
        int64_t visible = lw_max_i64(0, lw_min_i64(tile.n, attention_visible(s, i + r) - tile.k0));
        float delta = attention_dot(d, d_o + r * a->o_stride, o + r * a->o_stride);
        score_gradient_row(visible, b->lse[(row + r) * a->q_heads + head], delta, a->scale, p + r * stride,
                           ds + r * stride);
    }
    const float *k = b->k + (s->k_start + tile.k0) * a->k_stride + head / b->group * d;
    const lw_micro to_dq = {d, n, ds, stride, 1, k, a->k_stride, dq, a->q_stride, tile.k0 > 0};
    lw_micro_run(&to_dq, m);
}

// dK and dV of the tile += the part of queries [q0, q1), whose rows of P and dS are in the work space.
static void to_keys(const backward *b, const attention_sequence *s, const backward_space *w, int64_t head,
                    key_tile tile, int64_t q0, int64_t q1)
{
    const lw_attention *a = b->a;
    int64_t d = a->head_dim, key_head = head / b->group, stride = b->stride;
    for (int64_t j = 0; j < tile.n; j += LW_MICRO_ROWS) {
        int m = (int)lw_min_i64(LW_MICRO_ROWS, tile.n - j);
        int64_t first = q0; // the first query of the block that sees key j of the tile
        if (s->causal) {
            first = lw_max_i64(q0, tile.k0 + j - (s->nk - s->nq));
        }
        if (first >= q1) {
            return;
        }
        int64_t at = (first - q0) * stride + j;
        int64_t key_row = s->k_start + tile.k0 + j, row = s->q_start + first;
        const lw_micro to_dv = {d,           q1 - first,
                                w->p + at,   1,
                                stride,      b->d_o + row * a->o_stride + head * d,
                                a->o_stride, b->dv + key_row * a->v_stride + key_head * d,
                                a->v_stride, true};
        lw_micro_run(&to_dv, m);
        const lw_micro to_dk = {d,           q1 - first,
                                w->ds + at,  1,
                                stride,      b->q + row * a->q_stride + head * d,
                                a->q_stride, b->dk + key_row * a->k_stride + key_head * d,
                                a->k_stride, true};
        lw_micro_run(&to_dk, m);
    }
}

static void task(const backward *b, const attention_sequence *s, int64_t key_head, const backward_space *w)
{
    const lw_attention *a = b->a;
    int64_t d = a->head_dim;
    for (int64_t j = 0; j < s->nk; j++) {
        attention_zero(d, b->dk + (s->k_start + j) * a->k_stride + key_head * d);
        attention_zero(d, b->dv + (s->k_start + j) * a->v_stride + key_head * d);
    }
    if (s->nk == 0) {
        for (int64_t i = 0; i < s->nq; i++) {
            attention_zero(b->group * d, b->dq + (s->q_start + i) * a->q_stride + key_head * b->group * d);
        }
    }
    for (int64_t k0 = 0; k0 < s->nk; k0 += ATTENTION_BACKWARD_KEYS) {
        const key_tile tile = {k0, lw_min_i64(ATTENTION_BACKWARD_KEYS, s->nk - k0)};
        lw_transpose(tile.n, d, b->k + (s->k_start + k0) * a->k_stride + key_head * d, a->k_stride, a->scale, w->keys,
                     b->stride);
        lw_transpose(tile.n, d, b->v + (s->k_start + k0) * a->v_stride + key_head * d, a->v_stride, 1.0f, w->values,
                     b->stride);
        // Queries before the first one that sees this tile have nothing to do, but for the zeros written with tile 0.
        int64_t first = s->causal && k0 > 0 ? lw_max_i64(0, k0 - (s->nk - s->nq)) : 0;
        for (int64_t h = 0; h < b->group; h++) {
            int64_t head = key_head * b->group + h;
            for (int64_t q0 = first; q0 < s->nq; q0 += ATTENTION_QUERIES) {
                int64_t q1 = lw_min_i64(q0 + ATTENTION_QUERIES, s->nq);
                for (int64_t i = q0; i < q1; i += LW_MICRO_ROWS) {
                    strip(b, s, w, head, tile, i, (int)lw_min_i64(LW_MICRO_ROWS, q1 - i), i - q0);
                }
                to_keys(b, s, w, head, tile, q0, q1);
            }
        }
    }
}

void LW_CPU(attention_backward)(lw_device *dev, const lw_attention *a, const void *d_o, void *dq, void *dk, void *dv)
{
    if (a->sequences <= 0 || a->kv_heads <= 0 || a->q_heads <= 0 || a->head_dim <= 0 ||
        !lw_cpu_is_f32(dev, "attention_backward", a->type)) {
        return;
    }
    const backward b = {.a = a,
                        .q = a->q,
                        .k = a->k,
                        .v = a->v,
                        .o = a->o,
                        .d_o = d_o,
                        .lse = a->lse,
                        .dq = dq,
                        .dk = dk,
                        .dv = dv,
                        .group = a->q_heads / a->kv_heads,
                        .stride = attention_stride(lw_min_i64(a->max_k, ATTENTION_BACKWARD_KEYS))};
    int64_t floats = attention_thread_floats(a);
    int64_t d = a->head_dim;
    int threads = lw_cpu_threads(dev, a->q_rows * a->max_k * a->q_heads * d);
#pragma omp parallel for schedule(static, 1) num_threads(threads) if (threads > 1)
    for (int64_t t = 0; t < a->sequences * a->kv_heads; t++) {
        attention_sequence s = attention_of(a, t / a->kv_heads);
        float *at = (float *)a->work + omp_get_thread_num() * floats;
        const backward_space w = {at, at + d * b.stride, at + 2 * d * b.stride,
                                  at + 2 * d * b.stride + ATTENTION_QUERIES * b.stride};
        task(&b, &s, t % a->kv_heads, &w);
    }
}
