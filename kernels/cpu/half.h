// half.h: 16-bit floats on the CPU, for conversions and for embedding tables kept as they came from the file.
#ifndef LW_HALF_H
#define LW_HALF_H

#include <stdint.h>
#include <string.h>

#include "device/device.h"
#include "simd.h"

LW_INLINE float lw_float_of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

LW_INLINE uint32_t lw_bits_of_float(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

LW_INLINE float lw_bf16_to_f32(uint16_t h)
{
    return lw_float_of_bits((uint32_t)h << 16);
}

// Rounds to nearest, ties to even; NaN stays NaN.
LW_INLINE uint16_t lw_f32_to_bf16(float x)
{
    uint32_t bits = lw_bits_of_float(x);
    uint32_t rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
    uint32_t nan = (bits >> 16) | 0x40U;
    return (uint16_t)((bits & 0x7fffffffU) > 0x7f800000U ? nan : rounded);
}

// Exact: the 10-bit fraction is moved into place and the exponent rebiased by a multiplication with 2^112, which also
// normalises subnormal numbers; infinities and NaN are put back by hand.
LW_INLINE float lw_f16_to_f32(uint16_t h)
{
    uint32_t magnitude = ((uint32_t)h & 0x7fffU) << 13;
    uint32_t sign = ((uint32_t)h & 0x8000U) << 16;
    float scaled = lw_float_of_bits(magnitude) * 0x1p112f;
    uint32_t bits = magnitude >= 0x0f800000U ? magnitude + 0x70000000U : lw_bits_of_float(scaled);
    return lw_float_of_bits(bits | sign);
}

// Rounds to nearest, ties to even; beyond 65504 to infinity; NaN stays NaN.
LW_INLINE uint16_t lw_f32_to_f16(float x)
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
        float rounded = lw_float_of_bits(magnitude) + 0.5f;
        half = lw_bits_of_float(rounded) - 0x3f000000U;
    } else {
        half = (magnitude - 0x38000000U + 0xfffU + ((magnitude >> 13) & 1U)) >> 13;
    }
    return (uint16_t)(half | sign);
}

// Files hold them at any byte.
LW_INLINE uint16_t lw_half_at(const void *in, int64_t i)
{
    uint16_t h;
    memcpy(&h, (const char *)in + 2 * i, sizeof h);
    return h;
}

// n elements of `type` (F32, BF16, F16) to or from floats. lw_half_read takes any alignment.
LW_INLINE void lw_half_read(int64_t n, const void *in, lw_dtype type, float *out)
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

LW_INLINE void lw_half_write(int64_t n, const float *in, void *out, lw_dtype type)
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
