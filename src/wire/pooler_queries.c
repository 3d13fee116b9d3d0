// pooler_queries.c: pooler.kind `queries`: learned queries attend to the states of a text.
#include "wire/pooler.h"

// Where the four kinds of heads look before training, in states from the latent's own position.
static const double POOL_OFFSETS[4] = {-2.0, -1.0, 0.0, 1.0};

typedef struct pooler {
    lw_pooler base;
    int64_t query_count;
    int queries; // (query_count, d_z)
    lw_transformer stack;
} pooler;

typedef struct buffers {
    lw_pooler_buffers base;
    lw_transformer_buffers stack;
} buffers;

static lw_status declare(const lw_config *config, lw_params *params, lw_error *err, lw_pooler *out)
{
    pooler *p = (pooler *)out;
    p->query_count = config->wire.latents;
    p->queries = lw_params_add(params, &(lw_param){.name = "pooler.queries",
                                                   .dims = {p->query_count, out->d_z},
                                                   .init = lw_init_normal,
                                                   .scale = 0.02});
    return lw_transformer_declare(params, "pooler.layers", "pooler.layers",
                                  &(lw_transformer_shape){.layers = config->pooler.layers,
                                                          .d = out->d_z,
                                                          .d_states = out->d_states,
                                                          .heads = config->pooler.heads,
                                                          .ffn = config->pooler.ffn,
                                                          .offsets = POOL_OFFSETS},
                                  err, &p->stack);
}

// --- buffers

static lw_status layout(lw_arena *arena, lw_device *dev, const lw_pooler *base, const lw_encoder_limits *l,
                        lw_error *err, lw_pooler_buffers *out)
{
    const lw_attend_limits rows = {l->samples, l->latents, l->tokens, l->max_latents, l->max_tokens};
    return lw_transformer_layout(arena, dev, &((const pooler *)base)->stack, &rows, l->max_tokens, err,
                                 &((buffers *)out)->stack);
}

static lw_status start(lw_device *dev, const lw_pooler *base, lw_error *err, lw_pooler_buffers *b)
{
    return lw_transformer_start(dev, &((const pooler *)base)->stack, &((buffers *)b)->stack, err);
}

static void free_buffers(lw_pooler_buffers *b)
{
    lw_transformer_buffers_free(&((buffers *)b)->stack);
}

// --- passes

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

static void forward(lw_device *dev, const lw_params *params, const lw_pooler *base, const lw_encoder_batch *batch,
                    const float *states, lw_pooler_buffers *buffers_base)
{
    const pooler *p = (const pooler *)base;
    lw_transformer_buffers *stack = &((buffers *)buffers_base)->stack;
    lw_attend_rows rows = rows_of(batch);
    dev->ops->gather(dev, &(lw_gather_args){.n = batch->z_rows,
                                            .d = base->d_z,
                                            .in = lw_param_at(params, p->queries),
                                            .in_type = LW_F32,
                                            .in_index = batch->on.z_index,
                                            .out = lw_transformer_input(&p->stack, stack, buffers_base->z_mid)});
    lw_transformer_forward(dev, params, &p->stack, &rows, states, stack, buffers_base->z_mid);
}

static void backward(lw_device *dev, const lw_params *params, const lw_pooler *base, const lw_encoder_batch *batch,
                     const float *states, lw_pooler_buffers *buffers_base, float *d_states)
{
    const pooler *p = (const pooler *)base;
    lw_attend_rows rows = rows_of(batch);
    lw_transformer_backward(dev, params, &p->stack, &rows, states, &((buffers *)buffers_base)->stack,
                            buffers_base->dz_mid, d_states);
    dev->ops->scatter_add(dev, batch->z_rows, base->d_z, buffers_base->dz_mid, batch->on.z_index, p->query_count,
                          lw_grad_at(params, p->queries));
}

static void work(const lw_pooler *base, lw_pooler_work *out)
{
    out->stack = &((const pooler *)base)->stack;
}

const lw_pooler_ops lw_pooler_queries = {
    .bytes = sizeof(pooler),
    .buffers_bytes = sizeof(buffers),
    .declare = declare,
    .layout = layout,
    .start = start,
    .free = free_buffers,
    .forward = forward,
    .backward = backward,
    .work = work,
};
