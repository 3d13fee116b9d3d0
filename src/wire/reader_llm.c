// reader_llm.c: windows of tokens -> the first layers of a frozen LLM, with or without LoRA -> a linear layer.
#include "wire/reader_llm.h"

#include <stdio.h>

#include "wire/windows.h"

typedef struct reader {
    lw_reader base;
    lw_hf_config config; // of the layers that are read
    bool bidirectional;
    lw_windows windows;
    lw_lora lora;
    lw_linear project; // d -> d_z
} reader;

typedef struct buffers {
    lw_reader_buffers base;
    lw_windows_buffers windows;
    lw_decoder_buffers pass;
    float *d_states; // (tokens, d); NULL without updates
} buffers;

static lw_status declare(const lw_config *config, const lw_backbone *backbone, lw_params *params, lw_error *err,
                         lw_reader *out)
{
    reader *r = (reader *)out;
    const lw_hf_config *llm = &backbone->shapes.llm;
    LW_TRY(lw_windows_of(config, backbone, "LLM", llm->layers, llm->max_positions, err, &r->windows));
    r->base.width = config->wire.d_z;
    r->base.alphabet = llm->vocab;
    r->config = lw_decoder_backbone(llm, config->encoder.layers);
    r->bidirectional = !config->encoder.causal;
    r->lora = lw_lora_declare(params, "encoder.lora", &r->config, r->config.layers, config->encoder.lora_rank,
                              config->encoder.lora_alpha);
    r->project = lw_linear_declare(params, "encoder.project", r->config.d, config->wire.d_z);
    return LW_OK;
}

// --- buffers

static lw_status layout(lw_arena *arena, lw_device *dev, const lw_params *params, const lw_reader *base,
                        lw_pass_mode mode, const lw_encoder_limits *l, lw_error *err, lw_reader_buffers *out)
{
    const reader *r = (const reader *)base;
    buffers *b = (buffers *)out;
    bool back = mode == LW_PASS_TRAIN && r->lora.rank > 0;
    const lw_decoder_pass pass = {.mode = back ? LW_PASS_TRAIN : LW_PASS_INFER,
                                  .layers = r->config.layers,
                                  .bidirectional = r->bidirectional,
                                  .states = true,
                                  .lora = r->lora};
    lw_windows_layout(arena, &r->windows, l, &b->windows);
    b->base.windows = &b->windows.packing;
    b->d_states = back ? LW_TAKE(arena, l->tokens * r->config.d, float) : NULL;
    return lw_decoder_pass_layout(arena, dev, &r->config, params, &pass, &b->windows.limits, err, &b->pass);
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
    lw_decoder_buffers_free(&((buffers *)b)->pass);
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
    buffers *b = (buffers *)buffers_base;
    const lw_packing *p = &b->windows.packing;
    (void)batch;
    lw_decoder_states(base->model, params, p, &b->pass);
    lw_linear_forward(dev, params, &((const reader *)base)->project, p->supervised, b->pass.states, false, x_out);
}

static void backward(lw_device *dev, const lw_params *params, const lw_reader *base, const lw_encoder_batch *batch,
                     lw_reader_buffers *buffers_base, float *dx)
{
    const reader *r = (const reader *)base;
    buffers *b = (buffers *)buffers_base;
    const lw_packing *p = &b->windows.packing;
    (void)batch;
    lw_linear_backward(dev, params, &r->project, p->supervised, b->pass.states, dx, false, b->d_states);
    if (r->lora.rank > 0) {
        lw_decoder_states_backward(base->model, params, p, b->d_states, &b->pass);
    }
}

// --- queries

static void work(const lw_reader *base, lw_reader_work *out)
{
    const reader *r = (const reader *)base;
    *out = (lw_reader_work){.llm = &r->config,
                            .lora = &r->lora,
                            .window = r->windows.most,
                            .bidirectional = r->bidirectional,
                            .project = &r->project};
}

static void describe(const lw_reader *base, const lw_backbone *backbone, char *out, size_t size)
{
    const reader *r = (const reader *)base;
    const lw_hf_counts n = lw_hf_config_counts(&r->config);
    char updates[96] = "no updates";
    char weights[128] = "weights of its own";
    if (r->lora.rank > 0) {
        snprintf(updates, sizeof updates, "LoRA of rank %lld, scale %g: %.3f M parameters", (long long)r->lora.rank,
                 (double)r->lora.scale, (double)lw_lora_elements(&r->lora) / 1e6);
    }
    if (backbone->shared != NULL) {
        snprintf(weights, sizeof weights, "weights shared with model %s", backbone->shared);
    }
    snprintf(out, size,
             "%s, the first %lld of %lld layers, width %lld, %s, %.2f M parameters, frozen, %s; windows of %lld "
             "positions%s; %s",
             r->config.model_type, (long long)r->config.layers, (long long)backbone->shapes.llm.layers,
             (long long)r->config.d, r->bidirectional ? "bidirectional" : "causal", (double)n.total / 1e6, weights,
             (long long)r->windows.most, r->windows.first >= 0 ? ", begin-of-text first" : "", updates);
}

// --- the frozen model

static lw_status read_shapes(const char *dir, lw_error *err, lw_backbone *out)
{
    LW_TRY(lw_hf_config_read(dir, err, &out->shapes.llm));
    out->vocab = out->shapes.llm.vocab;
    return LW_OK;
}

static int64_t positions(const lw_reader *base, int64_t max_tokens)
{
    return lw_windows_positions(&((const reader *)base)->windows, max_tokens);
}

static size_t weight_bytes(const lw_reader *base, lw_dtype type, int64_t max_tokens)
{
    return lw_decoder_weight_bytes(&((const reader *)base)->config, type, positions(base, max_tokens));
}

static lw_status load(lw_device *dev, const char *dir, const lw_reader *base, const lw_backbone_options *options,
                      lw_error *err, lw_backbone *out)
{
    const lw_decoder_options o = {.max_positions = positions(base, options->max_tokens),
                                  .random = options->random,
                                  .seed = options->seed,
                                  .backbone = true,
                                  .layers = ((const reader *)base)->config.layers};
    lw_decoder *decoder = NULL;
    LW_TRY(lw_decoder_load(dev, dir, &o, err, &decoder));
    out->model = decoder;
    return LW_OK;
}

static uint64_t fingerprint(const void *model)
{
    return lw_decoder_fingerprint(model);
}

static void destroy(void *model)
{
    lw_decoder *decoder = model;
    lw_decoder_destroy(&decoder);
}

static const lw_backbone_ops backbone_ops = {
    .read = read_shapes,
    .positions = positions,
    .weight_bytes = weight_bytes,
    .load = load,
    .fingerprint = fingerprint,
    .destroy = destroy,
};

const lw_reader_ops lw_reader_llm = {
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
