// bench.c: times the training step on synthetic weights and samples, as a whole and by phase, and the bare matrix
// products of the same step.
#include <stdlib.h>
#include <string.h>

#include "cli/bench.h"
#include "core/clock.h"
#include "core/random.h"
#include "core/signals.h"
#include "cost/rates.h"
#include "data/sample.h"
#include "job/job.h"
#include "train/trainer.h"

// --- synthetic samples

enum { SUFFIX_TOKENS = 3 };

static void random_ids(uint64_t seed, uint64_t stream, int64_t vocab, int64_t n, int32_t *out)
{
    for (int64_t i = 0; i < n; i++) {
        out[i] = (int32_t)(lw_random_u64(seed, stream, (uint64_t)i) % (uint64_t)vocab);
    }
}

lw_status lw_bench_samples_make(const lw_hf_config *const *configs, int64_t llm_count, int64_t alphabet, int64_t count,
                                const lw_bench_options *o, lw_error *err, lw_bench_samples *out)
{
    int64_t tokens = SUFFIX_TOKENS + o->answer_tokens;
    lw_bench_samples s = {.count = count};
    s.list = calloc((size_t)count, sizeof *s.list);
    s.source = calloc((size_t)(count * o->source_tokens + 1), sizeof *s.source);
    s.ids = calloc((size_t)(count * llm_count * tokens), sizeof *s.ids);
    if (s.list == NULL || s.source == NULL || s.ids == NULL) {
        lw_bench_samples_free(&s);
        return lw_fail(err, LW_ERR_MEMORY, "no memory for %lld synthetic samples", (long long)count);
    }
    for (int64_t i = 0; i < count; i++) {
        int32_t *source = s.source + i * o->source_tokens;
        random_ids(1, (uint64_t)i, alphabet, o->source_tokens, source);
        s.list[i].source = (lw_tokens){source, o->source_tokens};
        for (int64_t j = 0; j < llm_count; j++) {
            int32_t *ids = s.ids + (i * llm_count + j) * tokens;
            random_ids(2, (uint64_t)(i * llm_count + j), configs[j]->vocab, tokens, ids);
            s.list[i].suffix[j] = (lw_tokens){ids, SUFFIX_TOKENS};
            s.list[i].answer[j] = (lw_tokens){ids + SUFFIX_TOKENS, o->answer_tokens};
        }
    }
    *out = s;
    return LW_OK;
}

void lw_bench_samples_free(lw_bench_samples *s)
{
    free(s->list);
    free(s->source);
    free(s->ids);
    *s = (lw_bench_samples){0};
}

// --- the products of a step, recorded and repeated without the rest

// A device table that records every product and passes each call on to the device's own table. `ops` comes first, so
// that dev->ops can be cast back to the recorder.
typedef struct lw_gemm_recorder {
    lw_device_ops ops;
    const lw_device_ops *device_ops;
    lw_gemm *list;
    int64_t count, capacity;
    bool failed;
} lw_gemm_recorder;

static void record_gemm(lw_device *dev, const lw_gemm *g)
{
    lw_gemm_recorder *r = (lw_gemm_recorder *)(uintptr_t)dev->ops;
    if (r->count == r->capacity) {
        int64_t capacity = 2 * r->capacity + 256;
        lw_gemm *list = realloc(r->list, (size_t)capacity * sizeof *list);
        if (list == NULL) {
            r->failed = true;
            return;
        }
        r->list = list;
        r->capacity = capacity;
    }
    lw_gemm bare = *g;
    bare.bias = NULL;
    bare.c_in = NULL;
    bare.beta = 0.0F;
    r->list[r->count++] = bare;
    r->device_ops->gemm(dev, g);
}

// Stands in for the replay of a graph: the operators are enqueued again, so that their products are recorded.
static void call_directly(lw_device *dev, uint64_t key, void (*enqueue)(void *context), void *context)
{
    (void)dev;
    (void)key;
    enqueue(context);
}

static lw_status play(lw_device *dev, const lw_gemm_recorder *r, lw_error *err)
{
    for (int64_t i = 0; i < r->count; i++) {
        dev->ops->gemm(dev, &r->list[i]);
    }
    return dev->ops->sync(dev, err);
}

// --- timing

// Seconds of each phase of one step: phases that all LLMs share in slot 0, phases of LLM j in slot j + 1.
typedef struct lw_bench_clock {
    lw_device *dev;
    double last_s;
    double phase_s[1 + LW_MAX_MODELS][LW_PHASE_COUNT];
    lw_status status;
    lw_error err;
} lw_bench_clock;

static void after_phase(void *context, lw_step_phase phase, int64_t llm)
{
    lw_bench_clock *c = context;
    if (c->status == LW_OK) {
        c->status = c->dev->ops->sync(c->dev, &c->err);
    }
    double now_s = lw_now_s();
    c->phase_s[llm + 1][phase] += now_s - c->last_s;
    c->last_s = now_s;
}

static lw_status one_step(lw_bench *b, lw_bench_clock *phases, double *enqueued_s, lw_error *err)
{
    lw_job *job = b->job;
    lw_wire *wire = &job->wire;
    int64_t answer_tokens[LW_MAX_MODELS];
    for (int64_t j = 0; j < job->llm_count; j++) {
        answer_tokens[j] = b->global * b->options.answer_tokens;
    }
    lw_step_spec spec = b->spec;
    spec.after = phases != NULL ? after_phase : NULL;
    spec.after_context = phases;
    job->dev->ops->zero(job->dev, (size_t)wire->reduce_elements * sizeof(float), wire->params.grad);
    for (int64_t done = 0; done < b->share; done += b->micro) {
        int64_t n = b->share - done < b->micro ? b->share - done : b->micro;
        LW_TRY(lw_step_run(&b->step, &spec, b->batch + done, n, answer_tokens, err));
    }
    *enqueued_s = lw_now_s();
    LW_TRY(lw_comm_all_reduce(job->comm, wire->params.grad, wire->reduce_elements, err));
    if (phases != NULL) {
        after_phase(phases, LW_PHASE_REDUCE, -1);
    }
    lw_update update = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
    for (int i = 0; i < LW_RATE_COUNT; i++) {
        update.rate[i] = (lw_update_rate){.lr = 1e-6, .step = 1};
    }
    lw_wire_update(job->dev, wire, &update);
    if (phases != NULL) {
        after_phase(phases, LW_PHASE_UPDATE, -1);
    }
    return job->dev->ops->sync(job->dev, err);
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

// The value that `percent` of the sorted ones do not exceed (nearest rank).
static double percentile(const double *sorted, int64_t n, int64_t percent)
{
    return sorted[(n * percent + 99) / 100 - 1];
}

static lw_bench_times summarise(double *s, int64_t n)
{
    qsort(s, (size_t)n, sizeof *s, compare_doubles);
    return (lw_bench_times){
        .min_s = s[0], .median_s = percentile(s, n, 50), .p95_s = percentile(s, n, 95), .max_s = s[n - 1]};
}

// Steps and bare products alternate, so that a machine that slows down slows both. times: work space, (3 * steps).
static lw_status time_steps(lw_bench *b, const lw_gemm_recorder *products, double *times, lw_error *err)
{
    int64_t steps = b->options.steps;
    for (int64_t i = -b->options.warmup; i < steps; i++) {
        LW_TRY(lw_comm_agree(b->job->comm, lw_signal_check(LW_OK), err));
        double enqueued_s;
        double start_s = lw_now_s();
        LW_TRY(one_step(b, NULL, &enqueued_s, err));
        double end_s = lw_now_s();
        LW_TRY(lw_comm_barrier(b->job->comm, err));
        double play_s = lw_now_s();
        LW_TRY(play(b->job->dev, products, err));
        if (i >= 0) {
            times[i] = end_s - start_s;
            times[steps + i] = lw_now_s() - play_s;
            times[2 * steps + i] = enqueued_s - start_s;
        }
    }
    b->result.step = summarise(times, steps);
    b->result.products = summarise(times + steps, steps);
    b->result.enqueue_s = summarise(times + 2 * steps, steps).median_s;
    return LW_OK;
}

static lw_status record(lw_bench *b, lw_gemm_recorder *r, lw_error *err)
{
    lw_device *dev = b->job->dev;
    double enqueued_s;
    *r = (lw_gemm_recorder){.ops = *dev->ops, .device_ops = dev->ops};
    r->ops.gemm = record_gemm;
    r->ops.replay = call_directly;
    dev->ops = &r->ops;
    lw_status status = one_step(b, NULL, &enqueued_s, err);
    dev->ops = r->device_ops;
    if (status == LW_OK && r->failed) {
        status = lw_fail(err, LW_ERR_MEMORY, "no memory for the list of products");
    }
    for (int64_t i = 0; i < r->count; i++) {
        const lw_gemm *g = &r->list[i];
        b->result.product_flop += 2.0 * (double)g->m * (double)g->n * (double)g->k;
    }
    return status;
}

// seconds[(slot * LW_PHASE_COUNT + phase) * steps + i]
static lw_status time_phases(lw_bench *b, double *seconds, lw_error *err)
{
    lw_bench_result *r = &b->result;
    int64_t steps = b->options.steps;
    int64_t slots = 1 + b->job->llm_count;
    double enqueued_s;
    for (int64_t i = 0; i < steps; i++) {
        lw_bench_clock clock = {.dev = b->job->dev};
        LW_TRY(lw_comm_agree(b->job->comm, lw_signal_check(LW_OK), err));
        clock.last_s = lw_now_s();
        LW_TRY(one_step(b, &clock, &enqueued_s, err));
        if (clock.status != LW_OK) {
            *err = clock.err;
            return clock.status;
        }
        for (int p = 0; p < LW_PHASE_COUNT; p++) {
            for (int64_t slot = 1; slot < slots; slot++) {
                seconds[(slot * LW_PHASE_COUNT + p) * steps + i] = clock.phase_s[slot][p];
                clock.phase_s[0][p] += clock.phase_s[slot][p]; // the phase as a whole
            }
            seconds[p * steps + i] = clock.phase_s[0][p];
        }
    }
    for (int p = 0; p < LW_PHASE_COUNT; p++) {
        r->phase[p] = summarise(seconds + p * steps, steps);
        for (int64_t j = 0; j < b->job->llm_count; j++) {
            r->llm_phase[j][p] = summarise(seconds + ((j + 1) * LW_PHASE_COUNT + p) * steps, steps);
        }
    }
    return LW_OK;
}

lw_status lw_bench_run(lw_bench *b, lw_error *err)
{
    lw_gemm_recorder products = {0};
    size_t slots = (size_t)(1 + b->job->llm_count) * LW_PHASE_COUNT;
    double *times = calloc((size_t)b->options.steps, (slots > 3 ? slots : 3) * sizeof *times);
    lw_status status = LW_OK;
    if (times == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the measurements");
    }
    LW_TRY_GOTO(record(b, &products, err));
    LW_TRY_GOTO(time_steps(b, &products, times, err));
    LW_TRY_GOTO(time_phases(b, times, err));
    b->result.peak_bytes = b->job->dev->peak_bytes; // before the rates take memory of their own
    b->result.largest = lw_step_largest_product(&b->step);
    LW_TRY_GOTO(lw_product_rates(b->job->dev, &b->result.largest, err, &b->result.gemm_flop_per_s,
                                 &b->result.gemm_median_flop_per_s));
    LW_TRY_GOTO(lw_copy_rate(b->job->dev, err, &b->result.copy_bytes_per_s));
done:
    free(products.list);
    free(times);
    return status;
}
