// test_cuda.c: memory, transfers, waiting, recording and products of the CUDA device. Skipped without a GPU.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device/device.h"
#include "kernels/cuda/device_cuda.h"
#include "kernels/devices.h"

#define MIB ((size_t)1 << 20)

static int failures;

#define CHECK(condition)                                                   \
    do {                                                                   \
        if (!(condition)) {                                                \
            printf("%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
            failures++;                                                    \
        }                                                                  \
    } while (0)

static void *device_memory(lw_device *dev, size_t bytes)
{
    lw_error err = {{0}};
    void *memory = NULL;
    CHECK(dev->ops->alloc(dev, bytes, &err, &memory) == LW_OK);
    return memory;
}

static void *host_memory(size_t bytes)
{
    void *memory = malloc(bytes);
    if (memory == NULL) {
        printf("no %zu bytes of host memory\n", bytes);
        exit(1);
    }
    return memory;
}

static unsigned char byte_at(size_t i, unsigned seed)
{
    return (unsigned char)((i * 2654435761U + seed * 40503U) >> 11);
}

static void fill(unsigned char *p, size_t bytes, unsigned seed)
{
    for (size_t i = 0; i < bytes; i++) {
        p[i] = byte_at(i, seed);
    }
}

static bool is_filled(const unsigned char *p, size_t bytes, unsigned seed)
{
    for (size_t i = 0; i < bytes; i++) {
        if (p[i] != byte_at(i, seed)) {
            return false;
        }
    }
    return true;
}

static bool synced(lw_device *dev)
{
    lw_error err = {{0}};
    bool ok = dev->ops->sync(dev, &err) == LW_OK;
    if (!ok) {
        printf("%s\n", err.text);
    }
    return ok;
}

static void check_memory(lw_device *dev)
{
    lw_error err = {{0}};
    size_t free_bytes = 0, total_bytes = 0;
    const size_t before = dev->allocated_bytes;
    CHECK(lw_cuda_memory_of(lw_cuda_index(dev), &err, &free_bytes, &total_bytes) == LW_OK);
    CHECK(free_bytes > 0 && free_bytes < total_bytes);
    void *a = device_memory(dev, 1000), *b = device_memory(dev, 0), *huge = NULL;
    CHECK((uintptr_t)a % 256 == 0 && b != NULL && dev->allocated_bytes == before + 1000);
    CHECK(dev->ops->alloc(dev, (size_t)1 << 46, &err, &huge) == LW_ERR_MEMORY && huge == NULL);
    CHECK(strstr(err.text, "GiB are held") != NULL && strstr(err.text, "batch") != NULL);
    CHECK(synced(dev)); // a refused allocation is no failure of the work
    dev->ops->free(dev, a);
    dev->ops->free(dev, b);
    dev->ops->free(dev, NULL);
    CHECK(dev->allocated_bytes == before && dev->peak_bytes >= before + 1000);
    CHECK(synced(dev));
    int nothing = 0;
    dev->ops->free(dev, &nothing);
    CHECK(dev->ops->sync(dev, &err) == LW_ERR_DEVICE && strstr(err.text, "free") != NULL);
}

// Many small ones, more than may be in flight at a time; the host's memory is used again at once.
static void check_small_uploads(lw_device *dev)
{
    enum { COUNT = 300, MOST = 70000 };
    unsigned char *host = host_memory(MOST), *back = host_memory(MOST);
    unsigned char *on = device_memory(dev, (size_t)COUNT * MOST);
    for (unsigned i = 0; i < COUNT; i++) {
        size_t bytes = 1 + i * 229U % MOST;
        fill(host, bytes, i);
        dev->ops->upload(dev, host, bytes, on + (size_t)i * MOST);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        size_t bytes = 1 + i * 229U % MOST;
        dev->ops->download(dev, on + (size_t)i * MOST, bytes, back);
        CHECK(synced(dev) && is_filled(back, bytes, i));
    }
    dev->ops->free(dev, on);
    free(host);
    free(back);
}

// Larger than the pinned memory that it goes through, and not a multiple of its pieces.
static void check_large_transfers(lw_device *dev)
{
    const size_t bytes = 37 * MIB + 12345;
    unsigned char *host = host_memory(bytes), *back = host_memory(bytes);
    unsigned char *on = device_memory(dev, 3 * bytes);
    for (unsigned i = 0; i < 3; i++) {
        fill(host, bytes, i + 7);
        dev->ops->upload(dev, host, bytes, on + i * bytes);
    }
    for (unsigned i = 0; i < 3; i++) {
        memset(back, 0, bytes);
        dev->ops->download(dev, on + i * bytes, bytes, back);
        CHECK(synced(dev) && is_filled(back, bytes, i + 7));
    }
    dev->ops->free(dev, on);
    free(host);
    free(back);
}

// Elements that change their type, across the pieces.
static void check_upload_as(lw_device *dev)
{
    const size_t n = 9 * MIB + 3;
    uint16_t *host = host_memory(n * sizeof *host);
    float *back = host_memory(n * sizeof *back);
    float *on = device_memory(dev, n * sizeof *on);
    for (size_t i = 0; i < n; i++) {
        host[i] = (uint16_t)(0x3f80U + i % 97U); // bf16 from 1 on
    }
    dev->ops->upload_as(dev, (int64_t)n, host, LW_BF16, on, LW_F32);
    dev->ops->download(dev, on, n * sizeof *on, back);
    CHECK(synced(dev));
    size_t wrong = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = 0;
        memcpy(&bits, &back[i], sizeof bits);
        wrong += bits != (uint32_t)host[i] << 16;
    }
    CHECK(wrong == 0);
    dev->ops->free(dev, on);
    free(host);
    free(back);
}

// Downloads wait together for one sync; a large one among them does not overtake those before it.
static void check_downloads(lw_device *dev)
{
    enum { COUNT = 150 };
    const size_t large = 3 * MIB;
    unsigned char *host = host_memory(large), *back = host_memory(large), *on = device_memory(dev, large);
    fill(host, large, 1);
    dev->ops->upload(dev, host, large, on);
    unsigned char small[COUNT][16];
    for (size_t i = 0; i < COUNT; i++) {
        dev->ops->download(dev, on + i, sizeof small[i], small[i]);
    }
    dev->ops->download(dev, on + 5, 64, back); // overwritten by the next
    dev->ops->download(dev, on, large, back);
    CHECK(synced(dev) && is_filled(back, large, 1));
    for (size_t i = 0; i < COUNT; i++) {
        CHECK(memcmp(small[i], host + i, sizeof small[i]) == 0);
    }
    dev->ops->free(dev, on);
    free(host);
    free(back);
}

// --- recording

typedef struct part {
    lw_device *dev;
    float *x, *y; // (n)
    int64_t n;
    int calls;
    bool transfers;
} part;

static void enqueue(void *context)
{
    part *p = context;
    p->calls++;
    p->dev->ops->axpy(p->dev, p->n, 0.5f, p->x, p->y);
    p->dev->ops->axpy(p->dev, p->n, 0.5f, p->x, p->y);
    if (p->transfers) {
        const float zero = 0.0f;
        p->dev->ops->upload(p->dev, &zero, sizeof zero, p->x);
    }
}

static float first_of(const part *p)
{
    float value = -1.0f;
    p->dev->ops->download(p->dev, p->y, sizeof value, &value);
    CHECK(synced(p->dev));
    return value;
}

// Plays `key` and checks how often the part was called for it; y grows by 1 each time.
static void play(part *p, uint64_t key, int calls)
{
    int before = p->calls;
    p->dev->ops->replay(p->dev, key, enqueue, p);
    if (p->calls - before != calls) {
        printf("key %llu: ", (unsigned long long)key);
        CHECK(p->calls - before == calls);
    }
}

static void check_replay(lw_device *dev)
{
    enum { FIRST = 2, FEW = 200, MANY = 100000, GRAPHS = 300 };
    const float ones[4] = {1.0f, 1.0f, 1.0f, 1.0f};
    part p = {dev, device_memory(dev, sizeof ones), device_memory(dev, sizeof ones), 4, 0, false};
    dev->ops->upload(dev, ones, sizeof ones, p.x);
    dev->ops->zero(dev, sizeof ones, p.y);
    for (int i = 1; i <= 5; i++) {
        play(&p, 1, i <= 2); // run, recorded; then played
        CHECK(first_of(&p) == (float)i);
    }
    // Keys that come once push no graph out, and are known when they come again some hundred keys later.
    for (uint64_t key = FIRST; key < FIRST + FEW; key++) {
        play(&p, key, 1);
    }
    play(&p, 1, 0);
    CHECK(first_of(&p) == (float)(6 + FEW));
    play(&p, FIRST, 1);
    play(&p, FIRST, 0);
    CHECK(first_of(&p) == (float)(8 + FEW));
    // Graphs push out the one that was played least lately; keys of long ago are forgotten.
    for (uint64_t key = MANY; key < MANY + GRAPHS; key++) {
        play(&p, key, 1);
        play(&p, key, 1);
        play(&p, FIRST, 0);
    }
    CHECK(first_of(&p) == (float)(8 + FEW + 3 * GRAPHS));
    play(&p, 1, 1);
    p.n = 0; // nothing to launch
    for (uint64_t key = 2 * MANY; key < 3 * MANY; key++) {
        play(&p, key, 1);
    }
    p.n = 4;
    play(&p, 1, 1); // as if it were new
    play(&p, 1, 1);
    play(&p, 1, 0);
    CHECK(first_of(&p) == (float)(12 + FEW + 3 * GRAPHS));
    p.transfers = true; // breaks the rule of replay: said when it is to be recorded
    dev->ops->replay(dev, 1000, enqueue, &p);
    CHECK(synced(dev));
    dev->ops->upload(dev, ones, sizeof ones, p.x);
    dev->ops->replay(dev, 1000, enqueue, &p);
    lw_error err = {{0}};
    CHECK(dev->ops->sync(dev, &err) == LW_ERR_DEVICE && strstr(err.text, "upload") != NULL);
    CHECK(synced(dev));
    dev->ops->free(dev, p.x);
    dev->ops->free(dev, p.y);
}

// --- products

// One shape with biases at addresses of different alignment, with and without a C_in: an algorithm that was chosen for
// one must not be taken for another.
static void check_bias(lw_device *dev)
{
    enum { M = 8, N = 16, K = 32, ROOM = 64 };
    static const size_t places[] = {0, 4, 3, 0, 32, 4}; // floats behind an address that is a multiple of 256 bytes
    float host[ROOM + N], got[M * N];
    float *a = device_memory(dev, (M * K + N * K) * sizeof *a), *c = device_memory(dev, sizeof got);
    float *c_in = device_memory(dev, sizeof got), *bias = device_memory(dev, sizeof host);
    const float one = 1.0f;
    for (int i = 0; i < M * K + N * K; i++) {
        dev->ops->upload(dev, &one, sizeof one, a + i);
    }
    for (int i = 0; i < M * N; i++) {
        dev->ops->upload(dev, &one, sizeof one, c_in + i);
    }
    for (int i = 0; i < ROOM + N; i++) {
        host[i] = (float)i;
    }
    dev->ops->upload(dev, host, sizeof host, bias);
    lw_gemm g = {.trans_b = true,
                 .m = M,
                 .n = N,
                 .k = K,
                 .alpha = 1.0f,
                 .a = a,
                 .b = a + M * K,
                 .c = c,
                 .lda = K,
                 .ldb = K,
                 .ldc = N,
                 .ab_type = LW_F32,
                 .c_type = LW_F32};
    for (size_t i = 0; i < 2 * sizeof places / sizeof *places; i++) {
        size_t place = places[i / 2];
        g.bias = bias + place;
        g.beta = i % 2 == 0 ? 0.0f : 3.0f;
        g.c_in = i % 2 == 0 ? NULL : c_in;
        dev->ops->gemm(dev, &g);
        dev->ops->download(dev, c, sizeof got, got);
        CHECK(synced(dev));
        int wrong = 0;
        for (size_t j = 0; j < sizeof got / sizeof *got; j++) {
            wrong += got[j] != (float)K + g.beta + (float)(place + j % N);
        }
        CHECK(wrong == 0);
    }
    dev->ops->free(dev, a);
    dev->ops->free(dev, c);
    dev->ops->free(dev, c_in);
    dev->ops->free(dev, bias);
}

// --- failures and waiting

static void check_deferred_error(lw_device *dev)
{
    lw_error err = {{0}};
    float *x = device_memory(dev, 64);
    dev->ops->swiglu(dev, 1, 1, LW_F16, x, x + 8);
    dev->ops->cast(dev, 1, x, LW_I32, x + 8, LW_F32);
    CHECK(dev->ops->sync(dev, &err) == LW_ERR_DEVICE && strstr(err.text, "swiglu") != NULL);
    CHECK(synced(dev));
    lw_gemm g = {.m = INT64_C(3000000000), .n = 1, .k = 1, .lda = 1, .ldb = 1, .ldc = 1, .a = x, .b = x, .c = x};
    dev->ops->gemm(dev, &g);
    CHECK(dev->ops->sync(dev, &err) == LW_ERR_DEVICE && strstr(err.text, "32-bit") != NULL);
    dev->ops->free(dev, x);
}

static void check_sync_until(lw_device *dev)
{
    lw_error err = {{0}};
    float value = 0.0f, two = 2.0f;
    float *x = device_memory(dev, sizeof value);
    dev->ops->upload(dev, &two, sizeof two, x);
    dev->ops->download(dev, x, sizeof value, &value);
    CHECK(lw_cuda_sync_until(dev, 60.0, "the test", NULL, NULL, &err) == LW_OK && value == 2.0f);
    dev->ops->swiglu(dev, 1, 1, LW_F16, x, x);
    CHECK(lw_cuda_sync_until(dev, 60.0, "the test", NULL, NULL, &err) == LW_ERR_DEVICE);
    CHECK(strstr(err.text, "swiglu") != NULL && synced(dev));
    dev->ops->free(dev, x);
}

static void check_opening(void)
{
    lw_error err = {{0}};
    lw_device *dev = NULL;
    lw_cuda_info info;
    CHECK(lw_device_open("cuda", 1000, 1, &err, &dev) == LW_ERR_DEVICE && strstr(err.text, "1000") != NULL);
    CHECK(lw_device_open("cuda", -1, 1, &err, &dev) == LW_ERR_DEVICE && dev == NULL);
    CHECK(lw_cuda_info_of(0, &err, &info) == LW_OK && strlen(info.uuid) == 40 && info.memory_bytes > 0);
    CHECK(lw_device_open("cpu", 0, 1, &err, &dev) == LW_OK);
    CHECK(lw_cuda_stream(dev) == NULL && lw_cuda_index(dev) == -1);
    CHECK(lw_cuda_sync_until(dev, 1.0, "the test", NULL, NULL, &err) == LW_OK);
    lw_device_close(&dev);
}

int main(void)
{
    char why[1024];
    lw_error err = {{0}};
    lw_device *dev = NULL;
    if (lw_cuda_device_count() == 0) {
        lw_cuda_why_not(why, sizeof why);
        printf("skipped: %s\n", why);
        return 77;
    }
    check_opening();
    if (lw_device_open("cuda", 0, 1, &err, &dev) != LW_OK) {
        printf("FAILED: %s\n", err.text);
        return 1;
    }
    printf("%s\n", dev->description);
    CHECK(dev->frozen_type == LW_BF16 && lw_cuda_stream(dev) != NULL && lw_cuda_index(dev) == 0);
    check_memory(dev);
    check_small_uploads(dev);
    check_large_transfers(dev);
    check_upload_as(dev);
    check_downloads(dev);
    check_replay(dev);
    check_bias(dev);
    check_deferred_error(dev);
    check_sync_until(dev);
    CHECK(dev->allocated_bytes == 0);
    lw_device_close(&dev);
    printf("cuda device: %s\n", failures == 0 ? "passed" : "FAILED");
    return failures == 0 ? 0 : 1;
}
