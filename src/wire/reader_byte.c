#include "wire/reader_byte.h"

// Places that the four kinds of heads look at before training, in bytes from their own position.
static const double LW_SELF_OFFSETS[4] = {-2.0, -1.0, 1.0, 2.0};

lw_status lw_reader_byte_declare(const lw_config *config, lw_params *params, lw_error *err, lw_reader_byte *out)
{
    out->width = config->encoder.width;
    out->embedding = lw_params_add(params, &(lw_param){.name = "encoder.embedding",
                                                       .dims = {LW_BYTE_VALUES, out->width},
                                                       .init = lw_init_normal,
                                                       .scale = 1.0});
    return lw_transformer_declare(params, "encoder.layers", "encoder.layers",
                                  &(lw_transformer_shape){.layers = config->encoder.layers,
                                                          .d = out->width,
                                                          .d_states = out->width,
                                                          .heads = config->encoder.heads,
                                                          .ffn = config->encoder.ffn,
                                                          .self = true,
                                                          .offsets = LW_SELF_OFFSETS},
                                  err, &out->stack);
}

lw_status lw_reader_byte_layout(lw_arena *arena, lw_device *dev, const lw_reader_byte *r, const lw_encoder_limits *l,
                                lw_error *err, lw_transformer_buffers *out)
{
    const lw_attend_limits rows = {l->samples, l->tokens, l->tokens, l->max_tokens, l->max_tokens};
    return lw_transformer_layout(arena, dev, &r->stack, &rows, l->max_tokens, err, out);
}

static lw_attend_rows rows_of(const lw_encoder_batch *batch)
{
    return (lw_attend_rows){.sequences = batch->samples,
                            .q_rows = batch->tokens,
                            .k_rows = batch->tokens,
                            .max_q = batch->max_tokens,
                            .max_k = batch->max_tokens,
                            .q_start = batch->on.start,
                            .k_start = batch->on.start,
                            .k_len = batch->on.length,
                            .q_position = batch->on.position,
                            .k_position = batch->on.position};
}

void lw_reader_byte_forward(lw_device *dev, const lw_params *params, const lw_reader_byte *r,
                            const lw_encoder_batch *batch, lw_transformer_buffers *b, float *x_out)
{
    lw_attend_rows rows = rows_of(batch);
    dev->ops->gather(dev, batch->tokens, r->width, lw_param_at(params, r->embedding), LW_F32, batch->on.token, NULL,
                     false, lw_transformer_input(&r->stack, b, x_out));
    lw_transformer_forward(dev, params, &r->stack, &rows, NULL, b, x_out);
}

void lw_reader_byte_backward(lw_device *dev, const lw_params *params, const lw_reader_byte *r,
                             const lw_encoder_batch *batch, lw_transformer_buffers *b, float *dx)
{
    lw_attend_rows rows = rows_of(batch);
    lw_transformer_backward(dev, params, &r->stack, &rows, NULL, b, dx, NULL);
    dev->ops->scatter_add(dev, batch->tokens, r->width, dx, batch->on.token, LW_BYTE_VALUES,
                          lw_grad_at(params, r->embedding));
}
