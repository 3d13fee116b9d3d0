// decoder_internal.h: the weights of a frozen LLM on the device; shared by decoder.c and decoder_load.c alone.
#ifndef LW_DECODER_INTERNAL_H
#define LW_DECODER_INTERNAL_H

#include "decoder.h"

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
    int64_t qkv_width; // (heads + 2 kv_heads) head_dim
    int64_t max_positions;
    lw_arena arena;
    void *embedding;   // (vocab, d)
    void *lm_head;     // (vocab, d); the embedding when tied
    float *final_norm; // (d)
    float *cos_sin;    // (max_positions, head_dim / 2, 2)
    lw_decoder_layer *layers;
    float embedding_rms;
    lw_decoder_loaded loaded;
    uint64_t fingerprint;
};

#endif
