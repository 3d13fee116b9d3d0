// params.h: the trainable parameters, in ONE flat f32 buffer; gradients and Adam's moments have the same layout.
//
// Tensors are named views. Those with weight decay come first, and within each half those of the encoder before those
// of the adapters where they are declared in that order, so that AdamW is one call for each range of the same decay and
// rate, and everything else (all-reduce, clip, checkpoint) is one call. Local.
#ifndef LW_PARAMS_H
#define LW_PARAMS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/heartbeat.h"
#include "core/limits.h"
#include "device/device.h"

enum { LW_PARAM_NAME_BYTES = 96, LW_MAX_PARAM_RANGES = 80 };

// Which learning rate a tensor has: that of encoder and pooler, or that of LLM j's side of the wire, LW_RATE_ADAPTER +
// j.
enum { LW_RATE_ENCODER, LW_RATE_ADAPTER, LW_RATE_COUNT = LW_RATE_ADAPTER + LW_MAX_MODELS };
typedef int lw_rate;

typedef struct lw_param lw_param;

// The initial value of element j: a function of the seed, the tensor's name (as a random stream) and its declaration.
typedef float (*lw_param_init)(const lw_param *param, uint64_t seed, uint64_t stream, int64_t j);

float lw_init_normal(const lw_param *param, uint64_t seed, uint64_t stream, int64_t j);   // standard deviation `scale`
float lw_init_uniform(const lw_param *param, uint64_t seed, uint64_t stream, int64_t j);  // in +-`scale`
float lw_init_constant(const lw_param *param, uint64_t seed, uint64_t stream, int64_t j); // `scale`

struct lw_param {
    char name[LW_PARAM_NAME_BYTES];
    int64_t dims[2]; // rows, columns; columns 0: a vector
    lw_param_init init;
    double scale; // this and the next two: arguments of init
    double offsets[4];
    int64_t group;
    bool decay;   // AdamW's weight decay applies
    lw_rate rate; // LW_RATE_ENCODER, unless somebody says otherwise
    int64_t elements;
    int64_t offset; // from the start of the flat buffer, in elements; set by lw_params_place
};

// Neighbours in the flat buffer with the same decay and rate, padding included.
typedef struct lw_param_range {
    int64_t first, count; // elements
    bool decay;
    lw_rate rate;
} lw_param_range;

typedef struct lw_params {
    lw_param *list;
    int64_t count, capacity;
    bool incomplete;                            // there was no memory for a declaration
    int64_t elements;                           // of all
    int64_t decay_elements;                     // the first of them
    lw_param_range ranges[LW_MAX_PARAM_RANGES]; // of all elements, in their order
    int range_count;
    float *param, *grad, *m, *v; // (elements) device; set by the owner of the memory
} lw_params;

// Declares a tensor; returns its index, or -1 without memory: lw_params_place then says so, and nobody else needs to.
// `elements` and `offset` need not be set.
int lw_params_add(lw_params *params, const lw_param *declaration);
// Gives every declared tensor its offset: tensors keep the order of their declaration within each half. LW_ERR_INTERNAL
// when encoder and adapters alternate so often that there are more than LW_MAX_PARAM_RANGES ranges.
lw_status lw_params_place(lw_params *params, lw_error *err);
// Writes initial values for `seed` to host memory of `elements`. They depend on seed, name and shape alone.
void lw_params_init(const lw_params *params, uint64_t seed, float *host_out);
void lw_params_free(lw_params *params); // the list; the buffers are the owner's

// One named tensor inside a flat buffer.
typedef struct lw_flat_view {
    const char *name; // without the "param/" of the file; unique
    int rank;
    int64_t dims[LW_MAX_DIMS];
    int64_t offset; // of its first element in the flat buffer, in elements
} lw_flat_view;

// The flat buffers of the trainable part, in host memory; the pointers are borrowed. Elements that no view covers
// (padding) are neither written nor read.
typedef struct lw_flat_state {
    const lw_flat_view *views; // (view_count)
    int64_t view_count;
    int64_t elements; // of each buffer
    float *param;     // (elements)
    float *adam_m;    // (elements); both moments NULL: parameters alone, for loading to evaluate
    float *adam_v;    // (elements)
    // Gets a report while a checkpoint is verified and loaded, by the thread of the caller; none while one is written.
    lw_heartbeat heartbeat;
} lw_flat_state;

// Views of all parameters as checkpoints hold them; borrowed names. The caller frees *out.
lw_status lw_params_views(const lw_params *params, lw_error *err, lw_flat_view **out);

static inline float *lw_param_at(const lw_params *params, int index)
{
    return params->param + params->list[index].offset;
}
static inline float *lw_grad_at(const lw_params *params, int index)
{
    return params->grad + params->list[index].offset;
}

#endif
