// ridge: against the normal equations in double, row by row; sums in parts; what cannot be solved.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/random.h"
#include "job/ridge.h"
#include "kernels/devices.h"

enum { P = 7, Q = 4, ROWS = 150 };

static lw_error err;

typedef struct fixture {
    lw_device *dev;
    void *memory;
    float *x, *t, *ones; // host and device are one memory on the CPU
    lw_ridge r;
} fixture;

static int set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    assert_int_equal(lw_device_open("cpu", 0, 1, &err, &f->dev), LW_OK);
    size_t sums = (size_t)lw_ridge_elements(P, Q);
    size_t floats = sums + ROWS * (P + Q + 1);
    assert_int_equal(f->dev->ops->alloc(f->dev, floats * sizeof(float), &err, &f->memory), LW_OK);
    memset(f->memory, 0, floats * sizeof(float));
    f->r = (lw_ridge){.p = P, .q = Q};
    lw_ridge_place(&f->r, f->memory);
    f->x = (float *)f->memory + sums;
    f->t = f->x + ROWS * P;
    f->ones = f->t + ROWS * Q;
    for (int i = 0; i < ROWS; i++) {
        f->ones[i] = 1.0F;
        for (int k = 0; k < P; k++) { // not centred, of different sizes, related to one another
            f->x[i * P + k] = (float)((k + 1) * (0.5 + lw_random_normal(1, 1, (uint64_t)(i * P + k))));
        }
        f->x[i * P + 1] += f->x[i * P];
        for (int k = 0; k < Q; k++) {
            f->t[i * Q + k] = (float)(3.0 * k + lw_random_normal(1, 2, (uint64_t)(i * Q + k))) + f->x[i * P + k];
        }
    }
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    f->dev->ops->free(f->dev, f->memory);
    lw_device_close(&f->dev);
    free(f);
    return 0;
}

static void add_in_parts(fixture *f)
{
    lw_ridge_add(f->dev, &f->r, 60, f->x, f->t, f->ones);
    lw_ridge_add(f->dev, &f->r, 0, f->x, f->t, f->ones);
    lw_ridge_add(f->dev, &f->r, ROWS - 60, f->x + 60 * P, f->t + 60 * Q, f->ones);
}

// The gradient of the penalised squares with respect to W and b is 0 at the solution; *explained is what is left out.
static void check_solution(const fixture *f, double penalty, const float *w, const float *b, double explained)
{
    double mean[P] = {0.0};
    double mean_t[Q] = {0.0};
    double variance = 0.0; // of x, summed
    for (int i = 0; i < ROWS * P; i++) {
        mean[i % P] += (double)f->x[i] / ROWS;
    }
    for (int i = 0; i < ROWS * Q; i++) {
        mean_t[i % Q] += (double)f->t[i] / ROWS;
    }
    for (int i = 0; i < ROWS * P; i++) {
        variance += pow((double)f->x[i] - mean[i % P], 2.0);
    }
    double lambda = penalty * variance / P;
    double total = 0.0;
    double left = 0.0;
    for (int q = 0; q < Q; q++) {
        double gradient[P + 1] = {0.0};
        double size[P + 1] = {0.0};
        for (int i = 0; i < ROWS; i++) {
            double residual = (double)b[q] - (double)f->t[i * Q + q];
            for (int k = 0; k < P; k++) {
                residual += (double)w[q * P + k] * (double)f->x[i * P + k];
            }
            for (int k = 0; k <= P; k++) {
                double x = k < P ? (double)f->x[i * P + k] : 1.0;
                gradient[k] += residual * x;
                size[k] += fabs(residual * x);
            }
            total += pow((double)f->t[i * Q + q] - mean_t[q], 2.0);
            left += residual * residual;
        }
        for (int k = 0; k <= P; k++) {
            double g = gradient[k] + (k < P ? lambda * (double)w[q * P + k] : 0.0);
            assert_true(fabs(g) < 1e-4 * (size[k] + 1.0));
        }
    }
    if (penalty < 1e-6) { // else the fitted part and the rest are not orthogonal
        assert_true(fabs(explained - (1.0 - left / total)) < 1e-4);
    }
}

static void test_solution(void **state)
{
    fixture *f = *state;
    float w[Q * P];
    float b[Q];
    double explained = 0.0;
    static const double penalties[] = {1e-9, 1e-3, 0.5};
    for (size_t i = 0; i < sizeof penalties / sizeof *penalties; i++) {
        memset(f->memory, 0, (size_t)lw_ridge_elements(P, Q) * sizeof(float));
        f->r.rows = 0;
        add_in_parts(f);
        assert_int_equal(f->r.rows, ROWS);
        assert_int_equal(lw_ridge_solve(f->dev, &f->r, penalties[i], &err, w, b, &explained), LW_OK);
        check_solution(f, penalties[i], w, b, explained);
        assert_true(explained > 0.0 && explained <= 1.0);
    }
}

static void test_unsolvable(void **state)
{
    fixture *f = *state;
    float w[Q * P];
    float b[Q];
    double explained;
    assert_int_equal(lw_ridge_solve(f->dev, &f->r, 1e-3, &err, w, b, &explained), LW_ERR_NUMERIC); // no rows
    for (int i = 0; i < ROWS * P; i++) {
        f->x[i] = 0.0F;
    }
    add_in_parts(f);
    assert_int_equal(lw_ridge_solve(f->dev, &f->r, 1e-3, &err, w, b, &explained), LW_ERR_NUMERIC); // all alike
    f->x[3] = NAN;
    add_in_parts(f);
    assert_int_equal(lw_ridge_solve(f->dev, &f->r, 1e-3, &err, w, b, &explained), LW_ERR_NUMERIC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_solution, set_up, tear_down),
                                       cmocka_unit_test_setup_teardown(test_unsolvable, set_up, tear_down)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
