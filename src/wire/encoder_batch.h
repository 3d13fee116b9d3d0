// encoder_batch.h: the texts of one pass through the encoder, packed without padding, and the latents they give.
//
// A text is a list of tokens in the encoder's alphabet (bytes, WordPiece ids, ids of an LLM). Text i owns token rows
// start[i] .. start[i+1] and latent rows z_start[i] .. z_start[i+1]; the caller chooses how many latents each text
// gets. All arrays live in one host block and one device block of the same layout, so that a pass needs one upload.
// Local.
#ifndef LW_ENCODER_BATCH_H
#define LW_ENCODER_BATCH_H

#include <stdint.h>

#include "core/ids.h"
#include "device/arena.h"
#include "device/device.h"

// Positions are counted in quarters of a token, so that a latent can lie between two tokens.
enum { LW_POSITION_STEPS = 4 };

// The most that any pass holds, by which buffers are sized.
typedef struct lw_encoder_limits {
    int64_t samples;     // texts
    int64_t tokens;      // of all texts
    int64_t max_tokens;  // of one text
    int64_t latents;     // of all texts
    int64_t max_latents; // of one text
} lw_encoder_limits;

typedef struct lw_encoder_indices {
    int32_t *start;      // (samples + 1) first token row
    int32_t *length;     // (samples) tokens
    int32_t *token;      // (tokens)
    int32_t *position;   // (tokens) LW_POSITION_STEPS each
    int32_t *z_start;    // (samples + 1) first latent row
    int32_t *z_index;    // (latents) which of its text's latents
    int32_t *z_position; // (latents) nominal position in the text
    int32_t *span;       // (latents + 1) first token of each latent's share of the text
} lw_encoder_indices;

typedef struct lw_encoder_batch {
    lw_encoder_limits limits;
    lw_arena host;
    lw_encoder_indices at; // host
    lw_encoder_indices on; // device
    int64_t samples, tokens, max_tokens, z_rows, max_z;
} lw_encoder_batch;

// Places the arrays on the device.
void lw_encoder_indices_layout(lw_arena *arena, const lw_encoder_limits *limits, lw_encoder_indices *out);

// on: as laid out for the same limits. The caller frees *out. Returns LW_ERR_MEMORY.
lw_status lw_encoder_batch_create(const lw_encoder_limits *limits, const lw_encoder_indices *on, lw_error *err,
                                  lw_encoder_batch *out);
void lw_encoder_batch_free(lw_encoder_batch *batch);
void lw_encoder_batch_clear(lw_encoder_batch *batch);
// Appends a text that gives `latents` latents; returns the row of the first of them, or -1 beyond the limits.
int64_t lw_encoder_batch_add(lw_encoder_batch *batch, lw_tokens text, int64_t latents);
// Enqueues the upload of the batch.
void lw_encoder_batch_upload(lw_encoder_batch *batch, lw_device *dev);

#endif
