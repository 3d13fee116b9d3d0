// params.h: the trainable parameters, in ONE flat f32 buffer; gradients and Adam's moments have the same layout.
//
// Tensors are named views. Those with weight decay come first, so that AdamW is two calls and everything else
// (all-reduce, clip, checkpoint) is one. Local.
#ifndef LW_PARAMS_H
#define LW_PARAMS_H

#include <stdbool.h>
#include <stdint.h>

#include "device.h"

enum { LW_PARAM_NAME_BYTES = 96 };

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
    bool decay;          // AdamW's weight decay applies
    int64_t elements;
    int64_t offset; // from the start of the flat buffer, in elements; set by lw_params_place
};

typedef struct lw_params {
    lw_param *list;
    int64_t count, capacity;
    int64_t elements;       // of all
    int64_t decay_elements; // the first of them
    float *param, *grad, *m, *v; // (elements) device; set by the owner of the memory
} lw_params;

// Declares a tensor; returns its index, or -1 without memory. `elements` and `offset` need not be set.
int lw_params_add(lw_params *params, const lw_param *declaration);
// Gives every declared tensor its offset.
void lw_params_place(lw_params *params);
// Writes initial values for `seed` to host memory of `elements`. They depend on seed, name and shape alone.
void lw_params_init(const lw_params *params, uint64_t seed, float *host_out);
void lw_params_free(lw_params *params); // the list; the buffers are the owner's

static inline float *lw_param_at(const lw_params *params, int index)
{
    return params->param + params->list[index].offset;
}
static inline float *lw_grad_at(const lw_params *params, int index)
{
    return params->grad + params->list[index].offset;
}

#endif
