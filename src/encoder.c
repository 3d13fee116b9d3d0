#include "encoder.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

// Places that the four kinds of heads look at before training, in states from their own position.
static const double LW_SELF_OFFSETS[4] = {-2.0, -1.0, 1.0, 2.0};
static const double LW_POOL_OFFSETS[4] = {-2.0, -1.0, 0.0, 1.0};

// --- parameters

static lw_transformer_layer declare_layer(lw_params *params, const char *stack, int64_t i, int64_t d, int64_t d_states,
                                          int64_t heads, int64_t ffn, bool self)
{
    char name[LW_PARAM_NAME_BYTES];
    lw_transformer_layer layer;
    snprintf(name, sizeof name, "%s.%lld.attend", stack, (long long)i);
    layer.attend =
        lw_attend_declare(params, name, d, d_states, heads, self, self ? LW_SELF_OFFSETS : LW_POOL_OFFSETS);
    snprintf(name, sizeof name, "%s.%lld.ffn", stack, (long long)i);
    layer.ffn = lw_feed_forward_declare(params, name, d, ffn);
    return layer;
}

lw_status lw_encoder_declare(const lw_config *config, lw_params *params, lw_error *err, lw_encoder *out)
{
    lw_encoder e = {.width = config->encoder.width,
                    .d_z = config->wire.d_z,
                    .latents = config->wire.latents,
                    .pooler = config->pooler.kind,
                    .layer_count = config->encoder.layers,
                    .pooler_count = config->pooler.kind == LW_POOLER_QUERIES ? config->pooler.layers : 0};
    if (e.layer_count > LW_MAX_ENCODER_LAYERS || e.pooler_count > LW_MAX_ENCODER_LAYERS) {
        return lw_fail(err, LW_ERR_CONFIG, "encoder.layers and pooler.layers: at most %d", LW_MAX_ENCODER_LAYERS);
    }
    e.embedding = lw_params_add(params, &(lw_param){.name = "encoder.embedding",
                                                    .dims = {LW_BYTE_VALUES, e.width},
                                                    .init = lw_init_normal,
                                                    .scale = 1.0});
    for (int64_t i = 0; i < e.layer_count; i++) {
        e.layers[i] = declare_layer(params, "encoder.layers", i, e.width, e.width, config->encoder.heads,
                                    config->encoder.ffn, true);
    }
    e.states_norm = lw_layernorm_declare(params, "encoder.norm", e.width);
    if (e.pooler == LW_POOLER_QUERIES) {
        e.queries = lw_params_add(params, &(lw_param){.name = "pooler.queries",
                                                      .dims = {e.latents, e.d_z},
                                                      .init = lw_init_normal,
                                                      .scale = 0.02});
        for (int64_t i = 0; i < e.pooler_count; i++) {
            e.pooler_layers[i] = declare_layer(params, "pooler.layers", i, e.d_z, e.width, config->pooler.heads,
                                               config->pooler.ffn, false);
        }
    } else {
        e.mean_linear = lw_linear_declare(params, "pooler.linear", e.width, e.d_z);
    }
    e.out_norm = lw_layernorm_declare(params, "pooler.norm", e.d_z);
    *out = e;
    return LW_OK;
}

// --- buffers

static void indices_layout(lw_arena *arena, const lw_encoder_limits *l, int64_t latents, lw_encoder_indices *out)
{
    int64_t z_rows = l->samples * latents;
    out->start = LW_TAKE(arena, l->samples + 1, int32_t);
    out->length = LW_TAKE(arena, l->samples, int32_t);
    out->byte = LW_TAKE(arena, l->bytes, int32_t);
    out->position = LW_TAKE(arena, l->bytes, int32_t);
    out->z_start = LW_TAKE(arena, l->samples + 1, int32_t);
    out->z_index = LW_TAKE(arena, z_rows, int32_t);
    out->z_position = LW_TAKE(arena, z_rows, int32_t);
    out->span = LW_TAKE(arena, z_rows + 1, int32_t);
}

static size_t indices_bytes(const lw_encoder_limits *l, int64_t latents)
{
    lw_arena arena = lw_arena_measure();
    lw_encoder_indices unused;
    indices_layout(&arena, l, latents, &unused);
    return arena.high_water_bytes;
}

static void stack_layout(lw_arena *arena, lw_device *dev, const lw_transformer_layer *layers, int64_t count,
                         const lw_attend_limits *limits, lw_transformer_buffers *out)
{
    for (int64_t i = 0; i < count; i++) {
        int64_t d = layers[i].attend.d;
        out[i].x = LW_TAKE(arena, limits->q_rows * d, float);
        out[i].mid = LW_TAKE(arena, limits->q_rows * d, float);
        lw_attend_layout(arena, dev, &layers[i].attend, limits, &out[i].attend);
        lw_feed_forward_layout(arena, &layers[i].ffn, limits->q_rows, &out[i].ffn);
    }
}

lw_status lw_encoder_layout(lw_arena *arena, lw_device *dev, const lw_encoder *e, const lw_encoder_limits *l,
                            lw_error *err, lw_encoder_buffers *out)
{
    lw_encoder_buffers b = {.limits = *l};
    int64_t z_rows = l->samples * e->latents;
    int64_t positions = (l->max_bytes + 1) * LW_POSITION_STEPS;
    b.layers = calloc((size_t)e->layer_count + 1, sizeof *b.layers);
    b.pooler = calloc((size_t)e->pooler_count + 1, sizeof *b.pooler);
    if (b.layers == NULL || b.pooler == NULL) {
        lw_encoder_buffers_free(&b);
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the encoder's buffer tables");
    }
    indices_layout(arena, l, e->latents, &b.on);
    if (e->layer_count > 0) {
        b.cos_sin = LW_TAKE(arena, positions * e->layers[0].attend.head_dim, float);
    }
    stack_layout(arena, dev, e->layers, e->layer_count,
                 &(lw_attend_limits){l->samples, l->bytes, l->bytes, l->max_bytes, l->max_bytes}, b.layers);
    b.x_out = LW_TAKE(arena, l->bytes * e->width, float);
    lw_layernorm_layout(arena, l->bytes, e->width, &b.states);
    if (e->pooler == LW_POOLER_QUERIES) {
        b.pooler_cos_sin = LW_TAKE(arena, positions * e->pooler_layers[0].attend.head_dim, float);
        stack_layout(arena, dev, e->pooler_layers, e->pooler_count,
                     &(lw_attend_limits){l->samples, z_rows, l->bytes, e->latents, l->max_bytes}, b.pooler);
    } else {
        b.pooled = LW_TAKE(arena, z_rows * e->width, float);
        b.d_pooled = LW_TAKE(arena, z_rows * e->width, float);
    }
    b.z_mid = LW_TAKE(arena, z_rows * e->d_z, float);
    lw_layernorm_layout(arena, z_rows, e->d_z, &b.z);
    b.dx = LW_TAKE(arena, l->bytes * e->width, float);
    b.d_states = LW_TAKE(arena, l->bytes * e->width, float);
    b.dz_mid = LW_TAKE(arena, z_rows * e->d_z, float);
    *out = b;
    return LW_OK;
}

void lw_encoder_buffers_free(lw_encoder_buffers *b)
{
    free(b->layers);
    free(b->pooler);
    free(b->host_cos_sin);
    free(b->host_pooler_cos_sin);
    *b = (lw_encoder_buffers){0};
}

// The table on the host is kept: memory that the encoder shares with others gets it again without an allocation.
static lw_status upload_rope(lw_device *dev, int64_t positions, int64_t head_dim, float **host, float *out,
                             lw_error *err)
{
    int64_t half = head_dim / 2;
    size_t bytes = (size_t)(positions * head_dim) * sizeof **host;
    if (*host == NULL) {
        float *table = malloc(bytes);
        if (table == NULL) {
            return lw_fail(err, LW_ERR_MEMORY, "no memory for the encoder's RoPE table");
        }
        for (int64_t p = 0; p < positions; p++) {
            for (int64_t i = 0; i < half; i++) {
                double angle = (double)p / LW_POSITION_STEPS * lw_attend_frequency(i, half);
                table[(p * half + i) * 2] = (float)cos(angle);
                table[(p * half + i) * 2 + 1] = (float)sin(angle);
            }
        }
        *host = table;
    }
    dev->ops->upload(dev, *host, bytes, out);
    return LW_OK;
}

lw_status lw_encoder_buffers_start(lw_device *dev, const lw_encoder *e, lw_encoder_buffers *b, lw_error *err)
{
    int64_t positions = (b->limits.max_bytes + 1) * LW_POSITION_STEPS;
    if (e->layer_count > 0) {
        LW_TRY(upload_rope(dev, positions, e->layers[0].attend.head_dim, &b->host_cos_sin, b->cos_sin, err));
    }
    if (e->pooler_count > 0) {
        LW_TRY(upload_rope(dev, positions, e->pooler_layers[0].attend.head_dim, &b->host_pooler_cos_sin,
                           b->pooler_cos_sin, err));
    }
    return LW_OK;
}

// --- batches

lw_status lw_encoder_batch_create(const lw_encoder *e, const lw_encoder_buffers *buffers, lw_error *err,
                                  lw_encoder_batch *out)
{
    size_t bytes = indices_bytes(&buffers->limits, e->latents);
    void *host = calloc(1, bytes);
    if (host == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the encoder's index arrays (%zu bytes)", bytes);
    }
    *out = (lw_encoder_batch){.limits = buffers->limits, .latents = e->latents, .device_block = buffers->on.start};
    out->host = lw_arena_over(host, bytes);
    lw_arena arena = out->host;
    indices_layout(&arena, &out->limits, e->latents, &out->at);
    return LW_OK;
}

void lw_encoder_batch_free(lw_encoder_batch *batch)
{
    free(batch->host.base);
    *batch = (lw_encoder_batch){0};
}

void lw_encoder_batch_clear(lw_encoder_batch *batch)
{
    batch->samples = batch->bytes = batch->max_bytes = batch->z_rows = 0;
    batch->at.start[0] = batch->at.z_start[0] = batch->at.span[0] = 0;
}

int64_t lw_encoder_batch_add(lw_encoder_batch *batch, const char *text, int64_t bytes)
{
    const lw_encoder_limits *l = &batch->limits;
    if (batch->samples >= l->samples || bytes > l->bytes - batch->bytes || bytes > l->max_bytes) {
        return -1;
    }
    lw_encoder_indices *at = &batch->at;
    int64_t first_byte = batch->bytes;
    int64_t first_z = batch->z_rows;
    for (int64_t i = 0; i < bytes; i++) {
        at->byte[first_byte + i] = (unsigned char)text[i];
        at->position[first_byte + i] = (int32_t)(i * LW_POSITION_STEPS);
    }
    for (int64_t m = 0; m < batch->latents; m++) {
        // The middle of the latent's share of the text, in LW_POSITION_STEPS: ((m + 1/2) bytes / M - 1/2) steps.
        int64_t middle = ((2 * m + 1) * bytes - batch->latents) * LW_POSITION_STEPS / (2 * batch->latents);
        at->z_index[first_z + m] = (int32_t)m;
        at->z_position[first_z + m] = (int32_t)(middle > 0 ? middle : 0);
        at->span[first_z + m] = (int32_t)(first_byte + m * bytes / batch->latents);
    }
    at->length[batch->samples] = (int32_t)bytes;
    batch->bytes += bytes;
    batch->z_rows += batch->latents;
    batch->max_bytes = bytes > batch->max_bytes ? bytes : batch->max_bytes;
    batch->samples++;
    at->start[batch->samples] = (int32_t)batch->bytes;
    at->z_start[batch->samples] = (int32_t)batch->z_rows;
    at->span[batch->z_rows] = (int32_t)batch->bytes;
    return first_z;
}

void lw_encoder_batch_upload(lw_encoder_batch *batch, lw_device *dev)
{
    dev->ops->upload(dev, batch->host.base, batch->host.size_bytes, batch->device_block);
}

// --- passes

static lw_attend_rows self_rows(const lw_encoder_batch *batch, const lw_encoder_buffers *b)
{
    return (lw_attend_rows){.sequences = batch->samples,
                            .q_rows = batch->bytes,
                            .k_rows = batch->bytes,
                            .max_q = batch->max_bytes,
                            .max_k = batch->max_bytes,
                            .q_start = b->on.start,
                            .k_start = b->on.start,
                            .k_len = b->on.length,
                            .q_position = b->on.position,
                            .k_position = b->on.position,
                            .cos_sin = b->cos_sin};
}

static lw_attend_rows pooler_rows(const lw_encoder_batch *batch, const lw_encoder_buffers *b)
{
    lw_attend_rows rows = self_rows(batch, b);
    rows.q_rows = batch->z_rows;
    rows.max_q = batch->latents;
    rows.q_start = b->on.z_start;
    rows.q_position = b->on.z_position;
    rows.cos_sin = b->pooler_cos_sin;
    return rows;
}

static void stack_forward(lw_device *dev, const lw_params *params, const lw_transformer_layer *layers, int64_t count,
                          const lw_attend_rows *rows, const float *states, lw_transformer_buffers *b, float *x_out)
{
    for (int64_t i = 0; i < count; i++) {
        float *y = i + 1 < count ? b[i + 1].x : x_out;
        lw_attend_forward(dev, params, &layers[i].attend, rows, b[i].x, states, &b[i].attend, b[i].mid);
        lw_feed_forward_forward(dev, params, &layers[i].ffn, rows->q_rows, b[i].mid, &b[i].ffn, y);
    }
}

// d: gradient of the stack's output on entry, of its input on return.
static void stack_backward(lw_device *dev, const lw_params *params, const lw_transformer_layer *layers, int64_t count,
                           const lw_attend_rows *rows, const float *states, lw_transformer_buffers *b, float *d,
                           float *d_states)
{
    for (int64_t i = count - 1; i >= 0; i--) {
        lw_feed_forward_backward(dev, params, &layers[i].ffn, rows->q_rows, b[i].mid, &b[i].ffn, d);
        lw_attend_backward(dev, params, &layers[i].attend, rows, b[i].x, states, &b[i].attend, d, d_states);
    }
}

void lw_encoder_forward(lw_device *dev, const lw_params *params, const lw_encoder *e, const lw_encoder_batch *batch,
                        lw_encoder_buffers *b)
{
    const lw_device_ops *ops = dev->ops;
    lw_attend_rows rows = self_rows(batch, b);
    float *x = e->layer_count > 0 ? b->layers[0].x : b->x_out;
    ops->gather(dev, batch->bytes, e->width, lw_param_at(params, e->embedding), LW_F32, b->on.byte, NULL, false, x);
    stack_forward(dev, params, e->layers, e->layer_count, &rows, NULL, b->layers, b->x_out);
    lw_layernorm_forward(dev, params, &e->states_norm, batch->bytes, b->x_out, &b->states);
    if (e->pooler == LW_POOLER_QUERIES) {
        rows = pooler_rows(batch, b);
        ops->gather(dev, batch->z_rows, e->d_z, lw_param_at(params, e->queries), LW_F32, b->on.z_index, NULL, false,
                    b->pooler[0].x);
        stack_forward(dev, params, e->pooler_layers, e->pooler_count, &rows, b->states.y, b->pooler, b->z_mid);
    } else {
        ops->span_mean(dev, batch->z_rows, e->width, b->on.span, b->states.y, b->pooled);
        lw_linear_forward(dev, params, &e->mean_linear, batch->z_rows, b->pooled, false, b->z_mid);
    }
    lw_layernorm_forward(dev, params, &e->out_norm, batch->z_rows, b->z_mid, &b->z);
}

void lw_encoder_backward(lw_device *dev, const lw_params *params, const lw_encoder *e, const lw_encoder_batch *batch,
                         lw_encoder_buffers *b, const float *dz)
{
    const lw_device_ops *ops = dev->ops;
    ops->zero(dev, (size_t)(batch->z_rows * e->d_z) * sizeof(float), b->dz_mid);
    ops->zero(dev, (size_t)(batch->bytes * e->width) * sizeof(float), b->d_states);
    ops->zero(dev, (size_t)(batch->bytes * e->width) * sizeof(float), b->dx);
    lw_layernorm_backward(dev, params, &e->out_norm, batch->z_rows, b->z_mid, &b->z, dz, b->dz_mid);
    if (e->pooler == LW_POOLER_QUERIES) {
        lw_attend_rows rows = pooler_rows(batch, b);
        stack_backward(dev, params, e->pooler_layers, e->pooler_count, &rows, b->states.y, b->pooler, b->dz_mid,
                       b->d_states);
        ops->scatter_add(dev, batch->z_rows, e->d_z, b->dz_mid, b->on.z_index, e->latents,
                         lw_grad_at(params, e->queries));
    } else {
        lw_linear_backward(dev, params, &e->mean_linear, batch->z_rows, b->pooled, b->dz_mid, false, b->d_pooled);
        ops->span_mean_backward(dev, batch->z_rows, e->width, b->on.span, b->d_pooled, b->d_states);
    }
    lw_layernorm_backward(dev, params, &e->states_norm, batch->bytes, b->x_out, &b->states, b->d_states, b->dx);
    lw_attend_rows rows = self_rows(batch, b);
    stack_backward(dev, params, e->layers, e->layer_count, &rows, NULL, b->layers, b->dx, NULL);
    ops->scatter_add(dev, batch->bytes, e->width, b->dx, b->on.byte, LW_BYTE_VALUES,
                     lw_grad_at(params, e->embedding));
}
