#include "decoder.h"

#include <math.h>
#include <stdlib.h>

#include "decoder_internal.h"

const lw_hf_config *lw_decoder_config(const lw_decoder *decoder)
{
    return &decoder->config;
}

float lw_decoder_embedding_rms(const lw_decoder *decoder)
{
    return decoder->embedding_rms;
}

uint64_t lw_decoder_fingerprint(const lw_decoder *decoder)
{
    return decoder->fingerprint;
}

static int64_t qkv_width(const lw_hf_config *c)
{
    return (c->heads + 2 * c->kv_heads) * c->head_dim;
}

// --- buffers

static void layer_layout(lw_arena *arena, const lw_hf_config *c, size_t operand, int64_t rows, bool train,
                         lw_decoder_layer_buffers *out)
{
    out->x_in = LW_TAKE(arena, rows * c->d, float);
    out->x_mid = LW_TAKE(arena, rows * c->d, float);
    out->rstd_in = LW_TAKE(arena, rows, float);
    out->rstd_mid = LW_TAKE(arena, rows, float);
    out->qkv = lw_arena_take(arena, rows * qkv_width(c), operand);
    out->attn = lw_arena_take(arena, rows * c->heads * c->head_dim, operand);
    out->lse = train ? LW_TAKE(arena, rows * c->heads, float) : NULL;
    out->gate_up = lw_arena_take(arena, rows * 2 * c->ffn, operand);
}

// The largest descriptor that a pass can have, for the size of the work space.
static lw_attention attention_limits(const lw_hf_config *c, const lw_pass_limits *l, lw_dtype type)
{
    int64_t width = qkv_width(c);
    return (lw_attention){.sequences = l->sequences,
                          .q_heads = c->heads,
                          .kv_heads = c->kv_heads,
                          .head_dim = c->head_dim,
                          .q_rows = l->rows,
                          .max_q = l->max_len,
                          .max_k = l->max_len,
                          .q_stride = width,
                          .k_stride = width,
                          .v_stride = width,
                          .o_stride = c->heads * c->head_dim,
                          .scale = 1.0F / sqrtf((float)c->head_dim),
                          .causal = true,
                          .type = type};
}

lw_status lw_decoder_buffers_layout(lw_arena *arena, lw_device *dev, const lw_hf_config *c, lw_pass_mode mode,
                                    const lw_pass_limits *limits, lw_error *err, lw_decoder_buffers *out)
{
    bool train = mode == LW_PASS_TRAIN;
    lw_dtype type = dev->frozen_type;
    size_t operand = lw_dtype_bytes(type);
    int64_t rows = limits->rows;
    int64_t scored = limits->supervised;
    lw_decoder_buffers b = {.mode = mode, .limits = *limits, .layer_count = c->layers};
    b.layers = calloc((size_t)c->layers, sizeof *b.layers);
    if (b.layers == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the buffer table of %lld layers", (long long)c->layers);
    }
    for (int64_t i = 0; i < c->layers; i++) {
        if (train || i == 0) {
            layer_layout(arena, c, operand, rows, train, &b.layers[i]);
        } else {
            b.layers[i] = b.layers[0];
        }
    }
    b.x_out = train ? LW_TAKE(arena, rows * c->d, float) : b.layers[0].x_in;
    b.normed = lw_arena_take(arena, rows * c->d, operand);
    b.mlp = lw_arena_take(arena, rows * c->ffn, operand);
    b.scored = LW_TAKE(arena, scored * c->d, float);
    b.scored_rstd = LW_TAKE(arena, scored, float);
    b.hidden = lw_arena_take(arena, scored * c->d, operand);
    b.logits = LW_TAKE(arena, scored * c->vocab, float);
    b.nll = LW_TAKE(arena, scored, float);
    b.argmax = LW_TAKE(arena, scored, int32_t);
    lw_attention attention = attention_limits(c, limits, type);
    b.work = lw_arena_take(arena, (int64_t)dev->ops->attention_work_bytes(dev, &attention), 1);
    if (train) {
        bool cast = type != LW_F32;
        b.dx = LW_TAKE(arena, rows * c->d, float);
        b.dx_operand = cast ? lw_arena_take(arena, rows * c->d, operand) : b.dx;
        b.dnormed = LW_TAKE(arena, rows * c->d, float);
        b.dmlp = lw_arena_take(arena, rows * c->ffn, operand);
        b.dgate_up = lw_arena_take(arena, rows * 2 * c->ffn, operand);
        b.dattn = lw_arena_take(arena, rows * c->heads * c->head_dim, operand);
        b.dqkv = lw_arena_take(arena, rows * qkv_width(c), operand);
        b.dscored = LW_TAKE(arena, scored * c->d, float);
        b.dlogits_operand = cast ? lw_arena_take(arena, scored * c->vocab, operand) : b.logits;
    }
    *out = b;
    return LW_OK;
}

void lw_decoder_buffers_free(lw_decoder_buffers *buffers)
{
    free(buffers->layers);
    *buffers = (lw_decoder_buffers){0};
}

lw_status lw_kv_cache_layout(lw_arena *arena, lw_device *dev, const lw_hf_config *c, int64_t slots, int64_t capacity,
                             lw_error *err, lw_kv_cache *out)
{
    size_t operand = lw_dtype_bytes(dev->frozen_type);
    void **pointers = calloc((size_t)(2 * c->layers), sizeof *pointers);
    if (pointers == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the cache table of %lld layers", (long long)c->layers);
    }
    for (int64_t i = 0; i < 2 * c->layers; i++) {
        pointers[i] = lw_arena_take(arena, slots * capacity * c->kv_heads * c->head_dim, operand);
    }
    *out = (lw_kv_cache){.keys = pointers, .values = pointers + c->layers, .slots = slots, .capacity = capacity};
    return LW_OK;
}

void lw_kv_cache_free(lw_kv_cache *cache)
{
    free(cache->keys);
    *cache = (lw_kv_cache){0};
}

// --- products with frozen weights

static lw_gemm projection(const lw_decoder *m, int64_t rows, int64_t in, int64_t out, const void *x, const void *w,
                          void *y, lw_dtype y_type)
{
    return (lw_gemm){.trans_b = true,
                     .m = rows,
                     .n = out,
                     .k = in,
                     .alpha = 1.0F,
                     .a = x,
                     .b = w,
                     .c = y,
                     .lda = in,
                     .ldb = in,
                     .ldc = out,
                     .ab_type = m->dev->frozen_type,
                     .c_type = y_type};
}

// y (rows, out) = x (rows, in) W^T [+ bias] [+ residual]; W (out, in), residual of the type of y.
static void project(const lw_decoder *m, int64_t rows, int64_t in, int64_t out, const void *x, const void *w,
                    const float *bias, const void *residual, void *y, lw_dtype y_type)
{
    lw_gemm g = projection(m, rows, in, out, x, w, y, y_type);
    g.bias = bias;
    g.c_in = residual;
    g.beta = residual != NULL ? 1.0F : 0.0F;
    m->dev->ops->gemm(m->dev, &g);
}

// dx (rows, in) = dy (rows, out) W; W (out, in).
static void project_backward(const lw_decoder *m, int64_t rows, int64_t in, int64_t out, const void *dy, const void *w,
                             void *dx, lw_dtype dx_type)
{
    m->dev->ops->gemm(m->dev, &(lw_gemm){.m = rows,
                                         .n = in,
                                         .k = out,
                                         .alpha = 1.0F,
                                         .a = dy,
                                         .b = w,
                                         .c = dx,
                                         .lda = out,
                                         .ldb = in,
                                         .ldc = in,
                                         .ab_type = m->dev->frozen_type,
                                         .c_type = dx_type});
}

static void *at(void *base, int64_t elements, lw_dtype type)
{
    return (unsigned char *)base + (size_t)elements * lw_dtype_bytes(type);
}

// --- forward

static lw_attention describe_attention(const lw_decoder *m, const lw_packing *p, const lw_kv_cache *cache)
{
    lw_attention a = attention_limits(&m->config, &p->limits, m->dev->frozen_type);
    a.sequences = p->sequences;
    a.q_rows = p->rows;
    a.max_q = p->max_q;
    a.max_k = p->max_k;
    a.q_start = p->on.start;
    a.k_start = p->on.key_start;
    a.k_len = p->on.key_len;
    if (cache != NULL) {
        a.k_stride = a.v_stride = m->config.kv_heads * m->config.head_dim;
    }
    return a;
}

static void attention_forward(const lw_decoder *m, const lw_packing *p, const lw_kv_cache *cache, int64_t layer,
                              lw_decoder_buffers *b)
{
    const lw_device_ops *ops = m->dev->ops;
    const lw_hf_config *c = &m->config;
    lw_decoder_layer_buffers *l = &b->layers[layer];
    lw_dtype type = m->dev->frozen_type;
    int64_t kv_width = c->kv_heads * c->head_dim;
    void *k = at(l->qkv, c->heads * c->head_dim, type);
    void *v = at(k, kv_width, type);
    ops->rope(m->dev, p->rows, c->heads + c->kv_heads, c->head_dim, m->qkv_width, type, m->cos_sin, p->on.position,
              false, l->qkv);
    if (cache != NULL) {
        ops->copy_rows(m->dev, p->rows, kv_width, type, k, m->qkv_width, p->on.cache_row, cache->keys[layer],
                       kv_width);
        ops->copy_rows(m->dev, p->rows, kv_width, type, v, m->qkv_width, p->on.cache_row, cache->values[layer],
                       kv_width);
        k = cache->keys[layer];
        v = cache->values[layer];
    }
    lw_attention a = describe_attention(m, p, cache);
    ops->attention(m->dev, &a, l->qkv, k, v, l->attn, l->lse, b->work);
}

static void layer_forward(const lw_decoder *m, const lw_packing *p, const lw_kv_cache *cache, int64_t layer,
                          lw_decoder_buffers *b)
{
    const lw_device_ops *ops = m->dev->ops;
    const lw_hf_config *c = &m->config;
    const lw_decoder_layer *w = &m->layers[layer];
    lw_decoder_layer_buffers *l = &b->layers[layer];
    lw_dtype type = m->dev->frozen_type;
    int64_t rows = p->rows;
    float *x_next = layer + 1 < c->layers ? b->layers[layer + 1].x_in : b->x_out;

    ops->rmsnorm(m->dev, rows, c->d, c->rms_eps, l->x_in, w->attn_norm, type, b->normed, l->rstd_in);
    project(m, rows, c->d, m->qkv_width, b->normed, w->qkv, w->qkv_bias, NULL, l->qkv, type);
    attention_forward(m, p, cache, layer, b);
    project(m, rows, c->heads * c->head_dim, c->d, l->attn, w->o, w->o_bias, l->x_in, l->x_mid, LW_F32);

    ops->rmsnorm(m->dev, rows, c->d, c->rms_eps, l->x_mid, w->mlp_norm, type, b->normed, l->rstd_mid);
    project(m, rows, c->d, 2 * c->ffn, b->normed, w->gate_up, w->gate_up_bias, NULL, l->gate_up, type);
    ops->swiglu(m->dev, rows, c->ffn, type, l->gate_up, b->mlp);
    project(m, rows, c->ffn, c->d, b->mlp, w->down, w->down_bias, l->x_mid, x_next, LW_F32);
}

void lw_decoder_forward(const lw_decoder *m, const lw_packing *p, const float *soft_tokens, const lw_kv_cache *cache,
                        lw_decoder_buffers *b)
{
    const lw_device_ops *ops = m->dev->ops;
    const lw_hf_config *c = &m->config;
    lw_dtype type = m->dev->frozen_type;
    float *x = b->layers[0].x_in;
    ops->gather(m->dev, p->prefix_rows, c->d, soft_tokens, LW_F32, p->on.prefix_source, p->on.prefix_row, false, x);
    ops->gather(m->dev, p->tokens, c->d, m->embedding, type, p->on.token_id, p->on.token_row, false, x);
    for (int64_t i = 0; i < c->layers; i++) {
        layer_forward(m, p, cache, i, b);
    }
}

void lw_decoder_logits(const lw_decoder *m, const lw_packing *p, lw_decoder_buffers *b)
{
    const lw_device_ops *ops = m->dev->ops;
    const lw_hf_config *c = &m->config;
    lw_dtype type = m->dev->frozen_type;
    ops->gather(m->dev, p->supervised, c->d, b->x_out, LW_F32, p->on.scored_row, NULL, false, b->scored);
    ops->rmsnorm(m->dev, p->supervised, c->d, c->rms_eps, b->scored, m->final_norm, type, b->hidden, b->scored_rstd);
    project(m, p->supervised, c->d, c->vocab, b->hidden, m->lm_head, NULL, NULL, b->logits, LW_F32);
}

// --- backward

// x as an operand of a product: itself on an f32 device, a copy in the operand type elsewhere.
static void make_operand(const lw_decoder *m, int64_t n, const float *x, void *operand)
{
    if (operand != (const void *)x) {
        m->dev->ops->cast(m->dev, n, x, LW_F32, operand, m->dev->frozen_type);
    }
}

// b->dx and b->dx_operand hold the gradient of the residual stream after the norm's branch; before it on return.
static void norm_backward(const lw_decoder *m, int64_t rows, const float *x, const float *w, const float *rstd,
                          lw_decoder_buffers *b)
{
    void *copy = b->dx_operand != (void *)b->dx ? b->dx_operand : NULL;
    m->dev->ops->rmsnorm_backward(m->dev, rows, m->config.d, x, w, rstd, b->dnormed, b->dx, m->dev->frozen_type, copy);
}

static void layer_backward(const lw_decoder *m, const lw_packing *p, int64_t layer, lw_decoder_buffers *b)
{
    const lw_device_ops *ops = m->dev->ops;
    const lw_hf_config *c = &m->config;
    const lw_decoder_layer *w = &m->layers[layer];
    lw_decoder_layer_buffers *l = &b->layers[layer];
    lw_dtype type = m->dev->frozen_type;
    int64_t rows = p->rows;
    int64_t q_width = c->heads * c->head_dim;
    int64_t kv_width = c->kv_heads * c->head_dim;

    project_backward(m, rows, c->ffn, c->d, b->dx_operand, w->down, b->dmlp, type);
    ops->swiglu_backward(m->dev, rows, c->ffn, type, l->gate_up, b->dmlp, b->dgate_up);
    project_backward(m, rows, c->d, 2 * c->ffn, b->dgate_up, w->gate_up, b->dnormed, LW_F32);
    norm_backward(m, rows, l->x_mid, w->mlp_norm, l->rstd_mid, b);

    project_backward(m, rows, q_width, c->d, b->dx_operand, w->o, b->dattn, type);
    lw_attention a = describe_attention(m, p, NULL);
    void *k = at(l->qkv, q_width, type);
    void *v = at(k, kv_width, type);
    void *dk = at(b->dqkv, q_width, type);
    void *dv = at(dk, kv_width, type);
    ops->attention_backward(m->dev, &a, l->qkv, k, v, l->attn, b->dattn, l->lse, b->dqkv, dk, dv, b->work);
    ops->rope(m->dev, rows, c->heads + c->kv_heads, c->head_dim, m->qkv_width, type, m->cos_sin, p->on.position, true,
              b->dqkv);
    project_backward(m, rows, c->d, m->qkv_width, b->dqkv, w->qkv, b->dnormed, LW_F32);
    norm_backward(m, rows, l->x_in, w->attn_norm, l->rstd_in, b);
}

// From the gradient of the logits to b->dx, that of the last layer's output.
static void head_backward(const lw_decoder *m, const lw_packing *p, lw_decoder_buffers *b)
{
    const lw_device_ops *ops = m->dev->ops;
    const lw_hf_config *c = &m->config;
    make_operand(m, p->supervised * c->vocab, b->logits, b->dlogits_operand);
    project_backward(m, p->supervised, c->d, c->vocab, b->dlogits_operand, m->lm_head, b->dnormed, LW_F32);
    ops->zero(m->dev, (size_t)(p->supervised * c->d) * sizeof(float), b->dscored);
    ops->rmsnorm_backward(m->dev, p->supervised, c->d, b->scored, m->final_norm, b->scored_rstd, b->dnormed,
                          b->dscored, LW_F32, NULL);
    ops->zero(m->dev, (size_t)(p->rows * c->d) * sizeof(float), b->dx);
    // Scored rows are distinct, so this is a plain scatter.
    ops->gather(m->dev, p->supervised, c->d, b->dscored, LW_F32, NULL, p->on.scored_row, false, b->dx);
    make_operand(m, p->rows * c->d, b->dx, b->dx_operand);
}

void lw_decoder_loss(const lw_decoder *m, const lw_packing *p, bool gradient, lw_decoder_buffers *b)
{
    m->dev->ops->xent(m->dev, &(lw_xent){.rows = p->supervised,
                                         .vocab = m->config.vocab,
                                         .logits = b->logits,
                                         .type = LW_F32,
                                         .target = p->on.target,
                                         .weight = gradient ? p->on.weight : NULL,
                                         .tau = 1.0F,
                                         .gradient = gradient,
                                         .nll = b->nll,
                                         .argmax = b->argmax});
    if (gradient) {
        head_backward(m, p, b);
    }
}

void lw_decoder_backward(const lw_decoder *m, const lw_packing *p, lw_decoder_buffers *b, float *d_soft)
{
    const lw_device_ops *ops = m->dev->ops;
    const lw_hf_config *c = &m->config;
    for (int64_t i = c->layers - 1; i >= 0; i--) {
        layer_backward(m, p, i, b);
    }
    ops->gather(m->dev, p->prefix_rows, c->d, b->dx, LW_F32, p->on.prefix_row, p->on.prefix_source, false, d_soft);
}

lw_gemm lw_decoder_largest_product(const lw_decoder *m, const lw_decoder_buffers *b)
{
    const lw_hf_config *c = &m->config;
    if (b->limits.rows * 2 * c->ffn >= b->limits.supervised * c->vocab) {
        return projection(m, b->limits.rows, c->d, 2 * c->ffn, b->normed, m->layers[0].gate_up, b->layers[0].gate_up,
                          m->dev->frozen_type);
    }
    return projection(m, b->limits.supervised, c->d, c->vocab, b->hidden, m->lm_head, b->logits, LW_F32);
}
