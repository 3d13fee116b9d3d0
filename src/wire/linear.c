// linear.c: trained linear maps, LayerNorm and feed-forward, forward and backward.
#include "wire/linear.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

// The default of Hugging Face's transformers for LayerNorm.
static const float LW_LAYERNORM_EPS = 1e-5F;

static lw_param named(const char *name, const char *suffix, lw_param declaration)
{
    snprintf(declaration.name, sizeof declaration.name, "%s.%s", name, suffix);
    return declaration;
}

lw_linear lw_linear_declare(lw_params *params, const char *name, int64_t in, int64_t out)
{
    lw_param weight =
        named(name, "weight",
              (lw_param){.dims = {out, in}, .init = lw_init_normal, .scale = 1.0 / sqrt((double)in), .decay = true});
    lw_param bias = named(name, "bias", (lw_param){.dims = {out, 0}, .init = lw_init_constant});
    lw_linear l = {.in = in, .out = out};
    l.weight = lw_params_add(params, &weight);
    l.bias = lw_params_add(params, &bias);
    return l;
}

void lw_linear_forward(lw_device *dev, const lw_params *params, const lw_linear *l, int64_t rows, const float *x,
                       bool accumulate, float *y)
{
    dev->ops->gemm(dev, &(lw_gemm){.trans_b = true,
                                   .m = rows,
                                   .n = l->out,
                                   .k = l->in,
                                   .alpha = 1.0F,
                                   .beta = accumulate ? 1.0F : 0.0F,
                                   .a = x,
                                   .b = lw_param_at(params, l->weight),
                                   .c = y,
                                   .lda = l->in,
                                   .ldb = l->in,
                                   .ldc = l->out,
                                   .bias = lw_param_at(params, l->bias)});
}

void lw_linear_backward(lw_device *dev, const lw_params *params, const lw_linear *l, int64_t rows, const float *x,
                        const float *dy, bool accumulate, float *dx)
{
    if (dx != NULL) {
        dev->ops->gemm(dev, &(lw_gemm){.m = rows,
                                       .n = l->in,
                                       .k = l->out,
                                       .alpha = 1.0F,
                                       .beta = accumulate ? 1.0F : 0.0F,
                                       .a = dy,
                                       .b = lw_param_at(params, l->weight),
                                       .c = dx,
                                       .lda = l->out,
                                       .ldb = l->in,
                                       .ldc = l->in});
    }
    dev->ops->gemm(dev, &(lw_gemm){.trans_a = true,
                                   .m = l->out,
                                   .n = l->in,
                                   .k = rows,
                                   .alpha = 1.0F,
                                   .beta = 1.0F,
                                   .a = dy,
                                   .b = x,
                                   .c = lw_grad_at(params, l->weight),
                                   .lda = l->out,
                                   .ldb = l->in,
                                   .ldc = l->in});
    dev->ops->column_sum(dev, rows, l->out, dy, lw_grad_at(params, l->bias));
}

lw_layernorm lw_layernorm_declare(lw_params *params, const char *name, int64_t d)
{
    lw_param gain = named(name, "weight", (lw_param){.dims = {d, 0}, .init = lw_init_constant, .scale = 1.0});
    lw_param bias = named(name, "bias", (lw_param){.dims = {d, 0}, .init = lw_init_constant});
    lw_layernorm l = {.d = d};
    l.gain = lw_params_add(params, &gain);
    l.bias = lw_params_add(params, &bias);
    return l;
}

void lw_layernorm_layout(lw_arena *arena, int64_t rows, int64_t d, lw_layernorm_buffers *out)
{
    out->y = LW_TAKE(arena, rows * d, float);
    out->mean = LW_TAKE(arena, rows, float);
    out->rstd = LW_TAKE(arena, rows, float);
}

void lw_layernorm_forward(lw_device *dev, const lw_params *params, const lw_layernorm *l, int64_t rows, const float *x,
                          lw_layernorm_buffers *b)
{
    dev->ops->layernorm(dev, &(lw_layernorm_args){.rows = rows,
                                                  .d = l->d,
                                                  .eps = LW_LAYERNORM_EPS,
                                                  .x = x,
                                                  .g = lw_param_at(params, l->gain),
                                                  .b = lw_param_at(params, l->bias),
                                                  .y = b->y,
                                                  .mean = b->mean,
                                                  .rstd = b->rstd});
}

void lw_layernorm_backward(lw_device *dev, const lw_params *params, const lw_layernorm *l, int64_t rows, const float *x,
                           const lw_layernorm_buffers *b, const float *dy, float *dx)
{
    dev->ops->layernorm_backward(dev, &(lw_layernorm_backward_args){.rows = rows,
                                                                    .d = l->d,
                                                                    .x = x,
                                                                    .g = lw_param_at(params, l->gain),
                                                                    .mean = b->mean,
                                                                    .rstd = b->rstd,
                                                                    .dy = dy,
                                                                    .dx = dx,
                                                                    .dg = lw_grad_at(params, l->gain),
                                                                    .db = lw_grad_at(params, l->bias)});
}

lw_feed_forward lw_feed_forward_declare(lw_params *params, const char *name, int64_t d, int64_t ffn)
{
    char part[LW_PARAM_NAME_BYTES];
    lw_feed_forward f;
    snprintf(part, sizeof part, "%s.norm", name);
    f.norm = lw_layernorm_declare(params, part, d);
    snprintf(part, sizeof part, "%s.up", name);
    f.up = lw_linear_declare(params, part, d, ffn);
    snprintf(part, sizeof part, "%s.down", name);
    f.down = lw_linear_declare(params, part, ffn, d);
    return f;
}

void lw_feed_forward_layout(lw_arena *arena, const lw_feed_forward *f, int64_t rows, lw_feed_forward_buffers *out)
{
    lw_layernorm_layout(arena, rows, f->norm.d, &out->norm);
    out->up = LW_TAKE(arena, rows * f->up.out, float);
    out->act = LW_TAKE(arena, rows * f->up.out, float);
    out->d_up = LW_TAKE(arena, rows * f->up.out, float);
    out->d_norm = LW_TAKE(arena, rows * f->norm.d, float);
}

void lw_feed_forward_forward(lw_device *dev, const lw_params *params, const lw_feed_forward *f, int64_t rows,
                             const float *x, lw_feed_forward_buffers *b, float *y)
{
    lw_layernorm_forward(dev, params, &f->norm, rows, x, &b->norm);
    lw_linear_forward(dev, params, &f->up, rows, b->norm.y, false, b->up);
    dev->ops->gelu(dev, rows * f->up.out, b->up, b->act);
    dev->ops->copy(dev, x, (size_t)(rows * f->norm.d) * sizeof *x, y);
    lw_linear_forward(dev, params, &f->down, rows, b->act, true, y);
}

void lw_feed_forward_backward(lw_device *dev, const lw_params *params, const lw_feed_forward *f, int64_t rows,
                              const float *x, lw_feed_forward_buffers *b, float *d)
{
    lw_linear_backward(dev, params, &f->down, rows, b->act, d, false, b->d_up);
    dev->ops->gelu_backward(dev, rows * f->up.out, b->up, b->d_up, b->d_up);
    lw_linear_backward(dev, params, &f->up, rows, b->norm.y, b->d_up, false, b->d_norm);
    lw_layernorm_backward(dev, params, &f->norm, rows, x, &b->norm, b->d_norm, d);
}
