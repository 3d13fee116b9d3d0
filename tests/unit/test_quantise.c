// quantise: sizes, the bytes themselves, the error bound, symmetry, and what cannot be carried.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/half.h"
#include "core/random.h"
#include "wire/quantise.h"

static lw_error err;
static const int64_t widths[] = {32, 16, 8, 6, 4};

static void test_sizes(void **state)
{
    (void)state;
    assert_int_equal(32 * lw_quantise_row_bytes(32, 256), 32768);
    assert_int_equal(32 * lw_quantise_row_bytes(16, 256), 16384);
    assert_int_equal(32 * lw_quantise_row_bytes(8, 256), 8704);
    assert_int_equal(32 * lw_quantise_row_bytes(6, 256), 6656);
    assert_int_equal(32 * lw_quantise_row_bytes(4, 256), 4608);
    assert_int_equal(lw_quantise_row_bytes(6, 35), 26 + 2 + 3); // three numbers more: 18 bits
    assert_true(lw_quantise_has(6));
    assert_false(lw_quantise_has(5));
    assert_false(lw_quantise_has(0));
}

// Codes by hand. Scale 1 (binary16 0x3c00) because the largest number is q.
static void test_bytes(void **state)
{
    (void)state;
    unsigned char out[16];
    assert_int_equal(lw_quantise_encode(4, 1, 4, (float[]){7, -7, 1, -1}, &err, out), LW_OK);
    assert_memory_equal(out, ((unsigned char[]){0x00, 0x3c, 0x97, 0xf1}), 4);
    // 31 = 011111, -31 = 100001, 1 = 000001, -1 = 111111: 24 bits from the lowest one on
    assert_int_equal(lw_quantise_encode(6, 1, 4, (float[]){31, -31, 1, -1}, &err, out), LW_OK);
    assert_memory_equal(out, ((unsigned char[]){0x00, 0x3c, 0x5f, 0x18, 0xfc}), 5);
    assert_int_equal(lw_quantise_encode(8, 1, 3, (float[]){127, -127, -1}, &err, out), LW_OK);
    assert_memory_equal(out, ((unsigned char[]){0x00, 0x3c, 127, 129, 255}), 5);
    assert_int_equal(lw_quantise_encode(16, 1, 2, (float[]){1, -2}, &err, out), LW_OK);
    assert_memory_equal(out, ((unsigned char[]){0x00, 0x3c, 0x00, 0xc0}), 4);
    assert_int_equal(lw_quantise_encode(32, 1, 1, (float[]){1}, &err, out), LW_OK);
    assert_memory_equal(out, ((unsigned char[]){0x00, 0x00, 0x80, 0x3f}), 4);
}

enum { ROWS = 5, MOST = 67, GUARD = 8 };

static float largest_of(const float *x, int64_t n)
{
    float largest = 0.0F;
    for (int64_t i = 0; i < n; i++) {
        largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
    }
    return largest;
}

// Half a scale where the scale is at most 2^-10 above max / q; the numbers' own spacing with 16 bits.
static void check_row(int64_t bits, int64_t d_z, const float *x, const float *y)
{
    for (int64_t at = 0; at < d_z; at += LW_QUANTISE_GROUP) {
        int64_t n = d_z - at < LW_QUANTISE_GROUP ? d_z - at : LW_QUANTISE_GROUP;
        double scale = largest_of(x + at, n) / ((double)(INT64_C(1) << (bits - 1)) - 1.0) * (1.0 + 0x1p-10) + 0x1p-24;
        for (int64_t i = at; i < at + n; i++) {
            double bound = bits == 32 ? 0.0 : bits == 16 ? fabs((double)x[i]) * 0x1p-11 + 0x1p-25 : 0.5001 * scale;
            assert_true(fabs((double)x[i] - (double)y[i]) <= bound);
        }
    }
}

static void round_trip(int64_t bits, int64_t d_z, double size)
{
    float x[ROWS * MOST];
    float y[ROWS * MOST];
    unsigned char bytes[ROWS * MOST * 4 + GUARD];
    for (int64_t i = 0; i < ROWS * d_z; i++) {
        x[i] = (float)(size * lw_random_normal(7, (uint64_t)bits, (uint64_t)i));
    }
    memset(x, 0, (size_t)d_z * sizeof *x); // a row of zeros
    size_t used = (size_t)(ROWS * lw_quantise_row_bytes(bits, d_z));
    memset(bytes, 0xa5, sizeof bytes);
    assert_int_equal(lw_quantise_encode(bits, ROWS, d_z, x, &err, bytes), LW_OK);
    for (size_t g = 0; g < GUARD; g++) {
        assert_int_equal(bytes[used + g], 0xa5);
    }
    assert_int_equal(lw_quantise_decode(bits, ROWS, d_z, bytes, &err, y), LW_OK);
    for (int64_t r = 0; r < ROWS; r++) {
        check_row(bits, d_z, x + r * d_z, y + r * d_z);
    }
    // The negative of the wire is the wire of the negative.
    float again[ROWS * MOST];
    for (int64_t i = 0; i < ROWS * d_z; i++) {
        x[i] = -x[i];
    }
    assert_int_equal(lw_quantise_encode(bits, ROWS, d_z, x, &err, bytes), LW_OK);
    assert_int_equal(lw_quantise_decode(bits, ROWS, d_z, bytes, &err, again), LW_OK);
    for (int64_t i = 0; i < ROWS * d_z; i++) {
        assert_true(again[i] == -y[i]);
    }
}

static void test_round_trip(void **state)
{
    (void)state;
    for (size_t b = 0; b < sizeof widths / sizeof widths[0]; b++) {
        for (int64_t d_z = 1; d_z <= MOST; d_z += 11) {
            round_trip(widths[b], d_z, 1.0);
            round_trip(widths[b], d_z, 1e-6); // scales among the subnormal halves
            round_trip(widths[b], d_z, 1000.0);
        }
    }
}

static void test_refused(void **state)
{
    (void)state;
    unsigned char bytes[64];
    float out[2];
    float x[4] = {1, 2, 3, NAN};
    for (size_t b = 0; b < sizeof widths / sizeof widths[0]; b++) {
        x[3] = NAN;
        assert_int_equal(lw_quantise_encode(widths[b], 2, 2, x, &err, bytes), LW_ERR_FORMAT);
        assert_non_null(strstr(err.text, "row 1"));
        x[3] = INFINITY;
        assert_int_equal(lw_quantise_encode(widths[b], 2, 2, x, &err, bytes), LW_ERR_FORMAT);
        x[3] = 3e38F;
        assert_int_equal(lw_quantise_encode(widths[b], 2, 2, x, &err, bytes), widths[b] == 32 ? LW_OK : LW_ERR_FORMAT);
    }
    const unsigned char infinite[] = {0x00, 0x7c, 1, 1};
    const unsigned char negative[] = {0x00, 0xbc, 1, 1};
    assert_int_equal(lw_quantise_decode(8, 1, 2, infinite, &err, out), LW_ERR_FORMAT);
    assert_int_equal(lw_quantise_decode(8, 1, 2, negative, &err, out), LW_ERR_FORMAT);
    assert_int_equal(lw_quantise_decode(16, 1, 2, infinite, &err, out), LW_ERR_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
