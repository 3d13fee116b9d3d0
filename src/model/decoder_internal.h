// decoder_internal.h: the weights of a frozen LLM on the device, and the parts of a pass; shared by decoder*.c alone.
#ifndef LW_DECODER_INTERNAL_H
#define LW_DECODER_INTERNAL_H

#include "model/decoder.h"
#include "model/frozen_model.h"

// Products' weights have the device's frozen type, vectors are f32. NULL where a model has no bias.
typedef struct lw_decoder_layer {
    float *attn_norm, *mlp_norm; // (d)
    void *qkv;                   // (qkv_width, d): q_proj, k_proj, v_proj stacked
    float *qkv_bias;
    void *o; // (d, heads head_dim)
    float *o_bias;
    void *gate_up; // (2 ffn, d): gate_proj, up_proj stacked
    float *gate_up_bias;
    void *down; // (d, ffn)
    float *down_bias;
} lw_decoder_layer;

struct lw_decoder {
    lw_device *dev;
    lw_hf_config config;
    int64_t qkv_width; // lw_decoder_qkv_width
    int64_t max_positions;
    lw_frozen_model frozen;
    void *embedding;   // (vocab, d)
    void *lm_head;     // (vocab, d); the embedding when tied
    float *final_norm; // (d)
    float *cos_sin;    // (max_positions, head_dim / 2, 2)
    lw_decoder_layer *layers;
    float embedding_rms;
};

int64_t lw_decoder_qkv_width(const lw_hf_config *config); // (heads + 2 kv_heads) head_dim (decoder_buffers.c)

// --- one layer of a pass (decoder_layer.c)

typedef struct lw_layer_run {
    const lw_decoder *m;
    const lw_packing *p;
    const lw_kv_cache *cache; // or NULL
    const lw_params *params;  // of the pass's updates; NULL without any
    lw_decoder_buffers *b;
} lw_layer_run;

// From the layer's x_in to the next one's, or to x_out.
void lw_decoder_layer_forward(const lw_layer_run *run, int64_t layer);
// b->dx and b->dx_operand hold the gradient of the layer's output; of its input on return. That of the first layer is
// left out where no soft token asks for it.
void lw_decoder_layer_backward(const lw_layer_run *run, int64_t layer);

// The largest descriptor that a pass can have, for the size of the work space (decoder_buffers.c).
lw_attention lw_decoder_attention_limits(const lw_hf_config *config, const lw_decoder_pass *pass,
                                         const lw_pass_limits *limits, lw_dtype type);

#endif
