// cmd_bench.c: `lwmpi bench`: measures the training step on synthetic samples and prints where the time goes.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench.h"
#include "cli/options.h"
#include "core/clock.h"
#include "core/numbers.h"
#include "core/signals.h"
#include "core/version.h"
#include "cost/flops.h"
#include "io/json.h"
#include "kernels/cuda/device_cuda.h"
#include "mpi/comm_nccl.h"
#include "plan/forecast.h"
#include "plan/rank_choice.h"
#include "train/trainer.h"
#include "wire/step.h"

static json_t *times_json(const lw_bench_times *t)
{
    return json_pack("{s:f, s:f, s:f, s:f}", "min", t->min_s, "median", t->median_s, "p95", t->p95_s, "max", t->max_s);
}

// What was measured, where, and with which build, so that a measurement can be repeated.
static void put_origin(json_t *o, const lw_bench *b, const char *command, uint64_t config_hash)
{
    const lw_job *job = b->job;
    char text[256];
    char date[LW_UTC_BYTES];
    lw_utc_now(date);
    lw_json_put_text(o, "date", date);
    lw_json_put_text(o, "command", command);
    lw_json_put_text(o, "lwmpi", lw_version());
    lw_json_put_text(o, "commit", lw_commit());
    lw_json_put_text(o, "config", job->config->path);
    snprintf(text, sizeof text, "%016llx", (unsigned long long)config_hash);
    lw_json_put_text(o, "config_hash", text);
    lw_json_put_text(o, "machine", lw_comm_host(job->comm));
    lw_json_put_text(o, "device", job->dev->description);
    lw_comm_version(text, sizeof text);
    lw_json_put_text(o, "mpi", text);
    lw_json_put_text(o, "blas", lw_blas_text());
    lw_cuda_version(text, sizeof text);
    lw_json_put_text(o, "cuda", text);
    lw_cublas_version_of(job->dev, text, sizeof text);
    lw_json_put_text(o, "cublas", text);
    lw_nccl_version(text, sizeof text);
    lw_json_put_text(o, "nccl", text);
    lw_json_put_i64(o, "ranks", job->ranks);
    lw_json_put_i64(o, "threads", job->threads);
    lw_json_put_i64(o, "batch_samples", b->global);
    lw_json_put_i64(o, "latents", lw_config_latents(job->config, b->options.source_tokens));
    lw_json_put_i64(o, "answer_tokens", b->options.answer_tokens);
    lw_json_put_i64(o, "source_tokens", b->options.source_tokens);
    lw_json_put_i64(o, "warmup_steps", b->options.warmup);
    lw_json_put_i64(o, "steps", b->options.steps);
}

static json_t *phases_json(const lw_bench_times *phases)
{
    static const char *const keys[] = {
#define LW_PHASE_KEY(phase, key) [phase] = key,
        LW_STEP_PHASES(LW_PHASE_KEY)
#undef LW_PHASE_KEY
    };
    json_t *o = json_object();
    for (int p = 0; p < LW_PHASE_COUNT; p++) {
        if (phases[p].max_s > 0.0) {
            json_object_set_new(o, keys[p], times_json(&phases[p]));
        }
    }
    return o;
}

// Rates of the step, relative to what the same device reached in the same run on the largest product and on a copy.
static void put_rates(json_t *o, const lw_bench *b, const lw_hf_config *const *configs, const lw_sample_shape *shape)
{
    const lw_job *job = b->job;
    const lw_bench_result *r = &b->result;
    double samples_per_s = (double)b->global / r->step.median_s;
    double flop_per_sample = lw_step_flop(&job->wire, configs, shape);
    double rows = 0.0;
    int64_t passes = (b->share + b->micro - 1) / b->micro;
    double weight_bytes = (double)passes * lw_step_weight_bytes(&job->wire, configs, job->dev->frozen_type);
    for (int64_t j = 0; j < job->llm_count; j++) {
        rows += shape->rows[j];
    }
    lw_json_put_f64(o, "samples_per_s", samples_per_s);
    lw_json_put_f64(o, "tokens_per_s", samples_per_s * rows);
    json_object_set_new(o, "step_s", times_json(&r->step));
    lw_json_put_f64(o, "enqueue_s", r->enqueue_s);
    lw_json_put_f64(o, "flop_per_sample", flop_per_sample);
    lw_json_put_f64(o, "flop_per_s", samples_per_s * flop_per_sample);
    lw_json_put_f64(o, "gemm_flop_per_s", r->gemm_flop_per_s);
    lw_json_put_f64(o, "gemm_median_flop_per_s", r->gemm_median_flop_per_s);
    json_object_set_new(o, "gemm_shape",
                        json_pack("{s:I, s:I, s:I}", "m", (json_int_t)r->largest.m, "n", (json_int_t)r->largest.n, "k",
                                  (json_int_t)r->largest.k));
    lw_json_put_f64(o, "mfu", samples_per_s * flop_per_sample / (r->gemm_flop_per_s * job->ranks));
    lw_json_put_f64(o, "weight_bytes", weight_bytes);
    lw_json_put_f64(o, "copy_bytes_per_s", r->copy_bytes_per_s);
    lw_json_put_f64(o, "weight_read_s", weight_bytes / r->copy_bytes_per_s);
    lw_json_put_f64(o, "weight_read_share_of_step", weight_bytes / r->copy_bytes_per_s / r->step.median_s);
    json_object_set_new(o, "products_s", times_json(&r->products));
    lw_json_put_f64(o, "products_flop_per_s", r->product_flop / r->products.median_s);
    lw_json_put_f64(o, "products_share_of_step", r->products.median_s / r->step.median_s);
}

// "..._predicted" come from the layouts, that of the GPU with what driver and libraries take. "gpu_bytes_used" is the
// driver's figure, which includes other processes.
static void put_memory(json_t *o, const lw_bench *b, size_t workspace_bytes)
{
    const lw_job *job = b->job;
    size_t predicted = job->frozen_bytes + job->wire_memory.size_bytes + workspace_bytes;
    lw_json_put_i64(o, "device_bytes", (int64_t)b->result.peak_bytes);
    lw_json_put_i64(o, "device_bytes_predicted", (int64_t)predicted);
    int index = lw_cuda_index(job->dev);
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    lw_error ignored;
    if (index >= 0 && lw_cuda_memory_of(index, &ignored, &free_bytes, &total_bytes) == LW_OK) {
        lw_json_put_i64(o, "gpu_bytes_used", (int64_t)(total_bytes - free_bytes));
        lw_device_rates rates;
        bool known = false;
        if (lw_forecast_rates(job, &ignored, &rates, &known) == LW_OK && known) {
            lw_json_put_i64(o, "gpu_bytes_predicted",
                            (int64_t)predicted + (int64_t)lw_device_runtime_bytes(&rates, job->ranks));
        }
    }
}

// What a reader of the figures may misunderstand.
static json_t *notes_json(void)
{
    return json_pack(
        "{s:s, s:s}", "mfu", "against gemm_flop_per_s, the best round of the largest product alone", "phase_s",
        "each phase is waited for and enqueued kernel by kernel, without CUDA graphs, so that together they take "
        "longer than step_s, which is measured apart");
}

static json_t *result_json(const lw_bench *b, const char *command, uint64_t config_hash,
                           const lw_hf_config *const *configs, const lw_sample_shape *shape, size_t workspace_bytes)
{
    json_t *o = json_object();
    json_t *llms = json_object();
    put_origin(o, b, command, config_hash);
    put_rates(o, b, configs, shape);
    put_memory(o, b, workspace_bytes);
    json_object_set_new(o, "phase_s", phases_json(b->result.phase));
    for (int64_t j = 0; j < b->job->llm_count; j++) {
        json_object_set_new(llms, b->job->llms[j].name, phases_json(b->result.llm_phase[j]));
    }
    json_object_set_new(o, "llm_phase_s", llms);
    json_object_set_new(o, "notes", notes_json());
    return o;
}

static double number_at(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

static void print_phases(const char *of, const json_t *phases)
{
    const char *key;
    json_t *times;
    // jansson's loop does not accept a const object
    json_object_foreach((json_t *)(uintptr_t)phases, key, times)
    {
        char label[128];
        snprintf(label, sizeof label, "%s%s%s", of, of[0] != '\0' ? " " : "", key);
        printf("  %-32s %9.3f %9.3f\n", label, 1e3 * number_at(times, "median"), 1e3 * number_at(times, "p95"));
    }
}

static void print_text(const json_t *o)
{
    const char *name;
    json_t *phases;
    const json_t *step = json_object_get(o, "step_s");
    printf("%s, %.0f ranks x %.0f threads, batch %.0f: %.1f samples/s, %.0f tokens/s\n",
           json_string_value(json_object_get(o, "device")), number_at(o, "ranks"), number_at(o, "threads"),
           number_at(o, "batch_samples"), number_at(o, "samples_per_s"), number_at(o, "tokens_per_s"));
    printf("a step takes %.3f ms (median; 95 %% are below %.3f ms); its bare products take %.3f ms\n",
           1e3 * number_at(step, "median"), 1e3 * number_at(step, "p95"),
           1e3 * number_at(json_object_get(o, "products_s"), "median"));
    printf("%.1f GFLOP/s are %.1f %% of the %.1f that the largest product reaches alone at best, times the ranks\n",
           1e-9 * number_at(o, "flop_per_s"), 100.0 * number_at(o, "mfu"), 1e-9 * number_at(o, "gemm_flop_per_s"));
    printf("reading the weights takes %.3f ms at the %.1f GB/s of a copy: %.1f %% of the step\n",
           1e3 * number_at(o, "weight_read_s"), 1e-9 * number_at(o, "copy_bytes_per_s"),
           100.0 * number_at(o, "weight_read_share_of_step"));
    printf("device memory: %.1f MiB, predicted %.1f MiB\n", number_at(o, "device_bytes") / LW_MIB,
           number_at(o, "device_bytes_predicted") / LW_MIB);
    printf("  %-32s %9s %9s\n", "phase alone, no graphs [ms]", "median", "p95");
    print_phases("", json_object_get(o, "phase_s"));
    json_object_foreach(json_object_get(o, "llm_phase_s"), name, phases)
    {
        print_phases(name, phases);
    }
}

// Adds to `o` what the planner expected of this step, then writes what was measured as a record for later plans. This
// command itself does not need the record, so a failure is only a warning.
static void leave_record(const lw_bench *b, const lw_sample_shape *shape, json_t *o)
{
    const lw_hf_config *configs[LW_MAX_MODELS];
    lw_error err;
    lw_device_rates rates;
    lw_calibration_record r;
    double step_s = 0.0;
    char source[160];
    bool known = false;
    bool measured = false;
    lw_job_own_configs(b->job, configs);
    const lw_workload w = {.wire = &b->job->wire,
                           .configs = configs,
                           .shape = *shape,
                           .share = (b->global + b->job->grid.data - 1) / b->job->grid.data,
                           .micro = b->micro,
                           .ranks = b->job->ranks};
    lw_status status = lw_forecast_rates(b->job, &err, &rates, &known);
    if (status == LW_OK && known) {
        lw_calibration_describe(&rates, &w, b->job->threads, &r);
        status = lw_forecast_step(&rates, &w, &r, &err, &step_s, source, &measured);
    }
    if (status == LW_OK && known) {
        lw_json_put_f64(o, "predicted_samples_per_s", (double)b->global / step_s);
        lw_json_put_text(o, "predicted_from", source);
        snprintf(r.source, sizeof r.source, "bench");
        for (int p = 0; p < LW_PHASE_COUNT; p++) {
            r.measured_s[p] = b->result.phase[p].median_s;
        }
        r.step_s = b->result.step.median_s;
        r.memory_bytes = b->job->dev->allocated_bytes;
        status = lw_calibration_write(lw_calibration_folder(), &r, &err);
    }
    if (status != LW_OK) {
        fprintf(stderr, "lwmpi: warning: no calibration record: %s\n", err.text);
    }
}

// Allocates the device memory of the step, and measures the step on synthetic samples.
static lw_status start(lw_bench *b, const lw_bench_samples *samples, lw_arena *memory, lw_error *err)
{
    lw_job *job = b->job;
    const lw_hf_config *own[LW_MAX_MODELS];
    lw_decoder *decoders[LW_MAX_MODELS];
    lw_step_limits limits;
    b->batch = calloc((size_t)b->share, sizeof *b->batch);
    if (b->batch == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for %lld samples", (long long)b->share);
    }
    for (int64_t i = 0; i < b->share; i++) {
        b->batch[i] = &samples->list[i];
    }
    lw_job_decoders(job, decoders);
    LW_TRY(lw_step_limits_of(job->config, samples->list, samples->count, b->micro, 1, err, &limits));
    lw_job_own_configs(job, own);
    LW_TRY(lw_step_place(job->dev, "work space of a step", &job->wire, own, &limits, err, &b->step, memory));
    b->spec = lw_step_spec_of(job->config);
    b->spec.loss = (lw_step_loss){0};
    return lw_step_start(&b->step, &job->wire, decoders, err);
}

static lw_status bench(lw_job *job, const lw_bench_options *options, const char *command, bool json, lw_error *err)
{
    lw_bench b = {.job = job, .options = *options};
    lw_bench_samples samples = {0};
    lw_arena memory = {0};
    const lw_hf_config *configs[LW_MAX_MODELS];
    const lw_config *c = job->config;
    lw_status status = LW_OK;
    int64_t rank = lw_comm_rank(job->comm);
    LW_TRY_GOTO(lw_grid_choice(job, err));
    int64_t model = lw_job_model_groups(job);
    int64_t ranks = lw_comm_size(job->comm) / model; // that divide the samples
    int64_t place = rank / model;
    b.global = c->batch.per_rank > 0 ? c->batch.per_rank * ranks : c->batch.global;
    b.share = b.global * (place + 1) / ranks - b.global * place / ranks;
    b.micro = c->batch.micro > 0 && c->batch.micro < b.share ? c->batch.micro : b.share;
    if (b.global < ranks) {
        status = lw_fail(err, LW_ERR_CONFIG, "batch.global = %lld is less than the %lld ranks that divide it",
                         (long long)b.global, (long long)ranks);
    }
    LW_TRY_GOTO(lw_comm_agree(job->comm, status, err));
    job->min_positions = lw_config_latents(c, options->source_tokens) + options->answer_tokens + 16;
    job->min_source = options->source_tokens;
    LW_TRY_GOTO(lw_job_open(job, LW_JOB_SYNTHETIC, err));
    lw_job_configs(job, configs);
    status = lw_bench_samples_make(configs, job->llm_count, job->wire.encoder.reader->alphabet, b.share, options, err,
                                   &samples);
    if (status == LW_OK) {
        status = start(&b, &samples, &memory, err);
    }
    LW_TRY_GOTO(lw_comm_agree(job->comm, status, err));
    LW_TRY_GOTO(lw_job_stopped(job, lw_comm_agree(job->comm, lw_bench_run(&b, err), err), "during the benchmark", err));
    if (rank == 0) {
        uint64_t hash = 0;
        lw_sample_shape shape = lw_sample_shape_of(c, samples.list, samples.count);
        status = lw_config_hash(c, err, &hash);
        json_t *o = result_json(&b, command, hash, configs, &shape, memory.size_bytes);
        leave_record(&b, &shape, o);
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

// "lwmpi bench configs/x.cfg ...", as it was typed after the launcher; cut when it is very long.
static void join_words(int argc, char *const *argv, size_t size, char *out)
{
    size_t used = (size_t)snprintf(out, size, "lwmpi");
    for (int i = 0; i < argc && used < size; i++) {
        used += (size_t)snprintf(out + used, size - used, " %s", argv[i]);
    }
}

typedef struct arguments {
    lw_bench_options bench;
    bool json;
} arguments;

static lw_status run(const lw_command *self, int argc, char **argv, lw_error *err)
{
    arguments a = {.bench = {.steps = 20, .warmup = 3, .answer_tokens = 8, .source_tokens = 256}};
    int count;
    lw_job job = {0};
    lw_comm *comm = NULL;
    lw_status status = LW_OK;
    LW_TRY(lw_options_parse(self, argc, argv, err, &a, &count));
    LW_TRY(lw_signals_install(err));
    LW_TRY(lw_comm_create(&(lw_comm_options){.timeout_s = LW_START_TIMEOUT_S}, err, &comm));
    job.comm = comm;
    LW_TRY_GOTO(lw_comm_agree(comm, lw_config_from_words(count, argv + 1, err, &job.config), err));
    char command[1024];
    join_words(argc, argv, sizeof command, command);
    status = bench(&job, &a.bench, command, a.json, err);
done:
    lw_job_close(&job);
    lw_comm_destroy(&comm);
    return status;
}

const lw_command lw_command_bench = {
    .name = "bench",
    .summary = "measure the training step",
    .usage = "bench [CONFIG] [key=value ...] [--steps N] [--warmup N] [--json]",
    .text = "Runs training steps on synthetic samples, with the models and shapes that CONFIG names, and reports "
            "their speed broken down by phase, beside the rate of the bare matrix products of the same shapes in the "
            "same run. Phases are timed in steps of their own, each waited for and without CUDA graphs, so together "
            "they take longer than a step; mfu is against the best round of the largest product. Models with init = "
            "\"random\" need only a config.json. A calibration record is left for lwmpi plan, in runs/calibration or "
            "$LWMPI_CALIBRATION.",
    .options = {{"steps", "N", "steps that are timed; 20 when left out", LW_OPTION_INTO(arguments, bench.steps),
                 .min = 1, .max = 1000000},
                {"warmup", "N", "steps before them; 3 when left out", LW_OPTION_INTO(arguments, bench.warmup), .min = 0,
                 .max = 1000000},
                {"answer", "N", "answer tokens of a sample; 8 when left out",
                 LW_OPTION_INTO(arguments, bench.answer_tokens), .min = 1, .max = 4096},
                {"source", "N", "bytes of text that the encoder reads; 256 when left out",
                 LW_OPTION_INTO(arguments, bench.source_tokens), .min = 1, .max = 1048576},
                {"json", NULL, "the measurements as JSON, the only thing on stdout", LW_OPTION_INTO(arguments, json)}},
    .examples = {{"mpirun -np 2 lwmpi bench configs/tiny.cfg --json", "two ranks, for a script"}},
    .takes_overrides = true,
    .lists_keys = true,
    .run = run,
};
