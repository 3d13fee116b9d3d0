// elements.c: element types on the host, written apart from the code that they judge.
#include <math.h>
#include <string.h>

#include "harness.h"

static uint16_t to_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (isnan(x)) {
        return 0x7fc0;
    }
    return (uint16_t)((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

static float from_bf16(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static double from_f16(uint16_t h)
{
    int exponent = (h >> 10) & 31, fraction = h & 1023;
    double x = exponent == 31  ? (fraction == 0 ? (double)INFINITY : (double)NAN)
               : exponent == 0 ? ldexp((double)fraction, -24)
                               : ldexp((double)(fraction + 1024), exponent - 25);
    return (h & 0x8000) != 0 ? -x : x;
}

// By search over the ordered positive numbers, so that it shares nothing with the code it judges.
static uint16_t to_f16(double x)
{
    uint16_t sign = signbit(x) ? 0x8000 : 0;
    if (isnan(x)) {
        return (uint16_t)(sign | 0x7e00);
    }
    double magnitude = fabs(x);
    if (magnitude >= 65520.0) {
        return (uint16_t)(sign | 0x7c00);
    }
    int low = 0, high = 0x7c00; // from_f16(low) <= magnitude < from_f16(high)
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (from_f16((uint16_t)middle) <= magnitude) {
            low = middle;
        } else {
            high = middle;
        }
    }
    double below = from_f16((uint16_t)low), above = high == 0x7c00 ? 65536.0 : from_f16((uint16_t)high);
    bool up = magnitude - below > above - magnitude || (magnitude - below == above - magnitude && (low & 1) != 0);
    return (uint16_t)(sign | (up ? high : low));
}

void op_store(lw_dtype type, double x, unsigned char *out)
{
    float f = (float)x;
    int32_t i = type == LW_I32 ? (int32_t)x : 0;
    uint16_t h = type == LW_F16 ? to_f16(x) : type == LW_BF16 ? to_bf16(f) : 0;
    switch (type) {
    case LW_F32: memcpy(out, &f, 4); break;
    case LW_I32: memcpy(out, &i, 4); break;
    case LW_BF16:
    case LW_F16: memcpy(out, &h, 2); break;
    }
}

double op_fetch(lw_dtype type, const unsigned char *in)
{
    float f;
    int32_t i;
    uint16_t h;
    switch (type) {
    case LW_F32: memcpy(&f, in, 4); return (double)f;
    case LW_I32: memcpy(&i, in, 4); return (double)i;
    case LW_BF16: memcpy(&h, in, 2); return (double)from_bf16(h);
    case LW_F16: memcpy(&h, in, 2); return from_f16(h);
    }
    return 0.0;
}

double op_round(double x, lw_dtype type)
{
    unsigned char memory[4] = {0};
    op_store(type, x, memory);
    return op_fetch(type, memory);
}
