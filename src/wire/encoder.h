// encoder.h: text -> latents Z. A reader turns the text's tokens into states, one per token; a LayerNorm and a pooler
// turn a text's states into its latents.
//
// encoder.kind selects the reader (reader.h), pooler.kind the pooler (pooler.h). The parameters are in the caller's
// lw_params. Local.
#ifndef LW_ENCODER_H
#define LW_ENCODER_H

#include "wire/pooler.h"
#include "wire/reader.h"

typedef struct lw_encoder {
    lw_encoder_kind kind;
    int64_t d_z;
    lw_reader *reader; // owned
    lw_layernorm states_norm;
    lw_pooler *pooler; // owned
} lw_encoder;

typedef struct lw_encoder_buffers {
    lw_encoder_limits limits;
    lw_encoder_indices on;
    lw_reader_buffers *reader;   // host block, owned
    float *x_out;                // (tokens, width) of the reader
    lw_layernorm_buffers states; // (tokens, width)
    lw_pooler_buffers *pooler;   // host block, owned
    float *dx, *d_states;        // (tokens, width)
    const float *z;              // (latent rows, d_z) the latents, after the forward pass
} lw_encoder_buffers;

// Declares the parameters. backbone: NULL where the reader has none; its weights need not be there yet. The caller
// frees *out, which is empty after a failure.
lw_status lw_encoder_declare(const lw_config *config, const lw_backbone *backbone, lw_params *params, lw_error *err,
                             lw_encoder *out);
void lw_encoder_free(lw_encoder *e);
// Sets the loaded weights of the backbone, borrowed, before the first pass.
void lw_encoder_attach(lw_encoder *e, const lw_backbone *backbone);

// What a pass of reader and pooler consists of.
lw_reader_work lw_encoder_reader_work(const lw_encoder *e);
lw_pooler_work lw_encoder_pooler_work(const lw_encoder *e);

// params: placed. mode LW_PASS_INFER: no backward pass follows. The host blocks of *out are allocated at each call:
// free them with lw_encoder_buffers_free.
lw_status lw_encoder_layout(lw_arena *arena, lw_device *dev, const lw_params *params, const lw_encoder *e,
                            lw_pass_mode mode, const lw_encoder_limits *limits, lw_error *err, lw_encoder_buffers *out);
// Fills tables once the memory is there, and again when others have used it. Only the first call allocates.
lw_status lw_encoder_buffers_start(lw_device *dev, const lw_encoder *e, lw_encoder_buffers *b, lw_error *err);
void lw_encoder_buffers_free(lw_encoder_buffers *b);

// Enqueues the upload of a batch and of what the reader derives from it. The batch was created for b->limits and b->on.
lw_status lw_encoder_upload(lw_device *dev, const lw_encoder *e, lw_encoder_batch *batch, lw_error *err,
                            lw_encoder_buffers *b);

// The sizes that the work of a pass depends on beside the layout, for lw_device_ops.replay.
enum { LW_ENCODER_SHAPES = 9 };
void lw_encoder_shapes(const lw_encoder_batch *batch, const lw_encoder_buffers *b, int64_t out[LW_ENCODER_SHAPES]);

// Leaves the latents of the uploaded batch, (latent rows, d_z), in b->z.
void lw_encoder_forward(lw_device *dev, const lw_params *params, const lw_encoder *e, const lw_encoder_batch *batch,
                        lw_encoder_buffers *b);
// Adds the gradients of the parameters that follow from dz (latent rows, d_z).
void lw_encoder_backward(lw_device *dev, const lw_params *params, const lw_encoder *e, const lw_encoder_batch *batch,
                         lw_encoder_buffers *b, const float *dz);

#endif
