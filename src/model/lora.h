// lora.h: low-rank updates of a frozen LLM's linear maps (Hu et al. 2021): y = x W^T + (alpha / r) (x A^T) B^T, where A
// (r, in) and B (out, r) are trained and W is not.
//
// All seven maps of a layer have one. The frozen weights of q, k, v and of gate, up are stacked, and so are their
// updates: A (parts r, in) holds the parts' A one below the other, B (out, r) has the rows of the stacked weight.
// A starts uniform in +-1/sqrt(in), as PEFT and torch's linear layers start it, B at 0: the model starts as it was.
//
// A and B are trained in f32 and multiplied in the type of the frozen weights; where that is not f32, all of them are
// copied once per pass. The sum over rows in their gradients is f32. Local.
#ifndef LW_LORA_H
#define LW_LORA_H

#include "device/arena.h"
#include "device/params.h"
#include "model/hf_config.h"

// The stacked maps of a layer.
typedef enum lw_lora_map { LW_LORA_QKV, LW_LORA_O, LW_LORA_GATE_UP, LW_LORA_DOWN, LW_LORA_MAPS } lw_lora_map;

enum { LW_LORA_PARTS = 3, LW_LORA_LINEARS = 7 }; // most parts of a map; parts of all maps

typedef struct lw_lora_shape {
    int64_t in, out; // out: of all parts
    int64_t part_count;
    int64_t parts[LW_LORA_PARTS]; // outputs of each
} lw_lora_shape;

// Of one of the maps of every layer.
lw_lora_shape lw_lora_shape_of(const lw_hf_config *config, lw_lora_map map);

typedef struct lw_lora {
    int64_t rank; // 0: none, and nothing else is set
    float scale;  // alpha / rank
    int64_t layers;
    lw_lora_shape shapes[LW_LORA_MAPS];
    int first; // A of the first layer's first map; then its B, and so on, map by map, layer by layer
} lw_lora;

// Declares A and B of the first `layers` layers: NAME.0.qkv.a, NAME.0.qkv.b, NAME.0.o.a, ... rank 0 declares nothing.
lw_lora lw_lora_declare(lw_params *params, const char *name, const lw_hf_config *config, int64_t layers, int64_t rank,
                        double alpha);

// Weights of A and B together.
int64_t lw_lora_elements(const lw_lora *lora);

typedef struct lw_lora_buffers {
    void *copy; // A and B in the operand type; NULL: they are f32
    void *u;    // x A^T of every map, which the gradient of B needs: (rows, parts r) each, map by map, layer by layer
    void *du;   // (rows, 3 r)
    int64_t rows, u_stride; // of the layout; elements of u per layer (0: not kept)
} lw_lora_buffers;

// keep: a backward pass follows. params: placed (lw_params_place).
void lw_lora_layout(lw_arena *arena, lw_device *dev, const lw_params *params, const lw_lora *lora, int64_t rows,
                    bool keep, lw_lora_buffers *out);

// Before the products of a pass.
void lw_lora_start(lw_device *dev, const lw_params *params, const lw_lora *lora, lw_lora_buffers *b);

// y (rows, out) of y_type += scale (x A^T) B^T; x (rows, in) of the frozen type.
void lw_lora_forward(lw_device *dev, const lw_params *params, const lw_lora *lora, int64_t layer, lw_lora_map map,
                     int64_t rows, const void *x, void *y, lw_dtype y_type, const lw_lora_buffers *b);

// dy (rows, out) and x (rows, in) of the frozen type. The gradients of A and B accumulate; dx (rows, in) of dx_type +=
// its part, NULL: not wanted.
void lw_lora_backward(lw_device *dev, const lw_params *params, const lw_lora *lora, int64_t layer, lw_lora_map map,
                      int64_t rows, const void *x, const void *dy, void *dx, lw_dtype dx_type,
                      const lw_lora_buffers *b);

#endif
