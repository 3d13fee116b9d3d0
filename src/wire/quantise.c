// quantise.c: latents in 16, 8, 6 and 4 bits.
#include "wire/quantise.h"

#include <math.h>
#include <string.h>

#include "core/half.h"

bool lw_quantise_has(int64_t bits)
{
    return bits == 32 || bits == 16 || bits == 8 || bits == 6 || bits == 4;
}

static int64_t code_bytes(int64_t bits, int64_t n)
{
    return (n * bits + 7) / 8;
}

int64_t lw_quantise_row_bytes(int64_t bits, int64_t d_z)
{
    if (bits >= 16) {
        return d_z * bits / 8;
    }
    int64_t full = d_z / LW_QUANTISE_GROUP;
    int64_t rest = d_z % LW_QUANTISE_GROUP;
    return full * (2 + code_bytes(bits, LW_QUANTISE_GROUP)) + (rest > 0 ? 2 + code_bytes(bits, rest) : 0);
}

static void put16(unsigned char *out, uint16_t x)
{
    out[0] = (unsigned char)(x & 0xffU);
    out[1] = (unsigned char)(x >> 8);
}

static uint16_t get16(const unsigned char *in)
{
    return (uint16_t)(in[0] | in[1] << 8);
}

static int32_t largest_code(int64_t bits)
{
    return (1 << (bits - 1)) - 1;
}

// The smallest binary16 that is not below x >= 0; infinity beyond 65504. The bits of positive binary16 numbers have the
// order of the numbers, so the next one is one more.
static uint16_t half_not_below(float x)
{
    uint16_t half = lw_f32_to_f16(x);
    return lw_f16_to_f32(half) < x ? (uint16_t)(half + 1U) : half;
}

// --- one group

static bool encode_group(int64_t bits, int64_t n, const float *x, unsigned char *out)
{
    float largest = 0.0F;
    bool finite = true;
    for (int64_t i = 0; i < n; i++) {
        finite = finite && isfinite(x[i]);
        largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
    }
    int32_t q = largest_code(bits);
    uint16_t half = half_not_below(largest / (float)q);
    float scale = lw_f16_to_f32(half);
    if (!finite || !isfinite(scale)) {
        return false;
    }
    put16(out, half);
    out += 2;
    memset(out, 0, (size_t)code_bytes(bits, n));
    for (int64_t i = 0; i < n; i++) {
        int32_t code = scale > 0.0F ? (int32_t)lrintf(x[i] / scale) : 0;
        code = code > q ? q : code < -q ? -q : code; // the quotient is rounded and may exceed q
        uint32_t field = ((uint32_t)code & ((1U << bits) - 1U)) << (i * bits % 8);
        out[i * bits / 8] |= (unsigned char)(field & 0xffU);
        if (field > 0xffU) {
            out[i * bits / 8 + 1] |= (unsigned char)(field >> 8);
        }
    }
    return true;
}

static bool decode_group(int64_t bits, int64_t n, const unsigned char *in, float *out)
{
    float scale = lw_f16_to_f32(get16(in));
    if (!isfinite(scale) || scale < 0.0F) {
        return false;
    }
    in += 2;
    int32_t sign = 1 << (bits - 1);
    for (int64_t i = 0; i < n; i++) {
        int64_t byte = i * bits / 8;
        int64_t shift = i * bits % 8;
        uint32_t field = in[byte];
        if (shift + bits > 8) {
            field |= (uint32_t)in[byte + 1] << 8;
        }
        int32_t code = (int32_t)(field >> shift & ((1U << bits) - 1U));
        out[i] = (float)((code ^ sign) - sign) * scale;
    }
    return true;
}

// --- one row

static bool encode_plain(int64_t bits, int64_t n, const float *x, unsigned char *out)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t word = lw_bits_of_float(x[i]);
        uint16_t half = lw_f32_to_f16(x[i]);
        if (!isfinite(bits == 16 ? lw_f16_to_f32(half) : x[i])) {
            return false;
        }
        if (bits == 16) {
            put16(out + 2 * i, half);
        } else {
            put16(out + 4 * i, (uint16_t)(word & 0xffffU));
            put16(out + 4 * i + 2, (uint16_t)(word >> 16));
        }
    }
    return true;
}

static bool decode_plain(int64_t bits, int64_t n, const unsigned char *in, float *out)
{
    for (int64_t i = 0; i < n; i++) {
        out[i] = bits == 16 ? lw_f16_to_f32(get16(in + 2 * i))
                            : lw_float_of_bits(get16(in + 4 * i) | (uint32_t)get16(in + 4 * i + 2) << 16);
        if (!isfinite(out[i])) {
            return false;
        }
    }
    return true;
}

lw_status lw_quantise_encode(int64_t bits, int64_t rows, int64_t d_z, const float *z, lw_error *err, void *out)
{
    unsigned char *to = out;
    for (int64_t r = 0; r < rows; r++) {
        const float *x = z + r * d_z;
        bool ok = bits < 16 || encode_plain(bits, d_z, x, to);
        for (int64_t at = 0; bits < 16 && at < d_z && ok; at += LW_QUANTISE_GROUP) {
            int64_t n = d_z - at < LW_QUANTISE_GROUP ? d_z - at : LW_QUANTISE_GROUP;
            ok = encode_group(bits, n, x + at, to + at / LW_QUANTISE_GROUP * (2 + code_bytes(bits, LW_QUANTISE_GROUP)));
        }
        if (!ok) {
            return lw_fail(err, LW_ERR_FORMAT,
                           "latent row %lld holds a number that %lld bits cannot carry: it is not "
                           "finite, or too large for a 16-bit float",
                           (long long)r, (long long)bits);
        }
        to += lw_quantise_row_bytes(bits, d_z);
    }
    return LW_OK;
}

lw_status lw_quantise_decode(int64_t bits, int64_t rows, int64_t d_z, const void *in, lw_error *err, float *out)
{
    const unsigned char *from = in;
    for (int64_t r = 0; r < rows; r++) {
        float *x = out + r * d_z;
        bool ok = bits < 16 || decode_plain(bits, d_z, from, x);
        for (int64_t at = 0; bits < 16 && at < d_z && ok; at += LW_QUANTISE_GROUP) {
            int64_t n = d_z - at < LW_QUANTISE_GROUP ? d_z - at : LW_QUANTISE_GROUP;
            ok = decode_group(bits, n, from + at / LW_QUANTISE_GROUP * (2 + code_bytes(bits, LW_QUANTISE_GROUP)),
                              x + at);
        }
        if (!ok) {
            return lw_fail(err, LW_ERR_FORMAT,
                           "latent row %lld of the wire is damaged: a number or a scale in it is not "
                           "finite, or a scale is negative",
                           (long long)r);
        }
        from += lw_quantise_row_bytes(bits, d_z);
    }
    return LW_OK;
}
