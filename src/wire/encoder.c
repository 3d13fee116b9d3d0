#include "wire/encoder.h"

#include <string.h>

static lw_status declare_reader(const lw_config *config, const lw_encoder_backbone *backbone, lw_params *params,
                                lw_error *err, lw_encoder *e)
{
    if (e->kind == LW_ENCODER_LLM) {
        e->width = e->d_z;
        return lw_reader_llm_declare(config, backbone, params, err, &e->llm);
    }
    if (e->kind == LW_ENCODER_BERT) {
        e->width = e->d_z;
        return lw_reader_bert_declare(config, backbone, params, err, &e->bert);
    }
    LW_TRY(lw_reader_byte_declare(config, params, err, &e->byte));
    e->width = e->byte.width;
    return LW_OK;
}

lw_status lw_encoder_declare(const lw_config *config, const lw_encoder_backbone *backbone, lw_params *params,
                             lw_error *err, lw_encoder *out)
{
    *out = (lw_encoder){.kind = config->encoder.kind, .d_z = config->wire.d_z};
    LW_TRY(declare_reader(config, backbone, params, err, out));
    out->states_norm = lw_layernorm_declare(params, "encoder.norm", out->width);
    return lw_pooler_declare(config, out->width, params, err, &out->pooler);
}

int64_t lw_encoder_alphabet(const lw_encoder *e)
{
    switch (e->kind) {
    case LW_ENCODER_LLM: return e->llm.config.vocab;
    case LW_ENCODER_BERT: return e->bert.config.vocab;
    case LW_ENCODER_BYTE: break;
    }
    return LW_BYTE_VALUES;
}

// --- buffers

static lw_status reader_layout(lw_arena *arena, lw_device *dev, const lw_params *params, const lw_encoder *e,
                               lw_pass_mode mode, const lw_encoder_limits *l, lw_error *err, lw_encoder_buffers *out)
{
    switch (e->kind) {
    case LW_ENCODER_LLM: return lw_reader_llm_layout(arena, dev, params, &e->llm, mode, l, err, &out->llm);
    case LW_ENCODER_BERT: lw_reader_bert_layout(arena, dev, &e->bert, l, &out->bert); return LW_OK;
    case LW_ENCODER_BYTE: break;
    }
    return lw_reader_byte_layout(arena, dev, &e->byte, l, err, &out->byte);
}

lw_status lw_encoder_layout(lw_arena *arena, lw_device *dev, const lw_params *params, const lw_encoder *e,
                            lw_pass_mode mode, const lw_encoder_limits *l, lw_error *err, lw_encoder_buffers *out)
{
    *out = (lw_encoder_buffers){.limits = *l};
    lw_encoder_indices_layout(arena, l, &out->on);
    lw_status status = reader_layout(arena, dev, params, e, mode, l, err, out);
    if (status == LW_OK) {
        out->x_out = LW_TAKE(arena, l->tokens * e->width, float);
        lw_layernorm_layout(arena, l->tokens, e->width, &out->states);
        status = lw_pooler_layout(arena, dev, &e->pooler, l, err, &out->pooler);
        out->dx = LW_TAKE(arena, l->tokens * e->width, float);
        out->d_states = LW_TAKE(arena, l->tokens * e->width, float);
        out->z = out->pooler.z.y;
    }
    if (status != LW_OK) {
        lw_encoder_buffers_free(out);
    }
    return status;
}

lw_status lw_encoder_buffers_start(lw_device *dev, const lw_encoder *e, lw_encoder_buffers *b, lw_error *err)
{
    switch (e->kind) {
    case LW_ENCODER_LLM: LW_TRY(lw_reader_llm_start(&b->llm, err)); break;
    case LW_ENCODER_BERT: LW_TRY(lw_reader_bert_start(&b->bert, err)); break;
    case LW_ENCODER_BYTE: LW_TRY(lw_transformer_start(dev, &e->byte.stack, &b->byte, err)); break;
    }
    return lw_transformer_start(dev, &e->pooler.stack, &b->pooler.stack, err);
}

void lw_encoder_buffers_free(lw_encoder_buffers *b)
{
    lw_transformer_buffers_free(&b->byte);
    lw_reader_llm_buffers_free(&b->llm);
    lw_reader_bert_buffers_free(&b->bert);
    lw_pooler_buffers_free(&b->pooler);
    *b = (lw_encoder_buffers){0};
}

// --- passes

lw_status lw_encoder_upload(lw_device *dev, const lw_encoder *e, lw_encoder_batch *batch, lw_error *err,
                            lw_encoder_buffers *b)
{
    lw_encoder_batch_upload(batch, dev);
    switch (e->kind) {
    case LW_ENCODER_LLM: return lw_reader_llm_upload(&e->llm, dev, batch, err, &b->llm);
    case LW_ENCODER_BERT: return lw_reader_bert_upload(&e->bert, dev, batch, err, &b->bert);
    case LW_ENCODER_BYTE: break;
    }
    return LW_OK;
}

void lw_encoder_shapes(const lw_encoder_batch *batch, const lw_encoder_buffers *b, int64_t out[LW_ENCODER_SHAPES])
{
    // Windows of one reader at most: the packing of the other is empty.
    const lw_packing *p = b->bert.packing.sequences > 0 ? &b->bert.packing : &b->llm.packing;
    const int64_t shapes[LW_ENCODER_SHAPES] = {batch->tokens, batch->samples, batch->max_tokens,
                                               batch->z_rows, batch->max_z,   p->sequences,
                                               p->rows,       p->max_q,       p->max_k};
    memcpy(out, shapes, sizeof shapes);
}

void lw_encoder_forward(lw_device *dev, const lw_params *params, const lw_encoder *e, const lw_encoder_batch *batch,
                        lw_encoder_buffers *b)
{
    switch (e->kind) {
    case LW_ENCODER_LLM: lw_reader_llm_forward(dev, params, &e->llm, &b->llm, b->x_out); break;
    case LW_ENCODER_BERT: lw_reader_bert_forward(dev, params, &e->bert, &b->bert, b->x_out); break;
    case LW_ENCODER_BYTE: lw_reader_byte_forward(dev, params, &e->byte, batch, &b->byte, b->x_out); break;
    }
    lw_layernorm_forward(dev, params, &e->states_norm, batch->tokens, b->x_out, &b->states);
    lw_pooler_forward(dev, params, &e->pooler, batch, b->states.y, &b->pooler);
}

void lw_encoder_backward(lw_device *dev, const lw_params *params, const lw_encoder *e, const lw_encoder_batch *batch,
                         lw_encoder_buffers *b, const float *dz)
{
    lw_pooler_backward(dev, params, &e->pooler, batch, b->states.y, &b->pooler, dz, b->d_states);
    dev->ops->zero(dev, (size_t)(batch->tokens * e->width) * sizeof(float), b->dx);
    lw_layernorm_backward(dev, params, &e->states_norm, batch->tokens, b->x_out, &b->states, b->d_states, b->dx);
    switch (e->kind) {
    case LW_ENCODER_LLM: lw_reader_llm_backward(dev, params, &e->llm, &b->llm, b->dx); break;
    case LW_ENCODER_BERT: lw_reader_bert_backward(dev, params, &e->bert, &b->bert, b->dx); break;
    case LW_ENCODER_BYTE: lw_reader_byte_backward(dev, params, &e->byte, batch, &b->byte, b->dx); break;
    }
}
