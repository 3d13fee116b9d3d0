// encoder.h: text -> latents Z. Kind `byte`: UTF-8 bytes, a learned embedding, a bidirectional transformer encoder over
// the packed bytes; then a pooler (`queries` or `mean`) that turns a text's states into its latents.
//
// Trainable, f32. Parameters live in the caller's lw_params. Local.
#ifndef LW_ENCODER_H
#define LW_ENCODER_H

#include "attend.h"
#include "config.h"

enum { LW_MAX_ENCODER_LAYERS = 64, LW_BYTE_VALUES = 256 };

typedef struct lw_encoder_limits {
    int64_t samples;   // texts of a pass
    int64_t bytes;     // of all texts of a pass
    int64_t max_bytes; // of one text
} lw_encoder_limits;

typedef struct lw_transformer_layer {
    lw_attend attend;
    lw_feed_forward ffn;
} lw_transformer_layer;

typedef struct lw_encoder {
    int64_t width, d_z, latents; // latents: per sample
    lw_pooler_kind pooler;
    int embedding; // (256, width)
    int64_t layer_count, pooler_count;
    lw_transformer_layer layers[LW_MAX_ENCODER_LAYERS];        // over the bytes
    lw_transformer_layer pooler_layers[LW_MAX_ENCODER_LAYERS]; // cross-attention of the latents over the states
    lw_layernorm states_norm;
    int queries;           // (latents, d_z); pooler `queries`
    lw_linear mean_linear; // width -> d_z; pooler `mean`
    lw_layernorm out_norm;
} lw_encoder;

typedef struct lw_transformer_buffers {
    float *x, *mid; // (rows, d) input of the layer, and between attention and feed-forward
    lw_attend_buffers attend;
    lw_feed_forward_buffers ffn;
} lw_transformer_buffers;

typedef struct lw_encoder_indices {
    int32_t *start;     // (samples + 1) first byte row
    int32_t *length;    // (samples) bytes
    int32_t *byte;      // (bytes)
    int32_t *position;  // (bytes) LW_POSITION_STEPS each
    int32_t *z_start;   // (samples + 1) first latent row
    int32_t *z_index;   // (latent rows) which query
    int32_t *z_position; // (latent rows) nominal place in the text
    int32_t *span;      // (latent rows + 1) first state of each latent's span
} lw_encoder_indices;

typedef struct lw_encoder_buffers {
    lw_encoder_limits limits;
    lw_encoder_indices on;
    float *cos_sin;        // rotary table of width/heads
    float *pooler_cos_sin; // of d_z/heads
    float *host_cos_sin, *host_pooler_cos_sin; // the same on the host, owned; NULL before the start
    lw_transformer_buffers *layers, *pooler; // host arrays, owned
    float *x_out;          // (bytes, width) after the last layer
    lw_layernorm_buffers states; // (bytes, width)
    float *z_mid;          // (latent rows, d_z) before the last LayerNorm
    float *pooled;         // (latent rows, width); pooler `mean`
    lw_layernorm_buffers z; // (latent rows, d_z); z.y are the latents
    float *dx, *d_states;  // (bytes, width)
    float *dz_mid;         // (latent rows, d_z)
    float *d_pooled;       // (latent rows, width)
} lw_encoder_buffers;

// A packed batch of texts on the host, and what the device needs to know of it.
typedef struct lw_encoder_batch {
    lw_encoder_limits limits;
    int64_t latents;
    lw_arena host;
    lw_encoder_indices at;
    void *device_block;
    int64_t samples, bytes, max_bytes, z_rows;
} lw_encoder_batch;

// Declares the parameters.
lw_status lw_encoder_declare(const lw_config *config, lw_params *params, lw_error *err, lw_encoder *out);

lw_status lw_encoder_layout(lw_arena *arena, lw_device *dev, const lw_encoder *e, const lw_encoder_limits *limits,
                            lw_error *err, lw_encoder_buffers *out);
// Once the memory is there, and again when others have used it: the rotary tables. Only the first call allocates.
lw_status lw_encoder_buffers_start(lw_device *dev, const lw_encoder *e, lw_encoder_buffers *b, lw_error *err);
void lw_encoder_buffers_free(lw_encoder_buffers *b);

// The batch's indices are uploaded to those of `buffers`.
lw_status lw_encoder_batch_create(const lw_encoder *e, const lw_encoder_buffers *buffers, lw_error *err,
                                  lw_encoder_batch *out);
void lw_encoder_batch_free(lw_encoder_batch *batch);
void lw_encoder_batch_clear(lw_encoder_batch *batch);
// Appends a text; returns its first latent row (lw_encoder.latents rows follow), or -1 beyond the limits.
int64_t lw_encoder_batch_add(lw_encoder_batch *batch, const char *text, int64_t bytes);
void lw_encoder_batch_upload(lw_encoder_batch *batch, lw_device *dev);

// Leaves the latents of the uploaded batch, (latent rows, d_z), in b->z.y.
void lw_encoder_forward(lw_device *dev, const lw_params *params, const lw_encoder *e, const lw_encoder_batch *batch,
                        lw_encoder_buffers *b);
// From dz (latent rows, d_z) to the gradients of the parameters, which accumulate.
void lw_encoder_backward(lw_device *dev, const lw_params *params, const lw_encoder *e, const lw_encoder_batch *batch,
                         lw_encoder_buffers *b, const float *dz);

#endif
