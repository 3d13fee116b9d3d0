// reader_byte.h: encoder kind `byte`: a learned embedding of the UTF-8 bytes and a bidirectional transformer over them.
// Trainable, f32. Local.
#ifndef LW_READER_BYTE_H
#define LW_READER_BYTE_H

#include "config/config.h"
#include "wire/encoder_batch.h"
#include "wire/transformer.h"

enum { LW_BYTE_VALUES = 256 };

typedef struct lw_reader_byte {
    int64_t width;
    int embedding; // (256, width)
    lw_transformer stack;
} lw_reader_byte;

lw_status lw_reader_byte_declare(const lw_config *config, lw_params *params, lw_error *err, lw_reader_byte *out);
lw_status lw_reader_byte_layout(lw_arena *arena, lw_device *dev, const lw_reader_byte *r,
                                const lw_encoder_limits *limits, lw_error *err, lw_transformer_buffers *out);
// x_out (tokens, width) of the uploaded batch.
void lw_reader_byte_forward(lw_device *dev, const lw_params *params, const lw_reader_byte *r,
                            const lw_encoder_batch *batch, lw_transformer_buffers *b, float *x_out);
// dx (tokens, width): the gradient of x_out, used up. Gradients of the parameters accumulate.
void lw_reader_byte_backward(lw_device *dev, const lw_params *params, const lw_reader_byte *r,
                             const lw_encoder_batch *batch, lw_transformer_buffers *b, float *dx);

#endif
