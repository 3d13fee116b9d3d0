// transformer.h: a trainable stack of pre-norm layers, attention and feed-forward, over packed rows: the byte reader's
// self-attention and the pooler's cross-attention. f32. Local.
#ifndef LW_TRANSFORMER_H
#define LW_TRANSFORMER_H

#include "wire/attend.h"

enum { LW_MAX_STACK_LAYERS = 64 };

typedef struct lw_transformer_layer {
    lw_attend attend;
    lw_feed_forward ffn;
} lw_transformer_layer;

typedef struct lw_transformer {
    int64_t count;
    lw_transformer_layer layers[LW_MAX_STACK_LAYERS];
} lw_transformer;

typedef struct lw_transformer_layer_buffers {
    float *x, *mid; // (rows, d) input of the layer, and between attention and feed-forward
    lw_attend_buffers attend;
    lw_feed_forward_buffers ffn;
} lw_transformer_layer_buffers;

typedef struct lw_transformer_buffers {
    lw_transformer_layer_buffers *layers; // host array, owned
    float *cos_sin;                       // (positions, head_dim) rotary table; none without layers
    float *host_cos_sin;                  // the same on the host, owned; NULL before the start
    int64_t positions;
} lw_transformer_buffers;

typedef struct lw_transformer_shape {
    int64_t layers, d, d_states, heads, ffn;
    bool self;             // self-attention; else the states are given
    const double *offsets; // (4) as in lw_attend_declare
} lw_transformer_shape;

// Parameters "NAME.I.attend..." and "NAME.I.ffn...". Returns LW_ERR_CONFIG, which names `key`, beyond
// LW_MAX_STACK_LAYERS layers.
lw_status lw_transformer_declare(lw_params *params, const char *name, const char *key,
                                 const lw_transformer_shape *shape, lw_error *err, lw_transformer *out);
// max_position: the largest that rows will have, in tokens.
lw_status lw_transformer_layout(lw_arena *arena, lw_device *dev, const lw_transformer *t,
                                const lw_attend_limits *limits, int64_t max_position, lw_error *err,
                                lw_transformer_buffers *out);
// Fills the rotary table once the memory is there, and again when others have used it. Only the first call allocates.
lw_status lw_transformer_start(lw_device *dev, const lw_transformer *t, lw_transformer_buffers *b, lw_error *err);
void lw_transformer_buffers_free(lw_transformer_buffers *b);

// Where to write the input of the stack: the input of its first layer, or x_out if it has no layers.
static inline float *lw_transformer_input(const lw_transformer *t, const lw_transformer_buffers *b, float *x_out)
{
    return t->count > 0 ? b->layers[0].x : x_out;
}
// Computes x_out (q_rows, d) from the input. Sets rows->cos_sin. states (k_rows, d_states): NULL for self-attention.
void lw_transformer_forward(lw_device *dev, const lw_params *params, const lw_transformer *t,
                            const lw_attend_rows *rows, const float *states, lw_transformer_buffers *b, float *x_out);
// d (q_rows, d): gradient of the stack's output on entry, of its input on return. d_states accumulates, or is NULL.
void lw_transformer_backward(lw_device *dev, const lw_params *params, const lw_transformer *t,
                             const lw_attend_rows *rows, const float *states, lw_transformer_buffers *b, float *d,
                             float *d_states);

#endif
