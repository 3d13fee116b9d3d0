// softgpu_misuse NAME: does one forbidden thing, which the software GPU has to catch. Exit code 0: it was not caught.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cublasLt.h>

#include "kernels/cuda/launch.cuh"

static const unsigned ALL = 0xffffffffU;

static float *memory(size_t count)
{
    float *x = nullptr;
    if (cudaMalloc(&x, count * sizeof *x) != cudaSuccess || cudaMemset(x, 0, count * sizeof *x) != cudaSuccess) {
        exit(3);
    }
    return x;
}

static void finish()
{
    cudaError_t error = cudaDeviceSynchronize();
    if (error != cudaSuccess) {
        printf("%s\n", cudaGetErrorName(error));
        exit(4);
    }
}

static __global__ void write_at(float *x, long at)
{
    x[at] = 1.0f;
}

static __global__ void read_at(const float *x, long at, float *out)
{
    out[0] = x[at];
}

static __global__ void half_barrier()
{
    if (threadIdx.x < 16) {
        __syncthreads();
    }
}

static __global__ void early_end()
{
    if (threadIdx.x == 5) {
        return;
    }
    __syncthreads();
}

static __global__ void two_barriers()
{
    if (threadIdx.x < 32) {
        __syncthreads();
    } else {
        __syncthreads();
    }
}

static __global__ void missing_lane(float *x)
{
    if (threadIdx.x != 7) {
        x[threadIdx.x] = __shfl_xor_sync(ALL, x[threadIdx.x], 1);
    } else {
        __syncthreads();
    }
}

static __global__ void ended_lane(float *x)
{
    if (threadIdx.x < 24) {
        x[threadIdx.x] = __shfl_xor_sync(ALL, x[threadIdx.x], 16);
    }
}

static __global__ void outside_mask(float *x)
{
    if (threadIdx.x < 16) {
        x[threadIdx.x] = __shfl_sync(0xffffU, x[threadIdx.x], 20);
    }
}

static __global__ void not_in_mask()
{
    __syncwarp(0xfffeU);
}

static __global__ void different_calls(float *x)
{
    if (threadIdx.x < 16) {
        x[threadIdx.x] = __shfl_xor_sync(ALL, x[threadIdx.x], 1);
    } else {
        x[threadIdx.x] = (float)__ballot_sync(ALL, 1);
    }
}

static __global__ void shared_overrun(int at)
{
    LW_DYNAMIC_SHARED(float, tile);
    tile[at] = 1.0f;
}

static __global__ void deep(volatile char *at, int depth)
{
    volatile char room[1024];
    room[0] = at != nullptr ? at[0] : 0;
    if (depth > 0) {
        deep(room, depth - 1);
    }
    room[1] = room[0];
}

struct Pair {
    long number;
    const float *pointer;
};

static __global__ void through_struct(Pair p, float *out)
{
    out[0] = p.pointer[0];
}

static void host_read()
{
    printf("%g\n", (double)memory(10)[3]);
}

static void host_write()
{
    memset(memory(10), 0, 40);
}

static void near_write()
{
    LW_LAUNCH(write_at, 1, 1, 0, nullptr, memory(10), 11L);
    finish();
}

static void near_write_before()
{
    LW_LAUNCH(write_at, 1, 1, 0, nullptr, memory(10), -1L);
    finish();
}

static void far_read()
{
    float *x = memory(10);
    LW_LAUNCH(read_at, 1, 1, 0, nullptr, x, 5000L, x);
    finish();
}

static void after_free()
{
    float *x = memory(10);
    (void)cudaFree(x);
    LW_LAUNCH(write_at, 1, 1, 0, nullptr, x, 0L);
    finish();
}

static void null_pointer()
{
    LW_LAUNCH(write_at, 1, 1, 0, nullptr, static_cast<float *>(nullptr), 0L);
    finish();
}

static void host_argument()
{
    float local = 0.0f;
    LW_LAUNCH(write_at, 1, 1, 0, nullptr, &local, 0L);
    finish();
}

static void host_in_struct()
{
    float *heap = static_cast<float *>(malloc(64));
    LW_LAUNCH(through_struct, 1, 1, 0, nullptr, (Pair{1, heap}), memory(1));
    finish();
    free(heap);
}

static void other_device()
{
    float *x = memory(10);
    (void)cudaSetDevice(1);
    LW_LAUNCH(write_at, 1, 1, 0, nullptr, x, 0L);
    finish();
}

static void copy_overrun()
{
    static float host[20];
    (void)cudaMemcpy(host, memory(10), sizeof host, cudaMemcpyDeviceToHost);
}

static void fill_overrun()
{
    (void)cudaMemset(memory(10), 0, 44);
}

static void pinned_overrun()
{
    float *pinned = nullptr;
    (void)cudaMallocHost(&pinned, 40);
    (void)cudaMemcpyAsync(pinned, memory(20), 80, cudaMemcpyDeviceToHost);
}

// A product of 8 x 8 matrices whose A lies `shift` floats off.
static void product(int shift, bool other_problem)
{
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t layout, wide;
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t result;
    int found = 0;
    float one = 1.0f, zero = 0.0f;
    float *x = memory(4096);
    bool good = cublasLtCreate(&handle) == CUBLAS_STATUS_SUCCESS &&
                cublasLtMatmulDescCreate(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
                cublasLtMatrixLayoutCreate(&layout, CUDA_R_32F, 8, 8, 8) == CUBLAS_STATUS_SUCCESS &&
                cublasLtMatrixLayoutCreate(&wide, CUDA_R_32F, 8, 8, 9) == CUBLAS_STATUS_SUCCESS &&
                cublasLtMatmulPreferenceCreate(&preference) == CUBLAS_STATUS_SUCCESS &&
                cublasLtMatmulAlgoGetHeuristic(handle, desc, layout, layout, layout, layout, preference, 1, &result,
                                               &found) == CUBLAS_STATUS_SUCCESS;
    if (!good || found != 1) {
        exit(3);
    }
    (void)cublasLtMatmul(handle, desc, &one, x + shift, layout, x + 1024, other_problem ? wide : layout, &zero,
                         x + 2048, layout, x + 2048, layout, &result.algo, nullptr, 0, nullptr);
    finish();
}

static void misaligned_product()
{
    product(4, false);
}

static void other_algorithm()
{
    product(0, true);
}

static const struct {
    const char *name;
    void (*act)();
} acts[] = {
    {"host_read", host_read},
    {"host_write", host_write},
    {"near_write", near_write},
    {"near_write_before", near_write_before},
    {"far_read", far_read},
    {"after_free", after_free},
    {"null_pointer", null_pointer},
    {"host_argument", host_argument},
    {"host_in_struct", host_in_struct},
    {"other_device", other_device},
    {"copy_overrun", copy_overrun},
    {"fill_overrun", fill_overrun},
    {"pinned_overrun", pinned_overrun},
    {"misaligned_product", misaligned_product},
    {"other_algorithm", other_algorithm},
    {"half_barrier",
     [] {
         LW_LAUNCH(half_barrier, 1, 64, 0, nullptr);
         finish();
     }},
    {"early_end",
     [] {
         LW_LAUNCH(early_end, 2, 64, 0, nullptr);
         finish();
     }},
    {"two_barriers",
     [] {
         LW_LAUNCH(two_barriers, 1, 64, 0, nullptr);
         finish();
     }},
    {"missing_lane",
     [] {
         LW_LAUNCH(missing_lane, 1, 32, 0, nullptr, memory(32));
         finish();
     }},
    {"ended_lane",
     [] {
         LW_LAUNCH(ended_lane, 1, 32, 0, nullptr, memory(32));
         finish();
     }},
    {"outside_mask",
     [] {
         LW_LAUNCH(outside_mask, 1, 32, 0, nullptr, memory(32));
         finish();
     }},
    {"not_in_mask",
     [] {
         LW_LAUNCH(not_in_mask, 1, 32, 0, nullptr);
         finish();
     }},
    {"different_calls",
     [] {
         LW_LAUNCH(different_calls, 1, 32, 0, nullptr, memory(32));
         finish();
     }},
    {"shared_overrun",
     [] {
         LW_LAUNCH(shared_overrun, 1, 1, 1024, nullptr, 256);
         finish();
     }},
    {"deep_stack",
     [] {
         LW_LAUNCH(deep, 1, 1, 0, nullptr, static_cast<char *>(nullptr), 2000);
         finish();
     }},
};

int main(int argc, char **argv)
{
    for (const auto &act : acts) {
        if (argc == 2 && strcmp(argv[1], act.name) == 0) {
            act.act();
            return 0;
        }
        if (argc == 1) {
            printf("%s\n", act.name);
        }
    }
    return argc == 1 ? 0 : 2;
}
