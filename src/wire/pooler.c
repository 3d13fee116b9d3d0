// pooler.c: the kinds of pooler, in the order of pooler.kind, and the LayerNorm that all of them end in.
#include "wire/pooler.h"

#include <stdlib.h>

static const lw_pooler_ops *const poolers[] = {
    [LW_POOLER_QUERIES] = &lw_pooler_queries,
    [LW_POOLER_MEAN] = &lw_pooler_mean,
};
_Static_assert(sizeof poolers / sizeof poolers[0] == LW_POOLER_KIND_COUNT, "every pooler.kind has a pooler");

lw_status lw_pooler_declare(const lw_config *config, int64_t d_states, lw_params *params, lw_error *err,
                            lw_pooler **out)
{
    const lw_pooler_ops *ops = poolers[config->pooler.kind];
    lw_pooler *p = calloc(1, ops->bytes);
    *out = NULL;
    if (p == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the pooler");
    }
    p->ops = ops;
    p->d_states = d_states;
    p->d_z = config->wire.d_z;
    lw_status status = ops->declare(config, params, err, p);
    if (status != LW_OK) {
        free(p);
        return status;
    }
    p->norm = lw_layernorm_declare(params, "pooler.norm", p->d_z);
    *out = p;
    return LW_OK;
}

// --- buffers

lw_status lw_pooler_layout(lw_arena *arena, lw_device *dev, const lw_pooler *p, const lw_encoder_limits *l,
                           lw_error *err, lw_pooler_buffers **out)
{
    lw_pooler_buffers *b = calloc(1, p->ops->buffers_bytes);
    *out = b;
    if (b == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the pooler's buffer tables");
    }
    b->ops = p->ops;
    lw_status status = p->ops->layout(arena, dev, p, l, err, b);
    if (status != LW_OK) {
        lw_pooler_buffers_free(out);
        return status;
    }
    b->z_mid = LW_TAKE(arena, l->latents * p->d_z, float);
    lw_layernorm_layout(arena, l->latents, p->d_z, &b->z);
    b->dz_mid = LW_TAKE(arena, l->latents * p->d_z, float);
    return LW_OK;
}

lw_status lw_pooler_start(lw_device *dev, const lw_pooler *p, lw_pooler_buffers *b, lw_error *err)
{
    return p->ops->start != NULL ? p->ops->start(dev, p, err, b) : LW_OK;
}

void lw_pooler_buffers_free(lw_pooler_buffers **b)
{
    if (*b != NULL && (*b)->ops->free != NULL) {
        (*b)->ops->free(*b);
    }
    free(*b);
    *b = NULL;
}

// --- passes

void lw_pooler_forward(lw_device *dev, const lw_params *params, const lw_pooler *p, const lw_encoder_batch *batch,
                       const float *states, lw_pooler_buffers *b)
{
    p->ops->forward(dev, params, p, batch, states, b);
    lw_layernorm_forward(dev, params, &p->norm, batch->z_rows, b->z_mid, &b->z);
}

void lw_pooler_backward(lw_device *dev, const lw_params *params, const lw_pooler *p, const lw_encoder_batch *batch,
                        const float *states, lw_pooler_buffers *b, const float *dz, float *d_states)
{
    dev->ops->zero(dev, (size_t)(batch->z_rows * p->d_z) * sizeof(float), b->dz_mid);
    dev->ops->zero(dev, (size_t)(batch->tokens * p->d_states) * sizeof(float), d_states);
    lw_layernorm_backward(dev, params, &p->norm, batch->z_rows, b->z_mid, &b->z, dz, b->dz_mid);
    p->ops->backward(dev, params, p, batch, states, b, d_states);
}
