// Half-precision formats to f32, exactly: IEEE 754-2019 binary16, and bfloat16 (the upper half of binary32).
#include <string.h>

#include "io/safetensors.h"

// Data lie in the mapping at any byte offset, so every element is read with memcpy, which compilers vectorise.
static uint32_t load16(const unsigned char *p)
{
    uint16_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

static void bf16_to_f32(const unsigned char *in, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = load16(in + 2 * i) << 16;
        memcpy(&out[i], &bits, sizeof bits);
    }
}

// Without branches (masks, so that every compiler vectorises it). The exponent is rebiased by 127 - 15 = 112; an
// all-ones exponent gets 112 once more and is all ones again (31 + 224 = 255). A subnormal is its integer mantissa
// times 2^-24, a product that is exact and independent of flush-to-zero modes.
static void f16_to_f32(const unsigned char *in, int64_t n, float *out)
{
    const uint32_t rebias = (uint32_t)112 << 23;
    for (int64_t i = 0; i < n; i++) {
        uint32_t half = load16(in + 2 * i);
        uint32_t magnitude = half & 0x7fffu;
        float subnormal = (float)(int32_t)magnitude * 0x1p-24f;
        uint32_t subnormal_bits;
        memcpy(&subnormal_bits, &subnormal, sizeof subnormal_bits);
        uint32_t is_subnormal = 0u - (uint32_t)(magnitude < 0x0400u);
        uint32_t is_special = 0u - (uint32_t)(magnitude >= 0x7c00u); // infinities and NaN
        uint32_t normal_bits = (magnitude << 13) + rebias + (rebias & is_special);
        uint32_t bits = (half & 0x8000u) << 16 | (subnormal_bits & is_subnormal) | (normal_bits & ~is_subnormal);
        memcpy(&out[i], &bits, sizeof bits);
    }
}

lw_status lw_tensor_to_f32(const lw_tensor_view *view, lw_error *err, float *out)
{
    if (view->elements == 0) {
        return LW_OK;
    }
    if (view->known) {
        switch (view->dtype) {
        case LW_F32: memcpy(out, view->data, view->bytes); return LW_OK;
        case LW_BF16: bf16_to_f32(view->data, view->elements, out); return LW_OK;
        case LW_F16: f16_to_f32(view->data, view->elements, out); return LW_OK;
        case LW_I32: break;
        }
    }
    return lw_fail(err, LW_ERR_UNSUPPORTED,
                   "tensor %s: cannot read dtype %s as floating point; expected F32, BF16 or F16", view->name,
                   view->dtype_name);
}
