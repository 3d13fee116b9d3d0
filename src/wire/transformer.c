// transformer.c: a trainable stack of attention and feed-forward layers.
#include "wire/transformer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "wire/encoder_batch.h"

static lw_transformer_layer declare_layer(lw_params *params, const char *stack, int64_t i,
                                          const lw_transformer_shape *s)
{
    char name[LW_PARAM_NAME_BYTES];
    lw_transformer_layer layer;
    snprintf(name, sizeof name, "%s.%lld.attend", stack, (long long)i);
    layer.attend = lw_attend_declare(params, name, s->d, s->d_states, s->heads, s->self, s->offsets);
    snprintf(name, sizeof name, "%s.%lld.ffn", stack, (long long)i);
    layer.ffn = lw_feed_forward_declare(params, name, s->d, s->ffn);
    return layer;
}

lw_status lw_transformer_declare(lw_params *params, const char *name, const char *key,
                                 const lw_transformer_shape *shape, lw_error *err, lw_transformer *out)
{
    out->count = shape->layers;
    if (out->count > LW_MAX_STACK_LAYERS) {
        return lw_fail(err, LW_ERR_CONFIG, "%s = %lld: at most %d", key, (long long)out->count, LW_MAX_STACK_LAYERS);
    }
    for (int64_t i = 0; i < out->count; i++) {
        out->layers[i] = declare_layer(params, name, i, shape);
    }
    return LW_OK;
}

lw_status lw_transformer_layout(lw_arena *arena, lw_device *dev, const lw_transformer *t,
                                const lw_attend_limits *limits, int64_t max_position, lw_error *err,
                                lw_transformer_buffers *out)
{
    *out = (lw_transformer_buffers){.positions = (max_position + 1) * LW_POSITION_STEPS};
    if (t->count == 0) {
        return LW_OK;
    }
    out->layers = calloc((size_t)t->count, sizeof *out->layers);
    if (out->layers == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the encoder's buffer tables");
    }
    out->cos_sin = LW_TAKE(arena, out->positions * t->layers[0].attend.head_dim, float);
    for (int64_t i = 0; i < t->count; i++) {
        int64_t d = t->layers[i].attend.d;
        out->layers[i].x = LW_TAKE(arena, limits->q_rows * d, float);
        out->layers[i].mid = LW_TAKE(arena, limits->q_rows * d, float);
        lw_attend_layout(arena, dev, &t->layers[i].attend, limits, &out->layers[i].attend);
        lw_feed_forward_layout(arena, &t->layers[i].ffn, limits->q_rows, &out->layers[i].ffn);
    }
    return LW_OK;
}

void lw_transformer_buffers_free(lw_transformer_buffers *b)
{
    free(b->layers);
    free(b->host_cos_sin);
    *b = (lw_transformer_buffers){0};
}

// The table is kept on the host, so that it can be uploaded again without an allocation when others have used the
// memory.
lw_status lw_transformer_start(lw_device *dev, const lw_transformer *t, lw_transformer_buffers *b, lw_error *err)
{
    if (t->count == 0) {
        return LW_OK;
    }
    int64_t head_dim = t->layers[0].attend.head_dim;
    int64_t half = head_dim / 2;
    size_t bytes = (size_t)(b->positions * head_dim) * sizeof(float);
    if (b->host_cos_sin == NULL) {
        float *table = malloc(bytes);
        if (table == NULL) {
            return lw_fail(err, LW_ERR_MEMORY, "no memory for the encoder's RoPE table");
        }
        for (int64_t p = 0; p < b->positions; p++) {
            for (int64_t i = 0; i < half; i++) {
                double angle = (double)p / LW_POSITION_STEPS * lw_attend_frequency(i, half);
                table[(p * half + i) * 2] = (float)cos(angle);
                table[(p * half + i) * 2 + 1] = (float)sin(angle);
            }
        }
        b->host_cos_sin = table;
    }
    dev->ops->upload(dev, b->host_cos_sin, bytes, b->cos_sin);
    return LW_OK;
}

void lw_transformer_forward(lw_device *dev, const lw_params *params, const lw_transformer *t,
                            const lw_attend_rows *rows, const float *states, lw_transformer_buffers *b, float *x_out)
{
    lw_attend_rows r = *rows;
    r.cos_sin = b->cos_sin;
    for (int64_t i = 0; i < t->count; i++) {
        lw_transformer_layer_buffers *l = &b->layers[i];
        float *y = i + 1 < t->count ? b->layers[i + 1].x : x_out;
        lw_attend_forward(dev, params, &t->layers[i].attend, &r, l->x, states, &l->attend, l->mid);
        lw_feed_forward_forward(dev, params, &t->layers[i].ffn, r.q_rows, l->mid, &l->ffn, y);
    }
}

void lw_transformer_backward(lw_device *dev, const lw_params *params, const lw_transformer *t,
                             const lw_attend_rows *rows, const float *states, lw_transformer_buffers *b, float *d,
                             float *d_states)
{
    lw_attend_rows r = *rows;
    r.cos_sin = b->cos_sin;
    for (int64_t i = t->count - 1; i >= 0; i--) {
        lw_transformer_layer_buffers *l = &b->layers[i];
        lw_feed_forward_backward(dev, params, &t->layers[i].ffn, r.q_rows, l->mid, &l->ffn, d);
        lw_attend_backward(dev, params, &t->layers[i].attend, &r, l->x, states, &l->attend, d, d_states);
    }
}
