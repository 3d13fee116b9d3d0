// frozen_weights.c: tensors of a frozen model: reading, drawing, checking, and products with them.
#include "model/frozen_weights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "core/signals.h"
#include "io/weight_reader.h"

// --- the list

lw_status lw_weight_list_create(int64_t capacity, lw_error *err, lw_weight_list *out)
{
    *out = (lw_weight_list){.capacity = capacity, .items = calloc((size_t)capacity, sizeof *out->items)};
    return out->items != NULL
               ? LW_OK
               : lw_fail(err, LW_ERR_MEMORY, "no memory for a list of %lld tensors", (long long)capacity);
}

void lw_weight_list_free(lw_weight_list *list)
{
    free(list->items);
    *list = (lw_weight_list){0};
}

void lw_weight_list_add(lw_weight_list *l, const char *name, int rank, const int64_t *dims, float mean, lw_dtype type,
                        void *out)
{
    if (l->count == l->capacity) {
        l->overflow = true;
        return;
    }
    lw_weight *w = &l->items[l->count++];
    *w = (lw_weight){.rank = rank, .mean = mean, .type = type, .out = out};
    snprintf(w->name, sizeof w->name, "%s", name);
    w->elements = 1;
    for (int k = 0; k < rank; k++) {
        w->dims[k] = dims[k];
        w->elements *= dims[k];
    }
}

// --- weights of a file

enum { NAME_BYTES = 160 };

// The name under which the file has `w`: one of the spellings, or the usual one where it has none.
static const char *name_in(const lw_safetensors *file, const lw_weight_list *l, const lw_weight *w,
                           char room[NAME_BYTES])
{
    const char *names[] = {w->name, w->old_name};
    const char *prefixes[] = {"", l->prefix};
    for (int i = 0; i < 4; i++) {
        if (names[i / 2][0] != '\0' && prefixes[i % 2] != NULL) {
            snprintf(room, NAME_BYTES, "%s%s", prefixes[i % 2], names[i / 2]);
            if (lw_safetensors_find(file, room) != NULL) {
                return room;
            }
        }
    }
    return w->name;
}

// Everything that can be wrong with the list is found before the first of many gigabytes is read.
static lw_status find_all(const lw_safetensors *file, lw_weight_list *l, lw_error *err, size_t *bytes)
{
    for (int64_t i = 0; i < l->count; i++) {
        lw_weight *w = &l->items[i];
        char room[NAME_BYTES];
        LW_TRY(lw_safetensors_require(file, name_in(file, l, w, room), w->rank, w->dims, err, &w->view));
        if (w->view->dtype == LW_I32) {
            return lw_fail(err, LW_ERR_UNSUPPORTED,
                           "%s: tensor %s: cannot read dtype %s as floating point; expected F32, BF16 or F16",
                           lw_safetensors_path(file), w->name, w->view->dtype_name);
        }
        *bytes += w->view->bytes;
    }
    return LW_OK;
}

static lw_status upload_all(lw_device *dev, const lw_weight_list *l, lw_weight_reader *reader)
{
    lw_weight_chunk c;
    while (lw_weight_reader_next(reader, &c)) {
        const lw_weight *w = &l->items[c.span];
        size_t element = lw_dtype_bytes(w->view->dtype);
        unsigned char *target = (unsigned char *)w->out + c.offset / element * lw_dtype_bytes(w->type);
        dev->ops->upload_as(dev, (int64_t)(c.bytes / element), c.data, w->view->dtype, target, w->type);
        lw_heartbeat_report(&dev->heartbeat);
        LW_TRY(lw_signal_check(LW_OK)); // large weights take minutes
    }
    return LW_OK;
}

lw_status lw_weights_read(lw_device *dev, const char *dir, lw_weight_list *l, lw_error *err, size_t *bytes,
                          uint64_t *fingerprint)
{
    *bytes = 0;

    lw_safetensors *file = NULL;
    lw_weight_reader *reader = NULL;
    lw_weight_span *spans = calloc((size_t)l->count, sizeof *spans);
    lw_status status = spans == NULL ? lw_fail(err, LW_ERR_MEMORY, "no memory to read weights") : LW_OK;
    if (status == LW_OK) {
        status = lw_safetensors_open(dir, err, &file);
    }
    if (status == LW_OK) {
        status = find_all(file, l, err, bytes);
    }
    for (int64_t i = 0; status == LW_OK && i < l->count; i++) {
        spans[i] = (lw_weight_span){l->items[i].view->data, l->items[i].view->bytes};
    }
    if (status == LW_OK) {
        status = lw_weight_reader_start(spans, l->count, err, &reader);
    }
    if (status == LW_OK) {
        status = upload_all(dev, l, reader);
    }
    if (status == LW_OK) {
        *fingerprint = lw_weight_reader_hash(reader);
    }
    lw_weight_reader_stop(&reader);
    lw_safetensors_close(&file);
    free(spans);
    return status;
}

// --- random weights

lw_status lw_weights_random(lw_device *dev, const lw_weight_list *l, uint64_t seed, uint64_t *fingerprint)
{
    for (int64_t i = 0; i < l->count; i++) {
        const lw_weight *w = &l->items[i];
        dev->ops->random_normal(dev, &(lw_random_normal_args){.n = w->elements,
                                                              .seed = seed,
                                                              .stream = (uint64_t)(i + 1),
                                                              .mean = w->mean,
                                                              .std = 0.02F,
                                                              .type = w->type,
                                                              .out = w->out});
        lw_heartbeat_report(&dev->heartbeat);
        LW_TRY(lw_signal_check(LW_OK));
    }
    *fingerprint = lw_xxh3(&seed, sizeof seed);
    return LW_OK;
}

// --- what was loaded, seen from the device

// An exponent of all ones is infinity or NaN.
static bool is_finite_at(const unsigned char *values, lw_dtype type, int64_t i)
{
    uint32_t bits = 0;
    if (type == LW_BF16) {
        uint16_t half;
        memcpy(&half, values + 2 * i, sizeof half);
        bits = (uint32_t)half << 16;
    } else {
        memcpy(&bits, values + 4 * i, sizeof bits);
    }
    return (bits & 0x7f800000U) != 0x7f800000U;
}

// A look at every element, for the rare tensor whose sum of squares overflows.
static lw_status look_at(lw_device *dev, const lw_weight *w, lw_error *err, bool *finite)
{
    size_t element = lw_dtype_bytes(w->type);
    int64_t most = LW_WEIGHT_CHUNK_BYTES / (int64_t)element;
    unsigned char *host = malloc(LW_WEIGHT_CHUNK_BYTES);
    lw_status status = host == NULL ? lw_fail(err, LW_ERR_MEMORY, "no memory to check weights") : LW_OK;
    *finite = true;
    for (int64_t first = 0; status == LW_OK && *finite && first < w->elements; first += most) {
        int64_t n = w->elements - first < most ? w->elements - first : most;
        dev->ops->download(dev, (const unsigned char *)w->out + (size_t)first * element, (size_t)n * element, host);
        status = dev->ops->sync(dev, err);
        for (int64_t i = 0; status == LW_OK && i < n; i++) {
            *finite = *finite && is_finite_at(host, w->type, i);
        }
    }
    free(host);
    return status;
}

// Sums of squares tell non-finite numbers.
static lw_status check_sums(lw_device *dev, const char *from, lw_weight_list *l, const float *sums, lw_error *err)
{
    for (int64_t i = 0; i < l->count; i++) {
        bool finite = !isnan(sums[i]);
        l->items[i].sqnorm = sums[i];
        if (isinf(sums[i])) {
            LW_TRY(look_at(dev, &l->items[i], err, &finite));
        }
        if (!finite) {
            return lw_fail(
                err, LW_ERR_FORMAT,
                "%s: tensor %s holds a non-finite number; the file is damaged or was saved from a diverged run", from,
                l->items[i].name);
        }
    }
    return LW_OK;
}

lw_status lw_weights_check(lw_device *dev, const char *from, lw_weight_list *l, lw_error *err)
{
    if (l->overflow) {
        return lw_fail(err, LW_ERR_INTERNAL, "a layer has more tensors than were counted");
    }
    size_t bytes = (size_t)l->count * sizeof(float);
    void *memory = NULL;
    float *sums = malloc(bytes);
    lw_status status = sums == NULL ? lw_fail(err, LW_ERR_MEMORY, "no memory to check weights")
                                    : dev->ops->alloc(dev, bytes, err, &memory);
    float *device_sums = memory;
    for (int64_t i = 0; status == LW_OK && i < l->count; i++) {
        dev->ops->sqnorm(dev, l->items[i].elements, l->items[i].out, l->items[i].type, device_sums + i);
        lw_heartbeat_report(&dev->heartbeat);
    }
    if (status == LW_OK) {
        dev->ops->download(dev, device_sums, bytes, sums);
        status = dev->ops->sync(dev, err);
    }
    if (status == LW_OK) {
        status = check_sums(dev, from, l, sums, err);
    }
    if (memory != NULL) {
        dev->ops->free(dev, memory);
    }
    free(sums);
    return status;
}

lw_gemm lw_frozen_product(const lw_device *dev, int64_t rows, int64_t in, int64_t out, const void *x, const void *w,
                          void *y, lw_dtype y_type)
{
    return (lw_gemm){.trans_b = true,
                     .m = rows,
                     .n = out,
                     .k = in,
                     .alpha = 1.0F,
                     .a = x,
                     .b = w,
                     .c = y,
                     .lda = in,
                     .ldb = in,
                     .ldc = out,
                     .ab_type = dev->frozen_type,
                     .c_type = y_type};
}

void lw_frozen_project(lw_device *dev, int64_t rows, int64_t in, int64_t out, const void *x, const void *w,
                       const float *bias, const void *residual, void *y, lw_dtype y_type)
{
    lw_gemm g = lw_frozen_product(dev, rows, in, out, x, w, y, y_type);
    g.bias = bias;
    g.c_in = residual;
    g.beta = residual != NULL ? 1.0F : 0.0F;
    dev->ops->gemm(dev, &g);
}

void lw_frozen_project_backward(lw_device *dev, int64_t rows, int64_t in, int64_t out, const void *dy, const void *w,
                                void *dx, lw_dtype dx_type)
{
    dev->ops->gemm(dev, &(lw_gemm){.m = rows,
                                   .n = in,
                                   .k = out,
                                   .alpha = 1.0F,
                                   .a = dy,
                                   .b = w,
                                   .c = dx,
                                   .lda = out,
                                   .ldb = in,
                                   .ldc = in,
                                   .ab_type = dev->frozen_type,
                                   .c_type = dx_type});
}
