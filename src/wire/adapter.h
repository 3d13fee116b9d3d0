// adapter.h: latents (rows, d_z) -> soft tokens (rows, D) in one LLM's embedding space:
//   a = LayerNorm(z);  u = W2 gelu(W1 a) + Ws a;  p = gain rms(E) u / rms(u)
// A soft token thus starts with the typical length of a word embedding. Trainable, f32. Local.
#ifndef LW_ADAPTER_H
#define LW_ADAPTER_H

#include "wire/linear.h"

typedef struct lw_adapter {
    int64_t d_z, hidden, d;
    float scale; // RMS of the LLM's embedding table, or 1 (adapter.embedding_scale)
    lw_layernorm norm;
    lw_linear up, down, skip;
    int gain; // (1)
} lw_adapter;

typedef struct lw_adapter_buffers {
    lw_layernorm_buffers norm; // (rows, d_z)
    float *up, *act;           // (rows, hidden)
    float *u;                  // (rows, d)
    float *rstd;               // (rows)
    float *soft;               // (rows + more rows, d) the soft tokens, followed by rows of the caller
    float *d_soft;             // (rows + more rows, d) their gradient, filled by the LLM's backward pass
    float *du;                 // (rows, d)
    float *d_up;               // (rows, hidden)
    float *d_norm;             // (rows, d_z)
} lw_adapter_buffers;

// `name` is the LLM's. The caller sets `scale` once the LLM is loaded, before the first pass.
lw_adapter lw_adapter_declare(lw_params *params, const char *name, int64_t d_z, int64_t hidden, int64_t d);
void lw_adapter_layout(lw_arena *arena, const lw_adapter *a, int64_t rows, int64_t more_rows, lw_adapter_buffers *out);
// Leaves the soft tokens of z in b->soft.
void lw_adapter_forward(lw_device *dev, const lw_params *params, const lw_adapter *a, int64_t rows, const float *z,
                        lw_adapter_buffers *b);
// Adds the gradients that follow from b->d_soft to dz (rows, d_z) and to those of the parameters.
void lw_adapter_backward(lw_device *dev, const lw_params *params, const lw_adapter *a, int64_t rows, const float *z,
                         lw_adapter_buffers *b, float *dz);

#endif
