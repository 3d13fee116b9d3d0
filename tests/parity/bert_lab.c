// bert_lab.c: opens a BERT directory and compares it with its reference.
#include "bert_lab.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/safetensors.h"
#include "kernels/devices.h"
#include "model/bert.h"

static const double limit = 1e-5;

static void must(lw_status status, const lw_error *err, const char *what)
{
    if (status != LW_OK) {
        printf("FAILED: %s: %s\n", what, err->text);
        exit(1);
    }
}

typedef struct lab {
    const char *name;
    lw_safetensors *file;
    const lw_tensor_view *hidden;
    const int32_t *ids, *start;
    int64_t sequences, tokens, d, longest;
} lab;

static const void *tensor(lab *l, const char *name, int rank, const lw_tensor_view **out)
{
    lw_error err = {{0}};
    must(lw_safetensors_require(l->file, name, rank, (int64_t[]){-1, -1}, &err, out), &err, name);
    return (*out)->data;
}

static void lab_open(lab *l, const char *reference)
{
    lw_error err = {{0}};
    const lw_tensor_view *view = NULL;
    *l = (lab){.name = reference};
    must(lw_safetensors_open(reference, &err, &l->file), &err, "reference");
    l->ids = tensor(l, "ids", 1, &view);
    l->tokens = view->elements;
    l->start = tensor(l, "start", 1, &view);
    l->sequences = view->elements - 1;
    (void)tensor(l, "hidden", 2, &l->hidden);
    l->d = l->hidden->dims[1];
    for (int64_t i = 0; i < l->sequences; i++) {
        int64_t length = l->start[i + 1] - l->start[i];
        l->longest = length > l->longest ? length : l->longest;
    }
}

static double distance(const float *a, const float *b, int64_t n, double *size)
{
    double square = 0.0;
    *size = 0.0;
    for (int64_t i = 0; i < n; i++) {
        square += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        *size += (double)b[i] * (double)b[i];
    }
    return square;
}

static void compare(const lab *l, const float *got)
{
    lw_error err = {{0}};
    float *want = malloc((size_t)(l->tokens * l->d) * sizeof *want);
    must(want == NULL ? LW_ERR_MEMORY : lw_tensor_to_f32(l->hidden, &err, want), &err, "hidden");
    double size = 0.0;
    double all = distance(got, want, l->tokens * l->d, &size);
    double worst = 0.0;
    all = sqrt(all / size);
    for (int64_t i = 0; i < l->tokens; i++) {
        double row = distance(got + i * l->d, want + i * l->d, l->d, &size);
        worst = fmax(worst, sqrt(row / size));
    }
    printf("%s: %lld sequences, %lld tokens, width %lld: relative error %.2e, worst row %.2e\n", l->name,
           (long long)l->sequences, (long long)l->tokens, (long long)l->d, all, worst);
    if (!(all <= limit && worst <= limit)) {
        printf("FAILED: at most %.0e is allowed\n", limit);
        exit(1);
    }
    free(want);
}

// All sequences packed into one pass.
static void pack(const lab *l, lw_packing *p)
{
    for (int64_t i = 0; i < l->sequences; i++) {
        if (lw_packing_add(p, 0, 0, l->ids + l->start[i], l->start[i + 1] - l->start[i], 0) < 0) {
            printf("FAILED: the packing is too small\n");
            exit(1);
        }
    }
}

void bert_lab_compare(const char *dir, const char *reference)
{
    lw_error err = {{0}};
    lw_device *dev = NULL;
    lw_bert *bert = NULL;
    lab l;
    lab_open(&l, reference);
    must(lw_device_open("cpu", 0, 1, &err, &dev), &err, "device");
    must(lw_bert_load(dev, dir, &(lw_bert_options){0}, &err, &bert), &err, "load");
    if (lw_bert_shapes(bert)->d != l.d) {
        printf("FAILED: %s and %s are of different widths\n", dir, reference);
        exit(1);
    }
    const lw_pass_limits limits = {.sequences = l.sequences, .rows = l.tokens, .max_len = l.longest};
    lw_bert_buffers b;
    lw_packing packing = {0};
    void *block = NULL;
    lw_arena memory = {0};
    lw_arena measured = lw_arena_measure();
    lw_bert_buffers_layout(&measured, dev, lw_bert_shapes(bert), &limits, &b);
    must(lw_arena_alloc(dev, &measured, "buffers", &err, &memory), &err, "buffers");
    lw_arena arena = memory;
    lw_bert_buffers_layout(&arena, dev, lw_bert_shapes(bert), &limits, &b);
    must(dev->ops->alloc(dev, lw_packing_device_bytes(&limits), &err, &block), &err, "indices");
    must(lw_packing_create(&limits, block, &err, &packing), &err, "packing");
    pack(&l, &packing);
    lw_packing_upload(&packing, dev);
    lw_bert_forward(bert, &packing, &b);
    float *got = malloc((size_t)(l.tokens * l.d) * sizeof *got);
    must(got == NULL ? LW_ERR_MEMORY : LW_OK, &err, "memory");
    dev->ops->download(dev, b.x, (size_t)(l.tokens * l.d) * sizeof *got, got);
    must(dev->ops->sync(dev, &err), &err, "forward");
    compare(&l, got);
    free(got);
    lw_packing_free(&packing);
    dev->ops->free(dev, block);
    lw_arena_free(dev, &memory);
    lw_bert_destroy(&bert);
    lw_device_close(&dev);
    lw_safetensors_close(&l.file);
}
