// test_device.c: the registry, memory accounting and deferred errors of the CPU device.
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "device/device.h"
#include "kernels/cuda/device_cuda.h"
#include "kernels/devices.h"

static int failures;

#define CHECK(condition)                                                   \
    do {                                                                   \
        if (!(condition)) {                                                \
            printf("%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
            failures++;                                                    \
        }                                                                  \
    } while (0)

static void check_dtypes(void)
{
    CHECK(lw_dtype_bytes(LW_F32) == 4 && lw_dtype_bytes(LW_I32) == 4);
    CHECK(lw_dtype_bytes(LW_BF16) == 2 && lw_dtype_bytes(LW_F16) == 2);
    CHECK(strcmp(lw_dtype_name(LW_F32), "F32") == 0 && strcmp(lw_dtype_name(LW_BF16), "BF16") == 0);
    CHECK(strcmp(lw_dtype_name(LW_F16), "F16") == 0 && strcmp(lw_dtype_name(LW_I32), "I32") == 0);
}

static void check_refusals(void)
{
    lw_error err = {{0}};
    lw_device *dev = NULL;
    CHECK(lw_device_open("abacus", 0, 1, &err, &dev) == LW_ERR_UNSUPPORTED && strstr(err.text, "abacus") != NULL);
    CHECK(lw_device_open("cpu", 0, 0, &err, &dev) == LW_ERR_USAGE);
    CHECK(lw_device_open("cpu:z80", 0, 1, &err, &dev) == LW_ERR_UNSUPPORTED && strstr(err.text, "z80") != NULL);
    if (!lw_cuda_built()) {
        CHECK(lw_device_open("cuda", 0, 1, &err, &dev) == LW_ERR_UNSUPPORTED && strstr(err.text, "cmake") != NULL);
    }
    CHECK(dev == NULL);
    lw_device_close(&dev); // of nothing
    lw_device_close(NULL);
}

static void check_memory(lw_device *dev)
{
    lw_error err = {{0}};
    void *a = NULL, *b = NULL, *huge = NULL;
    CHECK(dev->ops->alloc(dev, 1000, &err, &a) == LW_OK && (uintptr_t)a % 256 == 0);
    CHECK(dev->ops->alloc(dev, 0, &err, &b) == LW_OK && b != NULL);
    CHECK(dev->allocated_bytes == 1000 && dev->peak_bytes == 1000);
    CHECK(dev->ops->alloc(dev, SIZE_MAX - 3, &err, &huge) == LW_ERR_MEMORY && huge == NULL && err.text[0] != '\0');
    unsigned char in[1000], out[1000];
    memset(in, 7, sizeof in);
    dev->ops->upload(dev, in, sizeof in, a);
    dev->ops->zero(dev, 10, a);
    dev->ops->copy(dev, a, 0, NULL);
    dev->ops->download(dev, a, sizeof out, out);
    CHECK(dev->ops->sync(dev, &err) == LW_OK && out[9] == 0 && out[10] == 7);
    dev->ops->free(dev, a);
    dev->ops->free(dev, b);
    dev->ops->free(dev, NULL);
    CHECK(dev->allocated_bytes == 0 && dev->peak_bytes == 1000);
}

// An operator cannot fail: its error comes at the next sync, once, and the first one wins.
static void check_deferred_error(lw_device *dev)
{
    lw_error err = {{0}};
    float x[4] = {0};
    dev->ops->swiglu(dev, 1, 1, LW_BF16, x, x + 2);
    dev->ops->cast(dev, 1, x, LW_I32, x + 2, LW_F32);
    CHECK(dev->ops->sync(dev, &err) == LW_ERR_DEVICE && strstr(err.text, "swiglu") != NULL);
    CHECK(dev->ops->sync(dev, &err) == LW_OK);
    lw_gemm g = {.m = INT64_C(3000000000), .n = 1, .k = 1, .lda = 1, .ldb = 1, .ldc = 1, .a = x, .b = x, .c = x};
    dev->ops->gemm(dev, &g);
    CHECK(dev->ops->sync(dev, &err) == LW_ERR_DEVICE && strstr(err.text, "32-bit") != NULL);
}

int main(void)
{
    check_dtypes();
    check_refusals();
    lw_error err = {{0}};
    lw_device *dev = NULL;
    CHECK(lw_device_open("cpu", 0, 2, &err, &dev) == LW_OK);
    if (dev != NULL) {
        CHECK(strcmp(dev->ops->name, "cpu") == 0 && dev->frozen_type == LW_F32);
        check_memory(dev);
        check_deferred_error(dev);
        lw_device_close(&dev);
        CHECK(dev == NULL);
    }
    printf("device: %s\n", failures == 0 ? "passed" : "FAILED");
    return failures == 0 ? 0 : 1;
}
