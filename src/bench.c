// bench.c: the training step on synthetic weights and samples, timed as a whole and by phase, beside the bare products
// of the same step.
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "clock.h"
#include "flops.h"
#include "job.h"
#include "random.h"
#include "trainer.h"

// --- synthetic samples

enum { SUFFIX_TOKENS = 3 };

static void random_ids(uint64_t seed, uint64_t stream, int64_t vocab, int64_t n, int32_t *out)
{
    for (int64_t i = 0; i < n; i++) {
        out[i] = (int32_t)(lw_random_u64(seed, stream, (uint64_t)i) % (uint64_t)vocab);
    }
}

lw_status lw_bench_samples_make(const lw_hf_config *const *configs, int64_t llm_count, int64_t count,
                                const lw_bench_options *o, lw_error *err, lw_bench_samples *out)
{
    int64_t tokens = SUFFIX_TOKENS + o->answer_tokens;
    lw_bench_samples s = {.count = count};
    s.list = calloc((size_t)count, sizeof *s.list);
    s.text = malloc((size_t)(count * o->source_bytes + 1));
    s.ids = calloc((size_t)(count * llm_count * tokens), sizeof *s.ids);
    if (s.list == NULL || s.text == NULL || s.ids == NULL) {
        lw_bench_samples_free(&s);
        return lw_fail(err, LW_ERR_MEMORY, "no memory for %lld synthetic samples", (long long)count);
    }
    for (int64_t i = 0; i < count; i++) {
        char *text = s.text + i * o->source_bytes;
        for (int64_t k = 0; k < o->source_bytes; k++) {
            text[k] = (char)('a' + lw_random_u64(1, (uint64_t)i, (uint64_t)k) % 26);
        }
        s.list[i].source = text;
        s.list[i].source_bytes = o->source_bytes;
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
    free(s->text);
    free(s->ids);
    *s = (lw_bench_samples){0};
}

// --- the products of a step, recorded and played alone

// A device table that notes every product and does the rest as before. The table comes first, so that dev->ops leads
// back to the recorder.
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
    r->list[r->count] = *g;
    r->list[r->count++].bias = NULL; // the bare product
    r->device_ops->gemm(dev, g);
}

static lw_status play(lw_device *dev, const lw_gemm_recorder *r, lw_error *err)
{
    for (int64_t i = 0; i < r->count; i++) {
        dev->ops->gemm(dev, &r->list[i]);
    }
    return dev->ops->sync(dev, err);
}

// --- timing

typedef struct lw_bench_clock {
    lw_device *dev;
    double last_s;
    double phase_s[LW_PHASE_COUNT];
    lw_status status;
    lw_error err;
} lw_bench_clock;

static void after_phase(void *context, lw_step_phase phase)
{
    lw_bench_clock *c = context;
    if (c->status == LW_OK) {
        c->status = c->dev->ops->sync(c->dev, &c->err);
    }
    double now_s = lw_now_s();
    c->phase_s[phase] += now_s - c->last_s;
    c->last_s = now_s;
}

static lw_status one_step(lw_bench *b, lw_bench_clock *phases, lw_error *err)
{
    lw_job *job = b->job;
    lw_wire *wire = &job->wire;
    int64_t answer_tokens[LW_MAX_MODELS];
    for (int64_t j = 0; j < job->llm_count; j++) {
        answer_tokens[j] = b->global * b->options.answer_tokens;
    }
    b->step.after = phases != NULL ? after_phase : NULL;
    b->step.after_context = phases;
    job->dev->ops->zero(job->dev, (size_t)wire->reduce_elements * sizeof(float), wire->params.grad);
    for (int64_t done = 0; done < b->share; done += b->micro) {
        int64_t n = b->share - done < b->micro ? b->share - done : b->micro;
        LW_TRY(lw_step_run(&b->step, b->batch + done, n, answer_tokens, err));
    }
    LW_TRY(lw_comm_all_reduce(job->comm, job->dev, wire->params.grad, wire->reduce_elements, err));
    if (phases != NULL) {
        after_phase(phases, LW_PHASE_REDUCE);
    }
    lw_wire_update(job->dev, wire, &(lw_update){.lr = 1e-6, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .step = 1});
    if (phases != NULL) {
        after_phase(phases, LW_PHASE_UPDATE);
    }
    return job->dev->ops->sync(job->dev, err);
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static lw_bench_times summarise(double *s, int64_t n)
{
    qsort(s, (size_t)n, sizeof *s, compare_doubles);
    return (lw_bench_times){.min_s = s[0], .median_s = s[n / 2], .p90_s = s[n * 9 / 10], .max_s = s[n - 1]};
}

// Steps and bare products in turn, so that a machine that slows down slows both.
static lw_status time_steps(lw_bench *b, const lw_gemm_recorder *products, double *step_s, double *product_s,
                            lw_error *err)
{
    for (int64_t i = -b->options.warmup; i < b->options.steps; i++) {
        LW_TRY(lw_comm_barrier(b->job->comm, err));
        double start_s = lw_now_s();
        LW_TRY(one_step(b, NULL, err));
        double end_s = lw_now_s();
        LW_TRY(lw_comm_barrier(b->job->comm, err));
        double play_s = lw_now_s();
        LW_TRY(play(b->job->dev, products, err));
        if (i >= 0) {
            step_s[i] = end_s - start_s;
            product_s[i] = lw_now_s() - play_s;
        }
    }
    return LW_OK;
}

static lw_status record(lw_bench *b, lw_gemm_recorder *r, lw_error *err)
{
    lw_device *dev = b->job->dev;
    *r = (lw_gemm_recorder){.ops = *dev->ops, .device_ops = dev->ops};
    r->ops.gemm = record_gemm;
    dev->ops = &r->ops;
    lw_status status = one_step(b, NULL, err);
    dev->ops = r->device_ops;
    if (status == LW_OK && r->failed) {
        status = lw_fail(err, LW_ERR_MEMORY, "no memory for the list of products");
    }
    return status;
}

static lw_status time_phases(lw_bench *b, lw_error *err)
{
    lw_bench_clock clock = {.dev = b->job->dev};
    for (int64_t i = 0; i < b->options.steps; i++) {
        LW_TRY(lw_comm_barrier(b->job->comm, err));
        clock.last_s = lw_now_s();
        LW_TRY(one_step(b, &clock, err));
    }
    if (clock.status != LW_OK) {
        *err = clock.err;
        return clock.status;
    }
    for (int p = 0; p < LW_PHASE_COUNT; p++) {
        b->result.phase_s[p] = clock.phase_s[p] / (double)b->options.steps;
    }
    return LW_OK;
}

lw_status lw_bench_run(lw_bench *b, lw_error *err)
{
    lw_gemm_recorder products = {0};
    double *times = calloc((size_t)b->options.steps, 2 * sizeof *times);
    lw_status status = LW_OK;
    if (times == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the measurements");
    }
    LW_TRY_GOTO(record(b, &products, err));
    LW_TRY_GOTO(time_steps(b, &products, times, times + b->options.steps, err));
    b->result.step = summarise(times, b->options.steps);
    b->result.products = summarise(times + b->options.steps, b->options.steps);
    for (int64_t i = 0; i < products.count; i++) {
        const lw_gemm *g = &products.list[i];
        b->result.product_flop += 2.0 * (double)g->m * (double)g->n * (double)g->k;
    }
    LW_TRY_GOTO(time_phases(b, err));
    LW_TRY_GOTO(lw_gemm_rate(b->job->dev, err, &b->result.gemm_flop_per_s));
done:
    free(products.list);
    free(times);
    return status;
}
