// decoder_layer.c: one layer of a frozen LLM, forward and backward, with the low-rank updates of an encoder's.
#include "model/decoder_internal.h"
#include "model/frozen_weights.h"

// --- one map of the layer, with its low-rank update

// The product of one of the layer's maps, frozen weights and low-rank update. `x` of the frozen type.
static void map_forward(const lw_layer_run *run, int64_t layer, lw_lora_map map, const void *x, const void *w,
                        const float *bias, const float *residual, void *y, lw_dtype y_type)
{
    const lw_decoder *m = run->m;
    const lw_lora *lora = &run->b->pass.lora;
    lw_lora_shape s = lw_lora_shape_of(&m->config, map);
    lw_frozen_project(m->dev, run->p->rows, s.in, s.out, x, w, bias, residual, y, y_type);
    if (lora->rank > 0) {
        lw_lora_forward(m->dev, run->params, lora, layer, map, run->p->rows, x, y, y_type, &run->b->lora);
    }
}

// dx, NULL: not wanted. x serves the gradients of the update alone.
static void map_backward(const lw_layer_run *run, int64_t layer, lw_lora_map map, const void *x, const void *dy,
                         const void *w, void *dx, lw_dtype dx_type)
{
    const lw_decoder *m = run->m;
    const lw_lora *lora = &run->b->pass.lora;
    lw_lora_shape s = lw_lora_shape_of(&m->config, map);
    if (dx != NULL) {
        lw_frozen_project_backward(m->dev, run->p->rows, s.in, s.out, dy, w, dx, dx_type);
    }
    if (lora->rank > 0) {
        lw_lora_backward(m->dev, run->params, lora, layer, map, run->p->rows, x, dy, dx, dx_type, &run->b->lora);
    }
}

static void *at(void *base, int64_t elements, lw_dtype type)
{
    return (unsigned char *)base + (size_t)elements * lw_dtype_bytes(type);
}

// --- forward

// b->normed = the norm of the residual stream x.
static void norm_forward(const lw_layer_run *run, const float *x, const float *w, float *rstd)
{
    const lw_decoder *m = run->m;
    m->dev->ops->rmsnorm(m->dev, &(lw_rmsnorm_args){.rows = run->p->rows,
                                                    .d = m->config.d,
                                                    .eps = m->config.rms_eps,
                                                    .x = x,
                                                    .w = w,
                                                    .type = m->dev->frozen_type,
                                                    .y = run->b->normed,
                                                    .rstd = rstd});
}

// qkv: the queries and keys of a pass, or their gradients with `inverse`.
static void rotate(const lw_layer_run *run, bool inverse, void *qkv)
{
    const lw_decoder *m = run->m;
    m->dev->ops->rope(m->dev, &(lw_rope_args){.rows = run->p->rows,
                                              .heads = m->config.heads + m->config.kv_heads,
                                              .head_dim = m->config.head_dim,
                                              .stride = m->qkv_width,
                                              .type = m->dev->frozen_type,
                                              .cos_sin = m->cos_sin,
                                              .position = run->p->on.position,
                                              .inverse = inverse,
                                              .x = qkv});
}

static void into_cache(const lw_layer_run *run, const void *in, int64_t width, void *cached)
{
    const lw_decoder *m = run->m;
    m->dev->ops->copy_rows(m->dev, &(lw_copy_rows_args){.n = run->p->rows,
                                                        .d = width,
                                                        .type = m->dev->frozen_type,
                                                        .in = in,
                                                        .in_stride = m->qkv_width,
                                                        .out_index = run->p->on.cache_row,
                                                        .out = cached,
                                                        .out_stride = width});
}

// The attention of a layer, of the keys and values of the pass.
static lw_attention describe_attention(const lw_layer_run *run, int64_t layer)
{
    const lw_decoder *m = run->m;
    const lw_hf_config *c = &m->config;
    const lw_decoder_layer_buffers *l = &run->b->layers[layer];
    const lw_packing *p = run->p;
    lw_attention a = lw_decoder_attention_limits(&m->config, &run->b->pass, &p->limits, m->dev->frozen_type);
    a.sequences = p->sequences;
    a.q_rows = p->rows;
    a.max_q = p->max_q;
    a.max_k = p->max_k;
    a.q_start = p->on.start;
    a.k_start = p->on.key_start;
    a.k_len = p->on.key_len;
    a.q = l->qkv;
    a.k = at(l->qkv, c->heads * c->head_dim, a.type);
    a.v = at(l->qkv, (c->heads + c->kv_heads) * c->head_dim, a.type);
    a.o = l->attn;
    a.lse = l->lse;
    a.work = run->b->work;
    return a;
}

static void attention_forward(const lw_layer_run *run, int64_t layer)
{
    const lw_decoder *m = run->m;
    const lw_kv_cache *cache = run->cache;
    lw_attention a = describe_attention(run, layer);
    rotate(run, false, run->b->layers[layer].qkv);
    if (cache != NULL) {
        int64_t width = m->config.kv_heads * m->config.head_dim;
        into_cache(run, a.k, width, cache->keys[layer]);
        into_cache(run, a.v, width, cache->values[layer]);
        a.k = cache->keys[layer];
        a.v = cache->values[layer];
        a.k_stride = a.v_stride = width;
    }
    m->dev->ops->attention(m->dev, &a);
}

void lw_decoder_layer_forward(const lw_layer_run *run, int64_t layer)
{
    const lw_decoder *m = run->m;
    lw_decoder_buffers *b = run->b;
    const lw_decoder_layer *w = &m->layers[layer];
    lw_decoder_layer_buffers *l = &b->layers[layer];
    lw_dtype type = m->dev->frozen_type;
    float *x_next = layer + 1 < b->layer_count ? b->layers[layer + 1].x_in : b->x_out;

    norm_forward(run, l->x_in, w->attn_norm, l->rstd_in);
    map_forward(run, layer, LW_LORA_QKV, b->normed, w->qkv, w->qkv_bias, NULL, l->qkv, type);
    attention_forward(run, layer);
    map_forward(run, layer, LW_LORA_O, l->attn, w->o, w->o_bias, l->x_in, l->x_mid, LW_F32);

    norm_forward(run, l->x_mid, w->mlp_norm, l->rstd_mid);
    map_forward(run, layer, LW_LORA_GATE_UP, b->normed, w->gate_up, w->gate_up_bias, NULL, l->gate_up, type);
    m->dev->ops->swiglu(m->dev, run->p->rows, m->config.ffn, type, l->gate_up, b->mlp);
    map_forward(run, layer, LW_LORA_DOWN, b->mlp, w->down, w->down_bias, l->x_mid, x_next, LW_F32);
}

// --- backward

// b->dx and b->dx_operand hold the gradient of the residual stream after the norm's branch; before it on return.
static void norm_backward(const lw_layer_run *run, const float *x, const float *w, const float *rstd)
{
    const lw_decoder *m = run->m;
    lw_decoder_buffers *b = run->b;
    void *copy = b->dx_operand != (void *)b->dx ? b->dx_operand : NULL;
    m->dev->ops->rmsnorm_backward(m->dev, &(lw_rmsnorm_backward_args){.rows = run->p->rows,
                                                                      .d = m->config.d,
                                                                      .x = x,
                                                                      .w = w,
                                                                      .rstd = rstd,
                                                                      .dy = b->dnormed,
                                                                      .dx = b->dx,
                                                                      .type = m->dev->frozen_type,
                                                                      .dx_copy = copy});
}

static void attention_backward(const lw_layer_run *run, int64_t layer)
{
    const lw_decoder *m = run->m;
    lw_decoder_buffers *b = run->b;
    const lw_hf_config *c = &m->config;
    lw_attention a = describe_attention(run, layer);
    void *dk = at(b->dqkv, c->heads * c->head_dim, a.type);
    void *dv = at(dk, c->kv_heads * c->head_dim, a.type);
    m->dev->ops->attention_backward(m->dev, &a, b->dattn, b->dqkv, dk, dv);
    rotate(run, true, b->dqkv);
}

// Inputs of the maps are needed for the gradients of the updates alone. Attention's output is kept anyway; what one
// pass over rows makes again is made again.
static const void *normed_again(const lw_layer_run *run, const float *x, const float *w)
{
    if (run->b->pass.lora.rank > 0) {
        norm_forward(run, x, w, NULL);
    }
    return run->b->normed;
}

static const void *mlp_again(const lw_layer_run *run, const void *gate_up)
{
    const lw_decoder *m = run->m;
    if (run->b->pass.lora.rank > 0) {
        m->dev->ops->swiglu(m->dev, run->p->rows, m->config.ffn, m->dev->frozen_type, gate_up, run->b->mlp);
    }
    return run->b->mlp;
}

void lw_decoder_layer_backward(const lw_layer_run *run, int64_t layer)
{
    const lw_decoder *m = run->m;
    lw_decoder_buffers *b = run->b;
    const lw_decoder_layer *w = &m->layers[layer];
    lw_decoder_layer_buffers *l = &b->layers[layer];
    lw_dtype type = m->dev->frozen_type;

    map_backward(run, layer, LW_LORA_DOWN, mlp_again(run, l->gate_up), b->dx_operand, w->down, b->dmlp, type);
    m->dev->ops->swiglu_backward(m->dev, run->p->rows, m->config.ffn, type, l->gate_up, b->dmlp, b->dgate_up);
    map_backward(run, layer, LW_LORA_GATE_UP, normed_again(run, l->x_mid, w->mlp_norm), b->dgate_up, w->gate_up,
                 b->dnormed, LW_F32);
    norm_backward(run, l->x_mid, w->mlp_norm, l->rstd_mid);

    map_backward(run, layer, LW_LORA_O, l->attn, b->dx_operand, w->o, b->dattn, type);
    attention_backward(run, layer);
    bool wanted = layer > 0 || run->p->prefix_rows > 0;
    map_backward(run, layer, LW_LORA_QKV, normed_again(run, l->x_in, w->attn_norm), b->dqkv, w->qkv,
                 wanted ? b->dnormed : NULL, LW_F32);
    if (wanted) {
        norm_backward(run, l->x_in, w->attn_norm, l->rstd_in);
    }
}
