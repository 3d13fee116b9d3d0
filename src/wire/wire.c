// wire.c: the trainable model: declaration, layout and initial values of its parameters, and one update.
#include "wire/wire.h"

#include <stdio.h>
#include <stdlib.h>

static int declare_task(lw_params *params, const char *name, int64_t d)
{
    lw_param task = {.dims = {LW_TASK_TOKENS, d}, .init = lw_init_normal, .scale = 1.0};
    snprintf(task.name, sizeof task.name, "task.%s", name);
    return lw_params_add(params, &task);
}

void lw_wire_set_embedding_rms(lw_wire *wire, int64_t j, float rms)
{
    wire->adapters[j].scale = rms;
    if (wire->task[j] >= 0) {
        wire->params.list[wire->task[j]].scale = (double)rms;
    }
}

_Static_assert(LW_RATE_COUNT == LW_RATE_ADAPTER + LW_MAX_MODELS, "a rate for each LLM");

// Tensors from `first` on belong to the side of LLM j.
static void set_rate(lw_wire *wire, int64_t first, int64_t j)
{
    for (int64_t i = first; i < wire->params.count; i++) {
        wire->params.list[i].rate = LW_RATE_ADAPTER + (lw_rate)j;
    }
}

lw_status lw_wire_declare(const lw_config *config, const int64_t *d, const lw_backbone *backbone, lw_error *err,
                          lw_wire *out)
{
    *out = (lw_wire){.llm_count = config->model_count};
    lw_status status = lw_encoder_declare(config, backbone, &out->params, err, &out->encoder);
    for (int64_t j = 0; j < config->model_count && status == LW_OK; j++) {
        int64_t first = out->params.count;
        out->adapters[j] =
            lw_adapter_declare(&out->params, config->models[j].name, config->wire.d_z, config->adapter.hidden, d[j]);
        set_rate(out, first, j);
    }
    for (int64_t j = 0; j < config->model_count && status == LW_OK; j++) {
        int64_t first = out->params.count;
        out->task[j] = lw_config_reads_text(config) ? declare_task(&out->params, config->models[j].name, d[j]) : -1;
        set_rate(out, first, j);
    }
    if (status == LW_OK) {
        status = lw_params_place(&out->params, err);
    }
    if (status != LW_OK) {
        lw_wire_free(out);
        return status;
    }
    return LW_OK;
}

void lw_wire_free(lw_wire *wire)
{
    lw_encoder_free(&wire->encoder);
    lw_params_free(&wire->params);
    *wire = (lw_wire){0};
}

void lw_wire_layout(lw_arena *arena, bool optimizer, lw_wire *wire)
{
    lw_params *p = &wire->params;
    wire->reduce_elements = p->elements + LW_STAT_COUNT;
    p->param = LW_TAKE(arena, p->elements, float);
    p->grad = LW_TAKE(arena, wire->reduce_elements, float);
    wire->stats = p->grad != NULL ? p->grad + p->elements : NULL;
    p->m = optimizer ? LW_TAKE(arena, p->elements, float) : NULL;
    p->v = optimizer ? LW_TAKE(arena, p->elements, float) : NULL;
    wire->sqnorm = LW_TAKE(arena, 1, float);
    wire->zeros = LW_TAKE(arena, LW_STAT_COUNT, float);
}

lw_status lw_wire_init(lw_device *dev, lw_wire *wire, uint64_t seed, lw_error *err)
{
    lw_params *p = &wire->params;
    size_t bytes = (size_t)p->elements * sizeof(float);
    float *host = malloc(bytes);
    if (host == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the initial parameters");
    }
    lw_params_init(p, seed, host);
    dev->ops->upload(dev, host, bytes, p->param);
    free(host);
    dev->ops->zero(dev, (size_t)wire->reduce_elements * sizeof(float), p->grad);
    if (p->m != NULL) {
        dev->ops->zero(dev, bytes, p->m);
        dev->ops->zero(dev, bytes, p->v);
    }
    dev->ops->zero(dev, LW_STAT_COUNT * sizeof(float), wire->zeros);
    return dev->ops->sync(dev, err);
}

void lw_wire_update(lw_device *dev, lw_wire *wire, const lw_update *u)
{
    const lw_device_ops *ops = dev->ops;
    lw_params *p = &wire->params;
    for (int i = 0; i < p->range_count; i++) {
        const lw_param_range *r = &p->ranges[i];
        if (u->rate[r->rate].lr == 0.0) {
            ops->zero(dev, (size_t)r->count * sizeof(float), p->grad + r->first);
        }
    }
    ops->sqnorm(dev, p->elements, p->grad, LW_F32, wire->sqnorm);
    // 0 * x is NaN exactly if x is not finite, so a loss that overflowed prevents the update as a gradient would.
    ops->dot(dev, LW_STAT_LOSSES, wire->stats, wire->zeros, wire->sqnorm);
    for (int i = 0; i < p->range_count; i++) {
        const lw_param_range *r = &p->ranges[i];
        const lw_update_rate *rate = &u->rate[r->rate];
        const lw_adamw a = {.n = r->count,
                            .lr = (float)rate->lr,
                            .beta1 = (float)u->beta1,
                            .beta2 = (float)u->beta2,
                            .eps = (float)u->eps,
                            .step = rate->step,
                            .clip = (float)u->clip,
                            .grad_sqnorm = wire->sqnorm,
                            .weight_decay = r->decay ? (float)u->weight_decay : 0.0F,
                            .param = p->param + r->first,
                            .grad = p->grad + r->first,
                            .m = p->m + r->first,
                            .v = p->v + r->first};
        if (rate->lr != 0.0) {
            ops->adamw(dev, &a);
        }
    }
}
