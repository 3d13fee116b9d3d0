// cuda_fp16.h of the software GPU.
#ifndef SOFTGPU_CUDA_FP16_H
#define SOFTGPU_CUDA_FP16_H

#include "cuda_runtime.h"

#ifdef __cplusplus

struct __half {
    unsigned short softgpu_bits_;
};
typedef __half half;

static inline __half __ushort_as_half(unsigned short bits)
{
    return {bits};
}
static inline unsigned short __half_as_ushort(__half x)
{
    return x.softgpu_bits_;
}
static inline float __half2float(__half h)
{
    unsigned int sign = (unsigned int)(h.softgpu_bits_ & 0x8000U) << 16;
    unsigned int exponent = (h.softgpu_bits_ >> 10) & 0x1fU, fraction = h.softgpu_bits_ & 0x3ffU;
    if (exponent == 0x1fU) {
        return __uint_as_float(sign | 0x7f800000U | (fraction << 13));
    }
    if (exponent == 0) {
        float small = (float)fraction * 0x1p-24f;
        return sign != 0 ? -small : small;
    }
    return __uint_as_float(sign | ((exponent + 112U) << 23) | (fraction << 13));
}
// Round to nearest, ties to even; every NaN becomes the canonical one.
static inline __half __float2half_rn(float x)
{
    if (x != x) {
        return {0x7fff};
    }
    unsigned short sign = (unsigned short)((__float_as_uint(x) >> 16) & 0x8000U);
    float size = fabsf(x);
    if (size >= 65520.0f) {
        return {(unsigned short)(sign | 0x7c00U)};
    }
    if (size < 0x1p-14f) { // a multiple of 2^-24: the processor rounds
        return {(unsigned short)(sign | (unsigned short)nearbyintf(size * 0x1p24f))};
    }
    unsigned int bits = __float_as_uint(size);
    bits = (bits + 0xfffU + ((bits >> 13) & 1U)) >> 13;
    return {(unsigned short)(sign | (unsigned short)(bits - (112U << 10)))};
}
static inline __half __float2half(float x)
{
    return __float2half_rn(x);
}

#endif
#endif
