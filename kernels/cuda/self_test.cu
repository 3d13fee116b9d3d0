// self_test.cu: refuses a GPU that the binary holds no code for. Without it a kernel that cannot be loaded leaves its
// output as it was, and the first to notice would be the loss.
#include "cuda_internal.cuh"

#define ELEMENTS 4096
#define POISON 0xa5

__host__ __device__ static inline unsigned expected(unsigned i)
{
    return i * 2654435761u + 12345u;
}

__global__ void __launch_bounds__(256) self_test_kernel(unsigned n, unsigned *out)
{
    const unsigned i = blockIdx.x * 256 + threadIdx.x;
    if (i < n) {
        out[i] = expected(i);
    }
}

static const char what[] = "the self-test of the kernels";

// Why a kernel cannot be started at all.
static lw_status not_started(const lw_cuda *c, lw_error *err, cudaError_t code)
{
    char built[128];
    lw_cuda_architectures(built, sizeof built);
    if (code == cudaErrorUnsupportedPtxVersion) {
        (void)cudaGetLastError();
        return lw_fail(
            err, LW_ERR_DEVICE,
            "cuda: this lwmpi was built for %s; %s is sm_%d%d, and its driver is too old to translate the PTX: "
            "update the driver, or rebuild with -DCMAKE_CUDA_ARCHITECTURES=%d%d",
            built, c->info.name, c->info.major, c->info.minor, c->info.major, c->info.minor);
    }
    if (code == cudaErrorNoKernelImageForDevice || code == cudaErrorInvalidDeviceFunction ||
        code == cudaErrorInvalidKernelImage) {
        (void)cudaGetLastError();
        return lw_fail(err, LW_ERR_DEVICE,
                       "cuda: this lwmpi was built for %s; %s is sm_%d%d: rebuild with -DCMAKE_CUDA_ARCHITECTURES=%d%d "
                       "(%s)",
                       built, c->info.name, c->info.major, c->info.minor, c->info.major, c->info.minor,
                       cudaGetErrorString(code));
    }
    return lw_cuda_status(err, code, what);
}

// Writes a pattern over the first elements of c->partial and reads it back.
lw_status lw_cuda_self_test(lw_cuda *c, lw_error *err)
{
    unsigned got[ELEMENTS];
    unsigned *out = reinterpret_cast<unsigned *>(c->partial);
    cudaFuncAttributes attributes;
    cudaError_t code = cudaFuncGetAttributes(&attributes, reinterpret_cast<const void *>(self_test_kernel));
    if (code != cudaSuccess) {
        return not_started(c, err, code);
    }
    LW_TRY(lw_cuda_status(err, cudaMemsetAsync(out, POISON, sizeof got, c->stream), what));
    LW_LAUNCH(self_test_kernel, ELEMENTS / 256, 256, 0, c->stream, (unsigned)ELEMENTS, out);
    code = cudaGetLastError();
    if (code != cudaSuccess) {
        return not_started(c, err, code);
    }
    LW_TRY(lw_cuda_status(err, cudaMemcpyAsync(got, out, sizeof got, cudaMemcpyDeviceToHost, c->stream), what));
    const lw_status status = lw_cuda_sync(&c->base, err);
    if (status != LW_OK) {
        return lw_fail_in(err, status, "%s", what);
    }
    for (unsigned i = 0; i < ELEMENTS; i++) {
        if (got[i] != expected(i)) {
            return lw_fail(
                err, LW_ERR_DEVICE,
                "cuda: %s (GPU %d) does not compute what it is told: element %u of the self-test is %#x, not "
                "%#x; look for hardware errors with nvidia-smi -q and dmesg",
                c->info.name, c->index, i, got[i], expected(i));
        }
    }
    return LW_OK;
}
