// bert_config.h: the config.json of a Hugging Face model of the BERT family (BERT, MiniLM, BGE, E5, GTE) as one
// validated struct.
//
// Supported: model_type "bert" with absolute positions. Whatever this program would only approximate is refused with
// LW_ERR_UNSUPPORTED, naming file and key. Local.
#ifndef LW_BERT_CONFIG_H
#define LW_BERT_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

typedef struct lw_bert_config {
    int64_t d;             // hidden_size
    int64_t layers;        // num_hidden_layers
    int64_t heads;         // num_attention_heads
    int64_t head_dim;      // hidden_size / num_attention_heads
    int64_t ffn;           // intermediate_size
    int64_t vocab;         // vocab_size
    int64_t max_positions; // max_position_embeddings
    int64_t types;         // type_vocab_size; tokens are of type 0
    float eps;             // layer_norm_eps
    bool gelu_erf;         // hidden_act: "gelu", or "gelu_new" and "gelu_pytorch_tanh"
} lw_bert_config;

lw_status lw_bert_config_read(const char *dir, lw_error *err, lw_bert_config *out);

// The first `layers` layers; 0: all.
lw_bert_config lw_bert_config_first(const lw_bert_config *config, int64_t layers);

int64_t lw_bert_config_parameters(const lw_bert_config *config); // of the encoder, without pooler and heads

#endif
