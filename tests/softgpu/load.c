// load.c DIR: weights of a file several times as large as the pinned memory that they pass through arrive whole, and
// the host never holds more than some pieces of it.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/devices.h"
#include "model/frozen_weights.h"

enum { TENSORS = 3, TENSOR_BYTES = 80 << 20, PIECE_BYTES = 16 << 20 };

// What the reader has in memory ahead of the device, and one piece more on either side.
static const int64_t most_bytes = (int64_t)7 * PIECE_BYTES;

static void must(lw_status status, const lw_error *err)
{
    if (status != LW_OK) {
        printf("FAILED: %s\n", err->text);
        exit(1);
    }
}

// The most memory that the process has held so far.
static int64_t high_water_bytes(void)
{
    char line[256];
    int64_t kib = -1;
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "VmHWM: %" SCNd64, &kib) == 1) {
            break;
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return kib * 1024;
}

static uint32_t word_at(int64_t tensor, int64_t i)
{
    return (uint32_t)((i + tensor * 7919) * INT64_C(2654435761)) & 0x3fffffffU; // finite as f32
}

// DIR/model.safetensors, tensor by tensor, so that this process does not hold it either.
static void write_file(const char *dir)
{
    char path[512], header[1024];
    size_t used = (size_t)snprintf(header, sizeof header, "{");
    for (int64_t t = 0; t < TENSORS; t++) {
        used += (size_t)snprintf(header + used, sizeof header - used,
                                 "%s\"t%" PRId64 "\":{\"dtype\":\"F32\",\"shape\":[%d],\"data_offsets\":[%" PRId64
                                 ",%" PRId64 "]}",
                                 t > 0 ? "," : "", t, TENSOR_BYTES / 4, t * TENSOR_BYTES, (t + 1) * TENSOR_BYTES);
    }
    used += (size_t)snprintf(header + used, sizeof header - used, "}");
    while (used % 8 != 0) {
        header[used++] = ' ';
    }
    const uint64_t length = used;
    (void)snprintf(path, sizeof path, "%s/model.safetensors", dir);
    FILE *file = fopen(path, "wb");
    bool good = file != NULL && fwrite(&length, sizeof length, 1, file) == 1 && fwrite(header, used, 1, file) == 1;
    for (int64_t t = 0; good && t < TENSORS; t++) {
        for (int64_t i = 0; good && i < TENSOR_BYTES / 4;) {
            uint32_t words[4096];
            for (int k = 0; k < 4096; k++) {
                words[k] = word_at(t, i++);
            }
            good = fwrite(words, sizeof words, 1, file) == 1;
        }
    }
    if (!good || fclose(file) != 0) {
        perror(path);
        exit(1);
    }
}

static int64_t wrong_words(lw_device *dev, const float *tensor, int64_t t)
{
    enum { WORDS = PIECE_BYTES / 4 };
    lw_error err = {{0}};
    int64_t wrong = 0;
    uint32_t *words = malloc(PIECE_BYTES);
    if (words == NULL) {
        printf("FAILED: no memory\n");
        exit(1);
    }
    for (int64_t at = 0; at < TENSOR_BYTES / 4; at += WORDS) {
        dev->ops->download(dev, tensor + at, PIECE_BYTES, words);
        must(dev->ops->sync(dev, &err), &err);
        for (int64_t i = 0; i < WORDS; i++) {
            wrong += words[i] != word_at(t, at + i);
        }
    }
    free(words);
    return wrong;
}

static int64_t load_and_compare(lw_device *dev, const char *dir)
{
    lw_error err = {{0}};
    lw_weight_list list;
    size_t bytes = 0;
    uint64_t fingerprint = 0;
    int64_t wrong = 0;
    void *memory = NULL;
    must(dev->ops->alloc(dev, (size_t)TENSORS * TENSOR_BYTES, &err, &memory), &err);
    must(lw_weight_list_create(TENSORS, &err, &list), &err);
    for (int64_t t = 0; t < TENSORS; t++) {
        char name[24];
        const int64_t elements = TENSOR_BYTES / 4;
        (void)snprintf(name, sizeof name, "t%" PRId64, t);
        lw_weight_list_add(&list, name, 1, &elements, 0.0F, LW_F32, (float *)memory + t * elements);
    }
    int64_t before = high_water_bytes(); // the software GPU's memory is in it
    must(lw_weights_read(dev, dir, &list, &err, &bytes, &fingerprint), &err);
    must(dev->ops->sync(dev, &err), &err);
    int64_t more = high_water_bytes() - before;
    printf("%zu MiB read, %" PRId64 " MiB of host memory more than before\n", bytes >> 20, more >> 20);
    for (int64_t t = 0; t < TENSORS; t++) {
        wrong += wrong_words(dev, list.items[t].out, t);
    }
    lw_weight_list_free(&list);
    dev->ops->free(dev, memory);
    if (wrong > 0) {
        printf("FAILED: %" PRId64 " words differ from the file's\n", wrong);
    }
    if (before <= 0 || more > most_bytes) {
        printf("FAILED: at most %" PRId64 " MiB were expected\n", most_bytes >> 20);
    }
    return wrong + (before <= 0 || more > most_bytes);
}

int main(int argc, char **argv)
{
    lw_error err = {{0}};
    lw_device *dev = NULL;
    if (argc != 2) {
        fprintf(stderr, "usage: %s DIR\n", argv[0]);
        return 2;
    }
    write_file(argv[1]);
    must(lw_device_open("cuda:f32", 0, 1, &err, &dev), &err);
    int64_t failures = load_and_compare(dev, argv[1]);
    lw_device_close(&dev);
    return failures > 0;
}
