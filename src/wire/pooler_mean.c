// pooler_mean.c: pooler.kind `mean`: a latent is a linear map of the mean of a span of states.
#include "wire/pooler.h"

typedef struct pooler {
    lw_pooler base;
    lw_linear linear; // d_states -> d_z
} pooler;

typedef struct buffers {
    lw_pooler_buffers base;
    float *pooled, *d_pooled; // (z rows, d_states)
} buffers;

static lw_status declare(const lw_config *config, lw_params *params, lw_error *err, lw_pooler *out)
{
    (void)config;
    (void)err;
    ((pooler *)out)->linear = lw_linear_declare(params, "pooler.linear", out->d_states, out->d_z);
    return LW_OK;
}

static lw_status layout(lw_arena *arena, lw_device *dev, const lw_pooler *base, const lw_encoder_limits *l,
                        lw_error *err, lw_pooler_buffers *out)
{
    buffers *b = (buffers *)out;
    (void)dev;
    (void)err;
    b->pooled = LW_TAKE(arena, l->latents * base->d_states, float);
    b->d_pooled = LW_TAKE(arena, l->latents * base->d_states, float);
    return LW_OK;
}

static void forward(lw_device *dev, const lw_params *params, const lw_pooler *base, const lw_encoder_batch *batch,
                    const float *states, lw_pooler_buffers *buffers_base)
{
    const buffers *b = (const buffers *)buffers_base;
    dev->ops->span_mean(dev, batch->z_rows, base->d_states, batch->on.span, states, b->pooled);
    lw_linear_forward(dev, params, &((const pooler *)base)->linear, batch->z_rows, b->pooled, false,
                      buffers_base->z_mid);
}

static void backward(lw_device *dev, const lw_params *params, const lw_pooler *base, const lw_encoder_batch *batch,
                     const float *states, lw_pooler_buffers *buffers_base, float *d_states)
{
    const buffers *b = (const buffers *)buffers_base;
    (void)states;
    lw_linear_backward(dev, params, &((const pooler *)base)->linear, batch->z_rows, b->pooled, buffers_base->dz_mid,
                       false, b->d_pooled);
    dev->ops->span_mean_backward(dev, batch->z_rows, base->d_states, batch->on.span, b->d_pooled, d_states);
}

static void work(const lw_pooler *base, lw_pooler_work *out)
{
    out->linear = &((const pooler *)base)->linear;
}

const lw_pooler_ops lw_pooler_mean = {
    .bytes = sizeof(pooler),
    .buffers_bytes = sizeof(buffers),
    .declare = declare,
    .layout = layout,
    .forward = forward,
    .backward = backward,
    .work = work,
};
