// reader_bert.h: encoder kind `bert`: a frozen BERT, then a trained linear layer from its width to d_z.
//
// Texts are read in windows (windows.h), each as [CLS] ... [SEP]. Nothing goes back into the BERT. Local.
#ifndef LW_READER_BERT_H
#define LW_READER_BERT_H

#include "config/config.h"
#include "model/bert.h"
#include "wire/encoder_backbone.h"
#include "wire/linear.h"
#include "wire/windows.h"

typedef struct lw_reader_bert {
    lw_bert_config config; // of the layers that are read; layers 0: another kind
    lw_windows windows;
    lw_linear project;   // d -> d_z
    const lw_bert *bert; // borrowed; set before the first pass
} lw_reader_bert;

typedef struct lw_reader_bert_buffers {
    lw_pass_limits limits;
    void *indices;      // device block of the packing
    lw_packing packing; // of the batch's windows; its host part owned
    lw_bert_buffers pass;
    float *states; // (tokens, d)
} lw_reader_bert_buffers;

// LW_ERR_CONFIG where encoder.layers or encoder.window exceed what the BERT has.
lw_status lw_reader_bert_declare(const lw_config *config, const lw_encoder_backbone *backbone, lw_params *params,
                                 lw_error *err, lw_reader_bert *out);

void lw_reader_bert_layout(lw_arena *arena, lw_device *dev, const lw_reader_bert *r, const lw_encoder_limits *limits,
                           lw_reader_bert_buffers *out);
lw_status lw_reader_bert_start(lw_reader_bert_buffers *b, lw_error *err); // only the first call allocates
void lw_reader_bert_buffers_free(lw_reader_bert_buffers *b);

// Cuts the batch's texts into windows and enqueues the upload of what the device needs to know of them.
lw_status lw_reader_bert_upload(const lw_reader_bert *r, lw_device *dev, const lw_encoder_batch *batch, lw_error *err,
                                lw_reader_bert_buffers *b);
// x_out (tokens, d_z) of the uploaded batch.
void lw_reader_bert_forward(lw_device *dev, const lw_params *params, const lw_reader_bert *r, lw_reader_bert_buffers *b,
                            float *x_out);
// dx (tokens, d_z): the gradient of x_out. Gradients of the parameters accumulate.
void lw_reader_bert_backward(lw_device *dev, const lw_params *params, const lw_reader_bert *r,
                             lw_reader_bert_buffers *b, const float *dx);

#endif
