// cmd_bench.c: `lwmpi bench`.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "clock.h"
#include "command.h"
#include "config_words.h"
#include "forecast.h"
#include "flops.h"
#include "options.h"
#include "trainer.h"
#include "version.h"

static json_t *times_json(const lw_bench_times *t)
{
    return json_pack("{s:f, s:f, s:f, s:f}", "min", t->min_s, "median", t->median_s, "p90", t->p90_s, "max", t->max_s);
}

static json_t *result_json(const lw_bench *b, uint64_t config_hash, double flop_per_sample)
{
    static const char *const keys[] = {
#define LW_PHASE_KEY(phase, key) [phase] = key,
        LW_STEP_PHASES(LW_PHASE_KEY)
#undef LW_PHASE_KEY
    };
    const lw_job *job = b->job;
    const lw_bench_result *r = &b->result;
    char hash[20];
    char date[LW_UTC_BYTES];
    double samples_per_s = (double)b->global / r->step.median_s;
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)config_hash);
    lw_utc_now(date);
    json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:i}", "date", date, "lwmpi", lw_version(), "commit",
                          lw_commit(), "config", job->config->path, "config_hash", hash, "device",
                          job->dev->description, "ranks", job->ranks, "threads", job->threads);
    json_object_set_new(o, "batch_samples", json_integer(b->global));
    json_object_set_new(o, "latents", json_integer(job->config->wire.latents));
    json_object_set_new(o, "answer_tokens", json_integer(b->options.answer_tokens));
    json_object_set_new(o, "source_bytes", json_integer(b->options.source_bytes));
    json_object_set_new(o, "warmup_steps", json_integer(b->options.warmup));
    json_object_set_new(o, "steps", json_integer(b->options.steps));
    json_object_set_new(o, "samples_per_s", lw_json_number(samples_per_s));
    json_object_set_new(o, "step_s", times_json(&r->step));
    json_object_set_new(o, "products_s", times_json(&r->products));
    json_object_set_new(o, "products_flop_per_s", lw_json_number(r->product_flop / r->products.median_s));
    json_object_set_new(o, "step_flop_per_s", lw_json_number(r->product_flop / r->step.median_s));
    json_object_set_new(o, "products_share_of_step", lw_json_number(r->products.median_s / r->step.median_s));
    json_object_set_new(o, "gemm_flop_per_s", lw_json_number(r->gemm_flop_per_s));
    json_object_set_new(o, "mfu",
                        lw_json_number(samples_per_s * flop_per_sample / (r->gemm_flop_per_s * job->ranks)));
    json_object_set_new(o, "device_bytes", json_integer((json_int_t)job->dev->peak_bytes));
    json_t *phases = json_object();
    for (int p = 0; p < LW_PHASE_COUNT; p++) {
        json_object_set_new(phases, keys[p], lw_json_number(r->phase_s[p]));
    }
    json_object_set_new(o, "phase_s", phases);
    return o;
}

static void print_text(const json_t *o)
{
    const char *key;
    json_t *value;
    printf("%s, %lld ranks x %lld threads, batch %lld: %.1f samples/s\n",
           json_string_value(json_object_get(o, "device")), (long long)json_integer_value(json_object_get(o, "ranks")),
           (long long)json_integer_value(json_object_get(o, "threads")),
           (long long)json_integer_value(json_object_get(o, "batch_samples")),
           json_number_value(json_object_get(o, "samples_per_s")));
    printf("a step takes %.3f ms (median); its bare products take %.3f ms of that, at %.1f GFLOP/s\n",
           1e3 * json_number_value(json_object_get(json_object_get(o, "step_s"), "median")),
           1e3 * json_number_value(json_object_get(json_object_get(o, "products_s"), "median")),
           1e-9 * json_number_value(json_object_get(o, "products_flop_per_s")));
    json_object_foreach(json_object_get(o, "phase_s"), key, value)
    {
        printf("  %-18s %9.3f ms\n", key, 1e3 * json_number_value(value));
    }
}

// What the planner expected of this step, added to `o`; then what was measured, as a record for later plans. It serves
// others, not this command: what fails is told and passed over.
static void leave_record(const lw_bench *b, const lw_hf_config *const *configs, const lw_sample_shape *shape, json_t *o)
{
    lw_error err;
    lw_device_rates rates;
    lw_calibration_record r;
    double step_s = 0.0;
    char source[160];
    bool known = false;
    bool measured = false;
    const lw_workload w = {.wire = &b->job->wire,
                           .configs = configs,
                           .shape = *shape,
                           .share = (b->global + b->job->ranks - 1) / b->job->ranks,
                           .micro = b->micro,
                           .ranks = b->job->ranks};
    lw_status status = lw_forecast_rates(b->job, &err, &rates, &known);
    if (status == LW_OK && known) {
        lw_calibration_describe(&rates, &w, b->job->threads, &r);
        status = lw_forecast_step(&rates, &w, &r, &err, &step_s, source, &measured);
    }
    if (status == LW_OK && known) {
        json_object_set_new(o, "predicted_samples_per_s", lw_json_number((double)b->global / step_s));
        json_object_set_new(o, "predicted_from", json_string(source));
        snprintf(r.source, sizeof r.source, "bench");
        memcpy(r.measured_s, b->result.phase_s, sizeof r.measured_s);
        r.step_s = b->result.step.median_s;
        r.memory_bytes = b->job->dev->allocated_bytes;
        status = lw_calibration_write(lw_calibration_folder(), &r, &err);
    }
    if (status != LW_OK) {
        fprintf(stderr, "lwmpi: warning: no calibration record: %s\n", err.text);
    }
}

// Device memory of the step, and the step itself on synthetic samples.
static lw_status start(lw_bench *b, const lw_hf_config *const *configs, const lw_bench_samples *samples,
                       lw_arena *memory, lw_error *err)
{
    lw_job *job = b->job;
    lw_decoder *decoders[LW_MAX_MODELS];
    lw_step_limits limits;
    lw_arena arena = lw_arena_measure();
    b->batch = calloc((size_t)b->share, sizeof *b->batch);
    if (b->batch == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for %lld samples", (long long)b->share);
    }
    for (int64_t i = 0; i < b->share; i++) {
        b->batch[i] = &samples->list[i];
    }
    for (int64_t j = 0; j < job->llm_count; j++) {
        decoders[j] = job->llms[j].decoder;
    }
    LW_TRY(lw_step_limits_of(samples->list, samples->count, b->micro, job->config->wire.latents, job->llm_count, err,
                             &limits));
    LW_TRY(lw_step_layout(&arena, job->dev, &job->wire, configs, &limits, err, &b->step));
    LW_TRY(lw_arena_alloc(job->dev, &arena, "work space of a step", err, memory));
    arena = *memory;
    LW_TRY(lw_step_layout(&arena, job->dev, &job->wire, configs, &limits, err, &b->step));
    return lw_step_start(&b->step, &job->wire, decoders, &(lw_step_loss){0}, err);
}

static lw_status bench(lw_job *job, const lw_bench_options *options, bool json, lw_error *err)
{
    lw_bench b = {.job = job, .options = *options};
    lw_bench_samples samples = {0};
    lw_arena memory = {0};
    const lw_hf_config *configs[LW_MAX_MODELS];
    const lw_config *c = job->config;
    lw_status status = LW_OK;
    int64_t ranks = lw_comm_size(job->comm);
    int64_t rank = lw_comm_rank(job->comm);
    b.global = c->batch.per_rank > 0 ? c->batch.per_rank * ranks : c->batch.global;
    b.share = b.global * (rank + 1) / ranks - b.global * rank / ranks;
    b.micro = c->batch.micro > 0 && c->batch.micro < b.share ? c->batch.micro : b.share;
    if (b.global < ranks) {
        status = lw_fail(err, LW_ERR_CONFIG, "batch.global = %lld is less than the %lld ranks that divide it",
                         (long long)b.global, (long long)ranks);
    }
    LW_TRY_GOTO(lw_comm_agree(job->comm, status, err));
    job->min_positions = c->wire.latents + options->answer_tokens + 16;
    LW_TRY_GOTO(lw_job_open(job, LW_JOB_SYNTHETIC, err));
    for (int64_t j = 0; j < job->llm_count; j++) {
        configs[j] = &job->llms[j].config;
    }
    status = lw_bench_samples_make(configs, job->llm_count, b.share, options, err, &samples);
    if (status == LW_OK) {
        status = start(&b, configs, &samples, &memory, err);
    }
    LW_TRY_GOTO(lw_comm_agree(job->comm, status, err));
    LW_TRY_GOTO(lw_comm_agree(job->comm, lw_bench_run(&b, err), err));
    if (rank == 0) {
        uint64_t hash = 0;
        lw_sample_shape shape = lw_sample_shape_of(samples.list, samples.count, c->wire.latents, job->llm_count);
        status = lw_config_hash(c, err, &hash);
        json_t *o = result_json(&b, hash, lw_step_flop(&job->wire, configs, &shape));
        leave_record(&b, configs, &shape, o);
        if (json) {
            json_dumpf(o, stdout, JSON_INDENT(2));
            printf("\n");
        } else {
            print_text(o);
        }
        json_decref(o);
    }
    status = lw_comm_agree(job->comm, status, err);
done:
    lw_step_free(&b.step);
    free(b.batch);
    lw_bench_samples_free(&samples);
    if (job->dev != NULL) {
        lw_arena_free(job->dev, &memory);
    }
    return status;
}

lw_status lw_cmd_bench(int argc, char **argv, lw_error *err)
{
    const char *steps = "20";
    const char *warmup = "3";
    const char *answer = "8";
    const char *source = "256";
    bool json = false;
    int count;
    const lw_option options[] = {{"steps", &steps, NULL},   {"warmup", &warmup, NULL}, {"answer", &answer, NULL},
                                 {"source", &source, NULL}, {"json", NULL, &json},     {NULL, NULL, NULL}};
    lw_bench_options o;
    lw_job job = {0};
    lw_comm *comm = NULL;
    lw_status status = LW_OK;
    LW_TRY(lw_options_parse(options, argc, argv, err, &count));
    LW_TRY(lw_option_int("steps", steps, 1, 1000000, err, &o.steps));
    LW_TRY(lw_option_int("warmup", warmup, 0, 1000000, err, &o.warmup));
    LW_TRY(lw_option_int("answer", answer, 1, 4096, err, &o.answer_tokens));
    LW_TRY(lw_option_int("source", source, 1, 1048576, err, &o.source_bytes));
    LW_TRY(lw_comm_create(&(lw_comm_options){.timeout_s = LW_START_TIMEOUT_S}, err, &comm));
    job.comm = comm;
    LW_TRY_GOTO(lw_comm_agree(comm, lw_config_from_words(count, argv + 1, err, &job.config), err));
    status = bench(&job, &o, json, err);
done:
    lw_job_close(&job);
    lw_comm_destroy(&comm);
    return status;
}
