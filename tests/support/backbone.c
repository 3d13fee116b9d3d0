// backbone.c: opens a model of tests/parity/fixtures as the backbone of an encoder.
#include "backbone.h"
#include "kernels/devices.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(lw_status status, const lw_error *err, const char *what)
{
    if (status != LW_OK) {
        printf("FAILED: %s: %s\n", what, err->text);
        exit(1);
    }
}

void *test_room(int64_t count, size_t size)
{
    void *memory = calloc((size_t)count + 1, size);
    if (memory == NULL) {
        printf("FAILED: no memory\n");
        exit(1);
    }
    return memory;
}

// NaN in every type: what is read must have been written.
static void poison(lw_device *dev, const lw_arena *arena)
{
    unsigned char *host = test_room((int64_t)arena->size_bytes, 1);
    memset(host, 0xFF, arena->size_bytes);
    dev->ops->upload(dev, host, arena->size_bytes, arena->base);
    free(host);
}

static void place_params(backbone *b)
{
    lw_error err = {{0}};
    int64_t n = b->params.elements;
    lw_arena arena = lw_arena_measure();
    LW_TAKE(&arena, n, float);
    LW_TAKE(&arena, n, float);
    must(lw_arena_alloc(b->dev, &arena, "parameters", &err, &b->params_memory), &err, "memory of parameters");
    arena = b->params_memory;
    b->params.param = LW_TAKE(&arena, n, float);
    b->params.grad = LW_TAKE(&arena, n, float);
    b->dev->ops->zero(b->dev, b->params_memory.size_bytes, b->params_memory.base);
}

static void lay_out(backbone *b, lw_arena *arena, const lw_pass_limits *limits)
{
    lw_error err = {{0}};
    lw_decoder_buffers_free(&b->buffers);
    b->indices = lw_arena_take(arena, (int64_t)lw_packing_device_bytes(limits), 1);
    must(lw_decoder_pass_layout(arena, b->dev, lw_decoder_config(b->decoder), &b->params, &b->pass, limits, &err,
                                &b->buffers),
         &err, "layout");
    b->d_states = LW_TAKE(arena, limits->rows * lw_decoder_config(b->decoder)->d, float);
}

void backbone_open(backbone *b, const backbone_options *o, const int32_t *ids, const int64_t *lengths,
                   int64_t sequences)
{
    lw_error err = {{0}};
    *b = (backbone){.pass = {.mode = o->mode, .layers = o->layers, .bidirectional = o->bidirectional, .states = true}};
    lw_pass_limits limits = {.sequences = sequences};
    for (int64_t s = 0; s < sequences; s++) {
        limits.rows += lengths[s];
        limits.max_len = lengths[s] > limits.max_len ? lengths[s] : limits.max_len;
    }
    limits.supervised = limits.rows;
    must(lw_device_open(o->device, 0, 1, &err, &b->dev), &err, "device");
    lw_decoder_options load = {.max_positions = limits.max_len, .backbone = true, .layers = o->layers};
    must(lw_decoder_load(b->dev, o->dir, &load, &err, &b->decoder), &err, o->dir);
    const lw_hf_config *c = lw_decoder_config(b->decoder);
    b->pass.lora = lw_lora_declare(&b->params, "lora", c, c->layers, o->rank, o->alpha);
    must(lw_params_place(&b->params, &err), &err, "the parameters' places");
    place_params(b);
    lw_arena arena = lw_arena_measure();
    lay_out(b, &arena, &limits);
    must(lw_arena_alloc(b->dev, &arena, "pass", &err, &b->pass_memory), &err, "memory of a pass");
    poison(b->dev, &b->pass_memory);
    arena = b->pass_memory;
    lay_out(b, &arena, &limits);
    must(lw_packing_create(&limits, b->indices, &err, &b->packing), &err, "packing");
    lw_packing_clear(&b->packing);
    for (int64_t s = 0; s < sequences; s++) {
        lw_packing_add(&b->packing, 0, 0, ids + b->rows, lengths[s], 0);
        for (int64_t i = 0; i < lengths[s]; i++) {
            lw_packing_score(&b->packing, b->rows++, 0, 0.0F);
        }
    }
    lw_packing_upload(&b->packing, b->dev);
}

void backbone_close(backbone *b)
{
    lw_packing_free(&b->packing);
    lw_decoder_buffers_free(&b->buffers);
    lw_params_free(&b->params);
    lw_arena_free(b->dev, &b->params_memory);
    lw_arena_free(b->dev, &b->pass_memory);
    lw_decoder_destroy(&b->decoder);
    lw_device_close(&b->dev);
}

int64_t backbone_param(const backbone *b, const char *name)
{
    for (int64_t i = 0; i < b->params.count; i++) {
        if (strcmp(b->params.list[i].name, name) == 0) {
            return i;
        }
    }
    printf("FAILED: no parameter is called %s\n", name);
    exit(1);
}

void backbone_set(backbone *b, int64_t index, const float *values)
{
    const lw_param *p = &b->params.list[index];
    b->dev->ops->upload(b->dev, values, (size_t)p->elements * sizeof *values, b->params.param + p->offset);
}

static void download(backbone *b, const float *source, int64_t elements, float *out)
{
    lw_error err = {{0}};
    b->dev->ops->download(b->dev, source, (size_t)elements * sizeof *out, out);
    must(b->dev->ops->sync(b->dev, &err), &err, "sync");
}

void backbone_get(backbone *b, int64_t index, bool gradient, float *out)
{
    const lw_param *p = &b->params.list[index];
    download(b, (gradient ? b->params.grad : b->params.param) + p->offset, p->elements, out);
}

void backbone_forward(backbone *b, float *states)
{
    lw_decoder_states(b->decoder, &b->params, &b->packing, &b->buffers);
    download(b, b->buffers.states, b->rows * lw_decoder_config(b->decoder)->d, states);
}

void backbone_backward(backbone *b, const float *d_states)
{
    int64_t n = b->rows * lw_decoder_config(b->decoder)->d;
    b->dev->ops->zero(b->dev, (size_t)b->params.elements * sizeof(float), b->params.grad);
    b->dev->ops->upload(b->dev, d_states, (size_t)n * sizeof(float), b->d_states);
    lw_decoder_states_backward(b->decoder, &b->params, &b->packing, b->d_states, &b->buffers);
}
