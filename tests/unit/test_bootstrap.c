// bootstrap: intervals against the normal approximation, clusters, pairing, sign flips against the exact distribution.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/random.h"
#include "eval/bootstrap.h"

static lw_error err;

enum { SAMPLES = 400, COPIES = 4 };

static double x[SAMPLES * COPIES], y[SAMPLES * COPIES], ones[SAMPLES * COPIES];
static int64_t own[SAMPLES * COPIES], of_four[SAMPLES * COPIES];

static int fill(void **state)
{
    (void)state;
    for (int64_t i = 0; i < (int64_t)SAMPLES * COPIES; i++) {
        x[i] = 3.0 + lw_random_normal(1, 1, (uint64_t)(i / COPIES));
        y[i] = x[i] - 0.25 + 0.01 * lw_random_normal(1, 2, (uint64_t)(i / COPIES));
        ones[i] = 1.0;
        own[i] = i;
        of_four[i] = i / COPIES;
    }
    return 0;
}

static lw_resampling all(const int64_t *cluster, int64_t clusters)
{
    return (lw_resampling){
        .samples = SAMPLES * COPIES, .cluster = cluster, .clusters = clusters, .resamples = 2000, .seed = 5};
}

static void moments(const double *of, double *mean, double *deviation)
{
    double sum = 0.0;
    double squares = 0.0;
    for (int64_t i = 0; i < (int64_t)SAMPLES * COPIES; i++) {
        sum += of[i];
        squares += of[i] * of[i];
    }
    *mean = sum / (SAMPLES * COPIES);
    *deviation = sqrt(squares / (SAMPLES * COPIES) - *mean * *mean);
}

// Four copies of a sample are one observation: as a cluster they give its interval, alone one of half the width.
static void test_interval(void **state)
{
    (void)state;
    double mean;
    double deviation;
    moments(x, &mean, &deviation);
    lw_figure figure = {.a = {.num = x, .den = ones}};
    lw_estimate clustered;
    lw_estimate alone;
    lw_resampling four = all(of_four, SAMPLES);
    lw_resampling one = all(own, (int64_t)SAMPLES * COPIES);
    assert_int_equal(lw_bootstrap_intervals(&four, &figure, 1, &err, &clustered), LW_OK);
    assert_int_equal(lw_bootstrap_intervals(&one, &figure, 1, &err, &alone), LW_OK);
    assert_true(fabs(clustered.value - mean) < 1e-12);
    double half = 1.96 * deviation / sqrt(SAMPLES);
    assert_true(fabs(clustered.low - (mean - half)) < 0.1 * half);
    assert_true(fabs(clustered.high - (mean + half)) < 0.1 * half);
    assert_true(fabs((alone.high - alone.low) - half) < 0.1 * half);
}

// The difference of two systems that answer alike is known far better than either figure.
static void test_paired(void **state)
{
    (void)state;
    lw_figure figures[] = {{.a = {.num = x, .den = ones}},
                           {.a = {.num = y, .den = ones}},
                           {.a = {.num = x, .den = ones}, .b = {.num = y, .den = ones}},
                           {.a = {.num = x, .den = ones}, .b = {.num = x, .den = ones}}};
    lw_estimate out[4];
    lw_resampling r = all(of_four, SAMPLES);
    assert_int_equal(lw_bootstrap_intervals(&r, figures, 4, &err, out), LW_OK);
    assert_true(fabs(out[2].value - (out[0].value - out[1].value)) < 1e-12);
    assert_true(out[2].low < 0.25 && out[2].high > 0.25 && out[2].high - out[2].low < 0.01);
    assert_true(out[3].value == 0.0 && out[3].low == 0.0 && out[3].high == 0.0);
    // The same draws, whatever else is asked for.
    lw_estimate again;
    assert_int_equal(lw_bootstrap_intervals(&r, &figures[1], 1, &err, &again), LW_OK);
    assert_memory_equal(&again, &out[1], sizeof again);
}

// A ratio of sums is not a mean of ratios; samples with no part in it do not count.
static void test_ratio(void **state)
{
    (void)state;
    const double num[] = {1, 6, 0};
    const double den[] = {1, 2, 0};
    const int64_t cluster[] = {0, 1, 2};
    lw_resampling r = {.samples = 3, .cluster = cluster, .clusters = 3, .resamples = 500, .seed = 1};
    lw_estimate out;
    assert_int_equal(lw_bootstrap_intervals(&r, &(lw_figure){.a = {.num = num, .den = den}}, 1, &err, &out), LW_OK);
    assert_true(fabs(out.value - 7.0 / 3.0) < 1e-12);
    assert_true(out.low == 1.0 && out.high == 3.0);
    const double nothing[] = {0, 0, 0};
    assert_int_equal(lw_bootstrap_intervals(&r, &(lw_figure){.a = {.num = nothing, .den = nothing}}, 1, &err, &out),
                     LW_OK);
    assert_true(isnan(out.value) && isnan(out.low) && isnan(out.high));
}

// One cluster drawn again and again is the same each time: that is no interval, though a figure.
static void test_one_cluster(void **state)
{
    (void)state;
    const double num[] = {1, 6, 3, 2};
    const double den[] = {1, 2, 1, 1};
    const double first_half[] = {1, 2, 0, 0}; // the other cluster has no part in it
    const int64_t one[] = {0, 0, 0, 0};
    const int64_t two[] = {0, 0, 1, 1};
    const lw_figure figures[] = {{.a = {.num = num, .den = den}}, {.a = {.num = first_half, .den = first_half}}};
    lw_resampling r = {.samples = 4, .cluster = one, .clusters = 1, .resamples = 50, .seed = 1};
    lw_estimate out[2];
    assert_int_equal(lw_bootstrap_intervals(&r, figures, 1, &err, out), LW_OK);
    assert_true(fabs(out[0].value - 2.4) < 1e-12 && isnan(out[0].low) && isnan(out[0].high));
    r.cluster = two;
    r.clusters = 2;
    assert_int_equal(lw_bootstrap_intervals(&r, figures, 2, &err, out), LW_OK);
    assert_true(out[0].low < out[0].high);
    assert_true(out[1].value == 1.0 && isnan(out[1].low) && isnan(out[1].high));
}

static double p_of(const lw_resampling *r, const double *a, const double *b, const double *den)
{
    double p = -1.0;
    assert_int_equal(lw_bootstrap_sign_flip(r, &(lw_figure){.a = {.num = a, .den = den}, .b = {.num = b, .den = den}},
                                            &err, &p),
                     LW_OK);
    return p;
}

static void test_sign_flip(void **state)
{
    (void)state;
    // Three clusters that all favour a: of the eight signs, all plus and all minus are as extreme.
    const double a[] = {1, 1, 1};
    const double b[] = {0, 0, 0};
    const int64_t cluster[] = {0, 1, 2};
    lw_resampling r = {.samples = 3, .cluster = cluster, .clusters = 3, .resamples = 20000, .seed = 3};
    assert_true(fabs(p_of(&r, a, b, ones) - 0.25) < 0.01);
    // Differences 3, 1, 1, of sum 5: only +++ and --- reach it.  Of 3, 1, -1, sum 3: those, +--, ++- ... six of eight.
    const double c[] = {3, 1, 0};
    const double d[] = {0, 0, 1};
    assert_true(fabs(p_of(&r, c, d, ones) - 0.75) < 0.01);
    assert_true(p_of(&r, a, a, ones) == 1.0);
    lw_resampling four = all(of_four, SAMPLES);
    assert_true(p_of(&four, x, y, ones) < 0.001);
    double noise[SAMPLES * COPIES];
    for (int64_t i = 0; i < (int64_t)SAMPLES * COPIES; i++) {
        noise[i] = x[i] + lw_random_normal(9, 9, (uint64_t)(i / COPIES));
    }
    assert_true(p_of(&four, x, noise, ones) > 0.01);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_interval),    cmocka_unit_test(test_paired),    cmocka_unit_test(test_ratio),
        cmocka_unit_test(test_one_cluster), cmocka_unit_test(test_sign_flip),
    };
    return cmocka_run_group_tests(tests, fill, NULL);
}
