// linear.h: trainable building blocks that encoder, pooler and adapters share: linear layer, LayerNorm and
// feed-forward, each with its backward pass. Gradients of parameters accumulate in the flat gradient buffer. All are
// f32. Local.
#ifndef LW_LINEAR_H
#define LW_LINEAR_H

#include "device/arena.h"
#include "device/device.h"
#include "device/params.h"

// y (rows, out) = x (rows, in) W^T + b; W (out, in) starts normal with standard deviation in^-0.5, b at 0.
typedef struct lw_linear {
    int64_t in, out;
    int weight, bias;
} lw_linear;

lw_linear lw_linear_declare(lw_params *params, const char *name, int64_t in, int64_t out);
void lw_linear_forward(lw_device *dev, const lw_params *params, const lw_linear *l, int64_t rows, const float *x,
                       bool accumulate, float *y);
// dx is overwritten, or added to if `accumulate`; NULL: not computed.
void lw_linear_backward(lw_device *dev, const lw_params *params, const lw_linear *l, int64_t rows, const float *x,
                        const float *dy, bool accumulate, float *dx);

typedef struct lw_layernorm {
    int64_t d;
    int gain, bias;
} lw_layernorm;

// What the backward pass of a LayerNorm needs beside its input.
typedef struct lw_layernorm_buffers {
    float *y;           // (rows, d)
    float *mean, *rstd; // (rows)
} lw_layernorm_buffers;

lw_layernorm lw_layernorm_declare(lw_params *params, const char *name, int64_t d);
void lw_layernorm_layout(lw_arena *arena, int64_t rows, int64_t d, lw_layernorm_buffers *out);
void lw_layernorm_forward(lw_device *dev, const lw_params *params, const lw_layernorm *l, int64_t rows, const float *x,
                          lw_layernorm_buffers *b);
// dx accumulates; NULL: not computed.
void lw_layernorm_backward(lw_device *dev, const lw_params *params, const lw_layernorm *l, int64_t rows, const float *x,
                           const lw_layernorm_buffers *b, const float *dy, float *dx);

// x + W2 gelu(W1 LayerNorm(x)).
typedef struct lw_feed_forward {
    lw_layernorm norm;
    lw_linear up, down;
} lw_feed_forward;

typedef struct lw_feed_forward_buffers {
    lw_layernorm_buffers norm;
    float *up, *act; // (rows, ffn)
    float *d_up;     // (rows, ffn)
    float *d_norm;   // (rows, d)
} lw_feed_forward_buffers;

lw_feed_forward lw_feed_forward_declare(lw_params *params, const char *name, int64_t d, int64_t ffn);
void lw_feed_forward_layout(lw_arena *arena, const lw_feed_forward *f, int64_t rows, lw_feed_forward_buffers *out);
// y (rows, d) := x + f(x).
void lw_feed_forward_forward(lw_device *dev, const lw_params *params, const lw_feed_forward *f, int64_t rows,
                             const float *x, lw_feed_forward_buffers *b, float *y);
// d (rows, d): the gradient of y on entry, of x on return.
void lw_feed_forward_backward(lw_device *dev, const lw_params *params, const lw_feed_forward *f, int64_t rows,
                              const float *x, lw_feed_forward_buffers *b, float *d);

#endif
