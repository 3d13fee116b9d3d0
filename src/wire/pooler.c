#include "wire/pooler.h"

// Places that the four kinds of heads look at before training, in states from the latent's own place.
static const double LW_POOL_OFFSETS[4] = {-2.0, -1.0, 0.0, 1.0};

lw_status lw_pooler_declare(const lw_config *config, int64_t d_states, lw_params *params, lw_error *err, lw_pooler *out)
{
    *out = (lw_pooler){.kind = config->pooler.kind,
                       .d_states = d_states,
                       .d_z = config->wire.d_z,
                       .query_count = config->wire.latents};
    if (out->kind == LW_POOLER_QUERIES) {
        out->queries = lw_params_add(params, &(lw_param){.name = "pooler.queries",
                                                         .dims = {out->query_count, out->d_z},
                                                         .init = lw_init_normal,
                                                         .scale = 0.02});
        LW_TRY(lw_transformer_declare(params, "pooler.layers", "pooler.layers",
                                      &(lw_transformer_shape){.layers = config->pooler.layers,
                                                              .d = out->d_z,
                                                              .d_states = d_states,
                                                              .heads = config->pooler.heads,
                                                              .ffn = config->pooler.ffn,
                                                              .offsets = LW_POOL_OFFSETS},
                                      err, &out->stack));
    } else {
        out->linear = lw_linear_declare(params, "pooler.linear", d_states, out->d_z);
    }
    out->norm = lw_layernorm_declare(params, "pooler.norm", out->d_z);
    return LW_OK;
}

lw_status lw_pooler_layout(lw_arena *arena, lw_device *dev, const lw_pooler *p, const lw_encoder_limits *l,
                           lw_error *err, lw_pooler_buffers *out)
{
    const lw_attend_limits rows = {l->samples, l->latents, l->tokens, l->max_latents, l->max_tokens};
    *out = (lw_pooler_buffers){0};
    LW_TRY(lw_transformer_layout(arena, dev, &p->stack, &rows, l->max_tokens, err, &out->stack));
    if (p->kind == LW_POOLER_MEAN) {
        out->pooled = LW_TAKE(arena, l->latents * p->d_states, float);
        out->d_pooled = LW_TAKE(arena, l->latents * p->d_states, float);
    }
    out->z_mid = LW_TAKE(arena, l->latents * p->d_z, float);
    lw_layernorm_layout(arena, l->latents, p->d_z, &out->z);
    out->dz_mid = LW_TAKE(arena, l->latents * p->d_z, float);
    return LW_OK;
}

void lw_pooler_buffers_free(lw_pooler_buffers *b)
{
    lw_transformer_buffers_free(&b->stack);
    *b = (lw_pooler_buffers){0};
}

static lw_attend_rows rows_of(const lw_encoder_batch *batch)
{
    return (lw_attend_rows){.sequences = batch->samples,
                            .q_rows = batch->z_rows,
                            .k_rows = batch->tokens,
                            .max_q = batch->max_z,
                            .max_k = batch->max_tokens,
                            .q_start = batch->on.z_start,
                            .k_start = batch->on.start,
                            .k_len = batch->on.length,
                            .q_position = batch->on.z_position,
                            .k_position = batch->on.position};
}

void lw_pooler_forward(lw_device *dev, const lw_params *params, const lw_pooler *p, const lw_encoder_batch *batch,
                       const float *states, lw_pooler_buffers *b)
{
    const lw_device_ops *ops = dev->ops;
    if (p->kind == LW_POOLER_QUERIES) {
        lw_attend_rows rows = rows_of(batch);
        ops->gather(dev, batch->z_rows, p->d_z, lw_param_at(params, p->queries), LW_F32, batch->on.z_index, NULL, false,
                    lw_transformer_input(&p->stack, &b->stack, b->z_mid));
        lw_transformer_forward(dev, params, &p->stack, &rows, states, &b->stack, b->z_mid);
    } else {
        ops->span_mean(dev, batch->z_rows, p->d_states, batch->on.span, states, b->pooled);
        lw_linear_forward(dev, params, &p->linear, batch->z_rows, b->pooled, false, b->z_mid);
    }
    lw_layernorm_forward(dev, params, &p->norm, batch->z_rows, b->z_mid, &b->z);
}

void lw_pooler_backward(lw_device *dev, const lw_params *params, const lw_pooler *p, const lw_encoder_batch *batch,
                        const float *states, lw_pooler_buffers *b, const float *dz, float *d_states)
{
    const lw_device_ops *ops = dev->ops;
    ops->zero(dev, (size_t)(batch->z_rows * p->d_z) * sizeof(float), b->dz_mid);
    ops->zero(dev, (size_t)(batch->tokens * p->d_states) * sizeof(float), d_states);
    lw_layernorm_backward(dev, params, &p->norm, batch->z_rows, b->z_mid, &b->z, dz, b->dz_mid);
    if (p->kind == LW_POOLER_QUERIES) {
        lw_attend_rows rows = rows_of(batch);
        lw_transformer_backward(dev, params, &p->stack, &rows, states, &b->stack, b->dz_mid, d_states);
        ops->scatter_add(dev, batch->z_rows, p->d_z, b->dz_mid, batch->on.z_index, p->query_count,
                         lw_grad_at(params, p->queries));
    } else {
        lw_linear_backward(dev, params, &p->linear, batch->z_rows, b->pooled, b->dz_mid, false, b->d_pooled);
        ops->span_mean_backward(dev, batch->z_rows, p->d_states, batch->on.span, b->d_pooled, d_states);
    }
}
