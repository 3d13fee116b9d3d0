// inputs.c: the inputs of a plan: shapes, samples, device, calibration, deadline.
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/child.h"
#include "core/numbers.h"
#include "cost/flops.h"
#include "data/sample.h"
#include "eval/eval.h"
#include "io/files.h"
#include "kernels/cuda/device_cuda.h"
#include "kernels/devices.h"
#include "plan/plan_internal.h"

// A guess for plans without data. The plan's note states it, and --answer and --source change it.
enum { GUESSED_ANSWER_TOKENS = 8 }; // a short answer and its end token

__attribute__((format(printf, 2, 3))) static void add_note(lw_plan *plan, const char *format, ...)
{
    size_t used = strlen(plan->note);
    va_list args;
    if (used > 0 && used + 2 < sizeof plan->note) {
        plan->note[used++] = ';';
        plan->note[used++] = ' ';
    }
    va_start(args, format);
    vsnprintf(plan->note + used, sizeof plan->note - used, format, args);
    va_end(args);
}

// A token of byte-level BPE is at least one byte long, so a text has no more tokens than bytes. BOS adds one.
static int64_t suffix_limit(const lw_config *c)
{
    int64_t anchor = (int64_t)strlen(c->prompt.anchor) + 1;
    if (c->wire.compress == LW_COMPRESS_PROMPT) {
        return anchor;
    }
    return anchor > c->prompt.max_prompt_tokens ? anchor : c->prompt.max_prompt_tokens;
}

lw_plan_most lw_plan_most_of(const lw_config *c)
{
    if (c->data.format == LW_DATA_TEXT) {
        return (lw_plan_most){.source = c->data.window_bytes,
                              .latents = lw_config_latents(c, c->data.window_bytes),
                              .task = 1,
                              .answer = c->data.target_tokens,
                              .prompt = c->prompt.max_prompt_tokens};
    }
    return (lw_plan_most){.source = c->prompt.max_source_bytes, // in any alphabet a text has no more tokens than bytes
                          .latents = lw_config_latents(c, c->prompt.max_source_bytes),
                          .suffix = suffix_limit(c),
                          .answer = c->prompt.max_answer_tokens,
                          .prompt = c->prompt.max_prompt_tokens};
}

// --- samples

static bool in_model(const char *dir, const char *name)
{
    lw_error ignored;
    char *path = NULL;
    bool found = lw_path_join(dir, name, &ignored, &path) == LW_OK && lw_path_is_file(path);
    free(path);
    return found;
}

// Names the first thing that is missing for the sizes of the samples; NULL: nothing is missing.
static const char *missing_text(const lw_config *c)
{
    if (c->data.train[0] == '\0') {
        return "data.train is not set";
    }
    if (!lw_path_is_file(c->data.train)) {
        return "the file of data.train is not here";
    }
    for (int64_t j = 0; j < c->model_count; j++) {
        if (!in_model(c->models[j].path, "tokenizer.json")) {
            return "a model has no tokenizer.json here";
        }
    }
    bool own = lw_config_encoder_uses(c, LW_USES_PATH) && lw_config_encoder_share(c) < 0;
    if (own && !in_model(c->encoder.path, "tokenizer.json")) {
        return "the encoder's frozen model has no tokenizer.json here";
    }
    return NULL;
}

// c: the configuration of a phase.
static lw_status count_samples(const lw_config *c, lw_error *err, int64_t *out)
{
    lw_dataset data = {0};
    if (c->data.samples > 0) {
        *out = c->data.samples;
        return LW_OK;
    }
    if (c->data.train[0] == '\0' || !lw_path_is_file(c->data.train)) {
        return lw_fail(err, LW_ERR_CONFIG,
                       "how many samples are there? data.train%s%s is not here and data.samples is 0: set data.samples "
                       "to their number",
                       c->data.train[0] != '\0' ? " = " : "", c->data.train);
    }
    lw_data_source source = lw_data_source_of(c, c->data.train, 0);
    LW_TRY(lw_dataset_read(&source, err, &data));
    *out = data.count;
    lw_dataset_free(&data);
    return LW_OK;
}

// Fills job->eval with one chunk of the largest samples that the configuration admits. They have sizes and no content.
static lw_status guess_eval(lw_plan *plan, lw_error *err)
{
    lw_job *job = &plan->job;
    const lw_config *c = plan->config;
    static char empty[] = "";
    lw_corpus *e = &job->eval;
    lw_plan_most most = lw_plan_most_of(c);
    int64_t count =
        c->data.eval_samples > 0 && c->data.eval_samples < c->eval.batch ? c->data.eval_samples : c->eval.batch;
    if (!lw_eval_in_training(c)) {
        return LW_OK;
    }
    e->samples = calloc((size_t)count, sizeof *e->samples);
    e->data.samples = calloc((size_t)count, sizeof *e->data.samples);
    if (e->samples == NULL || e->data.samples == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for %lld samples", (long long)count);
    }
    for (int64_t i = 0; i < count; i++) {
        lw_token_sample *s = &e->samples[i];
        e->data.samples[i] = (lw_sample){.id = empty, .context = empty, .question = empty};
        s->task = most.task > 0 ? LW_TASK_CONTINUE : LW_TASK_ANSWER;
        s->source.count = most.source;
        for (int64_t j = 0; j < job->llm_count; j++) {
            s->prompt[j].count = most.prompt;
            s->suffix[j].count = most.suffix;
            s->answer[j].count = most.answer;
        }
    }
    e->count = count;
    e->view_count = count;
    e->data.count = count;
    return LW_OK;
}

static void guess_mean(lw_plan *plan, int64_t phase)
{
    const lw_config *c = lw_config_phase(plan->config, phase);
    lw_sample_shape *mean = &plan->mean[phase];
    const lw_plan_request *o = &plan->request;
    lw_plan_most most = lw_plan_most_of(c);
    bool text = most.task > 0; // windows and their targets mostly have the maximal length
    int64_t answer = o->answer_tokens > 0 ? o->answer_tokens : text ? most.answer : GUESSED_ANSWER_TOKENS;
    double source = o->source_bytes > 0 ? (double)o->source_bytes : (double)most.source / (text ? 1.0 : 2.0);
    answer = answer < most.answer ? answer : most.answer;
    // The anchors are a few words, at four bytes a token.
    double suffix = 1.0 + (double)strlen(c->prompt.anchor) / 4.0;
    if (text) {
        suffix = 1.0; // the task token
    } else if (c->wire.compress == LW_COMPRESS_CONTEXT) {
        suffix += (double)strlen(c->prompt.question) / 4.0 + 12.0; // a question of a dozen words
    }
    double prompt = suffix + source / 4.0;
    int64_t taught = !lw_teacher_wanted(c) || text ? 0 : c->loss.k < answer ? c->loss.k : answer;
    prompt = prompt < (double)c->prompt.max_prompt_tokens ? prompt : (double)c->prompt.max_prompt_tokens;
    double read = lw_config_encoder_uses(c, LW_USES_PATH) ? source / 4.0 : source; // the model's tokens, or bytes
    *mean = (lw_sample_shape){.source = read,
                              .latents = (double)lw_config_latents(c, (int64_t)read),
                              .alternating_llms = c->train.schedule == LW_SCHEDULE_ALTERNATE ? c->model_count : 0};
    for (int64_t j = 0; j < plan->job.llm_count; j++) {
        mean->rows[j] = mean->latents + suffix + (double)answer - 1.0;
        mean->answer[j] = (double)answer;
        mean->taught[j] = (double)taught;
        if (taught > 0) {
            plan->teacher[phase][j] = lw_teacher_sizes_guess(c, &plan->job.llms[j].config, plan->job.dev->frozen_type,
                                                             plan->samples[phase], prompt, (double)answer);
        }
    }
    const char *name = lw_config_phase_name(plan->config, phase);
    add_note(
        plan,
        "%s%smemory is for the largest samples that prompt.max_* admit, time for a mean of %lld answer tokens and %.0f "
        "source bytes (--answer, --source)",
        name, name[0] != '\0' ? ": " : "", (long long)answer, source);
}

// Names what is missing in any phase; NULL: nothing is.
static const char *missing_in_phases(const lw_config *c)
{
    const char *missing = NULL;
    for (int64_t i = 0; i < lw_config_phase_count(c) && missing == NULL; i++) {
        missing = missing_text(lw_config_phase(c, i));
    }
    return missing;
}

static lw_status guess_phases(lw_plan *plan, lw_error *err)
{
    lw_job *job = &plan->job;
    for (int64_t i = 0; i < job->phase_count; i++) {
        const lw_config *c = lw_config_phase(plan->config, i);
        lw_status status = count_samples(c, err, &plan->samples[i]);
        const char *name = lw_config_phase_name(plan->config, i);
        if (status != LW_OK) {
            return name[0] != '\0' ? lw_fail_in(err, status, "phase \"%s\"", name) : status;
        }
        guess_mean(plan, i);
        lw_plan_most most = lw_plan_most_of(c);
        int64_t longest = lw_max_i64(most.prompt, most.latents + most.task + most.suffix) +
                          lw_max_i64(most.answer, lw_config_new_tokens(c));
        job->min_source = lw_max_i64(job->min_source, most.source);
        job->min_positions = lw_max_i64(job->min_positions, longest);
    }
    return LW_OK;
}

// Reads the sizes of a phase's samples from its data.
static lw_status measure_phase(lw_plan *plan, int64_t i, lw_error *err)
{
    const lw_job *job = &plan->job;
    const lw_config *c = lw_config_phase(plan->config, i);
    const lw_corpus *data = &job->train[i];
    plan->samples[i] = data->count;
    plan->mean[i] = lw_corpus_shape(c, data);
    for (int64_t j = 0; j < job->llm_count && lw_teacher_wanted(c); j++) {
        LW_TRY(lw_teacher_sizes_of(c, &job->llms[j].config, job->dev->frozen_type, data->samples, data->count, j, err,
                                   &plan->teacher[i][j]));
    }
    return LW_OK;
}

static lw_status open_samples(lw_plan *plan, lw_error *err)
{
    lw_job *job = &plan->job;
    const lw_config *c = plan->config;
    const char *missing = missing_in_phases(c);
    if (missing == NULL) {
        LW_TRY(lw_job_read(job, LW_JOB_TRAIN | (lw_eval_in_training(c) ? LW_JOB_EVAL : 0), err));
        plan->from_data = true;
        for (int64_t i = 0; i < job->phase_count; i++) {
            LW_TRY(measure_phase(plan, i, err));
        }
        return LW_OK;
    }
    LW_TRY(lw_job_read(job, LW_JOB_SYNTHETIC, err));
    add_note(plan, "%s", missing);
    LW_TRY(guess_phases(plan, err));
    return guess_eval(plan, err);
}

// --- device

static int64_t processors(void)
{
    cpu_set_t mask;
    return sched_getaffinity(0, sizeof mask, &mask) == 0 ? CPU_COUNT(&mask) : 1;
}

int64_t lw_plan_threads(const lw_plan *plan, int64_t ranks)
{
    if (plan->config->threads > 0) {
        return plan->config->threads;
    }
    int64_t share = plan->rates.cores / (ranks > 0 ? ranks : 1);
    int64_t most = processors(); // a launcher may have bound this process to a few cores
    share = share < most ? share : most;
    return share > 1 ? share : 1;
}

// Rates of the first GPU that this process sees.
static lw_status find_gpu_here(lw_error *err, lw_device_rates *out)
{
    char why[1024];
    lw_cuda_info info;
    if (lw_cuda_device_count() == 0) {
        lw_cuda_why_not(why, sizeof why);
        return lw_fail(err, LW_ERR_CONFIG,
                       "plan.device = \"auto\" with device = \"cuda\": say which GPU the job will run on, such as "
                       "plan.device=h100-sxm; there is none here to look at (%s)",
                       why);
    }
    LW_TRY(lw_cuda_info_of(0, err, &info));
    if (!lw_device_table_row(lw_device_table_match(info.name), out)) {
        return lw_fail(
            err, LW_ERR_CONFIG,
            "plan.device = \"auto\": the GPU here, %s (compute capability %d.%d), is not in the table of rates: "
            "set plan.device to the one most like it, or to its numbers, "
            "memory_gb=%.0f,tflops=...,f32_tflops=...,gb_per_s=...,link_gb_per_s=...",
            info.name, info.major, info.minor, (double)info.memory_bytes * 1e-9);
    }
    out->memory_bytes = (double)info.memory_bytes;
    return LW_OK;
}

static lw_status open_device(lw_plan *plan, lw_error *err)
{
    const lw_config *c = plan->config;
    const char *kind = plan->request.device != NULL ? plan->request.device : lw_rank_device_kind_here(c);
    bool on_cpu = plan->request.device != NULL && strcmp(kind, "cpu") == 0;
    const char *name = on_cpu ? "cpu" : c->plan.device;
    bool is_auto = name[0] == '\0' || strcmp(name, "auto") == 0;
    if (strcmp(name, "cpu") == 0 || (is_auto && strcmp(kind, "cpu") == 0)) {
        int threads = (int)(c->threads > 0 ? c->threads : processors());
        LW_TRY(lw_device_open("cpu", 0, threads, err, &plan->cpu));
        LW_TRY(lw_device_rates_cpu(plan->cpu, threads, err, &plan->rates));
        plan->rates.cores = plan->request.cores > 0 ? plan->request.cores : plan->rates.cores;
        plan->job.dev = plan->cpu;
        return LW_OK;
    }
    LW_TRY(is_auto ? find_gpu_here(err, &plan->rates) : lw_device_table_find(name, err, &plan->rates));
    if (plan->request.per_node > 0) {
        plan->rates.per_node = plan->request.per_node;
    }
    lw_shape_device_init(&plan->rates, &plan->shape);
    plan->job.dev = &plan->shape.base;
    return LW_OK;
}

// --- deadline

// Seconds until Slurm ends this job; -1: not in a Slurm job, or the end is unknown.
static double slurm_left_s(void)
{
    const char *job = getenv("SLURM_JOB_ID");
    const char *end = getenv("SLURM_JOB_END_TIME");
    char text[256];
    int code = 0;
    lw_error ignored;
    if (job == NULL || job[0] == '\0') {
        return -1.0;
    }
    if (end != NULL && end[0] != '\0') {
        return (double)strtoll(end, NULL, 10) - (double)time(NULL);
    }
    char *argv[] = {"squeue", "-h", "-j", (char *)(uintptr_t)job, "-o", "%e", NULL};
    struct tm when = {.tm_isdst = -1};
    if (lw_child_run(argv, 10.0, &ignored, text, sizeof text, &code) != LW_OK || code != 0 ||
        strptime(text, "%Y-%m-%dT%H:%M:%S", &when) == NULL) {
        return -1.0;
    }
    return difftime(mktime(&when), time(NULL));
}

double lw_plan_deadline_s(const lw_config *config, char *text, size_t size)
{
    double wanted_s = config->plan.deadline_h * 3600.0;
    double left_s = slurm_left_s();
    if (left_s >= 0.0 && left_s < wanted_s) {
        snprintf(text, size, "%.2f h are left of the Slurm job's time", left_s / 3600.0);
        return left_s;
    }
    snprintf(text, size, "plan.deadline_h = %g", config->plan.deadline_h);
    return wanted_s;
}

// --- opening and closing

static lw_status declare_wire(lw_plan *plan, lw_error *err)
{
    int64_t d[LW_MAX_MODELS];
    for (int64_t j = 0; j < plan->job.llm_count; j++) {
        d[j] = plan->job.llms[j].config.d;
    }
    return lw_wire_declare(&plan->shape_config, d, &plan->job.encoder.backbone, err, &plan->job.wire);
}

lw_status lw_plan_open(lw_plan *plan, lw_error *err)
{
    plan->shape_config = *plan->config;
    plan->shape_config.data.cache = plan->config->data.cache && plan->request.caches;
    plan->job.config = &plan->shape_config;
    plan->job.heartbeat = plan->request.heartbeat;
    LW_TRY(open_device(plan, err));
    LW_TRY(open_samples(plan, err));
    LW_TRY(declare_wire(plan, err));
    LW_TRY(lw_calibration_read(lw_calibration_folder(), err, &plan->calibration));
    plan->deadline_s = lw_plan_deadline_s(plan->config, plan->deadline_text, sizeof plan->deadline_text);
    return LW_OK;
}

void lw_plan_close(lw_plan *plan)
{
    if (!plan->from_data) { // guessed samples own no text, and closing the job must not free any
        free(plan->job.eval.samples);
        free(plan->job.eval.data.samples);
        plan->job.eval = (lw_corpus){0};
    }
    plan->job.config = NULL;
    plan->job.dev = NULL;
    lw_job_close(&plan->job);
    lw_device_close(&plan->cpu);
    lw_calibration_free(&plan->calibration);
}
