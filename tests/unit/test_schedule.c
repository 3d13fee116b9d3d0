// schedule: which samples a step sees, how ranks divide them, and the learning rate.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "train/trainer.h"

static lw_schedule make(lw_config *c, int64_t samples, int ranks)
{
    lw_schedule s;
    lw_error err = {{0}};
    if (lw_schedule_make(c, samples, ranks, &err, &s) != LW_OK) {
        fail_msg("%s", err.text);
    }
    return s;
}

// Walks the whole run as `ranks` ranks would: shares follow one another and make up the step, and every sample is seen
// once in each epoch.
static void check_run(int64_t samples, int64_t global, int64_t epochs, int ranks)
{
    lw_config c = {.seed = 9, .batch.global = global, .train.epochs = epochs};
    lw_schedule s = make(&c, samples, ranks);
    int64_t *seen = calloc((size_t)samples, sizeof *seen);
    int64_t position = 0;
    assert_non_null(seen);
    assert_int_equal(s.total_samples, samples * epochs);
    assert_int_equal(s.total_steps, (samples * epochs + global - 1) / global);
    for (int64_t step = 0; step < s.total_steps; step++) {
        int64_t first;
        int64_t count;
        int64_t least = INT64_MAX;
        int64_t most = 0;
        lw_schedule_step(&s, step, &first, &count);
        assert_int_equal(first, position);
        assert_true(count >= 1 && count <= global);
        assert_true(count == global || step == s.total_steps - 1);
        for (int rank = 0; rank < ranks; rank++) {
            int64_t share_first;
            int64_t share;
            lw_schedule_share(&s, step, rank, ranks, &share_first, &share);
            assert_int_equal(share_first, position);
            least = share < least ? share : least;
            most = share > most ? share : most;
            for (int64_t i = 0; i < share; i++, position++) {
                int64_t sample = lw_schedule_sample(&s, position);
                assert_true(sample >= 0 && sample < samples);
                assert_int_equal(seen[sample], position / samples); // once in each epoch before this one
                seen[sample]++;
            }
        }
        assert_int_equal(position, first + count);
        assert_true(least >= 0 && most - least <= 1);
        assert_true(most <= s.micro);
    }
    assert_int_equal(position, s.total_samples);
    free(seen);
}

static void test_every_sample_once_per_epoch(void **state)
{
    (void)state;
    static const int64_t cases[][3] = {{7, 7, 3},  {50, 7, 2},  {50, 50, 1}, {10, 100, 3},
                                       {23, 8, 5}, {100, 9, 2}, {7, 13, 4},  {64, 16, 3}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int ranks = 1; ranks <= 7; ranks++) {
            check_run(cases[i][0], cases[i][1], cases[i][2], ranks);
        }
    }
}

// Most epochs that any `micro` consecutive positions of a run are in.
static int64_t most_epochs(int64_t samples, int64_t micro, int64_t epochs)
{
    int64_t most = 0;
    for (int64_t first = 0; first < samples * epochs; first++) {
        int64_t last = first + micro < samples * epochs ? first + micro - 1 : samples * epochs - 1;
        int64_t touched = last / samples - first / samples + 1;
        most = touched > most ? touched : most;
    }
    return most;
}

static void test_occurrences_of_a_sample_in_a_pass(void **state)
{
    (void)state;
    for (int64_t samples = 1; samples <= 6; samples++) {
        for (int64_t micro = 1; micro <= 20; micro++) {
            for (int64_t epochs = 1; epochs <= 5; epochs++) {
                assert_int_equal(lw_schedule_occurrences(samples, micro, epochs), most_epochs(samples, micro, epochs));
            }
        }
    }
}

static void test_order_does_not_depend_on_ranks_or_batch(void **state)
{
    (void)state;
    lw_config a = {.seed = 4, .batch.global = 3, .train.epochs = 2};
    lw_config b = {.seed = 4, .batch.per_rank = 5, .train.epochs = 2};
    lw_config other = {.seed = 5, .batch.global = 3, .train.epochs = 2};
    lw_schedule x = make(&a, 101, 1);
    lw_schedule y = make(&b, 101, 6);
    lw_schedule z = make(&other, 101, 1);
    int64_t same = 0;
    assert_int_equal(y.global, 30);
    for (int64_t i = 0; i < 202; i++) {
        assert_int_equal(lw_schedule_sample(&x, i), lw_schedule_sample(&y, i));
        same += lw_schedule_sample(&x, i) == lw_schedule_sample(&z, i);
    }
    assert_true(same < 20); // another seed is another order
    same = 0;
    for (int64_t i = 0; i < 101; i++) {
        same += lw_schedule_sample(&x, i) == lw_schedule_sample(&x, 101 + i);
    }
    assert_true(same < 20); // and so is another epoch
}

static void test_max_steps(void **state)
{
    (void)state;
    int64_t first;
    int64_t count;
    lw_config c = {.batch.global = 8, .train = {.epochs = 2, .max_steps = 3}};
    lw_schedule s = make(&c, 50, 2);
    assert_int_equal(s.total_steps, 3);
    assert_int_equal(s.total_samples, 24);
    lw_schedule_step(&s, 2, &first, &count);
    assert_int_equal(first, 16);
    assert_int_equal(count, 8); // whole steps, when it is max_steps that ends the run
    c.train.max_steps = 13;     // exactly what the epochs give: the last step is the partial one
    s = make(&c, 50, 2);
    assert_int_equal(s.total_steps, 13);
    assert_int_equal(s.total_samples, 100);
    c.train.max_steps = 1000;
    s = make(&c, 50, 2);
    assert_int_equal(s.total_steps, 13);
    assert_int_equal(s.total_samples, 100);
}

static void test_micro(void **state)
{
    (void)state;
    lw_config c = {.batch = {.global = 7}, .train.epochs = 1};
    assert_int_equal(make(&c, 50, 2).micro, 4); // the largest share
    c.batch.micro = 3;
    assert_int_equal(make(&c, 50, 2).micro, 3);
    c.batch.micro = 100;
    assert_int_equal(make(&c, 50, 2).micro, 4);
}

static void test_refusals(void **state)
{
    (void)state;
    lw_schedule s;
    lw_error err = {{0}};
    lw_config c = {.batch.global = 4, .train.epochs = 1};
    assert_int_equal(lw_schedule_make(&c, 3, 4, &err, &s), LW_ERR_CONFIG);
    assert_non_null(strstr(err.text, "4 ranks for 3 training samples"));
    assert_int_equal(lw_schedule_make(&c, 50, 5, &err, &s), LW_ERR_CONFIG);
    assert_non_null(strstr(err.text, "batch.global = 4 is less than the 5 ranks"));
    c.train.epochs = INT64_MAX / 2;
    assert_int_equal(lw_schedule_make(&c, 50, 1, &err, &s), LW_ERR_CONFIG);
    assert_non_null(strstr(err.text, "train.epochs"));
}

// cmocka's own compares in f32.
static void assert_near(double value, double expected)
{
    if (!(fabs(value - expected) <= 1e-15)) {
        fail_msg("%.17g is not %.17g", value, expected);
    }
}

static void test_learning_rate(void **state)
{
    (void)state;
    lw_config c = {.batch.global = 1, .train = {.epochs = 1, .lr = 2e-3, .warmup = 0.1, .min_lr = 0.02}};
    lw_schedule s = make(&c, 100, 1);
    for (int64_t step = 0; step < 10; step++) {
        assert_near(lw_schedule_lr(&c, &s, step), 2e-3 * (double)(step + 1) / 10.0);
    }
    assert_near(lw_schedule_lr(&c, &s, 10), 2e-3);
    assert_near(lw_schedule_lr(&c, &s, 55), 2e-3 * (0.02 + 0.98 * 0.5)); // half of the cosine
    assert_near(lw_schedule_lr(&c, &s, 100), 2e-3 * 0.02);
    double before = lw_schedule_lr(&c, &s, 10);
    for (int64_t step = 11; step <= 100; step++) {
        double lr = lw_schedule_lr(&c, &s, step);
        assert_true(lr < before && lr >= 2e-3 * 0.02 - 1e-15);
        before = lr;
    }
}

// Warm-up of nothing, of everything, and a run of one step: finite, positive, at most lr.
static void test_learning_rate_at_the_edges(void **state)
{
    (void)state;
    static const double warmups[] = {0.0, 0.001, 0.5, 0.99, 1.0};
    for (size_t i = 0; i < sizeof warmups / sizeof warmups[0]; i++) {
        for (int64_t steps = 1; steps <= 5; steps++) {
            lw_config c = {.batch.global = 1, .train = {.epochs = 1, .lr = 1.0, .warmup = warmups[i], .min_lr = 0.02}};
            lw_schedule s = make(&c, steps, 1);
            for (int64_t step = 0; step < steps; step++) {
                double lr = lw_schedule_lr(&c, &s, step);
                assert_true(isfinite(lr) && lr > 0.0 && lr <= 1.0 + 1e-15);
            }
            assert_true(warmups[i] > 0.0 || fabs(lw_schedule_lr(&c, &s, 0) - 1.0) < 1e-15);
        }
    }
}

// The adapters learn alone in the first quarter; then the encoder rises to its own curve as the adapters did to theirs.
static void test_rates_of_the_parts(void **state)
{
    (void)state;
    lw_config c = {
        .batch.global = 1,
        .train = {.epochs = 1, .lr = 2e-3, .warmup = 0.1, .min_lr = 0.02, .encoder_lr = 5e-4, .encoder_start = 0.25}};
    lw_schedule s = make(&c, 100, 1);
    for (int64_t step = 0; step < 100; step++) {
        double lr = lw_schedule_lr(&c, &s, step);
        double encoder = lw_schedule_rate(&c, &s, LW_RATE_ENCODER, step);
        double part = step < 25 ? 0.0 : step < 35 ? 0.025 * (double)(step - 24) : 0.25;
        assert_true(lw_schedule_rate(&c, &s, LW_RATE_ADAPTER, step) == lr);
        assert_near(encoder, part * lr);
        assert_int_equal(lw_schedule_updates(&c, &s, LW_RATE_ADAPTER, step), step);
        assert_int_equal(lw_schedule_updates(&c, &s, LW_RATE_ENCODER, step), step < 25 ? 0 : step - 25);
    }
    c.train.adapter_lr = 1e-2;
    assert_near(lw_schedule_rate(&c, &s, LW_RATE_ADAPTER, 50), 5.0 * lw_schedule_lr(&c, &s, 50));
    c.train.encoder_start = 1.0;
    assert_true(lw_schedule_rate(&c, &s, LW_RATE_ENCODER, 99) == 0.0);
    assert_int_equal(lw_schedule_updates(&c, &s, LW_RATE_ENCODER, 100), 0);
    c.train.encoder_start = 0.0;
    c.train.encoder_lr = 0.0;
    for (int64_t step = 0; step < 100; step++) {
        assert_true(lw_schedule_rate(&c, &s, LW_RATE_ENCODER, step) == lw_schedule_lr(&c, &s, step));
    }
}

static void test_one_model_a_step_in_turn(void **state)
{
    (void)state;
    lw_config c = {.batch.global = 1,
                   .model_count = 3,
                   .train = {.epochs = 1, .lr = 1e-3, .min_lr = 0.1, .schedule = LW_SCHEDULE_ALTERNATE}};
    lw_schedule s = make(&c, 20, 1);
    int64_t moved[3] = {0};
    for (int64_t step = 0; step < 20; step++) {
        assert_int_equal(lw_schedule_only_llm(&c, step), step % 3);
        assert_true(lw_schedule_rate(&c, &s, LW_RATE_ENCODER, step) == lw_schedule_lr(&c, &s, step));
        assert_int_equal(lw_schedule_updates(&c, &s, LW_RATE_ENCODER, step), step);
        for (int j = 0; j < 3; j++) {
            double rate = lw_schedule_rate(&c, &s, LW_RATE_ADAPTER + j, step);
            assert_true(rate == (step % 3 == j ? lw_schedule_lr(&c, &s, step) : 0.0));
            assert_int_equal(lw_schedule_updates(&c, &s, LW_RATE_ADAPTER + j, step), moved[j]);
            moved[j] += rate > 0.0;
        }
    }
    c.train.schedule = LW_SCHEDULE_ALL;
    assert_int_equal(lw_schedule_only_llm(&c, 4), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_sample_once_per_epoch),
        cmocka_unit_test(test_occurrences_of_a_sample_in_a_pass),
        cmocka_unit_test(test_order_does_not_depend_on_ranks_or_batch),
        cmocka_unit_test(test_max_steps),
        cmocka_unit_test(test_micro),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_learning_rate),
        cmocka_unit_test(test_learning_rate_at_the_edges),
        cmocka_unit_test(test_rates_of_the_parts),
        cmocka_unit_test(test_one_model_a_step_in_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
