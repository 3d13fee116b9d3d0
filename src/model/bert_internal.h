// bert_internal.h: the weights of a frozen BERT on the device; shared by bert.c and bert_load.c alone.
#ifndef LW_BERT_INTERNAL_H
#define LW_BERT_INTERNAL_H

#include "model/bert.h"
#include "model/frozen_model.h"

typedef struct lw_bert_norm {
    float *gain, *bias; // (d)
} lw_bert_norm;

// Products' weights have the device's frozen type, vectors are f32.
typedef struct lw_bert_layer {
    void *qkv; // (3 d, d): query, key, value stacked
    float *qkv_bias;
    void *o; // (d, d)
    float *o_bias;
    lw_bert_norm attn_norm;
    void *up; // (ffn, d)
    float *up_bias;
    void *down; // (d, ffn)
    float *down_bias;
    lw_bert_norm mlp_norm;
} lw_bert_layer;

struct lw_bert {
    lw_device *dev;
    lw_bert_config config;
    lw_frozen_model frozen;
    void *words;      // (vocab, d)
    float *positions; // (max_positions, d), with the vector of token type 0 added
    float *types;     // (types, d)
    lw_bert_norm norm;
    lw_bert_layer *layers;
};

#endif
