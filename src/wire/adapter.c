// adapter.c: latents -> soft tokens of one LLM, forward and backward.
#include "wire/adapter.h"

#include <stdio.h>

// Added to the mean square before the root. The mean square of soft tokens is far larger.
static const float LW_ADAPTER_EPS = 1e-6F;

lw_adapter lw_adapter_declare(lw_params *params, const char *name, int64_t d_z, int64_t hidden, int64_t d)
{
    char part[LW_PARAM_NAME_BYTES];
    lw_adapter a = {.d_z = d_z, .hidden = hidden, .d = d, .scale = 1.0F};
    snprintf(part, sizeof part, "adapter.%s.norm", name);
    a.norm = lw_layernorm_declare(params, part, d_z);
    snprintf(part, sizeof part, "adapter.%s.up", name);
    a.up = lw_linear_declare(params, part, d_z, hidden);
    snprintf(part, sizeof part, "adapter.%s.down", name);
    a.down = lw_linear_declare(params, part, hidden, d);
    snprintf(part, sizeof part, "adapter.%s.skip", name);
    a.skip = lw_linear_declare(params, part, d_z, d);
    lw_param gain = {.dims = {1, 0}, .init = lw_init_constant, .scale = 1.0};
    snprintf(gain.name, sizeof gain.name, "adapter.%s.gain", name);
    a.gain = lw_params_add(params, &gain);
    return a;
}

void lw_adapter_layout(lw_arena *arena, const lw_adapter *a, int64_t rows, int64_t more_rows, lw_adapter_buffers *out)
{
    lw_layernorm_layout(arena, rows, a->d_z, &out->norm);
    out->up = LW_TAKE(arena, rows * a->hidden, float);
    out->act = LW_TAKE(arena, rows * a->hidden, float);
    out->u = LW_TAKE(arena, rows * a->d, float);
    out->rstd = LW_TAKE(arena, rows, float);
    out->soft = LW_TAKE(arena, (rows + more_rows) * a->d, float);
    out->d_soft = LW_TAKE(arena, (rows + more_rows) * a->d, float);
    out->du = LW_TAKE(arena, rows * a->d, float);
    out->d_up = LW_TAKE(arena, rows * a->hidden, float);
    out->d_norm = LW_TAKE(arena, rows * a->d_z, float);
}

void lw_adapter_forward(lw_device *dev, const lw_params *params, const lw_adapter *a, int64_t rows, const float *z,
                        lw_adapter_buffers *b)
{
    lw_layernorm_forward(dev, params, &a->norm, rows, z, &b->norm);
    lw_linear_forward(dev, params, &a->up, rows, b->norm.y, false, b->up);
    dev->ops->gelu(dev, rows * a->hidden, b->up, b->act);
    lw_linear_forward(dev, params, &a->down, rows, b->act, false, b->u);
    lw_linear_forward(dev, params, &a->skip, rows, b->norm.y, true, b->u);
    dev->ops->rmsscale(dev, &(lw_rmsscale_args){.rows = rows,
                                                .d = a->d,
                                                .eps = LW_ADAPTER_EPS,
                                                .scale = a->scale,
                                                .gain = lw_param_at(params, a->gain),
                                                .x = b->u,
                                                .y = b->soft,
                                                .rstd = b->rstd});
}

void lw_adapter_backward(lw_device *dev, const lw_params *params, const lw_adapter *a, int64_t rows, const float *z,
                         lw_adapter_buffers *b, float *dz)
{
    dev->ops->rmsscale_backward(dev, &(lw_rmsscale_backward_args){.rows = rows,
                                                                  .d = a->d,
                                                                  .scale = a->scale,
                                                                  .gain = lw_param_at(params, a->gain),
                                                                  .x = b->u,
                                                                  .rstd = b->rstd,
                                                                  .dy = b->d_soft,
                                                                  .dx = b->du,
                                                                  .dgain = lw_grad_at(params, a->gain)});
    lw_linear_backward(dev, params, &a->down, rows, b->act, b->du, false, b->d_up);
    dev->ops->gelu_backward(dev, rows * a->hidden, b->up, b->d_up, b->d_up);
    lw_linear_backward(dev, params, &a->up, rows, b->norm.y, b->d_up, false, b->d_norm);
    lw_linear_backward(dev, params, &a->skip, rows, b->norm.y, b->du, true, b->d_norm);
    lw_layernorm_backward(dev, params, &a->norm, rows, z, &b->norm, b->d_norm, dz);
}
