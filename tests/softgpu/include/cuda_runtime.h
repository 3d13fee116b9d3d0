// cuda_runtime.h of the software GPU: what a kernel may use, and overloads that only C++ has.
#ifndef SOFTGPU_CUDA_RUNTIME_H
#define SOFTGPU_CUDA_RUNTIME_H

#include "cuda_runtime_api.h"

#ifdef __cplusplus

#include <math.h>
#include <string.h>

#include <type_traits>

// --- words of the language

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
// One block runs at a time, on one thread of the host: a static variable is as good as one of the block. Before each
// block all of them are overwritten; the runtime finds them because nothing else in the program is in their place
// (GCC ignores sections on variables of templates; with it they are the program's only thread-local variables).
#ifdef __clang__
#define __shared__ static __attribute__((section("softgpu_shared")))
#else
#define __shared__ static thread_local
#endif

// --- vector types

struct uint3 {
    unsigned int x, y, z;
};
struct dim3 {
    unsigned int x, y, z;
    constexpr dim3(unsigned int x_ = 1, unsigned int y_ = 1, unsigned int z_ = 1) : x(x_), y(y_), z(z_) {}
};

#define SOFTGPU_VECTOR(type, name)                                        \
    struct alignas(2 * sizeof(type)) name##2                              \
    {                                                                     \
        type x, y;                                                        \
    };                                                                    \
    struct alignas(4 * sizeof(type) < 16 ? 4 * sizeof(type) : 16) name##4 \
    {                                                                     \
        type x, y, z, w;                                                  \
    };                                                                    \
    static inline name##2 make_##name##2(type x, type y)                  \
    {                                                                     \
        return {x, y};                                                    \
    }                                                                     \
    static inline name##4 make_##name##4(type x, type y, type z, type w)  \
    {                                                                     \
        return {x, y, z, w};                                              \
    }
SOFTGPU_VECTOR(float, float)
SOFTGPU_VECTOR(int, int)
SOFTGPU_VECTOR(unsigned int, uint)
SOFTGPU_VECTOR(unsigned short, ushort)
SOFTGPU_VECTOR(unsigned char, uchar)
#undef SOFTGPU_VECTOR
struct float3 {
    float x, y, z;
};
struct alignas(16) double2 {
    double x, y;
};
struct alignas(16) longlong2 {
    long long x, y;
};
struct alignas(16) ulonglong2 {
    unsigned long long x, y;
};
static inline double2 make_double2(double x, double y)
{
    return {x, y};
}

// --- the place of a thread

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

// --- barriers and warps (block.cpp)

namespace softgpu
{

struct Site { // where in the source a barrier or a shuffle stands
    const char *file;
    int line;
};

enum class WarpCall { sync, shuffle, ballot, any, all };

void barrier(Site site);
int lane();
// All lanes of `mask` come; each brings `value` and gets what `source` brought (shuffle), or the vote's outcome.
uint64_t warp(WarpCall call, unsigned int mask, uint64_t value, int source, Site site);

template <typename T> T shuffle(unsigned int mask, T value, int source, Site site)
{
    static_assert(std::is_trivially_copyable<T>::value && (sizeof(T) == 4 || sizeof(T) == 8), "4 or 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = warp(WarpCall::shuffle, mask, bits, source, site);
    memcpy(&value, &bits, sizeof value);
    return value;
}

// The first lane of this lane's group of `width`.
static inline int group(int width)
{
    return lane() & ~(width - 1);
}

} // namespace softgpu

#define SOFTGPU_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

static inline void __syncthreads(SOFTGPU_HERE)
{
    softgpu::barrier({file, line});
}
static inline void __syncwarp(unsigned int mask = 0xffffffffU, SOFTGPU_HERE)
{
    (void)softgpu::warp(softgpu::WarpCall::sync, mask, 0, softgpu::lane(), {file, line});
}
static inline unsigned int __ballot_sync(unsigned int mask, int predicate, SOFTGPU_HERE)
{
    return (unsigned int)softgpu::warp(softgpu::WarpCall::ballot, mask, predicate != 0, 0, {file, line});
}
static inline int __any_sync(unsigned int mask, int predicate, SOFTGPU_HERE)
{
    return (int)softgpu::warp(softgpu::WarpCall::any, mask, predicate != 0, 0, {file, line});
}
static inline int __all_sync(unsigned int mask, int predicate, SOFTGPU_HERE)
{
    return (int)softgpu::warp(softgpu::WarpCall::all, mask, predicate != 0, 0, {file, line});
}
template <typename T> T __shfl_sync(unsigned int mask, T value, int source, int width = 32, SOFTGPU_HERE)
{
    int from = softgpu::group(width) + (source & (width - 1));
    return softgpu::shuffle(mask, value, from, {file, line});
}
template <typename T> T __shfl_xor_sync(unsigned int mask, T value, int lanes, int width = 32, SOFTGPU_HERE)
{
    int from = softgpu::lane() ^ lanes;
    from = from < softgpu::group(width) + width ? from : softgpu::lane();
    return softgpu::shuffle(mask, value, from, {file, line});
}
template <typename T> T __shfl_down_sync(unsigned int mask, T value, unsigned int by, int width = 32, SOFTGPU_HERE)
{
    int from = softgpu::lane() + (int)by;
    from = from < softgpu::group(width) + width ? from : softgpu::lane();
    return softgpu::shuffle(mask, value, from, {file, line});
}
template <typename T> T __shfl_up_sync(unsigned int mask, T value, unsigned int by, int width = 32, SOFTGPU_HERE)
{
    int from = softgpu::lane() - (int)by;
    from = from >= softgpu::group(width) ? from : softgpu::lane();
    return softgpu::shuffle(mask, value, from, {file, line});
}
static inline void __threadfence() {}
static inline void __threadfence_block() {}

// --- atomics: threads change only at barriers, so plain updates are atomic

template <typename T> T softgpu_exchange(T *at, T value)
{
    T old = *at;
    *at = value;
    return old;
}
static inline int atomicAdd(int *at, int value)
{
    return softgpu_exchange(at, (int)((unsigned int)*at + (unsigned int)value));
}
static inline unsigned int atomicAdd(unsigned int *at, unsigned int value)
{
    return softgpu_exchange(at, *at + value);
}
static inline int atomicMax(int *at, int value)
{
    return softgpu_exchange(at, *at > value ? *at : value);
}
static inline unsigned int atomicMax(unsigned int *at, unsigned int value)
{
    return softgpu_exchange(at, *at > value ? *at : value);
}

// --- arithmetic

template <typename T> T __ldg(const T *at)
{
    return *at;
}
template <typename To, typename From> To softgpu_bits(From value)
{
    static_assert(sizeof(To) == sizeof(From), "same size");
    To out;
    memcpy(&out, &value, sizeof out);
    return out;
}
static inline unsigned int __float_as_uint(float x)
{
    return softgpu_bits<unsigned int>(x);
}
static inline float __uint_as_float(unsigned int x)
{
    return softgpu_bits<float>(x);
}
static inline int __float_as_int(float x)
{
    return softgpu_bits<int>(x);
}
static inline float __int_as_float(int x)
{
    return softgpu_bits<float>(x);
}
static inline unsigned int __umulhi(unsigned int a, unsigned int b)
{
    return (unsigned int)(((unsigned long long)a * b) >> 32);
}
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
    return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}
static inline long long __mul64hi(long long a, long long b)
{
    return (long long)(((__int128)a * b) >> 64);
}
static inline int __popc(unsigned int x)
{
    return __builtin_popcount(x);
}
static inline int __clz(int x)
{
    return x == 0 ? 32 : __builtin_clz((unsigned int)x);
}
static inline int __ffs(int x)
{
    return __builtin_ffs(x);
}
static inline float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}
#define __expf(x) expf(x) // glibc has functions of these names
#define __logf(x) logf(x)
static inline float __fdividef(float a, float b)
{
    return a / b;
}
static inline float __fmaf_rn(float a, float b, float c)
{
    return fmaf(a, b, c);
}
static inline float __fadd_rn(float a, float b)
{
    return a + b;
}
static inline float __fmul_rn(float a, float b)
{
    return a * b;
}
using std::isfinite;
using std::isinf;
using std::isnan;
static inline int min(int a, int b)
{
    return a < b ? a : b;
}
static inline int max(int a, int b)
{
    return a > b ? a : b;
}
static inline unsigned int min(unsigned int a, unsigned int b)
{
    return a < b ? a : b;
}
static inline unsigned int max(unsigned int a, unsigned int b)
{
    return a > b ? a : b;
}
static inline long long min(long long a, long long b)
{
    return a < b ? a : b;
}
static inline long long max(long long a, long long b)
{
    return a > b ? a : b;
}
static inline float min(float a, float b)
{
    return fminf(a, b);
}
static inline float max(float a, float b)
{
    return fmaxf(a, b);
}

// --- overloads of the host side

template <typename T> cudaError_t cudaMalloc(T **out, size_t bytes)
{
    return cudaMalloc(reinterpret_cast<void **>(out), bytes);
}
template <typename T> cudaError_t cudaMallocHost(T **out, size_t bytes)
{
    return cudaMallocHost(reinterpret_cast<void **>(out), bytes);
}
template <typename T> cudaError_t cudaHostAlloc(T **out, size_t bytes, unsigned int flags)
{
    return cudaHostAlloc(reinterpret_cast<void **>(out), bytes, flags);
}
template <typename... P>
cudaError_t cudaFuncSetAttribute(void (*function)(P...), enum cudaFuncAttribute attr, int value)
{
    return cudaFuncSetAttribute(reinterpret_cast<const void *>(function), attr, value);
}
template <typename... P> cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *out, void (*function)(P...))
{
    return cudaFuncGetAttributes(out, reinterpret_cast<const void *>(function));
}

#include "softgpu_launch.h"

#endif
#endif
