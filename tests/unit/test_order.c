// order and random: permutations and numbers as functions.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/random.h"
#include "data/order.h"

static void check_bijection(uint64_t seed, int64_t epoch, int64_t count, unsigned char *seen)
{
    memset(seen, 0, (size_t)count);
    for (int64_t i = 0; i < count; i++) {
        int64_t index = lw_order_index(seed, epoch, i, count);
        assert_true(index >= 0 && index < count);
        assert_int_equal(seen[index], 0);
        seen[index] = 1;
    }
}

static void test_order_is_a_bijection(void **state)
{
    (void)state;
    static unsigned char seen[100003];
    for (int64_t count = 1; count <= 2000; count++) {
        check_bijection(1, 0, count, seen);
    }
    check_bijection(7, 3, 65536, seen);
    check_bijection(7, 4, 65537, seen);
    check_bijection(UINT64_MAX, 1000000, 100003, seen);
    int64_t huge = (INT64_C(1) << 40) + 3;
    for (int64_t i = 0; i < 1000; i++) {
        int64_t index = lw_order_index(5, 0, huge - 1 - i, huge);
        assert_true(index >= 0 && index < huge);
    }
}

static void test_order_mixes(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    int same_seed = 0;
    int same_epoch = 0;
    int neighbours = 0;
    for (int64_t i = 0; i < COUNT; i++) {
        int64_t index = lw_order_index(1, 0, i, COUNT);
        same_seed += index == lw_order_index(2, 0, i, COUNT);
        same_epoch += index == lw_order_index(1, 1, i, COUNT);
        neighbours += i > 0 && llabs(index - lw_order_index(1, 0, i - 1, COUNT)) == 1;
        assert_int_equal(index, lw_order_index(1, 0, i, COUNT));
    }
    // Each count is about Poisson with mean 1 or 2.
    assert_true(same_seed < 10 && same_epoch < 10 && neighbours < 14);
    // Every index is about equally often at every position: 8 positions x 8 indices over 8000 epochs, 56 degrees of
    // freedom (chi-square beyond 120 happens once in a million).
    double chi_square = 0;
    static int hits[8][8];
    for (int64_t epoch = 0; epoch < 8000; epoch++) {
        for (int64_t i = 0; i < 8; i++) {
            hits[i][lw_order_index(9, epoch, i, 8)]++;
        }
    }
    for (int i = 0; i < 8; i++) {
        for (int j = 0; j < 8; j++) {
            chi_square += (hits[i][j] - 1000.0) * (hits[i][j] - 1000.0) / 1000.0;
        }
    }
    assert_true(chi_square < 120);
    // And pairs are: how often index 1 follows index 0 directly, expected 1 in 8.
    int follows = 0;
    for (int64_t epoch = 0; epoch < 8000; epoch++) {
        for (int64_t i = 0; i < 7; i++) {
            follows += lw_order_index(9, epoch, i, 8) == 0 && lw_order_index(9, epoch, i + 1, 8) == 1;
        }
    }
    assert_true(follows > 850 && follows < 1150);
}

// --- random numbers

static void test_random(void **state)
{
    (void)state;
    // Golden values: a checkpoint made by one version must be continued by the next with the same numbers.
    assert_true(lw_random_u64(0, 0, 0) == UINT64_C(0xed588c8248d84c82));
    assert_true(lw_random_u64(1, 2, 3) == UINT64_C(0x393828b7e8fe8ce2));
    uint64_t a = lw_random_stream("a");
    assert_true(a != lw_random_stream("b"));
    enum { COUNT = 100000 };
    double sum[2] = {0};
    double square[2] = {0};
    double product = 0;
    int bits[64] = {0};
    for (uint64_t i = 0; i < COUNT; i++) {
        double u = lw_random_uniform(1, a, i);
        double n = lw_random_normal(1, a, i);
        uint64_t word = lw_random_u64(1, a, i);
        assert_true(u >= 0 && u < 1 && isfinite(n));
        assert_true(word != lw_random_u64(2, a, i) && word != lw_random_u64(1, a + 1, i));
        sum[0] += u;
        square[0] += u * u;
        sum[1] += n;
        square[1] += n * n;
        product += n * lw_random_normal(1, a, i + 1);
        for (int b = 0; b < 64; b++) {
            bits[b] += (int)(word >> b & 1);
        }
    }
    // Five standard errors each.
    assert_true(fabs(sum[0] / COUNT - 0.5) < 5 * 0.2887 / sqrt(COUNT));
    assert_true(fabs(square[0] / COUNT - 1.0 / 3) < 5 * 0.2981 / sqrt(COUNT));
    assert_true(fabs(sum[1] / COUNT) < 5 / sqrt(COUNT));
    assert_true(fabs(square[1] / COUNT - 1) < 5 * 1.4142 / sqrt(COUNT));
    assert_true(fabs(product / COUNT) < 5 / sqrt(COUNT));
    for (int b = 0; b < 64; b++) {
        assert_true(abs(bits[b] - COUNT / 2) < 5 * 159);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_is_a_bijection),
        cmocka_unit_test(test_order_mixes),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
