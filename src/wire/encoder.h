// encoder.h: text -> latents Z. A reader turns the text's tokens into states, one per token; a LayerNorm and a pooler
// turn a text's states into its latents.
//
// Reader by encoder.kind: `byte` (reader_byte.h), `llm` (reader_llm.h), `bert` (reader_bert.h). Parameters live in the
// caller's lw_params. Local.
#ifndef LW_ENCODER_H
#define LW_ENCODER_H

#include "wire/pooler.h"
#include "wire/reader_bert.h"
#include "wire/reader_byte.h"
#include "wire/reader_llm.h"

typedef struct lw_encoder {
    lw_encoder_kind kind;
    int64_t width; // of a state
    int64_t d_z;
    lw_reader_byte byte; // kind `byte`; else no layers
    lw_reader_llm llm;   // kind `llm`; else no layers
    lw_reader_bert bert; // kind `bert`; else no layers
    lw_layernorm states_norm;
    lw_pooler pooler;
} lw_encoder;

typedef struct lw_encoder_buffers {
    lw_encoder_limits limits;
    lw_encoder_indices on;
    lw_transformer_buffers byte; // kind `byte`
    lw_reader_llm_buffers llm;   // kind `llm`
    lw_reader_bert_buffers bert; // kind `bert`
    float *x_out;                // (tokens, width) of the reader
    lw_layernorm_buffers states; // (tokens, width)
    lw_pooler_buffers pooler;
    float *dx, *d_states; // (tokens, width)
    const float *z;       // (latent rows, d_z) the latents, after the forward pass
} lw_encoder_buffers;

// Declares the parameters. backbone: NULL for kind `byte`.
lw_status lw_encoder_declare(const lw_config *config, const lw_encoder_backbone *backbone, lw_params *params,
                             lw_error *err, lw_encoder *out);

int64_t lw_encoder_alphabet(const lw_encoder *e); // tokens are from 0 to this, excluded

// params: placed. mode LW_PASS_INFER: no backward pass follows.
lw_status lw_encoder_layout(lw_arena *arena, lw_device *dev, const lw_params *params, const lw_encoder *e,
                            lw_pass_mode mode, const lw_encoder_limits *limits, lw_error *err, lw_encoder_buffers *out);
// Once the memory is there, and again when others have used it: tables. Only the first call allocates.
lw_status lw_encoder_buffers_start(lw_device *dev, const lw_encoder *e, lw_encoder_buffers *b, lw_error *err);
void lw_encoder_buffers_free(lw_encoder_buffers *b);

// Enqueues the upload of a batch, with what the reader needs of it. The batch was created for b->limits and b->on.
lw_status lw_encoder_upload(lw_device *dev, const lw_encoder *e, lw_encoder_batch *batch, lw_error *err,
                            lw_encoder_buffers *b);

// What the work of a pass depends on beside the layout, for lw_device_ops.replay.
enum { LW_ENCODER_SHAPES = 9 };
void lw_encoder_shapes(const lw_encoder_batch *batch, const lw_encoder_buffers *b, int64_t out[LW_ENCODER_SHAPES]);

// Leaves the latents of the uploaded batch, (latent rows, d_z), in b->z.
void lw_encoder_forward(lw_device *dev, const lw_params *params, const lw_encoder *e, const lw_encoder_batch *batch,
                        lw_encoder_buffers *b);
// From dz (latent rows, d_z) to the gradients of the parameters, which accumulate.
void lw_encoder_backward(lw_device *dev, const lw_params *params, const lw_encoder *e, const lw_encoder_batch *batch,
                         lw_encoder_buffers *b, const float *dz);

#endif
