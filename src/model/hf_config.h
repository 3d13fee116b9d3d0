// hf_config.h: the config.json of a Hugging Face causal LLM as one validated struct.
//
// Supported are the families of the table in hf_config.c. Whatever this program would only approximate is refused with
// LW_ERR_UNSUPPORTED, naming file and key. Local.
#ifndef LW_HF_CONFIG_H
#define LW_HF_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"
#include "device/device.h"

typedef enum lw_rope_kind { LW_ROPE_DEFAULT, LW_ROPE_LINEAR, LW_ROPE_LLAMA3 } lw_rope_kind;

enum { LW_MAX_EOS = 8 };

typedef struct lw_hf_config {
    char model_type[16];     // of a family in hf_config.c
    int64_t d;               // hidden_size
    int64_t layers;          // num_hidden_layers
    int64_t heads, kv_heads; // num_attention_heads, num_key_value_heads (default: heads)
    int64_t head_dim;        // head_dim, or hidden_size / num_attention_heads
    int64_t ffn;             // intermediate_size
    int64_t vocab;           // vocab_size
    int64_t max_positions;   // max_position_embeddings
    float rms_eps;           // rms_norm_eps
    bool tied;               // tie_word_embeddings
    bool qkv_bias;           // attention_bias, or the family's rule
    bool o_bias;             // attention_bias, or none
    bool mlp_bias;           // mlp_bias, or none
    double rope_theta;
    lw_rope_kind rope_kind; // rope_scaling.rope_type ("type" in old files)
    double rope_factor;
    double rope_low_freq_factor, rope_high_freq_factor; // llama3
    double rope_original_max_positions;                 // llama3
    lw_dtype stored_dtype;                              // torch_dtype / dtype; informative
    int64_t bos_id;                                     // -1: none
    int64_t eos_id[LW_MAX_EOS];
    int eos_count;
} lw_hf_config;

// Reads DIR/config.json (eos ids also from DIR/generation_config.json where present).
lw_status lw_hf_config_read(const char *dir, lw_error *err, lw_hf_config *out);

// Inverse frequencies of RoPE with scaling applied, (head_dim / 2), as transformers' modeling_rope_utils computes
// them for "default", "linear" and "llama3".
void lw_hf_rope_inv_freq(const lw_hf_config *config, double *out);

// Parameters of the frozen model, counted from shapes: embedding, layers (all), final norm, lm_head (0 when tied).
typedef struct lw_hf_counts {
    int64_t embedding, per_layer, final_norm, lm_head, total;
} lw_hf_counts;
lw_hf_counts lw_hf_config_counts(const lw_hf_config *config);

#endif
