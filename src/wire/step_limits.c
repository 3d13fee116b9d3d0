// step_limits.c: the most that a micro-batch out of given samples can need.
#include <stdlib.h>
#include <string.h>

#include "wire/step.h"

static int compare_descending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

lw_step_loss lw_step_loss_of(const lw_config *config)
{
    return (lw_step_loss){.first_weight = config->loss.first_weight,
                          .k_weight = config->loss.k_weight,
                          .k = config->loss.k,
                          .kd_weight = config->loss.kd_weight,
                          .kd_tau = config->loss.kd_tau};
}

int64_t lw_step_taught(const lw_step_loss *loss, const lw_token_sample *sample, int64_t llm)
{
    int64_t answer = sample->answer[llm].count;
    if (loss->kd_weight <= 0.0 || sample->prompt[llm].count == 0 || sample->task != LW_TASK_ANSWER) {
        return 0;
    }
    return loss->k < answer ? loss->k : answer;
}

typedef int64_t lw_measure(const lw_config *config, const lw_token_sample *sample, int64_t llm);

static int64_t measure_source(const lw_config *config, const lw_token_sample *s, int64_t llm)
{
    (void)config;
    (void)llm;
    return s->source.count;
}

static int64_t measure_latents(const lw_config *config, const lw_token_sample *s, int64_t llm)
{
    (void)llm;
    return lw_config_latents(config, s->source.count);
}

static int64_t measure_tasks(const lw_config *config, const lw_token_sample *s, int64_t llm)
{
    (void)config;
    (void)llm;
    return lw_task_rows(s->task);
}

static int64_t measure_answer(const lw_config *config, const lw_token_sample *s, int64_t llm)
{
    (void)config;
    return s->answer[llm].count;
}

static int64_t measure_taught(const lw_config *config, const lw_token_sample *s, int64_t llm)
{
    const lw_step_loss loss = lw_step_loss_of(config);
    return lw_step_taught(&loss, s, llm);
}

typedef struct sizes {
    const lw_config *config;
    const lw_token_sample *samples;
    int64_t count, micro, occurrences;
    int64_t *scratch; // (count)
} sizes;

// The sum of the `micro` largest measures, each taken `occurrences` times. *largest: the largest of them.
static int64_t top_sum(const sizes *s, lw_measure *measure, int64_t llm, int64_t *largest)
{
    int64_t *scratch = s->scratch;
    int64_t count = s->count;
    for (int64_t i = 0; i < count; i++) {
        scratch[i] = measure(s->config, &s->samples[i], llm);
    }
    qsort(scratch, (size_t)count, sizeof *scratch, compare_descending);
    *largest = count > 0 ? scratch[0] : 0;
    int64_t sum = 0;
    int64_t left = s->micro;
    for (int64_t i = 0; i < count && left > 0; i++) {
        int64_t times = s->occurrences < left ? s->occurrences : left;
        sum += times * scratch[i];
        left -= times;
    }
    return sum;
}

lw_status lw_step_limits_of(const lw_config *config, const lw_token_sample *samples, int64_t count, int64_t micro,
                            int64_t occurrences, lw_error *err, lw_step_limits *out)
{
    sizes s = {.config = config, .samples = samples, .count = count, .micro = micro, .occurrences = occurrences};
    s.scratch = malloc((size_t)(count + 1) * sizeof *s.scratch);
    if (s.scratch == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory to measure %lld samples", (long long)count);
    }
    int64_t largest;
    *out = (lw_step_limits){.encoder.samples = micro};
    out->encoder.tokens = top_sum(&s, measure_source, 0, &out->encoder.max_tokens);
    out->encoder.latents = top_sum(&s, measure_latents, 0, &out->encoder.max_latents);
    out->task_rows = top_sum(&s, measure_tasks, 0, &largest);
    for (int64_t j = 0; j < config->model_count; j++) {
        lw_pass_limits *l = &out->llm[j];
        l->sequences = micro;
        l->prefix_rows = out->encoder.latents + out->task_rows;
        l->rows = top_sum(&s, lw_token_sample_rows, j, &l->max_len);
        l->supervised = top_sum(&s, measure_answer, j, &largest);
        l->teachers = top_sum(&s, measure_taught, j, &largest);
    }
    free(s.scratch);
    return LW_OK;
}

// All limits are int64_t, so that they can be joined as an array, and a new field is joined too.
_Static_assert(sizeof(lw_step_limits) % sizeof(int64_t) == 0, "limits are int64_t");

void lw_step_limits_join(lw_step_limits *into, const lw_step_limits *other)
{
    int64_t a[sizeof *into / sizeof(int64_t)];
    int64_t b[sizeof *into / sizeof(int64_t)];
    memcpy(a, into, sizeof a);
    memcpy(b, other, sizeof b);
    for (size_t i = 0; i < sizeof a / sizeof a[0]; i++) {
        a[i] = a[i] > b[i] ? a[i] : b[i];
    }
    memcpy(into, a, sizeof a);
}
