// params.c: declares the trainable tensors, places them in the flat buffer and gives them initial values.
#include "device/params.h"

#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "core/random.h"

// Every tensor starts on a boundary of 64 bytes, so that the device may use wide loads on each.
enum { LW_PARAM_ALIGN_ELEMENTS = 16 };

float lw_init_normal(const lw_param *param, uint64_t seed, uint64_t stream, int64_t j)
{
    return (float)(param->scale * lw_random_normal(seed, stream, (uint64_t)j));
}

float lw_init_uniform(const lw_param *param, uint64_t seed, uint64_t stream, int64_t j)
{
    return (float)(param->scale * (2.0 * lw_random_uniform(seed, stream, (uint64_t)j) - 1.0));
}

float lw_init_constant(const lw_param *param, uint64_t seed, uint64_t stream, int64_t j)
{
    (void)seed;
    (void)stream;
    (void)j;
    return (float)param->scale;
}

int lw_params_add(lw_params *params, const lw_param *declaration)
{
    if (params->count == params->capacity) {
        int64_t capacity = params->capacity == 0 ? 32 : 2 * params->capacity;
        lw_param *list = realloc(params->list, (size_t)capacity * sizeof *list);
        if (list == NULL) {
            params->incomplete = true;
            return -1;
        }
        params->list = list;
        params->capacity = capacity;
    }
    lw_param *p = &params->list[params->count];
    *p = *declaration;
    p->elements = p->dims[0] * (p->dims[1] == 0 ? 1 : p->dims[1]);
    return (int)params->count++;
}

static lw_status extend_ranges(lw_params *params, const lw_param *p, int64_t end, lw_error *err)
{
    lw_param_range *last = params->range_count > 0 ? &params->ranges[params->range_count - 1] : NULL;
    if (last == NULL || last->decay != p->decay || last->rate != p->rate) {
        if (params->range_count == LW_MAX_PARAM_RANGES) {
            return lw_fail(err, LW_ERR_INTERNAL, "the parameters change their learning rate too often");
        }
        last = &params->ranges[params->range_count++];
        *last = (lw_param_range){.first = p->offset, .decay = p->decay, .rate = p->rate};
    }
    last->count = end - last->first;
    return LW_OK;
}

lw_status lw_params_place(lw_params *params, lw_error *err)
{
    int64_t offset = 0;
    if (params->incomplete) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the table of parameters");
    }
    params->range_count = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t i = 0; i < params->count; i++) {
            lw_param *p = &params->list[i];
            if (p->decay == (pass == 0)) {
                p->offset = offset;
                offset +=
                    (p->elements + LW_PARAM_ALIGN_ELEMENTS - 1) / LW_PARAM_ALIGN_ELEMENTS * LW_PARAM_ALIGN_ELEMENTS;
                LW_TRY(extend_ranges(params, p, offset, err));
            }
        }
        if (pass == 0) {
            params->decay_elements = offset;
        }
    }
    params->elements = offset;
    return LW_OK;
}

void lw_params_init(const lw_params *params, uint64_t seed, float *host_out)
{
    memset(host_out, 0, (size_t)params->elements * sizeof *host_out);
    for (int64_t i = 0; i < params->count; i++) {
        const lw_param *p = &params->list[i];
        uint64_t stream = lw_xxh3(p->name, strlen(p->name));
        for (int64_t j = 0; j < p->elements; j++) {
            host_out[p->offset + j] = p->init(p, seed, stream, j);
        }
    }
}

lw_status lw_params_views(const lw_params *p, lw_error *err, lw_flat_view **out)
{
    lw_flat_view *views = calloc((size_t)p->count, sizeof *views);
    if (views == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the table of parameters");
    }
    for (int64_t i = 0; i < p->count; i++) {
        const lw_param *q = &p->list[i];
        views[i] = (lw_flat_view){
            .name = q->name, .rank = q->dims[1] == 0 ? 1 : 2, .dims = {q->dims[0], q->dims[1]}, .offset = q->offset};
    }
    *out = views;
    return LW_OK;
}

void lw_params_free(lw_params *params)
{
    free(params->list);
    *params = (lw_params){0};
}
