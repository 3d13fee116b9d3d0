// bert.c: the forward pass of a frozen BERT.
#include "model/bert.h"

#include <math.h>

#include "model/bert_internal.h"
#include "model/frozen_weights.h"

const lw_bert_config *lw_bert_shapes(const lw_bert *bert)
{
    return &bert->config;
}

uint64_t lw_bert_fingerprint(const lw_bert *bert)
{
    return bert->frozen.fingerprint;
}

lw_frozen_figures lw_bert_load_figures(const lw_bert *bert)
{
    return bert->frozen.figures;
}

// The largest descriptor that a pass can have, for the size of the work space.
static lw_attention attention_limits(const lw_bert_config *c, const lw_pass_limits *l, lw_dtype type)
{
    return (lw_attention){.sequences = l->sequences,
                          .q_heads = c->heads,
                          .kv_heads = c->heads,
                          .head_dim = c->head_dim,
                          .q_rows = l->rows,
                          .max_q = l->max_len,
                          .max_k = l->max_len,
                          .q_stride = 3 * c->d,
                          .k_stride = 3 * c->d,
                          .v_stride = 3 * c->d,
                          .o_stride = c->d,
                          .scale = 1.0F / sqrtf((float)c->head_dim),
                          .causal = false,
                          .type = type};
}

void lw_bert_buffers_layout(lw_arena *arena, lw_device *dev, const lw_bert_config *c, const lw_pass_limits *limits,
                            lw_bert_buffers *out)
{
    lw_dtype type = dev->frozen_type;
    size_t operand = lw_dtype_bytes(type);
    int64_t rows = limits->rows;
    out->x = LW_TAKE(arena, rows * c->d, float);
    out->sum = LW_TAKE(arena, rows * c->d, float);
    out->mean = LW_TAKE(arena, rows, float);
    out->rstd = LW_TAKE(arena, rows, float);
    out->operand = type == LW_F32 ? out->x : lw_arena_take(arena, rows * c->d, operand);
    out->qkv = lw_arena_take(arena, rows * 3 * c->d, operand);
    out->attn = lw_arena_take(arena, rows * c->d, operand);
    out->mlp = lw_arena_take(arena, rows * c->ffn, operand);
    lw_attention attention = attention_limits(c, limits, type);
    out->work = lw_arena_take(arena, (int64_t)dev->ops->attention_work_bytes(dev, &attention), 1);
}

// b->sum -> b->x, and its copy as an operand.
static void normalise(const lw_bert *m, const lw_bert_norm *n, int64_t rows, lw_bert_buffers *b)
{
    const lw_device_ops *ops = m->dev->ops;
    int64_t d = m->config.d;
    ops->layernorm(m->dev, &(lw_layernorm_args){.rows = rows,
                                                .d = d,
                                                .eps = m->config.eps,
                                                .x = b->sum,
                                                .g = n->gain,
                                                .b = n->bias,
                                                .y = b->x,
                                                .mean = b->mean,
                                                .rstd = b->rstd});
    if (b->operand != (void *)b->x) {
        ops->cast(m->dev, rows * d, b->x, LW_F32, b->operand, m->dev->frozen_type);
    }
}

static void attend(const lw_bert *m, const lw_packing *p, lw_bert_buffers *b)
{
    lw_dtype type = m->dev->frozen_type;
    size_t width = (size_t)m->config.d * lw_dtype_bytes(type);
    lw_attention a = attention_limits(&m->config, &p->limits, type);
    a.sequences = p->sequences;
    a.q_rows = p->rows;
    a.max_q = p->max_q;
    a.max_k = p->max_k;
    a.q_start = p->on.start;
    a.k_start = p->on.key_start;
    a.k_len = p->on.key_len;
    const unsigned char *q = b->qkv;
    a.q = q;
    a.k = q + width;
    a.v = q + 2 * width;
    a.o = b->attn;
    a.work = b->work;
    m->dev->ops->attention(m->dev, &a);
}

static void layer_forward(const lw_bert *m, const lw_packing *p, const lw_bert_layer *w, lw_bert_buffers *b)
{
    const lw_bert_config *c = &m->config;
    lw_dtype type = m->dev->frozen_type;
    int64_t rows = p->rows;
    lw_frozen_project(m->dev, rows, c->d, 3 * c->d, b->operand, w->qkv, w->qkv_bias, NULL, b->qkv, type);
    attend(m, p, b);
    lw_frozen_project(m->dev, rows, c->d, c->d, b->attn, w->o, w->o_bias, b->x, b->sum, LW_F32);
    normalise(m, &w->attn_norm, rows, b);
    lw_frozen_project(m->dev, rows, c->d, c->ffn, b->operand, w->up, w->up_bias, NULL, b->mlp, type);
    m->dev->ops->gelu_frozen(m->dev, rows * c->ffn, c->gelu_erf, type, b->mlp, b->mlp);
    lw_frozen_project(m->dev, rows, c->ffn, c->d, b->mlp, w->down, w->down_bias, b->x, b->sum, LW_F32);
    normalise(m, &w->mlp_norm, rows, b);
}

void lw_bert_forward(const lw_bert *m, const lw_packing *p, lw_bert_buffers *b)
{
    const lw_device_ops *ops = m->dev->ops;
    int64_t d = m->config.d;
    ops->gather(m->dev, &(lw_gather_args){.n = p->tokens,
                                          .d = d,
                                          .in = m->words,
                                          .in_type = m->dev->frozen_type,
                                          .in_index = p->on.token_id,
                                          .out_index = p->on.token_row,
                                          .out = b->sum});
    ops->gather(m->dev, &(lw_gather_args){.n = p->rows,
                                          .d = d,
                                          .in = m->positions,
                                          .in_type = LW_F32,
                                          .in_index = p->on.position,
                                          .accumulate = true,
                                          .out = b->sum});
    normalise(m, &m->norm, p->rows, b);
    for (int64_t i = 0; i < m->config.layers; i++) {
        layer_forward(m, p, &m->layers[i], b);
    }
}
