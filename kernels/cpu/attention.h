// attention.h: what the forward and the backward pass of attention share.
#ifndef LW_ATTENTION_H
#define LW_ATTENTION_H

#include "cpu.h"
#include "micro.h"

// Query rows and keys taken at a time. The scores of a strip of LW_MICRO_ROWS queries against a tile of keys stay in
// the first-level cache, the packed tile of keys in the second.
#define ATTENTION_QUERIES 64
#define ATTENTION_KEYS 256          // forward
#define ATTENTION_BACKWARD_KEYS 128 // backward keeps two tiles of keys and two blocks of scores

_Static_assert(LW_VL >= LW_MICRO_ROWS, "a vector of zeros rounds up a row of scores to the longest of its strip");

// Row stride of a packed tile of `keys` keys or of a block of scores: room for a vector of zeros after each row, and no
// multiple of 256 bytes, whose rows would compete for the same sets of the cache.
LW_INLINE int64_t attention_stride(int64_t keys)
{
    int64_t stride = (keys + 15) / 16 * 16 + 16;
    return stride % 64 == 0 ? stride + 16 : stride;
}

// The sizes of one sequence.
typedef struct attention_sequence {
    int64_t q_start, k_start;
    int64_t nq, nk;
    bool causal;
} attention_sequence;

LW_INLINE attention_sequence attention_of(const lw_attention *a, int64_t s)
{
    attention_sequence q = {a->q_start[s], a->k_start[s], a->q_start[s + 1] - a->q_start[s], a->k_len[s], a->causal};
    return q;
}

// Keys that query row i of the sequence sees.
LW_INLINE int64_t attention_visible(const attention_sequence *s, int64_t i)
{
    return s->causal ? lw_max_i64(0, lw_min_i64(s->nk, s->nk - s->nq + i + 1)) : s->nk;
}

// Floats of work space of one thread, a multiple of 16.
LW_INLINE int64_t attention_thread_floats(const lw_attention *a)
{
    int64_t group = a->kv_heads > 0 ? a->q_heads / a->kv_heads : 0;
    int64_t key_stride = attention_stride(lw_min_i64(a->max_k, ATTENTION_KEYS));
    int64_t back_stride = attention_stride(lw_min_i64(a->max_k, ATTENTION_BACKWARD_KEYS));
    int64_t state = 2 * group * ATTENTION_QUERIES; // largest score and sum of every row of a tile
    int64_t forward = a->head_dim * key_stride + lw_max_i64(LW_MICRO_ROWS, group) * key_stride + state;
    int64_t backward = 2 * a->head_dim * back_stride + 2 * ATTENTION_QUERIES * back_stride;
    return (lw_max_i64(forward, backward) + 15) / 16 * 16;
}

LW_INLINE void attention_zero(int64_t n, float *x)
{
    for (int64_t i = 0; i < n; i++) {
        x[i] = 0.0f;
    }
}

LW_INLINE float attention_dot(int64_t n, const float *a, const float *b)
{
    lw_vf sum = lw_vset(0.0f);
    LW_FOR_LANES(i, lanes, 0, n, { sum = lw_vfma(lw_load(a + i, lanes), lw_load(b + i, lanes), sum); });
    return lw_vsum(sum);
}

#endif
