// bert.h: a frozen encoder of the BERT family: forward pass alone, over packed sequences.
//
// Architecture: Devlin et al. 2019 (arXiv:1810.04805): LayerNorm behind each sum; names after transformers'
// modeling_bert. Written against device/device.h; weights of products have the device's frozen type, the residual
// stream is f32. All tokens are of type 0. All functions are Local.
#ifndef LW_BERT_H
#define LW_BERT_H

#include "device/arena.h"
#include "device/device.h"
#include "model/bert_config.h"
#include "model/frozen_model.h"
#include "model/packing.h"

typedef struct lw_bert lw_bert;

typedef struct lw_bert_options {
    int64_t layers; // the first so many; 0: all
    bool random;    // random weights of the shapes in config.json (for benchmarks); no weight file is read
    uint64_t seed;  // of the random weights
} lw_bert_options;

// Loads DIR/config.json and the weights, whose names may begin with "bert.". Messages name file and tensor.
lw_status lw_bert_load(lw_device *dev, const char *dir, const lw_bert_options *options, lw_error *err, lw_bert **out);
void lw_bert_destroy(lw_bert **bert);

const lw_bert_config *lw_bert_shapes(const lw_bert *bert); // of the layers that were loaded. For tests
uint64_t lw_bert_fingerprint(const lw_bert *bert);         // XXH3 of the weights as they are in the files
lw_frozen_figures lw_bert_load_figures(const lw_bert *bert);

// Device bytes of the frozen weights in `type`, without reading any: what lw_bert_load allocates. SIZE_MAX: too many.
size_t lw_bert_weight_bytes(const lw_bert_config *config, lw_dtype type);

// Buffers of a pass; nothing is kept between layers.
typedef struct lw_bert_buffers {
    float *x;           // (rows, d) residual stream; after the pass, the last hidden states
    float *sum;         // (rows, d) before a LayerNorm
    float *mean, *rstd; // (rows)
    void *operand;      // (rows, d) x as an operand; is x where the operand type is f32
    void *qkv;          // (rows, 3 d)
    void *attn;         // (rows, d)
    void *mlp;          // (rows, ffn)
    void *work;         // of attention
} lw_bert_buffers;

void lw_bert_buffers_layout(lw_arena *arena, lw_device *dev, const lw_bert_config *config, const lw_pass_limits *limits,
                            lw_bert_buffers *out);

// Runs the packed sequences of tokens (uploaded before; no soft tokens, no cache), of at most max_positions each,
// through the layers. Leaves the last hidden states in buffers->x.
void lw_bert_forward(const lw_bert *bert, const lw_packing *packing, lw_bert_buffers *buffers);

#endif
