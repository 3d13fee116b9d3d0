// decoder_buffers.c: where a pass through a frozen LLM keeps what it computes.
#include <math.h>
#include <stdlib.h>

#include "model/decoder_internal.h"

int64_t lw_decoder_qkv_width(const lw_hf_config *c)
{
    return (c->heads + 2 * c->kv_heads) * c->head_dim;
}

static void layer_layout(lw_arena *arena, const lw_hf_config *c, size_t operand, int64_t rows, bool train,
                         lw_decoder_layer_buffers *out)
{
    out->x_in = LW_TAKE(arena, rows * c->d, float);
    out->x_mid = LW_TAKE(arena, rows * c->d, float);
    out->rstd_in = LW_TAKE(arena, rows, float);
    out->rstd_mid = LW_TAKE(arena, rows, float);
    out->qkv = lw_arena_take(arena, rows * lw_decoder_qkv_width(c), operand);
    out->attn = lw_arena_take(arena, rows * c->heads * c->head_dim, operand);
    out->lse = train ? LW_TAKE(arena, rows * c->heads, float) : NULL;
    out->gate_up = lw_arena_take(arena, rows * 2 * c->ffn, operand);
}

lw_attention lw_decoder_attention_limits(const lw_hf_config *c, const lw_decoder_pass *pass, const lw_pass_limits *l,
                                         lw_dtype type)
{
    int64_t width = lw_decoder_qkv_width(c);
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
                          .causal = !pass->bidirectional,
                          .type = type};
}

// What turns the last layer into states or logits of the scored rows, and back.
static void head_layout(lw_arena *arena, const lw_hf_config *c, lw_dtype type, lw_decoder_buffers *b)
{
    int64_t scored = b->limits.supervised;
    int64_t teachers = b->limits.teachers;
    size_t operand = lw_dtype_bytes(type);
    bool train = b->pass.mode == LW_PASS_TRAIN;
    b->scored = LW_TAKE(arena, scored * c->d, float);
    b->scored_rstd = LW_TAKE(arena, scored, float);
    b->dscored = train ? LW_TAKE(arena, scored * c->d, float) : NULL;
    if (b->pass.states) {
        b->states = LW_TAKE(arena, scored * c->d, float);
        return;
    }
    b->hidden = lw_arena_take(arena, (scored + teachers) * c->d, operand);
    if (b->pass.no_logits) {
        return;
    }
    b->logits = LW_TAKE(arena, (scored + teachers) * c->vocab, float);
    b->nll = LW_TAKE(arena, scored, float);
    b->kl = teachers > 0 ? LW_TAKE(arena, scored, float) : NULL;
    b->argmax = LW_TAKE(arena, scored, int32_t);
    if (train) {
        b->dlogits_operand = type != LW_F32 ? lw_arena_take(arena, scored * c->vocab, operand) : b->logits;
    }
}

static void gradients_layout(lw_arena *arena, const lw_hf_config *c, lw_dtype type, int64_t rows, lw_decoder_buffers *b)
{
    size_t operand = lw_dtype_bytes(type);
    b->dx = LW_TAKE(arena, rows * c->d, float);
    b->dx_operand = type != LW_F32 ? lw_arena_take(arena, rows * c->d, operand) : b->dx;
    b->dnormed = LW_TAKE(arena, rows * c->d, float);
    b->dmlp = lw_arena_take(arena, rows * c->ffn, operand);
    b->dgate_up = lw_arena_take(arena, rows * 2 * c->ffn, operand);
    b->dattn = lw_arena_take(arena, rows * c->heads * c->head_dim, operand);
    b->dqkv = lw_arena_take(arena, rows * lw_decoder_qkv_width(c), operand);
}

lw_status lw_decoder_pass_layout(lw_arena *arena, lw_device *dev, const lw_hf_config *c, const lw_params *params,
                                 const lw_decoder_pass *pass, const lw_pass_limits *limits, lw_error *err,
                                 lw_decoder_buffers *out)
{
    bool train = pass->mode == LW_PASS_TRAIN;
    lw_dtype type = dev->frozen_type;
    size_t operand = lw_dtype_bytes(type);
    int64_t rows = limits->rows;
    int64_t layers = pass->layers > 0 && pass->layers < c->layers ? pass->layers : c->layers;
    lw_decoder_buffers b = {.pass = *pass, .limits = *limits, .layer_count = layers};
    b.layers = calloc((size_t)layers, sizeof *b.layers);
    if (b.layers == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the buffer table of %lld layers", (long long)layers);
    }
    for (int64_t i = 0; i < layers; i++) {
        if (train || i == 0) {
            layer_layout(arena, c, operand, rows, train, &b.layers[i]);
        } else {
            b.layers[i] = b.layers[0];
        }
    }
    b.x_out = train ? LW_TAKE(arena, rows * c->d, float) : b.layers[0].x_in;
    b.normed = lw_arena_take(arena, rows * c->d, operand);
    b.mlp = lw_arena_take(arena, rows * c->ffn, operand);
    head_layout(arena, c, type, &b);
    lw_attention attention = lw_decoder_attention_limits(c, pass, limits, type);
    b.work = lw_arena_take(arena, (int64_t)dev->ops->attention_work_bytes(dev, &attention), 1);
    lw_lora_layout(arena, dev, params, &pass->lora, rows, train, &b.lora);
    if (train) {
        gradients_layout(arena, c, type, rows, &b);
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
