// cuda_internal.cuh: what the files of the CUDA device share.
//
// An operator is a host function lw_cuda_NAME that launches kernels on the device's one stream and returns; it never
// waits, never allocates, and can be recorded (replay). Sums are taken in an order that depends on the shape alone,
// and no kernel uses a float atomic: the same inputs give the same bits.
#ifndef LW_CUDA_INTERNAL_CUH
#define LW_CUDA_INTERNAL_CUH

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "launch.cuh"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

extern "C" {
#include "device/device.h"
}
#include "device_cuda.h"

// --- the device

typedef struct lw_cuda_staging lw_cuda_staging; // transfer.cu
typedef struct lw_cuda_records lw_cuda_records; // replay.cu
typedef struct lw_cublas lw_cublas;             // cublas.cuh

// Floats of lw_cuda.partial.
#define LW_CUDA_PARTIALS ((int64_t)1 << 20)
// See lw_cuda_pace.
#define LW_CUDA_MARKS 4

typedef struct lw_cuda_block { // of `alloc`
    void *memory;
    size_t bytes;
} lw_cuda_block;

typedef struct lw_cuda {
    lw_device base; // first: a lw_device * is a lw_cuda *
    int index;      // of the GPU
    lw_cuda_info info;
    cudaStream_t stream;
    cudaEvent_t reached; // of waits for all that is enqueued
    cudaEvent_t marks[LW_CUDA_MARKS];
    uint64_t launches; // since it was opened
    float *partial;    // (LW_CUDA_PARTIALS) partial sums between the two kernels of an operator, in stream order
    lw_cuda_staging *staging;
    lw_cuda_records *records;
    lw_cublas *blas;
    lw_cuda_block *blocks;
    size_t block_count, block_room;
    bool capturing;    // what is enqueued now is recorded, not run
    bool lost;         // work was not done in time: nothing is waited for any more
    char failure[512]; // text of the first error since the last sync; empty when none
} lw_cuda;

static inline lw_cuda *lw_cuda_of(lw_device *dev)
{
    return reinterpret_cast<lw_cuda *>(dev);
}

// Remembers the first error for sync.
__attribute__((format(printf, 2, 3))) void lw_cuda_fail(lw_device *dev, const char *format, ...);

// False, with the error remembered as one of operator `op`, when a call of the CUDA runtime failed.
bool lw_cuda_check(lw_device *dev, const char *op, cudaError_t code);

// Waits until all enqueued work is done, or what was enqueued in front of `event`, at most dev->timeout_s. False after
// a failure, which is remembered as one of operator `op`.
bool lw_cuda_wait(lw_device *dev, const char *op);
bool lw_cuda_wait_event(lw_device *dev, const char *op, cudaEvent_t event);

// After every launch and copy: the driver holds about a thousand, and makes the host wait for room without a deadline.
// So that it never does, the host waits when some hundreds are under way.
void lw_cuda_pace(lw_cuda *c);

// After every launch.
static inline bool lw_cuda_launched(lw_device *dev, const char *op)
{
    const bool launched = lw_cuda_check(dev, op, cudaGetLastError());
    lw_cuda_pace(lw_cuda_of(dev));
    return launched;
}

// LW_ERR_DEVICE or LW_ERR_MEMORY with the runtime's words, for calls that can say so at once.
lw_status lw_cuda_status(lw_error *err, cudaError_t code, const char *what);

// Blocks for `work` items, `per_block` at a time, of a kernel that strides over the grid: at most 16 a multiprocessor.
static inline unsigned lw_cuda_grid(lw_device *dev, int64_t work, int64_t per_block)
{
    const int64_t blocks = (work + per_block - 1) / per_block;
    const int64_t most = (int64_t)lw_cuda_of(dev)->info.multiprocessors * 16;
    return (unsigned)(blocks < 1 ? 1 : blocks < most ? blocks : most);
}

// Blocks of a kernel that has one a row: fails when there are more than a grid holds.
bool lw_cuda_rows_fit(lw_device *dev, const char *op, int64_t rows);

// Whether a pointer can be read 16 bytes at a time.
static inline bool lw_aligned16(const void *p)
{
    return reinterpret_cast<uintptr_t>(p) % 16 == 0;
}

// Runs the statements with T as the element type that `type` names, F32 or BF16; another type is an error of `op`.
//     LW_FOR_TYPE(dev, "swiglu", type, T, { LW_LAUNCH((kernel<T>), ...); });
#define LW_FOR_TYPE(dev, op, type, T, ...)                                           \
    do {                                                                             \
        if ((type) == LW_F32) {                                                      \
            typedef float T;                                                         \
            __VA_ARGS__                                                              \
        } else if ((type) == LW_BF16) {                                              \
            typedef __nv_bfloat16 T;                                                 \
            __VA_ARGS__                                                              \
        } else {                                                                     \
            lw_cuda_fail(dev, "cuda: %s does not take %s", op, lw_dtype_name(type)); \
        }                                                                            \
    } while (0)

// --- elements in device memory, computed with as floats

__device__ __forceinline__ float lw_load(const float *p)
{
    return *p;
}

__device__ __forceinline__ float lw_load(const __nv_bfloat16 *p)
{
    return __bfloat162float(*p);
}

__device__ __forceinline__ float lw_load(const __half *p)
{
    return __half2float(*p);
}

__device__ __forceinline__ void lw_store(float *p, float x)
{
    *p = x;
}

__device__ __forceinline__ void lw_store(__nv_bfloat16 *p, float x)
{
    *p = __float2bfloat16_rn(x);
}

__device__ __forceinline__ void lw_store(__half *p, float x)
{
    *p = __float2half_rn(x);
}

// Two bf16 side by side in 32 bits, the first in the low half.
__device__ __forceinline__ unsigned lw_pack_bf16(float low, float high)
{
    return (unsigned)__bfloat16_as_ushort(__float2bfloat16_rn(low)) |
           (unsigned)__bfloat16_as_ushort(__float2bfloat16_rn(high)) << 16;
}

__device__ __forceinline__ void lw_unpack_bf16(unsigned bits, float *low, float *high)
{
    *low = __uint_as_float(bits << 16);
    *high = __uint_as_float(bits & 0xffff0000u);
}

// Four elements at an address that is a multiple of their size.
__device__ __forceinline__ void lw_load4(const float *p, float (&x)[4])
{
    const float4 a = *reinterpret_cast<const float4 *>(p);
    x[0] = a.x, x[1] = a.y, x[2] = a.z, x[3] = a.w;
}

__device__ __forceinline__ void lw_load4(const __nv_bfloat16 *p, float (&x)[4])
{
    const uint2 a = *reinterpret_cast<const uint2 *>(p);
    lw_unpack_bf16(a.x, &x[0], &x[1]);
    lw_unpack_bf16(a.y, &x[2], &x[3]);
}

__device__ __forceinline__ void lw_load4(const __half *p, float (&x)[4])
{
#pragma unroll
    for (int i = 0; i < 4; i++) { // only files hold F16
        x[i] = __half2float(p[i]);
    }
}

__device__ __forceinline__ void lw_store4(__half *p, const float (&x)[4])
{
#pragma unroll
    for (int i = 0; i < 4; i++) {
        p[i] = __float2half_rn(x[i]);
    }
}

__device__ __forceinline__ void lw_store4(float *p, const float (&x)[4])
{
    *reinterpret_cast<float4 *>(p) = make_float4(x[0], x[1], x[2], x[3]);
}

__device__ __forceinline__ void lw_store4(__nv_bfloat16 *p, const float (&x)[4])
{
    *reinterpret_cast<uint2 *>(p) = make_uint2(lw_pack_bf16(x[0], x[1]), lw_pack_bf16(x[2], x[3]));
}

// The same for the row's end and for rows that are not aligned: `left` elements are there (none when <= 0), zeros after
// them. `vector`: the address is a multiple of the size of four elements, and so is `left`.
template <typename T>
__device__ __forceinline__ void lw_load4_part(const T *p, int64_t left, bool vector, float (&x)[4])
{
    if (vector && left > 0) {
        lw_load4(p, x);
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        x[i] = i < left ? lw_load(p + i) : 0.0f;
    }
}

template <typename T>
__device__ __forceinline__ void lw_store4_part(T *p, int64_t left, bool vector, const float (&x)[4])
{
    if (vector && left > 0) {
        lw_store4(p, x);
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (i < left) {
            lw_store(p + i, x[i]);
        }
    }
}

// Eight elements at an address that is a multiple of 16 bytes.
__device__ __forceinline__ void lw_load8(const float *p, float (&x)[8])
{
    const float4 a = reinterpret_cast<const float4 *>(p)[0], b = reinterpret_cast<const float4 *>(p)[1];
    x[0] = a.x, x[1] = a.y, x[2] = a.z, x[3] = a.w;
    x[4] = b.x, x[5] = b.y, x[6] = b.z, x[7] = b.w;
}

__device__ __forceinline__ void lw_load8(const __nv_bfloat16 *p, float (&x)[8])
{
    const uint4 a = *reinterpret_cast<const uint4 *>(p);
    lw_unpack_bf16(a.x, &x[0], &x[1]);
    lw_unpack_bf16(a.y, &x[2], &x[3]);
    lw_unpack_bf16(a.z, &x[4], &x[5]);
    lw_unpack_bf16(a.w, &x[6], &x[7]);
}

__device__ __forceinline__ void lw_store8(float *p, const float (&x)[8])
{
    reinterpret_cast<float4 *>(p)[0] = make_float4(x[0], x[1], x[2], x[3]);
    reinterpret_cast<float4 *>(p)[1] = make_float4(x[4], x[5], x[6], x[7]);
}

__device__ __forceinline__ void lw_store8(__nv_bfloat16 *p, const float (&x)[8])
{
    *reinterpret_cast<uint4 *>(p) = make_uint4(lw_pack_bf16(x[0], x[1]), lw_pack_bf16(x[2], x[3]),
                                               lw_pack_bf16(x[4], x[5]), lw_pack_bf16(x[6], x[7]));
}

// W neighbouring elements: 1, or 2, 4 or 8 at an address that is a multiple of their size (16 bytes at most).
template <int W, typename T> __device__ __forceinline__ void lw_load_vector(const T *p, float (&x)[W])
{
    if constexpr (W == 8) {
        lw_load8(p, x);
    } else if constexpr (W == 4) {
        lw_load4(p, x);
    } else if constexpr (W == 2 && sizeof(T) == 4) {
        const float2 a = *reinterpret_cast<const float2 *>(p);
        x[0] = a.x, x[1] = a.y;
    } else if constexpr (W == 2) {
        lw_unpack_bf16(*reinterpret_cast<const unsigned *>(p), &x[0], &x[1]);
    } else {
        x[0] = lw_load(p);
    }
}

template <int W, typename T> __device__ __forceinline__ void lw_store_vector(T *p, const float (&x)[W])
{
    if constexpr (W == 8) {
        lw_store8(p, x);
    } else if constexpr (W == 4) {
        lw_store4(p, x);
    } else if constexpr (W == 2 && sizeof(T) == 4) {
        *reinterpret_cast<float2 *>(p) = make_float2(x[0], x[1]);
    } else if constexpr (W == 2) {
        *reinterpret_cast<unsigned *>(p) = lw_pack_bf16(x[0], x[1]);
    } else {
        lw_store(p, x[0]);
    }
}

// --- reductions; every lane of the warp, every thread of the block takes part and gets the result

#define LW_ALL_LANES 0xffffffffu
#define LW_MAX_WARPS 32 // of a block

template <typename T> __device__ __forceinline__ T lw_warp_sum(T x)
{
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
        x += __shfl_xor_sync(LW_ALL_LANES, x, offset);
    }
    return x;
}

__device__ __forceinline__ float lw_warp_max(float x)
{
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
        x = fmaxf(x, __shfl_xor_sync(LW_ALL_LANES, x, offset));
    }
    return x;
}

// Sums over the block, of whole warps in x alone, in order of the warps. `shared` has a place for each warp and can be
// used again at once.
template <typename T> __device__ __forceinline__ T lw_block_sum(T x, T *shared)
{
    const int warps = (int)(blockDim.x / 32);
    x = lw_warp_sum(x);
    if (threadIdx.x % 32 == 0) {
        shared[threadIdx.x / 32] = x;
    }
    __syncthreads();
    T sum = 0;
    for (int w = 0; w < warps; w++) {
        sum += shared[w];
    }
    __syncthreads();
    return sum;
}

// --- parts of the device

// Device memory that is no `alloc`: of the device itself. LW_ERR_MEMORY says who holds how much.
lw_status lw_cuda_take(lw_cuda *c, size_t bytes, lw_error *err, void **out); // device.cu

lw_status lw_cuda_staging_open(lw_cuda *c, lw_error *err); // transfer.cu
void lw_cuda_staging_close(lw_cuda *c);
void lw_cuda_deliver(lw_cuda *c, bool valid); // the host side of downloads, after the stream was waited for
lw_status lw_cuda_records_open(lw_cuda *c, lw_error *err); // replay.cu
void lw_cuda_records_close(lw_cuda *c);
lw_status lw_cublas_open(lw_cuda *c, lw_error *err); // cublas.cu
void lw_cublas_close(lw_cuda *c);
lw_status lw_cuda_self_test(lw_cuda *c, lw_error *err); // self_test.cu
const lw_device_ops *lw_cuda_ops(void);                 // table.cu
void lw_cuda_runtime_version(char *out, size_t size);   // info.cu: "13.0"

// dg, db += the sums over the rows of dy xhat and dy: the part of layernorm_backward that goes down the columns.
void lw_cuda_layernorm_columns(lw_device *dev, const lw_layernorm_backward_args *a); // columns.cu

// --- operators, see src/device/device.h

#define LW_CUDA_DECLARE(op) lw_op_##op lw_cuda_##op;
LW_DEVICE_FUNCTIONS(LW_CUDA_DECLARE)
LW_OPERATORS(LW_CUDA_DECLARE)
#undef LW_CUDA_DECLARE

#endif
