// half.h: 16-bit floats and their conversion to and from f32: bfloat16 (the upper half of binary32) and IEEE 754-2019
// binary16. Local.
//
// Everything is inline, so that the loops are vectorised for the instruction set of the file that holds them.
#ifndef LW_HALF_H
#define LW_HALF_H

#include <stdint.h>
#include <string.h>

#include "core/dtype.h"

static inline float lw_float_of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint32_t lw_bits_of_float(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float lw_bf16_to_f32(uint16_t h)
{
    return lw_float_of_bits((uint32_t)h << 16);
}

// Rounds to nearest, ties to even; NaN stays NaN.
static inline uint16_t lw_f32_to_bf16(float x)
{
    uint32_t bits = lw_bits_of_float(x);
    uint32_t rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
    uint32_t nan = (bits >> 16) | 0x40U;
    return (uint16_t)((bits & 0x7fffffffU) > 0x7f800000U ? nan : rounded);
}

// Exact. The exponent is rebiased by 127 - 15 = 112; an all-ones exponent (infinities, NaN) gets 112 once more and is
// all ones again (31 + 224 = 255). A subnormal is its integer fraction times 2^-24, a product that is exact and does
// not depend on flush-to-zero modes. Masks in place of branches: every compiler vectorises them.
static inline float lw_f16_to_f32(uint16_t h)
{
    const uint32_t rebias = (uint32_t)112 << 23;
    uint32_t magnitude = (uint32_t)h & 0x7fffU;
    uint32_t subnormal_bits = lw_bits_of_float((float)(int32_t)magnitude * 0x1p-24F);
    uint32_t is_subnormal = 0U - (uint32_t)(magnitude < 0x0400U);
    uint32_t is_special = 0U - (uint32_t)(magnitude >= 0x7c00U);
    uint32_t normal_bits = (magnitude << 13) + rebias + (rebias & is_special);
    uint32_t sign = ((uint32_t)h & 0x8000U) << 16;
    return lw_float_of_bits(sign | (subnormal_bits & is_subnormal) | (normal_bits & ~is_subnormal));
}

// Rounds to nearest, ties to even; beyond 65504 to infinity; NaN stays NaN.
static inline uint16_t lw_f32_to_f16(float x)
{
    uint32_t bits = lw_bits_of_float(x);
    uint32_t sign = (bits >> 16) & 0x8000U;
    uint32_t magnitude = bits & 0x7fffffffU;
    uint32_t half;
    if (magnitude > 0x7f800000U) {
        half = 0x7e00U;
    } else if (magnitude >= 0x477ff000U) { // 65520 and above
        half = 0x7c00U;
    } else if (magnitude < 0x38800000U) { // subnormal: let the addition round at the weight of the last place, 2^-24
        float rounded = lw_float_of_bits(magnitude) + 0.5F;
        half = lw_bits_of_float(rounded) - 0x3f000000U;
    } else {
        half = (magnitude - 0x38000000U + 0xfffU + ((magnitude >> 13) & 1U)) >> 13;
    }
    return (uint16_t)(half | sign);
}

// Element i of an array that begins at any byte, as arrays in files do.
static inline uint16_t lw_half_at(const void *in, int64_t i)
{
    uint16_t h;
    memcpy(&h, (const char *)in + 2 * i, sizeof h);
    return h;
}

// n elements of `type` (F32, BF16, F16), which may begin at any byte, to f32.
static inline void lw_half_read(int64_t n, const void *in, lw_dtype type, float *out)
{
    if (type == LW_BF16) {
        for (int64_t i = 0; i < n; i++) {
            out[i] = lw_bf16_to_f32(lw_half_at(in, i));
        }
    } else if (type == LW_F16) {
        for (int64_t i = 0; i < n; i++) {
            out[i] = lw_f16_to_f32(lw_half_at(in, i));
        }
    } else {
        memcpy(out, in, (size_t)n * sizeof *out);
    }
}

// n floats to elements of `type` (F32, BF16, F16).
static inline void lw_half_write(int64_t n, const float *in, void *out, lw_dtype type)
{
    uint16_t *h = out;
    if (type == LW_BF16) {
        for (int64_t i = 0; i < n; i++) {
            h[i] = lw_f32_to_bf16(in[i]);
        }
    } else if (type == LW_F16) {
        for (int64_t i = 0; i < n; i++) {
            h[i] = lw_f32_to_f16(in[i]);
        }
    } else {
        memcpy(out, in, (size_t)n * sizeof *in);
    }
}

#endif
