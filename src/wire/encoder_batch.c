// encoder_batch.c: the texts of a pass as index arrays, on the host and on the device.
#include "wire/encoder_batch.h"

#include <stdlib.h>
#include <string.h>

void lw_encoder_indices_layout(lw_arena *arena, const lw_encoder_limits *l, lw_encoder_indices *out)
{
    out->start = LW_TAKE(arena, l->samples + 1, int32_t);
    out->length = LW_TAKE(arena, l->samples, int32_t);
    out->token = LW_TAKE(arena, l->tokens, int32_t);
    out->position = LW_TAKE(arena, l->tokens, int32_t);
    out->z_start = LW_TAKE(arena, l->samples + 1, int32_t);
    out->z_index = LW_TAKE(arena, l->latents, int32_t);
    out->z_position = LW_TAKE(arena, l->latents, int32_t);
    out->span = LW_TAKE(arena, l->latents + 1, int32_t);
}

static size_t indices_bytes(const lw_encoder_limits *l)
{
    lw_arena arena = lw_arena_measure();
    lw_encoder_indices unused;
    lw_encoder_indices_layout(&arena, l, &unused);
    return arena.high_water_bytes;
}

lw_status lw_encoder_batch_create(const lw_encoder_limits *limits, const lw_encoder_indices *on, lw_error *err,
                                  lw_encoder_batch *out)
{
    size_t bytes = indices_bytes(limits);
    void *host = calloc(1, bytes);
    if (host == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the encoder's index arrays (%zu bytes)", bytes);
    }
    *out = (lw_encoder_batch){.limits = *limits, .host = lw_arena_over(host, bytes), .on = *on};
    lw_arena arena = out->host;
    lw_encoder_indices_layout(&arena, limits, &out->at);
    return LW_OK;
}

void lw_encoder_batch_free(lw_encoder_batch *batch)
{
    free(batch->host.base);
    *batch = (lw_encoder_batch){0};
}

void lw_encoder_batch_clear(lw_encoder_batch *batch)
{
    batch->samples = batch->tokens = batch->max_tokens = batch->z_rows = batch->max_z = 0;
    batch->at.start[0] = batch->at.z_start[0] = batch->at.span[0] = 0;
}

int64_t lw_encoder_batch_add(lw_encoder_batch *batch, lw_tokens text, int64_t latents)
{
    const lw_encoder_limits *l = &batch->limits;
    int64_t n = text.count;
    if (batch->samples >= l->samples || n > l->tokens - batch->tokens || n > l->max_tokens ||
        latents > l->latents - batch->z_rows || latents > l->max_latents) {
        return -1;
    }
    lw_encoder_indices *at = &batch->at;
    int64_t first = batch->tokens;
    int64_t first_z = batch->z_rows;
    for (int64_t i = 0; i < n; i++) {
        at->token[first + i] = text.ids[i];
        at->position[first + i] = (int32_t)(i * LW_POSITION_STEPS);
    }
    for (int64_t m = 0; m < latents; m++) {
        // A latent's position is the middle of its share of the text, in LW_POSITION_STEPS: ((m + 1/2) n / M - 1/2)
        // steps.
        int64_t middle = ((2 * m + 1) * n - latents) * LW_POSITION_STEPS / (2 * latents);
        at->z_index[first_z + m] = (int32_t)m;
        at->z_position[first_z + m] = (int32_t)(middle > 0 ? middle : 0);
        at->span[first_z + m] = (int32_t)(first + m * n / latents);
    }
    at->length[batch->samples] = (int32_t)n;
    batch->tokens += n;
    batch->z_rows += latents;
    batch->max_tokens = n > batch->max_tokens ? n : batch->max_tokens;
    batch->max_z = latents > batch->max_z ? latents : batch->max_z;
    batch->samples++;
    at->start[batch->samples] = (int32_t)batch->tokens;
    at->z_start[batch->samples] = (int32_t)batch->z_rows;
    at->span[batch->z_rows] = (int32_t)batch->tokens;
    return first_z;
}

void lw_encoder_batch_upload(lw_encoder_batch *batch, lw_device *dev)
{
    dev->ops->upload(dev, batch->host.base, batch->host.size_bytes, batch->on.start);
}
