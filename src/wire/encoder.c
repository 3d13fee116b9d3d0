// encoder.c: reader, LayerNorm, pooler.
#include "wire/encoder.h"

#include <stdlib.h>
#include <string.h>

static lw_status declare(const lw_config *config, const lw_backbone *backbone, lw_params *params, lw_error *err,
                         lw_encoder *e)
{
    const lw_reader_ops *ops = lw_reader_of(e->kind);
    e->reader = calloc(1, ops->bytes);
    if (e->reader == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the encoder");
    }
    e->reader->ops = ops;
    LW_TRY(ops->declare(config, backbone, params, err, e->reader));
    e->states_norm = lw_layernorm_declare(params, "encoder.norm", e->reader->width);
    return lw_pooler_declare(config, e->reader->width, params, err, &e->pooler);
}

lw_status lw_encoder_declare(const lw_config *config, const lw_backbone *backbone, lw_params *params, lw_error *err,
                             lw_encoder *out)
{
    *out = (lw_encoder){.kind = config->encoder.kind, .d_z = config->wire.d_z};
    lw_status status = declare(config, backbone, params, err, out);
    if (status != LW_OK) {
        lw_encoder_free(out);
    }
    return status;
}

void lw_encoder_free(lw_encoder *e)
{
    free(e->reader);
    free(e->pooler);
    *e = (lw_encoder){0};
}

void lw_encoder_attach(lw_encoder *e, const lw_backbone *backbone)
{
    e->reader->model = backbone->model;
}

lw_reader_work lw_encoder_reader_work(const lw_encoder *e)
{
    lw_reader_work work = {0};
    e->reader->ops->work(e->reader, &work);
    return work;
}

lw_pooler_work lw_encoder_pooler_work(const lw_encoder *e)
{
    lw_pooler_work work = {0};
    e->pooler->ops->work(e->pooler, &work);
    return work;
}

// --- buffers

static lw_status lay_out_reader(lw_arena *arena, lw_device *dev, const lw_params *params, const lw_reader *r,
                                lw_pass_mode mode, const lw_encoder_limits *l, lw_error *err, lw_reader_buffers **out)
{
    *out = calloc(1, r->ops->buffers_bytes);
    if (*out == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the encoder's buffer tables");
    }
    (*out)->ops = r->ops;
    return r->ops->layout(arena, dev, params, r, mode, l, err, *out);
}

lw_status lw_encoder_layout(lw_arena *arena, lw_device *dev, const lw_params *params, const lw_encoder *e,
                            lw_pass_mode mode, const lw_encoder_limits *l, lw_error *err, lw_encoder_buffers *out)
{
    int64_t width = e->reader->width;
    *out = (lw_encoder_buffers){.limits = *l};
    lw_encoder_indices_layout(arena, l, &out->on);
    lw_status status = lay_out_reader(arena, dev, params, e->reader, mode, l, err, &out->reader);
    if (status == LW_OK) {
        out->x_out = LW_TAKE(arena, l->tokens * width, float);
        lw_layernorm_layout(arena, l->tokens, width, &out->states);
        status = lw_pooler_layout(arena, dev, e->pooler, l, err, &out->pooler);
    }
    if (status == LW_OK) {
        out->dx = LW_TAKE(arena, l->tokens * width, float);
        out->d_states = LW_TAKE(arena, l->tokens * width, float);
        out->z = out->pooler->z.y;
    } else {
        lw_encoder_buffers_free(out);
    }
    return status;
}

lw_status lw_encoder_buffers_start(lw_device *dev, const lw_encoder *e, lw_encoder_buffers *b, lw_error *err)
{
    if (e->reader->ops->start != NULL) {
        LW_TRY(e->reader->ops->start(dev, e->reader, err, b->reader));
    }
    return lw_pooler_start(dev, e->pooler, b->pooler, err);
}

void lw_encoder_buffers_free(lw_encoder_buffers *b)
{
    if (b->reader != NULL && b->reader->ops->free != NULL) {
        b->reader->ops->free(b->reader);
    }
    free(b->reader);
    lw_pooler_buffers_free(&b->pooler);
    *b = (lw_encoder_buffers){0};
}

// --- passes

lw_status lw_encoder_upload(lw_device *dev, const lw_encoder *e, lw_encoder_batch *batch, lw_error *err,
                            lw_encoder_buffers *b)
{
    const lw_reader_ops *ops = e->reader->ops;
    lw_encoder_batch_upload(batch, dev);
    return ops->upload != NULL ? ops->upload(dev, e->reader, batch, err, b->reader) : LW_OK;
}

void lw_encoder_shapes(const lw_encoder_batch *batch, const lw_encoder_buffers *b, int64_t out[LW_ENCODER_SHAPES])
{
    static const lw_packing none = {0};
    const lw_packing *p = b->reader->windows != NULL ? b->reader->windows : &none;
    const int64_t shapes[LW_ENCODER_SHAPES] = {batch->tokens, batch->samples, batch->max_tokens,
                                               batch->z_rows, batch->max_z,   p->sequences,
                                               p->rows,       p->max_q,       p->max_k};
    memcpy(out, shapes, sizeof shapes);
}

void lw_encoder_forward(lw_device *dev, const lw_params *params, const lw_encoder *e, const lw_encoder_batch *batch,
                        lw_encoder_buffers *b)
{
    e->reader->ops->forward(dev, params, e->reader, batch, b->reader, b->x_out);
    lw_layernorm_forward(dev, params, &e->states_norm, batch->tokens, b->x_out, &b->states);
    lw_pooler_forward(dev, params, e->pooler, batch, b->states.y, b->pooler);
}

void lw_encoder_backward(lw_device *dev, const lw_params *params, const lw_encoder *e, const lw_encoder_batch *batch,
                         lw_encoder_buffers *b, const float *dz)
{
    lw_pooler_backward(dev, params, e->pooler, batch, b->states.y, b->pooler, dz, b->d_states);
    dev->ops->zero(dev, (size_t)(batch->tokens * e->reader->width) * sizeof(float), b->dx);
    lw_layernorm_backward(dev, params, &e->states_norm, batch->tokens, b->x_out, &b->states, b->d_states, b->dx);
    e->reader->ops->backward(dev, params, e->reader, batch, b->reader, b->dx);
}
