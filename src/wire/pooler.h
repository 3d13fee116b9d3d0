// pooler.h: a text's states -> its latents. Kind `queries`: learned queries attend to the states, in layers of
// cross-attention and feed-forward. Kind `mean`: contiguous spans of states averaged, then a linear layer. Both end in
// a LayerNorm. Trainable, f32. Local.
#ifndef LW_POOLER_H
#define LW_POOLER_H

#include "config/config.h"
#include "wire/encoder_batch.h"
#include "wire/transformer.h"

typedef struct lw_pooler {
    lw_pooler_kind kind;
    int64_t d_states, d_z;
    int64_t query_count;
    int queries; // (query_count, d_z); kind `queries`
    lw_transformer stack;
    lw_linear linear; // d_states -> d_z; kind `mean`
    lw_layernorm norm;
} lw_pooler;

typedef struct lw_pooler_buffers {
    lw_transformer_buffers stack;
    float *z_mid;           // (z rows, d_z) before the LayerNorm
    float *pooled;          // (z rows, d_states); kind `mean`
    lw_layernorm_buffers z; // (z rows, d_z); z.y are the latents
    float *dz_mid;          // (z rows, d_z)
    float *d_pooled;        // (z rows, d_states); kind `mean`
} lw_pooler_buffers;

lw_status lw_pooler_declare(const lw_config *config, int64_t d_states, lw_params *params, lw_error *err,
                            lw_pooler *out);
lw_status lw_pooler_layout(lw_arena *arena, lw_device *dev, const lw_pooler *p, const lw_encoder_limits *limits,
                           lw_error *err, lw_pooler_buffers *out);
void lw_pooler_buffers_free(lw_pooler_buffers *b);
// states (tokens, d_states) of the uploaded batch; leaves the latents in b->z.y.
void lw_pooler_forward(lw_device *dev, const lw_params *params, const lw_pooler *p, const lw_encoder_batch *batch,
                       const float *states, lw_pooler_buffers *b);
// From dz (z rows, d_z). d_states (tokens, d_states) is overwritten.
void lw_pooler_backward(lw_device *dev, const lw_params *params, const lw_pooler *p, const lw_encoder_batch *batch,
                        const float *states, lw_pooler_buffers *b, const float *dz, float *d_states);

#endif
