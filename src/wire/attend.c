// attend.c: attention over packed rows whose heads start with local attention, forward and backward.
#include "wire/attend.h"

#include <math.h>
#include <stdio.h>

// Strength of the initial local attention: how far the peak of the score is above its mean, in units of the logit.
static const double LW_LOCAL_STRENGTH = 4.0;

double lw_attend_frequency(int64_t i, int64_t half)
{
    return pow(LW_ENCODER_ROPE_THETA, -(double)i / (double)half);
}

// Initial bias of the keys. In every head the first half is constant and the second half 0, so that the rotated key at
// position p is amplitude (cos f_i p, sin f_i p). group: head_dim.
static float init_local_key(const lw_param *param, uint64_t seed, uint64_t stream, int64_t j)
{
    (void)seed;
    (void)stream;
    int64_t half = param->group / 2;
    return j % param->group < half ? (float)param->scale : 0.0F;
}

// Initial bias of the queries: the constant of the keys, rotated by the head's offset. The score of key p for query q
// is then amplitude^2 sum_i cos(f_i (q + offset - p)), largest at p = q + offset.
static float init_local_query(const lw_param *param, uint64_t seed, uint64_t stream, int64_t j)
{
    (void)seed;
    (void)stream;
    int64_t half = param->group / 2;
    int64_t head = j / param->group;
    int64_t i = j % param->group;
    double angle = param->offsets[head % 4] * lw_attend_frequency(i % half, half);
    return (float)(param->scale * (i < half ? cos(angle) : sin(angle)));
}

lw_attend lw_attend_declare(lw_params *params, const char *name, int64_t d, int64_t d_states, int64_t heads, bool self,
                            const double offsets[4])
{
    char part[LW_PARAM_NAME_BYTES];
    lw_attend a = {.d = d, .d_states = d_states, .heads = heads, .head_dim = d / heads, .self = self};
    snprintf(part, sizeof part, "%s.norm", name);
    a.norm = lw_layernorm_declare(params, part, d);
    snprintf(part, sizeof part, "%s.q", name);
    a.q = lw_linear_declare(params, part, d, d);
    snprintf(part, sizeof part, "%s.k", name);
    a.k = lw_linear_declare(params, part, d_states, d);
    snprintf(part, sizeof part, "%s.v", name);
    a.v = lw_linear_declare(params, part, d_states, d);
    snprintf(part, sizeof part, "%s.o", name);
    a.o = lw_linear_declare(params, part, d, d);
    if (a.q.bias >= 0 && a.k.bias >= 0) {
        double amplitude = sqrt(LW_LOCAL_STRENGTH * sqrt((double)a.head_dim) / ((double)a.head_dim / 2.0));
        lw_param *q = &params->list[a.q.bias];
        lw_param *k = &params->list[a.k.bias];
        q->init = init_local_query;
        k->init = init_local_key;
        q->scale = k->scale = amplitude;
        q->group = k->group = a.head_dim;
        for (int i = 0; i < 4; i++) {
            q->offsets[i] = offsets[i];
        }
    }
    return a;
}

void lw_attend_layout(lw_arena *arena, lw_device *dev, const lw_attend *a, const lw_attend_limits *limits,
                      lw_attend_buffers *out)
{
    int64_t q = limits->q_rows * a->d;
    int64_t k = limits->k_rows * a->d;
    lw_layernorm_layout(arena, limits->q_rows, a->d, &out->norm);
    out->q = LW_TAKE(arena, q, float);
    out->attn = LW_TAKE(arena, q, float);
    out->k = LW_TAKE(arena, k, float);
    out->v = LW_TAKE(arena, k, float);
    out->lse = LW_TAKE(arena, limits->q_rows * a->heads, float);
    out->d_attn = LW_TAKE(arena, q, float);
    out->dq = LW_TAKE(arena, q, float);
    out->dk = LW_TAKE(arena, k, float);
    out->dv = LW_TAKE(arena, k, float);
    out->d_norm = LW_TAKE(arena, q, float);
    lw_attention most = {.sequences = limits->sequences,
                         .q_heads = a->heads,
                         .kv_heads = a->heads,
                         .head_dim = a->head_dim,
                         .q_rows = limits->q_rows,
                         .max_q = limits->max_q,
                         .max_k = limits->max_k,
                         .q_stride = a->d,
                         .k_stride = a->d,
                         .v_stride = a->d,
                         .o_stride = a->d};
    out->work = lw_arena_take(arena, (int64_t)dev->ops->attention_work_bytes(dev, &most), 1);
}

static lw_attention describe(const lw_attend *a, const lw_attend_rows *rows, const lw_attend_buffers *b)
{
    return (lw_attention){.sequences = rows->sequences,
                          .q_heads = a->heads,
                          .kv_heads = a->heads,
                          .head_dim = a->head_dim,
                          .q_rows = rows->q_rows,
                          .max_q = rows->max_q,
                          .max_k = rows->max_k,
                          .q_start = rows->q_start,
                          .k_start = rows->k_start,
                          .k_len = rows->k_len,
                          .q_stride = a->d,
                          .k_stride = a->d,
                          .v_stride = a->d,
                          .o_stride = a->d,
                          .scale = 1.0F / sqrtf((float)a->head_dim),
                          .type = LW_F32,
                          .q = b->q,
                          .k = b->k,
                          .v = b->v,
                          .o = b->attn,
                          .lse = b->lse,
                          .work = b->work};
}

static void rotate(lw_device *dev, const lw_attend *a, const lw_attend_rows *rows, bool inverse, float *q, float *k)
{
    lw_rope_args rope = {.rows = rows->q_rows,
                         .heads = a->heads,
                         .head_dim = a->head_dim,
                         .stride = a->d,
                         .type = LW_F32,
                         .cos_sin = rows->cos_sin,
                         .position = rows->q_position,
                         .inverse = inverse,
                         .x = q};
    dev->ops->rope(dev, &rope);
    rope.rows = rows->k_rows;
    rope.position = rows->k_position;
    rope.x = k;
    dev->ops->rope(dev, &rope);
}

void lw_attend_forward(lw_device *dev, const lw_params *params, const lw_attend *a, const lw_attend_rows *rows,
                       const float *x, const float *states, lw_attend_buffers *b, float *y)
{
    lw_layernorm_forward(dev, params, &a->norm, rows->q_rows, x, &b->norm);
    const float *s = a->self ? b->norm.y : states;
    lw_linear_forward(dev, params, &a->q, rows->q_rows, b->norm.y, false, b->q);
    lw_linear_forward(dev, params, &a->k, rows->k_rows, s, false, b->k);
    lw_linear_forward(dev, params, &a->v, rows->k_rows, s, false, b->v);
    rotate(dev, a, rows, false, b->q, b->k);
    lw_attention attention = describe(a, rows, b);
    dev->ops->attention(dev, &attention);
    dev->ops->copy(dev, x, (size_t)(rows->q_rows * a->d) * sizeof *x, y);
    lw_linear_forward(dev, params, &a->o, rows->q_rows, b->attn, true, y);
}

void lw_attend_backward(lw_device *dev, const lw_params *params, const lw_attend *a, const lw_attend_rows *rows,
                        const float *x, const float *states, lw_attend_buffers *b, float *d, float *d_states)
{
    const float *s = a->self ? b->norm.y : states;
    float *ds = a->self ? b->d_norm : d_states;
    lw_attention attention = describe(a, rows, b);
    lw_linear_backward(dev, params, &a->o, rows->q_rows, b->attn, d, false, b->d_attn);
    dev->ops->attention_backward(dev, &attention, b->d_attn, b->dq, b->dk, b->dv);
    rotate(dev, a, rows, true, b->dq, b->dk);
    lw_linear_backward(dev, params, &a->q, rows->q_rows, b->norm.y, b->dq, false, b->d_norm);
    lw_linear_backward(dev, params, &a->k, rows->k_rows, s, b->dk, true, ds);
    lw_linear_backward(dev, params, &a->v, rows->k_rows, s, b->dv, true, ds);
    lw_layernorm_backward(dev, params, &a->norm, rows->q_rows, x, &b->norm, b->d_norm, d);
}
