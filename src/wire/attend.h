// attend.h: multi-head attention with a residual connection, as encoder and pooler use it:
//   y = x + Wo attention(Wq LayerNorm(x), Wk s, Wv s)
// where the states s are LayerNorm(x) itself (self-attention) or given (cross-attention). Bidirectional, packed, with
// rotary positions on queries and keys. f32. Local.
#ifndef LW_ATTEND_H
#define LW_ATTEND_H

#include "wire/linear.h"

// Base of the rotary frequencies of encoder and pooler. It is small, since positions of neighbouring bytes have to
// differ.
#define LW_ENCODER_ROPE_THETA 100.0

// The angle per state of the i-th of `half` rotary pairs.
double lw_attend_frequency(int64_t i, int64_t half);

typedef struct lw_attend {
    int64_t d, d_states, heads, head_dim;
    bool self;
    lw_layernorm norm;
    lw_linear q, k, v, o;
} lw_attend;

// The packed rows; all pointers are to the device.
typedef struct lw_attend_rows {
    int64_t sequences, q_rows, k_rows, max_q, max_k;
    const int32_t *q_start, *k_start, *k_len; // as in lw_attention
    const int32_t *q_position, *k_position;   // (q_rows), (k_rows), in LW_POSITION_STEPS of a state
    const float *cos_sin;                     // rotary table
} lw_attend_rows;

typedef struct lw_attend_buffers {
    lw_layernorm_buffers norm; // (q_rows, d)
    float *q, *attn;           // (q_rows, d)
    float *k, *v;              // (k_rows, d)
    float *lse;                // (q_rows, heads)
    float *d_attn, *dq, *dk, *dv, *d_norm;
    void *work;
} lw_attend_buffers;

// The most rows of a pass, by which buffers are sized.
typedef struct lw_attend_limits {
    int64_t sequences, q_rows, k_rows, max_q, max_k;
} lw_attend_limits;

// Before training, head h looks at the state that is offsets[h % 4] states from its own position: the biases of its
// query and key make the rotary score peak there. Training need not discover the alignment.
lw_attend lw_attend_declare(lw_params *params, const char *name, int64_t d, int64_t d_states, int64_t heads, bool self,
                            const double offsets[4]);
void lw_attend_layout(lw_arena *arena, lw_device *dev, const lw_attend *a, const lw_attend_limits *limits,
                      lw_attend_buffers *out);
// states (k_rows, d_states): NULL for self-attention. y (q_rows, d).
void lw_attend_forward(lw_device *dev, const lw_params *params, const lw_attend *a, const lw_attend_rows *rows,
                       const float *x, const float *states, lw_attend_buffers *b, float *y);
// d (q_rows, d): the gradient of y on entry, of x on return. d_states accumulates; NULL for self-attention.
void lw_attend_backward(lw_device *dev, const lw_params *params, const lw_attend *a, const lw_attend_rows *rows,
                        const float *x, const float *states, lw_attend_buffers *b, float *d, float *d_states);

#endif
