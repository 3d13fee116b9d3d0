// reader_llm.h: encoder kind `llm`: the first layers of a frozen LLM, causal or bidirectional, with or without trained
// low-rank updates (model/lora.h), then a trained linear layer from its width to d_z.
//
// Texts are read in windows (windows.h), each with the begin-of-text token of the LLM's tokenizer in front where there
// is one. Local.
#ifndef LW_READER_LLM_H
#define LW_READER_LLM_H

#include "config/config.h"
#include "model/decoder.h"
#include "wire/encoder_backbone.h"
#include "wire/encoder_batch.h"
#include "wire/linear.h"

typedef struct lw_reader_llm {
    lw_hf_config config; // of the layers that are read
    bool bidirectional;
    int64_t window; // rows of a window at most, begin-of-text included
    int32_t bos;    // -1: none
    lw_lora lora;
    lw_linear project;         // d -> d_z
    const lw_decoder *decoder; // borrowed; set before the first pass
} lw_reader_llm;

typedef struct lw_reader_llm_buffers {
    lw_pass_limits limits;
    void *indices;      // device block of the packing
    lw_packing packing; // of the batch's windows; its host part owned
    lw_decoder_buffers pass;
    float *d_states; // (tokens, d); NULL without updates
} lw_reader_llm_buffers;

// LW_ERR_CONFIG where encoder.layers or encoder.window exceed what the LLM has.
lw_status lw_reader_llm_declare(const lw_config *config, const lw_encoder_backbone *backbone, lw_params *params,
                                lw_error *err, lw_reader_llm *out);

// Positions that windows of texts of at most `max_tokens` need.
int64_t lw_reader_llm_positions(const lw_reader_llm *r, int64_t max_tokens);

// mode LW_PASS_INFER: no backward pass follows.
lw_status lw_reader_llm_layout(lw_arena *arena, lw_device *dev, const lw_params *params, const lw_reader_llm *r,
                               lw_pass_mode mode, const lw_encoder_limits *limits, lw_error *err,
                               lw_reader_llm_buffers *out);
lw_status lw_reader_llm_start(lw_reader_llm_buffers *b, lw_error *err); // only the first call allocates
void lw_reader_llm_buffers_free(lw_reader_llm_buffers *b);

// Cuts the batch's texts into windows and enqueues the upload of what the device needs to know of them.
lw_status lw_reader_llm_upload(const lw_reader_llm *r, lw_device *dev, const lw_encoder_batch *batch, lw_error *err,
                               lw_reader_llm_buffers *b);
// x_out (tokens, d_z) of the uploaded batch.
void lw_reader_llm_forward(lw_device *dev, const lw_params *params, const lw_reader_llm *r, lw_reader_llm_buffers *b,
                           float *x_out);
// dx (tokens, d_z): the gradient of x_out. Gradients of the parameters accumulate.
void lw_reader_llm_backward(lw_device *dev, const lw_params *params, const lw_reader_llm *r, lw_reader_llm_buffers *b,
                            const float *dx);

#endif
