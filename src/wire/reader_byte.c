// reader_byte.c: bytes -> embeddings -> a bidirectional transformer.
#include "wire/reader_byte.h"

#include <stdio.h>

enum { BYTE_VALUES = 256 };

// Where the four kinds of heads look before training, in bytes from their own position.
static const double SELF_OFFSETS[4] = {-2.0, -1.0, 1.0, 2.0};

typedef struct reader {
    lw_reader base;
    int embedding; // (256, width)
    lw_transformer stack;
} reader;

typedef struct buffers {
    lw_reader_buffers base;
    lw_transformer_buffers stack;
} buffers;

static lw_status declare(const lw_config *config, const lw_backbone *backbone, lw_params *params, lw_error *err,
                         lw_reader *out)
{
    reader *r = (reader *)out;
    int64_t width = config->encoder.width;
    (void)backbone;
    r->base.width = width;
    r->base.alphabet = BYTE_VALUES;
    r->embedding = lw_params_add(
        params,
        &(lw_param){.name = "encoder.embedding", .dims = {BYTE_VALUES, width}, .init = lw_init_normal, .scale = 1.0});
    return lw_transformer_declare(params, "encoder.layers", "encoder.layers",
                                  &(lw_transformer_shape){.layers = config->encoder.layers,
                                                          .d = width,
                                                          .d_states = width,
                                                          .heads = config->encoder.heads,
                                                          .ffn = config->encoder.ffn,
                                                          .self = true,
                                                          .offsets = SELF_OFFSETS},
                                  err, &r->stack);
}

// --- buffers

static lw_status layout(lw_arena *arena, lw_device *dev, const lw_params *params, const lw_reader *base,
                        lw_pass_mode mode, const lw_encoder_limits *l, lw_error *err, lw_reader_buffers *out)
{
    const reader *r = (const reader *)base;
    const lw_attend_limits rows = {l->samples, l->tokens, l->tokens, l->max_tokens, l->max_tokens};
    (void)params;
    (void)mode;
    return lw_transformer_layout(arena, dev, &r->stack, &rows, l->max_tokens, err, &((buffers *)out)->stack);
}

static lw_status start(lw_device *dev, const lw_reader *base, lw_error *err, lw_reader_buffers *b)
{
    return lw_transformer_start(dev, &((const reader *)base)->stack, &((buffers *)b)->stack, err);
}

static void free_buffers(lw_reader_buffers *b)
{
    lw_transformer_buffers_free(&((buffers *)b)->stack);
}

// --- passes

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

static void forward(lw_device *dev, const lw_params *params, const lw_reader *base, const lw_encoder_batch *batch,
                    lw_reader_buffers *buffers_base, float *x_out)
{
    const reader *r = (const reader *)base;
    lw_transformer_buffers *b = &((buffers *)buffers_base)->stack;
    lw_attend_rows rows = rows_of(batch);
    dev->ops->gather(dev, &(lw_gather_args){.n = batch->tokens,
                                            .d = r->base.width,
                                            .in = lw_param_at(params, r->embedding),
                                            .in_type = LW_F32,
                                            .in_index = batch->on.token,
                                            .out = lw_transformer_input(&r->stack, b, x_out)});
    lw_transformer_forward(dev, params, &r->stack, &rows, NULL, b, x_out);
}

static void backward(lw_device *dev, const lw_params *params, const lw_reader *base, const lw_encoder_batch *batch,
                     lw_reader_buffers *buffers_base, float *dx)
{
    const reader *r = (const reader *)base;
    lw_attend_rows rows = rows_of(batch);
    lw_transformer_backward(dev, params, &r->stack, &rows, NULL, &((buffers *)buffers_base)->stack, dx, NULL);
    dev->ops->scatter_add(dev, batch->tokens, r->base.width, dx, batch->on.token, BYTE_VALUES,
                          lw_grad_at(params, r->embedding));
}

// --- queries

static void work(const lw_reader *base, lw_reader_work *out)
{
    out->stack = &((const reader *)base)->stack;
}

static void describe(const lw_reader *base, const lw_backbone *backbone, char *out, size_t size)
{
    (void)backbone;
    snprintf(out, size, "%lld layers, width %lld", (long long)((const reader *)base)->stack.count,
             (long long)base->width);
}

const lw_reader_ops lw_reader_byte = {
    .bytes = sizeof(reader),
    .buffers_bytes = sizeof(buffers),
    .declare = declare,
    .layout = layout,
    .start = start,
    .free = free_buffers,
    .forward = forward,
    .backward = backward,
    .work = work,
    .describe = describe,
};
