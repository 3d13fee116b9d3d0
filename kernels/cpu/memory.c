// memory.c: host memory of the CPU device, transfers and the deferred error.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu.h"

#define LW_CPU_ALIGN 256

// In front of every block, in its own LW_CPU_ALIGN bytes.
typedef struct lw_block_header {
    size_t bytes;
} lw_block_header;

lw_status lw_cpu_alloc(lw_device *dev, size_t bytes, lw_error *err, void **out)
{
    if (bytes > SIZE_MAX - 2 * LW_CPU_ALIGN) {
        return lw_fail(err, LW_ERR_MEMORY, "cpu: cannot allocate %zu bytes", bytes);
    }
    size_t total = (bytes + 2 * LW_CPU_ALIGN - 1) / LW_CPU_ALIGN * LW_CPU_ALIGN;
    unsigned char *block = aligned_alloc(LW_CPU_ALIGN, total);
    if (block == NULL) {
        return lw_fail(err, LW_ERR_MEMORY,
                       "cpu: cannot allocate %zu bytes (%zu are held already); a smaller batch needs less", bytes,
                       dev->allocated_bytes);
    }
    ((lw_block_header *)(void *)block)->bytes = bytes;
    dev->allocated_bytes += bytes;
    if (dev->allocated_bytes > dev->peak_bytes) {
        dev->peak_bytes = dev->allocated_bytes;
    }
    *out = block + LW_CPU_ALIGN;
    return LW_OK;
}

void lw_cpu_free(lw_device *dev, void *memory)
{
    if (memory == NULL) {
        return;
    }
    unsigned char *block = (unsigned char *)memory - LW_CPU_ALIGN;
    dev->allocated_bytes -= ((lw_block_header *)(void *)block)->bytes;
    free(block);
}

void lw_cpu_copy(lw_device *dev, const void *source, size_t bytes, void *out)
{
    (void)dev;
    if (bytes > 0) {
        memcpy(out, source, bytes);
    }
}

void lw_cpu_upload(lw_device *dev, const void *host_source, size_t bytes, void *out)
{
    lw_cpu_copy(dev, host_source, bytes, out);
}

void lw_cpu_download(lw_device *dev, const void *source, size_t bytes, void *host_out)
{
    lw_cpu_copy(dev, source, bytes, host_out);
}

void lw_cpu_zero(lw_device *dev, size_t bytes, void *out)
{
    (void)dev;
    if (bytes > 0) {
        memset(out, 0, bytes);
    }
}

void lw_cpu_fail(lw_device *dev, const char *format, ...)
{
    lw_cpu *cpu = (lw_cpu *)dev;
    if (cpu->failure[0] != '\0') {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(cpu->failure, sizeof cpu->failure, format, arguments);
    va_end(arguments);
}

bool lw_cpu_is_f32(lw_device *dev, const char *op, lw_dtype type)
{
    if (type == LW_F32) {
        return true;
    }
    lw_cpu_fail(dev, "cpu: %s takes F32 only, not %s", op, lw_dtype_name(type));
    return false;
}

lw_status lw_cpu_sync(lw_device *dev, lw_error *err)
{
    lw_cpu *cpu = (lw_cpu *)dev;
    if (cpu->failure[0] == '\0') {
        return LW_OK;
    }
    lw_status status = lw_fail(err, LW_ERR_DEVICE, "%s", cpu->failure);
    cpu->failure[0] = '\0';
    return status;
}

void lw_cpu_replay(lw_device *dev, uint64_t key, void (*enqueue)(void *context), void *context)
{
    (void)dev;
    (void)key;
    enqueue(context);
}

void lw_cpu_destroy(lw_device *dev)
{
    free(dev);
}
