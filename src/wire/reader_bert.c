#include "wire/reader_bert.h"

static lw_status check(const lw_config *config, const lw_bert_config *bert, lw_error *err)
{
    if (config->encoder.layers > bert->layers) {
        return lw_fail(err, LW_ERR_CONFIG, "encoder.layers = %lld, but the encoder's BERT has %lld: use at most these",
                       (long long)config->encoder.layers, (long long)bert->layers);
    }
    if (config->encoder.window > bert->max_positions) {
        return lw_fail(err, LW_ERR_CONFIG,
                       "encoder.window = %lld, but max_position_embeddings of the encoder's BERT is %lld: use at most "
                       "that, or 0",
                       (long long)config->encoder.window, (long long)bert->max_positions);
    }
    if (bert->max_positions < 3) {
        return lw_fail(err, LW_ERR_CONFIG, "max_position_embeddings of the encoder's BERT is %lld: no room for text",
                       (long long)bert->max_positions);
    }
    return LW_OK;
}

lw_status lw_reader_bert_declare(const lw_config *config, const lw_encoder_backbone *backbone, lw_params *params,
                                 lw_error *err, lw_reader_bert *out)
{
    LW_TRY(check(config, backbone->bert, err));
    lw_reader_bert r = {.config = lw_bert_config_first(backbone->bert, config->encoder.layers),
                        .windows = {.first = backbone->bos, .last = backbone->end}};
    r.windows.most = config->encoder.window > 0 ? config->encoder.window : r.config.max_positions;
    r.project = lw_linear_declare(params, "encoder.project", r.config.d, config->wire.d_z);
    *out = r;
    return LW_OK;
}

void lw_reader_bert_layout(lw_arena *arena, lw_device *dev, const lw_reader_bert *r, const lw_encoder_limits *l,
                           lw_reader_bert_buffers *out)
{
    *out = (lw_reader_bert_buffers){.limits = lw_windows_limits(&r->windows, l)};
    out->indices = lw_arena_take(arena, (int64_t)lw_packing_device_bytes(&out->limits), 1);
    out->states = LW_TAKE(arena, l->tokens * r->config.d, float);
    lw_bert_buffers_layout(arena, dev, &r->config, &out->limits, &out->pass);
}

lw_status lw_reader_bert_start(lw_reader_bert_buffers *b, lw_error *err)
{
    return b->packing.host.base != NULL ? LW_OK : lw_packing_create(&b->limits, b->indices, err, &b->packing);
}

void lw_reader_bert_buffers_free(lw_reader_bert_buffers *b)
{
    lw_packing_free(&b->packing);
    *b = (lw_reader_bert_buffers){0};
}

lw_status lw_reader_bert_upload(const lw_reader_bert *r, lw_device *dev, const lw_encoder_batch *batch, lw_error *err,
                                lw_reader_bert_buffers *b)
{
    LW_TRY(lw_windows_pack(&r->windows, batch, err, &b->packing));
    lw_packing_upload(&b->packing, dev);
    return LW_OK;
}

void lw_reader_bert_forward(lw_device *dev, const lw_params *params, const lw_reader_bert *r, lw_reader_bert_buffers *b,
                            float *x_out)
{
    const lw_packing *p = &b->packing;
    lw_bert_forward(r->bert, p, &b->pass);
    dev->ops->gather(dev, p->supervised, r->config.d, b->pass.x, LW_F32, p->on.scored_row, NULL, false, b->states);
    lw_linear_forward(dev, params, &r->project, p->supervised, b->states, false, x_out);
}

void lw_reader_bert_backward(lw_device *dev, const lw_params *params, const lw_reader_bert *r,
                             lw_reader_bert_buffers *b, const float *dx)
{
    lw_linear_backward(dev, params, &r->project, b->packing.supervised, b->states, dx, false, NULL);
}
