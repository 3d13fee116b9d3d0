// encoder.h: text -> latents Z. A reader turns the text's tokens into states, one per token; a LayerNorm and a pooler
// turn a text's states into its latents.
//
// Reader by encoder.kind: `byte` (reader_byte.h). Parameters live in the caller's lw_params. Local.
#ifndef LW_ENCODER_H
#define LW_ENCODER_H

#include "pooler.h"
#include "reader_byte.h"

typedef struct lw_encoder {
    lw_encoder_kind kind;
    int64_t width; // of a state
    int64_t d_z;
    lw_reader_byte byte; // kind `byte`
    lw_layernorm states_norm;
    lw_pooler pooler;
} lw_encoder;

typedef struct lw_encoder_buffers {
    lw_encoder_limits limits;
    lw_encoder_indices on;
    lw_transformer_buffers byte; // kind `byte`
    float *x_out;                // (tokens, width) of the reader
    lw_layernorm_buffers states; // (tokens, width)
    lw_pooler_buffers pooler;
    float *dx, *d_states; // (tokens, width)
    const float *z;       // (latent rows, d_z) the latents, after the forward pass
} lw_encoder_buffers;

// Latents of a text of `tokens` tokens: wire.latents, or one for every wire.ratio tokens, the last share begun counting
// whole.
int64_t lw_encoder_latents(const lw_config *config, int64_t tokens);

// Declares the parameters.
lw_status lw_encoder_declare(const lw_config *config, lw_params *params, lw_error *err, lw_encoder *out);

lw_status lw_encoder_layout(lw_arena *arena, lw_device *dev, const lw_encoder *e, const lw_encoder_limits *limits,
                            lw_error *err, lw_encoder_buffers *out);
// Once the memory is there, and again when others have used it: tables. Only the first call allocates.
lw_status lw_encoder_buffers_start(lw_device *dev, const lw_encoder *e, lw_encoder_buffers *b, lw_error *err);
void lw_encoder_buffers_free(lw_encoder_buffers *b);

// Leaves the latents of the uploaded batch, (latent rows, d_z), in b->z. The batch was created for b->limits and b->on.
void lw_encoder_forward(lw_device *dev, const lw_params *params, const lw_encoder *e, const lw_encoder_batch *batch,
                        lw_encoder_buffers *b);
// From dz (latent rows, d_z) to the gradients of the parameters, which accumulate.
void lw_encoder_backward(lw_device *dev, const lw_params *params, const lw_encoder *e, const lw_encoder_batch *batch,
                         lw_encoder_buffers *b, const float *dz);

#endif
