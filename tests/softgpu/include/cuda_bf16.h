// cuda_bf16.h of the software GPU.
#ifndef SOFTGPU_CUDA_BF16_H
#define SOFTGPU_CUDA_BF16_H

#include "cuda_runtime.h"

#ifdef __cplusplus

struct __nv_bfloat16 {
    unsigned short softgpu_bits_;
};
struct alignas(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
};
typedef __nv_bfloat16 nv_bfloat16;
typedef __nv_bfloat162 nv_bfloat162;

static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits)
{
    return {bits};
}
static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x)
{
    return x.softgpu_bits_;
}
// Round to nearest, ties to even; every NaN becomes the canonical one.
static inline __nv_bfloat16 __float2bfloat16_rn(float x)
{
    unsigned int bits = __float_as_uint(x);
    if (x != x) {
        return {0x7fff};
    }
    return {(unsigned short)((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16)};
}
static inline __nv_bfloat16 __float2bfloat16(float x)
{
    return __float2bfloat16_rn(x);
}
static inline float __bfloat162float(__nv_bfloat16 x)
{
    return __uint_as_float((unsigned int)x.softgpu_bits_ << 16);
}
static inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y)
{
    return {__float2bfloat16_rn(x), __float2bfloat16_rn(y)};
}
static inline float2 __bfloat1622float2(__nv_bfloat162 v)
{
    return {__bfloat162float(v.x), __bfloat162float(v.y)};
}
static inline float __low2float(__nv_bfloat162 v)
{
    return __bfloat162float(v.x);
}
static inline float __high2float(__nv_bfloat162 v)
{
    return __bfloat162float(v.y);
}
static inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y)
{
    return {x, y};
}

#endif
#endif
