// attention.c: multi-head attention, forward.
//
// Tiles of keys with a running maximum and sum (Dao et al. 2022, algorithm 1), so that long sequences need no more work
// space than short ones. A task is a tile of queries of one sequence for all query heads of one key head; a tile of
// keys is transposed once per task, then used by all those heads.
#include <omp.h>

#include "attention.h"

typedef struct forward {
    const lw_attention *a;
    const float *q, *k, *v;
    float *o, *lse;
    int64_t group; // query heads per key head
    int64_t key_stride;
} forward;

// The work space of one thread.
typedef struct forward_space {
    float *keys;    // (head_dim, key_stride): a transposed tile, times the scale
    float *scores;  // (LW_MICRO_ROWS or group, key_stride)
    float *largest; // (group, ATTENTION_QUERIES)
    float *sum;     // (group, ATTENTION_QUERIES)
} forward_space;

size_t LW_CPU(attention_work_bytes)(lw_device *dev, const lw_attention *a)
{
    return (size_t)attention_thread_floats(a) * (size_t)((const lw_cpu *)dev)->threads * sizeof(float);
}

static forward_space space_of(const forward *f, float *work)
{
    forward_space s;
    s.keys = work;
    s.scores = s.keys + f->a->head_dim * f->key_stride;
    s.largest = s.scores + lw_max_i64(LW_MICRO_ROWS, f->group) * f->key_stride;
    s.sum = s.largest + f->group * ATTENTION_QUERIES;
    return s;
}

// Scores (n) of one row -> exp(score - largest), and LW_VL zeros after them: the other rows of a strip may see more
// keys. Updates the running maximum and sum and returns the factor by which what was accumulated before shrinks.
static float softmax_row(int64_t n, float *score, float *largest, float *sum)
{
    float old = *largest;
    lw_vf m = lw_vset(old);
    LW_FOR_LANES(i, lanes, 0, n, {
        lw_vf a = lw_load(score + i, lanes);
        m = lw_vmax(lw_vfirst(a, m, lanes), m);
    });
    const float new = lw_vhmax(m);
    lw_vf total = lw_vset(0.0f);
    LW_FOR_LANES(i, lanes, 0, n, {
        lw_vf a = lw_vfirst(lw_vexp_low(lw_load(score + i, lanes) - lw_vset(new)), lw_vset(0.0f), lanes);
        total += a;
        lw_store(score + i, a, lanes);
    });
    lw_vstore(score + n, lw_vset(0.0f));
    float shrink = 1.0f;
    if (new > old) {
        shrink = old == -INFINITY ? 0.0f : lw_vexp_low(lw_vset(old - new))[0];
    }
    *sum = *sum * shrink + lw_vsum(total);
    *largest = new;
    return shrink;
}

static void scale_row(int64_t n, float factor, float *x)
{
    LW_FOR_LANES(i, lanes, 0, n, { lw_store(x + i, lw_load(x + i, lanes) * lw_vset(factor), lanes); });
}

// Divides an output row by its sum and stores the log-sum-exp.
static void finish_row(const forward *f, int64_t row, int64_t head, float largest, float sum)
{
    scale_row(f->a->head_dim, 1.0f / sum, f->o + row * f->a->o_stride + head * f->a->head_dim);
    if (f->lse != NULL) {
        f->lse[row * f->a->q_heads + head] = largest + logf(sum);
    }
}

static void empty_row(const forward *f, int64_t row, int64_t head)
{
    attention_zero(f->a->head_dim, f->o + row * f->a->o_stride + head * f->a->head_dim);
    if (f->lse != NULL) {
        f->lse[row * f->a->q_heads + head] = -INFINITY;
    }
}

// Queries [i0, i0 + m) of one head against the tile of n keys from k0; `rows` of state begin at `largest`, `sum`.
static void strip(const forward *f, const attention_sequence *s, const forward_space *w, int64_t head, int64_t i0,
                  int m, int64_t k0, int64_t n, float *largest, float *sum)
{
    const lw_attention *a = f->a;
    int64_t d = a->head_dim, row = s->q_start + i0;
    const lw_micro scores = {
        n,    d, f->q + row * a->q_stride + head * d, a->q_stride, 1, w->keys, f->key_stride, w->scores, f->key_stride,
        false};
    lw_micro_run(&scores, m);
    float *o = f->o + row * a->o_stride + head * d;
    for (int i = 0; i < m; i++) {
        int64_t visible = lw_max_i64(0, lw_min_i64(n, attention_visible(s, i0 + i) - k0));
        float shrink = softmax_row(visible, w->scores + i * f->key_stride, largest + i, sum + i);
        if (k0 > 0 && shrink != 1.0f) {
            scale_row(d, shrink, o + i * a->o_stride);
        }
    }
    const lw_micro values = {
        d,           n, w->scores,   f->key_stride, 1, f->v + (s->k_start + k0) * a->v_stride + head / f->group * d,
        a->v_stride, o, a->o_stride, k0 > 0};
    lw_micro_run(&values, m);
}

static void task(const forward *f, const attention_sequence *s, int64_t key_head, int64_t q0, int64_t q1,
                 const forward_space *w)
{
    const lw_attention *a = f->a;
    int64_t first_head = key_head * f->group;
    for (int64_t i = 0; i < f->group * ATTENTION_QUERIES; i++) {
        w->largest[i] = -INFINITY;
        w->sum[i] = 0.0f;
    }
    int64_t seen = attention_visible(s, q1 - 1);
    for (int64_t k0 = 0; k0 < seen; k0 += ATTENTION_KEYS) {
        int64_t tile = lw_min_i64(ATTENTION_KEYS, seen - k0);
        lw_transpose(tile, a->head_dim, f->k + (s->k_start + k0) * a->k_stride + key_head * a->head_dim, a->k_stride,
                     a->scale, w->keys, f->key_stride);
        for (int64_t h = 0; h < f->group; h++) {
            for (int64_t i = q0; i < q1; i += LW_MICRO_ROWS) {
                int m = (int)lw_min_i64(LW_MICRO_ROWS, q1 - i);
                int64_t n = lw_min_i64(tile, attention_visible(s, i + m - 1) - k0);
                if (n > 0) {
                    int64_t state = h * ATTENTION_QUERIES + i - q0;
                    strip(f, s, w, first_head + h, i, m, k0, n, w->largest + state, w->sum + state);
                }
            }
        }
    }
    for (int64_t i = q0; i < q1; i++) {
        for (int64_t h = 0; h < f->group; h++) {
            int64_t state = h * ATTENTION_QUERIES + i - q0;
            if (attention_visible(s, i) > 0) {
                finish_row(f, s->q_start + i, first_head + h, w->largest[state], w->sum[state]);
            } else {
                empty_row(f, s->q_start + i, first_head + h);
            }
        }
    }
}

// One query (a step of generation): the keys are read once, without transposing them, for all heads of the group,
// whose scores are the rows of a strip.
static void task_one(const forward *f, const attention_sequence *s, int64_t key_head, const forward_space *w)
{
    const lw_attention *a = f->a;
    int64_t d = a->head_dim, first_head = key_head * f->group;
    const float *q = f->q + s->q_start * a->q_stride + first_head * d;
    float *o = f->o + s->q_start * a->o_stride + first_head * d;
    for (int64_t h = 0; h < f->group; h++) {
        w->largest[h] = -INFINITY;
        w->sum[h] = 0.0f;
    }
    for (int64_t k0 = 0; k0 < s->nk; k0 += ATTENTION_KEYS) {
        int64_t n = lw_min_i64(ATTENTION_KEYS, s->nk - k0);
        const float *k = f->k + (s->k_start + k0) * a->k_stride + key_head * d;
        for (int64_t j = 0; j < n; j++) {
            for (int64_t h = 0; h < f->group; h++) {
                w->scores[h * f->key_stride + j] = a->scale * attention_dot(d, q + h * d, k + j * a->k_stride);
            }
        }
        for (int64_t h = 0; h < f->group; h++) {
            float shrink = softmax_row(n, w->scores + h * f->key_stride, w->largest + h, w->sum + h);
            if (k0 > 0) {
                scale_row(d, shrink, o + h * d);
            }
        }
        for (int64_t h = 0; h < f->group; h += LW_MICRO_ROWS) {
            const lw_micro values = {d,
                                     n,
                                     w->scores + h * f->key_stride,
                                     f->key_stride,
                                     1,
                                     f->v + (s->k_start + k0) * a->v_stride + key_head * d,
                                     a->v_stride,
                                     o + h * d,
                                     d,
                                     k0 > 0};
            lw_micro_run(&values, (int)lw_min_i64(LW_MICRO_ROWS, f->group - h));
        }
    }
    for (int64_t h = 0; h < f->group; h++) {
        if (s->nk > 0) {
            finish_row(f, s->q_start, first_head + h, w->largest[h], w->sum[h]);
        } else {
            empty_row(f, s->q_start, first_head + h);
        }
    }
}

void LW_CPU(attention)(lw_device *dev, const lw_attention *a)
{
    if (a->sequences <= 0 || a->kv_heads <= 0 || a->q_heads <= 0 || a->head_dim <= 0 || a->max_q <= 0 ||
        !lw_cpu_is_f32(dev, "attention", a->type)) {
        return;
    }
    const forward f = {.a = a,
                       .q = a->q,
                       .k = a->k,
                       .v = a->v,
                       .o = a->o,
                       .lse = a->lse,
                       .group = a->q_heads / a->kv_heads,
                       .key_stride = attention_stride(lw_min_i64(a->max_k, ATTENTION_KEYS))};
    int64_t tiles = (a->max_q + ATTENTION_QUERIES - 1) / ATTENTION_QUERIES;
    int64_t tasks = a->sequences * tiles * a->kv_heads;
    int64_t floats = attention_thread_floats(a);
    int threads = lw_cpu_threads(dev, a->q_rows * a->max_k * a->q_heads * a->head_dim);
#pragma omp parallel for schedule(static, 1) num_threads(threads) if (threads > 1)
    for (int64_t t = 0; t < tasks; t++) {
        attention_sequence s = attention_of(a, t / (tiles * a->kv_heads));
        int64_t key_head = t % a->kv_heads;
        int64_t q0 = t / a->kv_heads % tiles * ATTENTION_QUERIES;
        if (q0 >= s.nq) {
            continue;
        }
        const forward_space w = space_of(&f, (float *)a->work + omp_get_thread_num() * floats);
        if (s.nq == 1) {
            task_one(&f, &s, key_head, &w);
        } else {
            task(&f, &s, key_head, q0, lw_min_i64(q0 + ATTENTION_QUERIES, s.nq), &w);
        }
    }
}
