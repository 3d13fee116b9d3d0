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

static lw_attention describe_attention(const lw_layer_run *run)
{
    const lw_decoder *m = run->m;
    const lw_packing *p = run->p;
    lw_attention a = lw_decoder_attention_limits(&m->config, &run->b->pass, &p->limits, m->dev->frozen_type);
    a.sequences = p->sequences;
    a.q_rows = p->rows;
    a.max_q = p->max_q;
    a.max_k = p->max_k;
    a.q_start = p->on.start;
    a.k_start = p->on.key_start;
    a.k_len = p->on.key_len;
    if (run->cache != NULL) {
        a.k_stride = a.v_stride = m->config.kv_heads * m->config.head_dim;
    }
    return a;
}

static void attention_forward(const lw_layer_run *run, int64_t layer)
{
    const lw_decoder *m = run->m;
    const lw_packing *p = run->p;
    const lw_kv_cache *cache = run->cache;
    const lw_device_ops *ops = m->dev->ops;
    const lw_hf_config *c = &m->config;
    lw_decoder_layer_buffers *l = &run->b->layers[layer];
    lw_dtype type = m->dev->frozen_type;
    int64_t kv_width = c->kv_heads * c->head_dim;
    void *k = at(l->qkv, c->heads * c->head_dim, type);
    void *v = at(k, kv_width, type);
    ops->rope(m->dev, p->rows, c->heads + c->kv_heads, c->head_dim, m->qkv_width, type, m->cos_sin, p->on.position,
              false, l->qkv);
    if (cache != NULL) {
        ops->copy_rows(m->dev, p->rows, kv_width, type, k, m->qkv_width, p->on.cache_row, cache->keys[layer], kv_width);
        ops->copy_rows(m->dev, p->rows, kv_width, type, v, m->qkv_width, p->on.cache_row, cache->values[layer],
                       kv_width);
        k = cache->keys[layer];
        v = cache->values[layer];
    }
    lw_attention a = describe_attention(run);
    ops->attention(m->dev, &a, l->qkv, k, v, l->attn, l->lse, run->b->work);
}

void lw_decoder_layer_forward(const lw_layer_run *run, int64_t layer)
{
    const lw_decoder *m = run->m;
    lw_decoder_buffers *b = run->b;
    const lw_device_ops *ops = m->dev->ops;
    const lw_hf_config *c = &m->config;
    const lw_decoder_layer *w = &m->layers[layer];
    lw_decoder_layer_buffers *l = &b->layers[layer];
    lw_dtype type = m->dev->frozen_type;
    int64_t rows = run->p->rows;
    float *x_next = layer + 1 < b->layer_count ? b->layers[layer + 1].x_in : b->x_out;

    ops->rmsnorm(m->dev, rows, c->d, c->rms_eps, l->x_in, w->attn_norm, type, b->normed, l->rstd_in);
    map_forward(run, layer, LW_LORA_QKV, b->normed, w->qkv, w->qkv_bias, NULL, l->qkv, type);
    attention_forward(run, layer);
    map_forward(run, layer, LW_LORA_O, l->attn, w->o, w->o_bias, l->x_in, l->x_mid, LW_F32);

    ops->rmsnorm(m->dev, rows, c->d, c->rms_eps, l->x_mid, w->mlp_norm, type, b->normed, l->rstd_mid);
    map_forward(run, layer, LW_LORA_GATE_UP, b->normed, w->gate_up, w->gate_up_bias, NULL, l->gate_up, type);
    ops->swiglu(m->dev, rows, c->ffn, type, l->gate_up, b->mlp);
    map_forward(run, layer, LW_LORA_DOWN, b->mlp, w->down, w->down_bias, l->x_mid, x_next, LW_F32);
}

// --- backward

// b->dx and b->dx_operand hold the gradient of the residual stream after the norm's branch; before it on return.
static void norm_backward(const lw_layer_run *run, const float *x, const float *w, const float *rstd)
{
    const lw_decoder *m = run->m;
    lw_decoder_buffers *b = run->b;
    void *copy = b->dx_operand != (void *)b->dx ? b->dx_operand : NULL;
    m->dev->ops->rmsnorm_backward(m->dev, run->p->rows, m->config.d, x, w, rstd, b->dnormed, b->dx, m->dev->frozen_type,
                                  copy);
}

static void attention_backward(const lw_layer_run *run, int64_t layer)
{
    const lw_decoder *m = run->m;
    const lw_packing *p = run->p;
    lw_decoder_buffers *b = run->b;
    const lw_hf_config *c = &m->config;
    lw_decoder_layer_buffers *l = &b->layers[layer];
    lw_dtype type = m->dev->frozen_type;
    int64_t q_width = c->heads * c->head_dim;
    int64_t kv_width = c->kv_heads * c->head_dim;
    lw_attention a = describe_attention(run);
    void *k = at(l->qkv, q_width, type);
    void *v = at(k, kv_width, type);
    void *dk = at(b->dqkv, q_width, type);
    void *dv = at(dk, kv_width, type);
    m->dev->ops->attention_backward(m->dev, &a, l->qkv, k, v, l->attn, b->dattn, l->lse, b->dqkv, dk, dv, b->work);
    m->dev->ops->rope(m->dev, p->rows, c->heads + c->kv_heads, c->head_dim, m->qkv_width, type, m->cos_sin,
                      p->on.position, true, b->dqkv);
}

// Inputs of the maps are needed for the gradients of the updates alone. Attention's output is kept anyway; what one
// pass over rows makes again is made again.
static const void *normed_again(const lw_layer_run *run, const float *x, const float *w)
{
    const lw_decoder *m = run->m;
    if (run->b->pass.lora.rank > 0) {
        m->dev->ops->rmsnorm(m->dev, run->p->rows, m->config.d, m->config.rms_eps, x, w, m->dev->frozen_type,
                             run->b->normed, NULL);
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
