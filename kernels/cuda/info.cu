// info.cu: which GPUs there are, and what this build is for.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_internal.cuh"

#ifdef LW_SOFTGPU
#define LW_CUDA_ARCHITECTURES "the software GPU"
#endif

bool lw_cuda_built(void)
{
    return true;
}

int lw_cuda_device_count(void)
{
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess) {
        (void)cudaGetLastError();
        return 0;
    }
    return count;
}

// "13.0" of 13000
static void dotted(int version, char *out, size_t size)
{
    (void)snprintf(out, size, "%d.%d", version / 1000, version % 1000 / 10);
}

static int driver_version(void)
{
    int version = 0;
    return cudaDriverGetVersion(&version) == cudaSuccess ? version : 0;
}

static void no_driver(char *out, size_t size)
{
    char needs[16], has[16];
    dotted(CUDART_VERSION, needs, sizeof needs);
    dotted(driver_version(), has, sizeof has);
    if (driver_version() == 0) {
        (void)snprintf(
            out, size,
            "cuda: no NVIDIA driver on this machine (libcuda.so.1 is not found): run on a node with a GPU (in a "
            "container: --gpus all), or use device = \"cpu\"");
    } else {
        (void)snprintf(
            out, size,
            "cuda: the NVIDIA driver is too old: it knows CUDA %s at most, and this lwmpi needs %s: update the "
            "driver, build with an older CUDA toolkit, or use device = \"cpu\"",
            has, needs);
    }
}

void lw_cuda_why_not(char *out, size_t size)
{
    int count = 0;
    const cudaError_t code = cudaGetDeviceCount(&count);
    (void)cudaGetLastError();
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    if (code == cudaErrorInsufficientDriver) {
        no_driver(out, size);
    } else if (code == cudaErrorNoDevice || (code == cudaSuccess && count == 0)) {
        (void)snprintf(
            out, size,
            "cuda: no GPU is visible to this process (CUDA_VISIBLE_DEVICES %s%s%s): ask the scheduler for one "
            "(--gres=gpu:1), or use device = \"cpu\"",
            visible == NULL ? "is not set" : "= \"", visible == NULL ? "" : visible, visible == NULL ? "" : "\"");
    } else if (code != cudaSuccess) {
        (void)snprintf(
            out, size,
            "cuda: the GPUs of this machine cannot be used: %s (%s); nvidia-smi tells more (after an update of "
            "the driver: a restart; with NVSwitch: nvidia-fabricmanager), or use device = \"cpu\"",
            cudaGetErrorString(code), cudaGetErrorName(code));
    } else {
        (void)snprintf(out, size, "%s", "");
    }
}

lw_status lw_cuda_info_of(int index, lw_error *err, lw_cuda_info *out)
{
    cudaDeviceProp p;
    char what[64];
    (void)snprintf(what, sizeof what, "GPU %d cannot be looked at", index);
    LW_TRY(lw_cuda_status(err, cudaGetDeviceProperties(&p, index), what));
    memset(out, 0, sizeof *out);
    (void)snprintf(out->name, sizeof out->name, "%.95s", p.name);
    char *at = out->uuid;
    at += snprintf(at, 5, "GPU-");
    for (int i = 0; i < 16; i++) {
        at += snprintf(at, 4, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
                       (unsigned)(unsigned char)p.uuid.bytes[i]);
    }
    out->major = p.major;
    out->minor = p.minor;
    out->multiprocessors = p.multiProcessorCount;
    out->block_bytes = p.sharedMemPerBlockOptin;
    out->memory_bytes = p.totalGlobalMem;
    return LW_OK;
}

// No way back to the GPU that was current before: to name one makes a context on it since CUDA 12.
lw_status lw_cuda_memory_of(int index, lw_error *err, size_t *free_bytes, size_t *total_bytes)
{
    char what[64];
    (void)snprintf(what, sizeof what, "GPU %d does not tell its free memory", index);
    LW_TRY(lw_cuda_status(err, cudaSetDevice(index), what));
    return lw_cuda_status(err, cudaMemGetInfo(free_bytes, total_bytes), what);
}

void lw_cuda_runtime_version(char *out, size_t size)
{
    int version = 0;
    dotted(cudaRuntimeGetVersion(&version) == cudaSuccess ? version : CUDART_VERSION, out, size);
}

void lw_cuda_version(char *out, size_t size)
{
    char runtime[16], driver[16];
    lw_cuda_runtime_version(runtime, sizeof runtime);
    dotted(driver_version(), driver, sizeof driver);
    (void)snprintf(out, size, "%s, %s%s", runtime, driver_version() == 0 ? "no driver" : "driver ",
                   driver_version() == 0 ? "" : driver);
}

void lw_cuda_architectures(char *out, size_t size)
{
    (void)snprintf(out, size, "%s", LW_CUDA_ARCHITECTURES);
}
