// reader_bert.c: windows of tokens -> a frozen BERT -> a linear layer.
#include "wire/reader_bert.h"

#include <stdio.h>

#include "wire/windows.h"

typedef struct reader {
    lw_reader base;
    lw_bert_config config; // of the layers that are read
    lw_windows windows;
    lw_linear project; // d -> d_z
} reader;

typedef struct buffers {
    lw_reader_buffers base;
    lw_windows_buffers windows;
    float *states; // (tokens, d)
    lw_bert_buffers pass;
} buffers;

static lw_status declare(const lw_config *config, const lw_backbone *backbone, lw_params *params, lw_error *err,
                         lw_reader *out)
{
    reader *r = (reader *)out;
    const lw_bert_config *bert = &backbone->shapes.bert;
    LW_TRY(lw_windows_of(config, backbone, "BERT", bert->layers, bert->max_positions, err, &r->windows));
    if (bert->max_positions < 3) {
        return lw_fail(err, LW_ERR_CONFIG, "max_position_embeddings of the encoder's BERT is %lld: no room for text",
                       (long long)bert->max_positions);
    }
    r->base.width = config->wire.d_z;
    r->base.alphabet = bert->vocab;
    r->config = lw_bert_config_first(bert, config->encoder.layers);
    r->project = lw_linear_declare(params, "encoder.project", r->config.d, config->wire.d_z);
    return LW_OK;
}

// --- buffers

static lw_status layout(lw_arena *arena, lw_device *dev, const lw_params *params, const lw_reader *base,
                        lw_pass_mode mode, const lw_encoder_limits *l, lw_error *err, lw_reader_buffers *out)
{
    const reader *r = (const reader *)base;
    buffers *b = (buffers *)out;
    (void)params;
    (void)mode;
    (void)err;
    lw_windows_layout(arena, &r->windows, l, &b->windows);
    b->base.windows = &b->windows.packing;
    b->states = LW_TAKE(arena, l->tokens * r->config.d, float);
    lw_bert_buffers_layout(arena, dev, &r->config, &b->windows.limits, &b->pass);
    return LW_OK;
}

static lw_status start(lw_device *dev, const lw_reader *base, lw_error *err, lw_reader_buffers *b)
{
    (void)dev;
    (void)base;
    return lw_windows_start(&((buffers *)b)->windows, err);
}

static void free_buffers(lw_reader_buffers *b)
{
    lw_packing_free(&((buffers *)b)->windows.packing);
}

// --- passes

static lw_status upload(lw_device *dev, const lw_reader *base, const lw_encoder_batch *batch, lw_error *err,
                        lw_reader_buffers *b)
{
    return lw_windows_upload(&((const reader *)base)->windows, dev, batch, err, &((buffers *)b)->windows);
}

static void forward(lw_device *dev, const lw_params *params, const lw_reader *base, const lw_encoder_batch *batch,
                    lw_reader_buffers *buffers_base, float *x_out)
{
    const reader *r = (const reader *)base;
    buffers *b = (buffers *)buffers_base;
    const lw_packing *p = &b->windows.packing;
    (void)batch;
    lw_bert_forward(base->model, p, &b->pass);
    dev->ops->gather(dev, &(lw_gather_args){.n = p->supervised,
                                            .d = r->config.d,
                                            .in = b->pass.x,
                                            .in_type = LW_F32,
                                            .in_index = p->on.scored_row,
                                            .out = b->states});
    lw_linear_forward(dev, params, &r->project, p->supervised, b->states, false, x_out);
}

static void backward(lw_device *dev, const lw_params *params, const lw_reader *base, const lw_encoder_batch *batch,
                     lw_reader_buffers *buffers_base, float *dx)
{
    buffers *b = (buffers *)buffers_base;
    (void)batch;
    lw_linear_backward(dev, params, &((const reader *)base)->project, b->windows.packing.supervised, b->states, dx,
                       false, NULL);
}

// --- queries

static void work(const lw_reader *base, lw_reader_work *out)
{
    const reader *r = (const reader *)base;
    out->bert = &r->config;
    out->window = r->windows.most;
    out->project = &r->project;
}

static void describe(const lw_reader *base, const lw_backbone *backbone, char *out, size_t size)
{
    const reader *r = (const reader *)base;
    lw_frozen_figures load = lw_bert_load_figures(backbone->model);
    snprintf(out, size,
             "bert, the first %lld of %lld layers, width %lld, %.2f M parameters, frozen; windows of %lld positions, "
             "[CLS] and [SEP] included; %.1f MB read in %.2f s",
             (long long)r->config.layers, (long long)backbone->shapes.bert.layers, (long long)r->config.d,
             (double)lw_bert_config_parameters(&r->config) / 1e6, (long long)r->windows.most, (double)load.bytes / 1e6,
             load.wall_s);
}

// --- the frozen model

static lw_status read_shapes(const char *dir, lw_error *err, lw_backbone *out)
{
    LW_TRY(lw_bert_config_read(dir, err, &out->shapes.bert));
    out->vocab = out->shapes.bert.vocab;
    return LW_OK;
}

static int64_t positions(const lw_reader *base, int64_t max_tokens)
{
    return lw_windows_positions(&((const reader *)base)->windows, max_tokens);
}

// The positions are a table among the weights, whose size does not depend on the texts.
static size_t weight_bytes(const lw_reader *base, lw_dtype type, int64_t max_tokens)
{
    (void)max_tokens;
    return lw_bert_weight_bytes(&((const reader *)base)->config, type);
}

static lw_status load(lw_device *dev, const char *dir, const lw_reader *base, const lw_backbone_options *options,
                      lw_error *err, lw_backbone *out)
{
    const lw_bert_options o = {.layers = ((const reader *)base)->config.layers,
                               .random = options->random,
                               .seed = options->seed};
    lw_bert *bert = NULL;
    LW_TRY(lw_bert_load(dev, dir, &o, err, &bert));
    out->model = bert;
    return LW_OK;
}

static uint64_t fingerprint(const void *model)
{
    return lw_bert_fingerprint(model);
}

static void destroy(void *model)
{
    lw_bert *bert = model;
    lw_bert_destroy(&bert);
}

static const lw_backbone_ops backbone_ops = {
    .first = "[CLS]",
    .last = "[SEP]",
    .read = read_shapes,
    .positions = positions,
    .weight_bytes = weight_bytes,
    .load = load,
    .fingerprint = fingerprint,
    .destroy = destroy,
};

const lw_reader_ops lw_reader_bert = {
    .bytes = sizeof(reader),
    .buffers_bytes = sizeof(buffers),
    .declare = declare,
    .layout = layout,
    .start = start,
    .free = free_buffers,
    .upload = upload,
    .forward = forward,
    .backward = backward,
    .work = work,
    .describe = describe,
    .backbone = &backbone_ops,
};
