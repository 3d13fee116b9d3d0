// collapse: the cosine between latents of samples that lie on different ranks, and when the alarm is told.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/devices.h"
#include "train/collapse.h"

enum { LATENTS = 3, WIDTH = 4, VALUES = LATENTS * WIDTH, MOST = 5 };

static int failures;

static void check(bool good, int line, const char *what)
{
    if (!good) {
        fprintf(stderr, "line %d: %s\n", line, what);
        failures++;
    }
}

#define CHECK(expression) check((expression), __LINE__, #expression)

// Value k of sample i of rank r: anything that differs from sample to sample, of very different lengths.
static double value(int rank, int64_t i, int64_t k)
{
    return (1.0 + 100.0 * (double)i) * (sin(1.0 + 7.0 * rank + 3.0 * (double)i + 1.7 * (double)k) + 0.5);
}

// Samples of rank r: 5, 4, 0, 5, ...: one rank may have none.
static int64_t samples_of(int rank)
{
    return rank == 2 ? 0 : rank == 1 ? 4 : MOST;
}

static double cosine(int rank_a, int64_t a, int rank_b, int64_t b)
{
    double ab = 0.0;
    double aa = 0.0;
    double bb = 0.0;
    for (int64_t k = 0; k < VALUES; k++) {
        double x = value(rank_a, a, k);
        double y = value(rank_b, b, k);
        ab += x * y;
        aa += x * x;
        bb += y * y;
    }
    return ab / sqrt(aa * bb);
}

// By all pairs.
static double wanted_mean(int ranks)
{
    double sum = 0.0;
    double pairs = 0.0;
    for (int ra = 0; ra < ranks; ra++) {
        for (int64_t a = 0; a < samples_of(ra); a++) {
            for (int rb = 0; rb < ranks; rb++) {
                for (int64_t b = 0; b < samples_of(rb); b++) {
                    if (ra != rb || a != b) {
                        sum += cosine(ra, a, rb, b);
                        pairs += 1.0;
                    }
                }
            }
        }
    }
    return sum / pairs;
}

static void test_cosine(lw_collapse *c, int rank, int ranks, lw_error *err)
{
    float z[MOST * VALUES];
    int32_t z_start[MOST + 1];
    double out = 0.0;
    for (int64_t i = 0; i < MOST; i++) {
        z_start[i] = (int32_t)(i * LATENTS);
        for (int64_t k = 0; k < VALUES; k++) {
            z[i * VALUES + k] = (float)value(rank, i, k);
        }
    }
    CHECK(lw_collapse_cosine(c, z, z_start, samples_of(rank), err, &out) == LW_OK);
    CHECK(fabs(out - wanted_mean(ranks)) < 1e-6);
    CHECK(lw_collapse_cosine(c, z, z_start, rank == 0 ? 1 : 0, err, &out) == LW_OK);
    CHECK(isnan(out)); // one sample has no other
    for (int64_t i = 0; i < MOST * VALUES; i++) {
        z[i] = (float)(i % VALUES + 1) * (float)(i / VALUES + 1); // the same direction everywhere
    }
    CHECK(lw_collapse_cosine(c, z, z_start, 3, err, &out) == LW_OK);
    CHECK(fabs(out - 1.0) < 1e-12);
    z[5] = NAN;
    CHECK(lw_collapse_cosine(c, z, z_start, 3, err, &out) == LW_OK);
    CHECK(isnan(out));
}

// Warm-up of 10 steps, then 20 steps above 0.9.
static void test_alarm(lw_collapse *c)
{
    for (int64_t step = 5; step <= 30; step += 5) {
        lw_collapse_note_cosine(c, step, 0.95);
        CHECK(!c->cosine.reported); // above since step 15 counts, so not before step 35
    }
    lw_collapse_note_cosine(c, 32, 0.5); // a break
    for (int64_t step = 35; step <= 50; step += 5) {
        lw_collapse_note_cosine(c, step, 0.95);
        CHECK(!c->cosine.reported);
    }
    lw_collapse_note_cosine(c, 53, NAN); // a skipped step is a break too
    lw_collapse_note_cosine(c, 55, 0.95);
    lw_collapse_note_cosine(c, 74, 0.95);
    CHECK(!c->cosine.reported);
    lw_collapse_note_cosine(c, 75, 0.95);
    CHECK(c->cosine.reported);
}

static void test_first_tokens(void)
{
    lw_eval_sums sums = {.samples = 20, .first_correct = 9, .same_first = true};
    CHECK(lw_collapse_same_first(&sums));
    sums.first_correct = 11; // most answers do begin so
    CHECK(!lw_collapse_same_first(&sums));
    sums.first_correct = 0;
    sums.same_first = false;
    CHECK(!lw_collapse_same_first(&sums));
    sums = (lw_eval_sums){.samples = 7, .same_first = true};
    CHECK(!lw_collapse_same_first(&sums)); // too few to tell
}

int main(void)
{
    lw_error err = {.text = ""};
    lw_config config = {.wire = {.latents = LATENTS, .d_z = WIDTH},
                        .train = {.collapse_cosine = 0.9, .collapse_steps = 20}};
    lw_job job = {.config = &config};
    lw_collapse c;
    if (lw_comm_create(&(lw_comm_options){.timeout_s = 60.0}, &err, &job.comm) != LW_OK ||
        lw_device_open("cpu", 0, 1, &err, &job.dev) != LW_OK || lw_collapse_create(&job, MOST, 10, &err, &c) != LW_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    test_cosine(&c, lw_comm_rank(job.comm), lw_comm_size(job.comm), &err);
    test_alarm(&c);
    test_first_tokens();
    lw_collapse_free(&c);
    lw_device_close(&job.dev);
    lw_comm_destroy(&job.comm);
    return failures > 0;
}
