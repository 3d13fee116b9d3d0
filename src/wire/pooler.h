// pooler.h: turns the states of a text into its latents. Each pooler.kind is a table of functions; pooler.c lists them.
//
// Kind `queries` (pooler_queries.c): learned queries attend to the states, in layers of cross-attention and
// feed-forward. Kind `mean` (pooler_mean.c): the means of contiguous spans of states, then a linear layer. Both end in
// a LayerNorm. Trainable, f32. Local.
#ifndef LW_POOLER_H
#define LW_POOLER_H

#include "config/config.h"
#include "wire/encoder_batch.h"
#include "wire/transformer.h"

typedef struct lw_pooler_ops lw_pooler_ops;

// The structure of every kind begins with this one.
typedef struct lw_pooler {
    const lw_pooler_ops *ops;
    int64_t d_states, d_z;
    lw_layernorm norm;
} lw_pooler;

// The buffers of every kind begin with this structure.
typedef struct lw_pooler_buffers {
    const lw_pooler_ops *ops;
    float *z_mid;           // (z rows, d_z) before the LayerNorm
    lw_layernorm_buffers z; // (z rows, d_z); z.y are the latents
    float *dz_mid;          // (z rows, d_z)
} lw_pooler_buffers;

// The parts of a pass beside the LayerNorm, for counting its arithmetic and time. NULL: there is no such part.
typedef struct lw_pooler_work {
    const lw_transformer *stack; // a row for each latent, which sees the states of its text
    const lw_linear *linear;     // of the means of spans, a row for each latent
} lw_pooler_work;

// Functions that may be NULL say so. They leave the LayerNorm to their callers below.
struct lw_pooler_ops {
    size_t bytes, buffers_bytes; // of the structures of this kind; all 0 before declare and layout
    // out->d_states and out->d_z are set.
    lw_status (*declare)(const lw_config *config, lw_params *params, lw_error *err, lw_pooler *out);
    lw_status (*layout)(lw_arena *arena, lw_device *dev, const lw_pooler *p, const lw_encoder_limits *limits,
                        lw_error *err, lw_pooler_buffers *out);
    // Fills tables once the memory is there, and again when others have used it. Only the first call allocates. May be
    // NULL.
    lw_status (*start)(lw_device *dev, const lw_pooler *p, lw_error *err, lw_pooler_buffers *b);
    void (*free)(lw_pooler_buffers *b); // what layout and start allocated, but not *b; may be NULL
    // Computes b->z_mid from the states.
    void (*forward)(lw_device *dev, const lw_params *params, const lw_pooler *p, const lw_encoder_batch *batch,
                    const float *states, lw_pooler_buffers *b);
    // Computes d_states, which is 0 before, from b->dz_mid. Gradients of the parameters accumulate.
    void (*backward)(lw_device *dev, const lw_params *params, const lw_pooler *p, const lw_encoder_batch *batch,
                     const float *states, lw_pooler_buffers *b, float *d_states);
    void (*work)(const lw_pooler *p, lw_pooler_work *out); // *out is all 0 before
};

extern const lw_pooler_ops lw_pooler_queries, lw_pooler_mean;

// The caller frees *out, which is NULL after a failure.
lw_status lw_pooler_declare(const lw_config *config, int64_t d_states, lw_params *params, lw_error *err,
                            lw_pooler **out);
// The host block of *out is allocated at each call: free it with lw_pooler_buffers_free.
lw_status lw_pooler_layout(lw_arena *arena, lw_device *dev, const lw_pooler *p, const lw_encoder_limits *limits,
                           lw_error *err, lw_pooler_buffers **out);
lw_status lw_pooler_start(lw_device *dev, const lw_pooler *p, lw_pooler_buffers *b, lw_error *err);
void lw_pooler_buffers_free(lw_pooler_buffers **b); // NULL is fine
// Turns the states (tokens, d_states) of the uploaded batch into latents, in b->z.y.
void lw_pooler_forward(lw_device *dev, const lw_params *params, const lw_pooler *p, const lw_encoder_batch *batch,
                       const float *states, lw_pooler_buffers *b);
// Computes d_states (tokens, d_states), which is overwritten, from dz (z rows, d_z).
void lw_pooler_backward(lw_device *dev, const lw_params *params, const lw_pooler *p, const lw_encoder_batch *batch,
                        const float *states, lw_pooler_buffers *b, const float *dz, float *d_states);

#endif
