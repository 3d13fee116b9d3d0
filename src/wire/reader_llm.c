#include "wire/reader_llm.h"

#include "wire/windows.h"

static lw_status check(const lw_config *config, const lw_hf_config *llm, lw_error *err)
{
    if (config->encoder.layers > llm->layers) {
        return lw_fail(err, LW_ERR_CONFIG, "encoder.layers = %lld, but the encoder's LLM has %lld: use at most these",
                       (long long)config->encoder.layers, (long long)llm->layers);
    }
    if (config->encoder.window > llm->max_positions) {
        return lw_fail(
            err, LW_ERR_CONFIG,
            "encoder.window = %lld, but max_position_embeddings of the encoder's LLM is %lld: use at most that, "
            "or 0",
            (long long)config->encoder.window, (long long)llm->max_positions);
    }
    return LW_OK;
}

lw_status lw_reader_llm_declare(const lw_config *config, const lw_encoder_backbone *backbone, lw_params *params,
                                lw_error *err, lw_reader_llm *out)
{
    LW_TRY(check(config, backbone->llm, err));
    lw_reader_llm r = {.config = lw_decoder_backbone(backbone->llm, config->encoder.layers),
                       .bidirectional = !config->encoder.causal,
                       .bos = backbone->bos};
    r.window = config->encoder.window > 0 ? config->encoder.window : r.config.max_positions;
    r.lora = lw_lora_declare(params, "encoder.lora", &r.config, r.config.layers, config->encoder.lora_rank,
                             config->encoder.lora_alpha);
    r.project = lw_linear_declare(params, "encoder.project", r.config.d, config->wire.d_z);
    *out = r;
    return LW_OK;
}

// --- windows

static lw_windows windows(const lw_reader_llm *r)
{
    return (lw_windows){.most = r->window, .first = r->bos, .last = -1};
}

int64_t lw_reader_llm_positions(const lw_reader_llm *r, int64_t max_tokens)
{
    lw_windows w = windows(r);
    return lw_windows_positions(&w, max_tokens);
}

lw_status lw_reader_llm_upload(const lw_reader_llm *r, lw_device *dev, const lw_encoder_batch *batch, lw_error *err,
                               lw_reader_llm_buffers *b)
{
    lw_windows w = windows(r);
    LW_TRY(lw_windows_pack(&w, batch, err, &b->packing));
    lw_packing_upload(&b->packing, dev);
    return LW_OK;
}

// --- buffers

lw_status lw_reader_llm_layout(lw_arena *arena, lw_device *dev, const lw_params *params, const lw_reader_llm *r,
                               lw_pass_mode mode, const lw_encoder_limits *l, lw_error *err, lw_reader_llm_buffers *out)
{
    bool back = mode == LW_PASS_TRAIN && r->lora.rank > 0;
    const lw_decoder_pass pass = {.mode = back ? LW_PASS_TRAIN : LW_PASS_INFER,
                                  .layers = r->config.layers,
                                  .bidirectional = r->bidirectional,
                                  .states = true,
                                  .lora = r->lora};
    lw_windows w = windows(r);
    *out = (lw_reader_llm_buffers){.limits = lw_windows_limits(&w, l)};
    out->indices = lw_arena_take(arena, (int64_t)lw_packing_device_bytes(&out->limits), 1);
    out->d_states = back ? LW_TAKE(arena, l->tokens * r->config.d, float) : NULL;
    return lw_decoder_pass_layout(arena, dev, &r->config, params, &pass, &out->limits, err, &out->pass);
}

lw_status lw_reader_llm_start(lw_reader_llm_buffers *b, lw_error *err)
{
    return b->packing.host.base != NULL ? LW_OK : lw_packing_create(&b->limits, b->indices, err, &b->packing);
}

void lw_reader_llm_buffers_free(lw_reader_llm_buffers *b)
{
    lw_packing_free(&b->packing);
    lw_decoder_buffers_free(&b->pass);
    *b = (lw_reader_llm_buffers){0};
}

// --- passes

void lw_reader_llm_forward(lw_device *dev, const lw_params *params, const lw_reader_llm *r, lw_reader_llm_buffers *b,
                           float *x_out)
{
    lw_decoder_states(r->decoder, params, &b->packing, &b->pass);
    lw_linear_forward(dev, params, &r->project, b->packing.supervised, b->pass.states, false, x_out);
}

void lw_reader_llm_backward(lw_device *dev, const lw_params *params, const lw_reader_llm *r, lw_reader_llm_buffers *b,
                            const float *dx)
{
    lw_linear_backward(dev, params, &r->project, b->packing.supervised, b->pass.states, dx, false, b->d_states);
    if (r->lora.rank > 0) {
        lw_decoder_states_backward(r->decoder, params, &b->packing, b->d_states, &b->pass);
    }
}
