// lora.c: low-rank updates of the maps of a frozen LLM, forward and backward.
#include "model/lora.h"

#include <math.h>
#include <stdio.h>

static const char *const map_names[LW_LORA_MAPS] = {"qkv", "o", "gate_up", "down"};

// --- parameters

lw_lora_shape lw_lora_shape_of(const lw_hf_config *c, lw_lora_map map)
{
    int64_t q_width = c->heads * c->head_dim;
    int64_t kv_width = c->kv_heads * c->head_dim;
    switch (map) {
    case LW_LORA_QKV: return (lw_lora_shape){c->d, q_width + 2 * kv_width, 3, {q_width, kv_width, kv_width}};
    case LW_LORA_O: return (lw_lora_shape){q_width, c->d, 1, {c->d}};
    case LW_LORA_GATE_UP: return (lw_lora_shape){c->d, 2 * c->ffn, 2, {c->ffn, c->ffn}};
    case LW_LORA_DOWN: return (lw_lora_shape){c->ffn, c->d, 1, {c->d}};
    case LW_LORA_MAPS: break;
    }
    return (lw_lora_shape){0};
}

static void declare_map(const lw_lora *l, const char *name, int64_t layer, lw_lora_map map, lw_params *params)
{
    const lw_lora_shape *s = &l->shapes[map];
    lw_param a = {.dims = {s->part_count * l->rank, s->in},
                  .init = lw_init_uniform,
                  .scale = 1.0 / sqrt((double)s->in),
                  .decay = true};
    lw_param b = {.dims = {s->out, l->rank}, .init = lw_init_constant, .decay = true};
    snprintf(a.name, sizeof a.name, "%s.%lld.%s.a", name, (long long)layer, map_names[map]);
    snprintf(b.name, sizeof b.name, "%s.%lld.%s.b", name, (long long)layer, map_names[map]);
    lw_params_add(params, &a);
    lw_params_add(params, &b);
}

lw_lora lw_lora_declare(lw_params *params, const char *name, const lw_hf_config *config, int64_t layers, int64_t rank,
                        double alpha)
{
    lw_lora l = {.rank = rank, .layers = layers, .first = (int)params->count};
    if (rank == 0) {
        return l;
    }
    l.scale = (float)(alpha / (double)rank);
    for (int map = 0; map < LW_LORA_MAPS; map++) {
        l.shapes[map] = lw_lora_shape_of(config, (lw_lora_map)map);
    }
    for (int64_t i = 0; i < layers; i++) {
        for (int map = 0; map < LW_LORA_MAPS; map++) {
            declare_map(&l, name, i, (lw_lora_map)map, params);
        }
    }
    return l;
}

int64_t lw_lora_elements(const lw_lora *l)
{
    int64_t of_layer = 0;
    for (int map = 0; map < LW_LORA_MAPS; map++) {
        const lw_lora_shape *s = &l->shapes[map];
        of_layer += l->rank * (s->part_count * s->in + s->out);
    }
    return l->layers * of_layer;
}

static int index_a(const lw_lora *l, int64_t layer, lw_lora_map map)
{
    return l->first + 2 * ((int)layer * LW_LORA_MAPS + (int)map);
}

static int index_b(const lw_lora *l, int64_t layer, lw_lora_map map)
{
    return index_a(l, layer, map) + 1;
}

// A and B were declared one after another, all with weight decay, so they are one span of the flat buffer.
static int64_t span_first(const lw_params *params, const lw_lora *l)
{
    return params->list[l->first].offset;
}

static int64_t span_end(const lw_params *params, const lw_lora *l)
{
    const lw_param *last = &params->list[index_b(l, l->layers - 1, LW_LORA_DOWN)];
    return last->offset + last->elements;
}

static void *at(void *base, int64_t elements, lw_dtype type)
{
    return (unsigned char *)base + (size_t)elements * lw_dtype_bytes(type);
}

static const void *seen_at(const void *base, int64_t elements, lw_dtype type)
{
    return (const unsigned char *)base + (size_t)elements * lw_dtype_bytes(type);
}

// A tensor as an operand of a product.
static const void *operand(lw_device *dev, const lw_params *params, const lw_lora *l, int index,
                           const lw_lora_buffers *b)
{
    if (b->copy == NULL) {
        return lw_param_at(params, index);
    }
    return seen_at(b->copy, params->list[index].offset - span_first(params, l), dev->frozen_type);
}

// --- buffers

void lw_lora_layout(lw_arena *arena, lw_device *dev, const lw_params *params, const lw_lora *l, int64_t rows, bool keep,
                    lw_lora_buffers *out)
{
    size_t size = lw_dtype_bytes(dev->frozen_type);
    int64_t of_layer = LW_LORA_LINEARS * l->rank * rows;
    *out = (lw_lora_buffers){.rows = rows, .u_stride = keep ? of_layer : 0};
    if (l->rank == 0) {
        return;
    }
    out->copy =
        dev->frozen_type == LW_F32 ? NULL : lw_arena_take(arena, span_end(params, l) - span_first(params, l), size);
    out->u = lw_arena_take(arena, keep ? l->layers * of_layer : of_layer, size);
    out->du = keep ? lw_arena_take(arena, LW_LORA_PARTS * l->rank * rows, size) : NULL;
}

void lw_lora_start(lw_device *dev, const lw_params *params, const lw_lora *l, lw_lora_buffers *b)
{
    if (b->copy != NULL) {
        int64_t first = span_first(params, l);
        dev->ops->cast(dev, span_end(params, l) - first, params->param + first, LW_F32, b->copy, dev->frozen_type);
    }
}

static void *u_of(lw_device *dev, const lw_lora *l, int64_t layer, lw_lora_map map, const lw_lora_buffers *b)
{
    int64_t parts = 0;
    for (int before = 0; before < (int)map; before++) {
        parts += l->shapes[before].part_count;
    }
    return at(b->u, layer * b->u_stride + parts * l->rank * b->rows, dev->frozen_type);
}

// --- passes

void lw_lora_forward(lw_device *dev, const lw_params *params, const lw_lora *l, int64_t layer, lw_lora_map map,
                     int64_t rows, const void *x, void *y, lw_dtype y_type, const lw_lora_buffers *b)
{
    const lw_lora_shape *s = &l->shapes[map];
    lw_dtype type = dev->frozen_type;
    int64_t r = l->rank;
    int64_t width = s->part_count * r;
    void *u = u_of(dev, l, layer, map, b);
    const void *weight = operand(dev, params, l, index_b(l, layer, map), b);
    dev->ops->gemm(dev, &(lw_gemm){.trans_b = true,
                                   .m = rows,
                                   .n = width,
                                   .k = s->in,
                                   .alpha = 1.0F,
                                   .a = x,
                                   .b = operand(dev, params, l, index_a(l, layer, map), b),
                                   .c = u,
                                   .lda = s->in,
                                   .ldb = s->in,
                                   .ldc = width,
                                   .ab_type = type,
                                   .c_type = type});
    int64_t column = 0;
    for (int64_t part = 0; part < s->part_count; part++) {
        dev->ops->gemm(dev, &(lw_gemm){.trans_b = true,
                                       .m = rows,
                                       .n = s->parts[part],
                                       .k = r,
                                       .alpha = l->scale,
                                       .beta = 1.0F,
                                       .a = at(u, part * r, type),
                                       .b = seen_at(weight, column * r, type),
                                       .c = at(y, column, y_type),
                                       .lda = width,
                                       .ldb = r,
                                       .ldc = s->out,
                                       .ab_type = type,
                                       .c_type = y_type});
        column += s->parts[part];
    }
}

// The gradient of a part's B, and du of the part.
static void part_backward(lw_device *dev, const lw_params *params, const lw_lora *l, int64_t layer, lw_lora_map map,
                          int64_t rows, int64_t part, int64_t column, const void *dy, const lw_lora_buffers *b)
{
    const lw_lora_shape *s = &l->shapes[map];
    lw_dtype type = dev->frozen_type;
    int64_t r = l->rank;
    int64_t width = s->part_count * r;
    int index = index_b(l, layer, map);
    const void *dy_part = seen_at(dy, column, type);
    dev->ops->gemm(dev, &(lw_gemm){.trans_a = true,
                                   .m = s->parts[part],
                                   .n = r,
                                   .k = rows,
                                   .alpha = l->scale,
                                   .beta = 1.0F,
                                   .a = dy_part,
                                   .b = at(u_of(dev, l, layer, map, b), part * r, type),
                                   .c = lw_grad_at(params, index) + column * r,
                                   .lda = s->out,
                                   .ldb = width,
                                   .ldc = r,
                                   .ab_type = type,
                                   .c_type = LW_F32});
    dev->ops->gemm(dev, &(lw_gemm){.m = rows,
                                   .n = r,
                                   .k = s->parts[part],
                                   .alpha = l->scale,
                                   .a = dy_part,
                                   .b = seen_at(operand(dev, params, l, index, b), column * r, type),
                                   .c = at(b->du, part * r, type),
                                   .lda = s->out,
                                   .ldb = r,
                                   .ldc = width,
                                   .ab_type = type,
                                   .c_type = type});
}

void lw_lora_backward(lw_device *dev, const lw_params *params, const lw_lora *l, int64_t layer, lw_lora_map map,
                      int64_t rows, const void *x, const void *dy, void *dx, lw_dtype dx_type, const lw_lora_buffers *b)
{
    const lw_lora_shape *s = &l->shapes[map];
    lw_dtype type = dev->frozen_type;
    int64_t width = s->part_count * l->rank;
    int index = index_a(l, layer, map);
    int64_t column = 0;
    for (int64_t part = 0; part < s->part_count; part++) {
        part_backward(dev, params, l, layer, map, rows, part, column, dy, b);
        column += s->parts[part];
    }
    dev->ops->gemm(dev, &(lw_gemm){.trans_a = true,
                                   .m = width,
                                   .n = s->in,
                                   .k = rows,
                                   .alpha = 1.0F,
                                   .beta = 1.0F,
                                   .a = b->du,
                                   .b = x,
                                   .c = lw_grad_at(params, index),
                                   .lda = width,
                                   .ldb = s->in,
                                   .ldc = s->in,
                                   .ab_type = type,
                                   .c_type = LW_F32});
    if (dx != NULL) {
        dev->ops->gemm(dev, &(lw_gemm){.m = rows,
                                       .n = s->in,
                                       .k = width,
                                       .alpha = 1.0F,
                                       .beta = 1.0F,
                                       .a = b->du,
                                       .b = operand(dev, params, l, index, b),
                                       .c = dx,
                                       .lda = width,
                                       .ldb = s->in,
                                       .ldc = s->in,
                                       .ab_type = type,
                                       .c_type = dx_type});
    }
}
