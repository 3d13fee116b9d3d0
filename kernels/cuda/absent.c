// absent.c: in place of the CUDA backend in a build without it.
#include <stdio.h>

#include "device_cuda.h"

static const char *const how_to_get_it =
    "device \"cuda\" is not compiled into this lwmpi; build it where the CUDA toolkit, cuBLAS and NCCL are installed: "
    "cmake --preset cuda && cmake --build --preset cuda, or use device = \"cpu\"";

bool lw_cuda_built(void)
{
    return false;
}

int lw_cuda_device_count(void)
{
    return 0;
}

void lw_cuda_why_not(char *out, size_t size)
{
    snprintf(out, size, "%s", how_to_get_it);
}

lw_status lw_cuda_info_of(int index, lw_error *err, lw_cuda_info *out)
{
    (void)index;
    (void)out;
    return lw_fail(err, LW_ERR_UNSUPPORTED, "%s", how_to_get_it);
}

lw_status lw_cuda_memory_of(int index, lw_error *err, size_t *free_bytes, size_t *total_bytes)
{
    (void)index;
    (void)free_bytes;
    (void)total_bytes;
    return lw_fail(err, LW_ERR_UNSUPPORTED, "%s", how_to_get_it);
}

lw_status lw_cuda_open(int index, lw_dtype frozen_type, lw_error *err, lw_device **out)
{
    (void)index;
    (void)frozen_type;
    (void)out;
    return lw_fail(err, LW_ERR_UNSUPPORTED, "%s", how_to_get_it);
}

int lw_cuda_index(const lw_device *dev)
{
    (void)dev;
    return -1;
}

void *lw_cuda_stream(lw_device *dev)
{
    (void)dev;
    return NULL;
}

lw_status lw_cuda_sync_until(lw_device *dev, double timeout_s, const char *what,
                             lw_status (*poll)(void *context, double waited_s, lw_error *err), void *context,
                             lw_error *err)
{
    (void)timeout_s;
    (void)what;
    (void)poll;
    (void)context;
    return dev->ops->sync(dev, err);
}

static void not_here(char *out, size_t size)
{
    snprintf(out, size, "not in this build");
}

void lw_cuda_version(char *out, size_t size)
{
    not_here(out, size);
}

void lw_cublas_version(char *out, size_t size)
{
    not_here(out, size);
}

void lw_cublas_version_of(const lw_device *dev, char *out, size_t size)
{
    (void)dev;
    not_here(out, size);
}

void lw_cuda_architectures(char *out, size_t size)
{
    not_here(out, size);
}
