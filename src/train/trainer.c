#include "train/trainer_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "cost/flops.h"
#include "cost/rates.h"
#include "job/adapter_fit.h"

static lw_status make_course(const lw_job *job, lw_error *err, lw_course *out)
{
    int64_t samples[LW_MAX_PHASES];
    for (int64_t i = 0; i < job->phase_count; i++) {
        samples[i] = job->train[i].count;
    }
    return lw_course_make(job->config, samples, job->ranks, err, out);
}

// The most that a pass of any phase needs.
static lw_status make_limits(lw_trainer *t, lw_error *err)
{
    for (int64_t i = 0; i < t->course.count; i++) {
        const lw_corpus *c = &t->job->train[i];
        const lw_config *config = t->course.legs[i].config;
        int64_t micro = t->course.micro;
        lw_step_limits limits;
        LW_TRY(lw_step_limits_of(config, c->samples, c->view_count, micro,
                                 lw_schedule_occurrences(c->count, micro, config->train.epochs), err, &limits));
        lw_step_limits_join(&t->step.limits, &limits);
    }
    return LW_OK;
}

lw_status lw_trainer_create(lw_job *job, lw_error *err, lw_trainer *out)
{
    lw_trainer t = {.job = job, .leg = -1, .last_saved = -1, .mean_loss = NAN, .best_nll = INFINITY};
    for (int64_t j = 0; j < LW_MAX_MODELS; j++) {
        t.loss[j] = NAN; // no step yet
    }
    LW_TRY(make_course(job, err, &t.course));
    LW_TRY(lw_job_checkpoint_info(job, err, &t.state));
    t.state.eval_nll = NAN;
    LW_TRY(make_limits(&t, err));
    t.micro_batch = calloc((size_t)t.course.micro, sizeof *t.micro_batch);
    t.places = calloc((size_t)t.course.micro, sizeof *t.places);
    t.host = calloc((size_t)job->wire.params.elements, 3 * sizeof *t.host);
    lw_status status = lw_params_views(&job->wire.params, err, &t.views);
    if (status == LW_OK) {
        const lw_leg *first = &t.course.legs[0];
        int64_t warmup = (int64_t)(first->config->train.warmup * (double)first->schedule.total_steps);
        status = lw_collapse_create(job, t.course.micro, warmup, err, &t.collapse);
    }
    if (status == LW_OK && (t.micro_batch == NULL || t.places == NULL || t.host == NULL)) {
        status = lw_fail(err, LW_ERR_MEMORY, "no memory for the trainer's tables");
    }
    if (status == LW_OK) {
        status = lw_trainer_open_disk(&t, err);
    }
    for (int64_t i = 0; i < t.course.count && status == LW_OK; i++) {
        const lw_config *c = t.course.legs[i].config;
        if (lw_teacher_wanted(c)) {
            status = lw_teacher_create(job, c, job->train[i].samples, job->train[i].count, err, &t.teachers[i]);
        }
    }
    if (status != LW_OK) {
        lw_trainer_free(&t);
        return status;
    }
    *out = t;
    return LW_OK;
}

lw_status lw_trainer_layout(lw_arena *arena, lw_trainer *t, lw_error *err)
{
    const lw_hf_config *configs[LW_MAX_MODELS];
    lw_step_limits limits = t->step.limits;
    for (int64_t j = 0; j < t->job->llm_count; j++) {
        configs[j] = &t->job->llms[j].config;
    }
    for (int64_t i = 0; i < t->course.count; i++) {
        lw_sample_shape shape = lw_corpus_shape(t->course.legs[i].config, &t->job->train[i]);
        t->flop_per_sample[i] = lw_step_flop(&t->job->wire, configs, &shape);
    }
    for (int64_t i = 0; i < t->course.count; i++) { // they run before the first step, in the same memory
        lw_arena_mark mark = lw_arena_save(arena);
        if (t->teachers[i] != NULL) {
            LW_TRY(lw_teacher_layout_buffers(arena, t->teachers[i], err));
        }
        lw_arena_rewind(arena, mark);
    }
    return lw_step_layout(arena, t->job->dev, &t->job->wire, configs, &limits, err, &t->step);
}

lw_status lw_trainer_teach(lw_trainer *t, lw_error *err)
{
    for (int64_t i = 0; i < t->course.count; i++) {
        if (t->teachers[i] != NULL) {
            LW_TRY(lw_teacher_run(t->teachers[i], err));
        }
    }
    return LW_OK;
}

bool lw_trainer_teachers(const lw_trainer *t, lw_teacher_figures *out)
{
    bool any = false;
    *out = (lw_teacher_figures){0};
    for (int64_t i = 0; i < t->course.count; i++) {
        if (t->teachers[i] != NULL) {
            lw_teacher_figures f = lw_teacher_figures_of(t->teachers[i]);
            any = true;
            out->samples += f.samples;
            out->made += f.made;
            out->file_bytes += f.file_bytes;
            out->check_s += f.check_s;
            out->made_s += f.made_s;
        }
    }
    return any;
}

void lw_trainer_free(lw_trainer *t)
{
    lw_checkpoint_writer_destroy(&t->writer); // ends what it has begun, and reads the buffers until then
    lw_step_free(&t->step);
    lw_collapse_free(&t->collapse);
    for (int64_t i = 0; i < LW_MAX_PHASES; i++) {
        lw_teacher_destroy(&t->teachers[i]);
    }
    free(t->micro_batch);
    free(t->places);
    free(t->host);
    free(t->views);
    *t = (lw_trainer){0};
}

// --- the loop

typedef struct lw_interval { // since the last logged step
    double start_s;
    int64_t samples, rows, steps;
    double flop;
} lw_interval;

static const lw_leg *leg_of(const lw_trainer *t, int64_t step)
{
    return &t->course.legs[lw_course_leg(&t->course, step)];
}

// Names of a value of each LLM.
typedef char lw_llm_keys[LW_MAX_MODELS][80];

// The newest held-out loss; returns how many values.
static int held_out_metrics(const lw_trainer *t, lw_llm_keys keys, lw_metric *m)
{
    int n = 0;
    m[n++] = LW_METRIC_NUMBER("eval_nll", t->held_out.nll);
    for (int64_t j = 0; j < t->job->llm_count; j++) {
        snprintf(keys[j], sizeof keys[j], "eval_nll_%s", t->job->llms[j].name);
        m[n++] = LW_METRIC_NUMBER(keys[j], t->held_out.llm_nll[j]);
    }
    return n;
}

// A model that had no step since the last row has no losses in this one.
static bool stepped_since(const lw_trainer *t, const lw_interval *in, int64_t j)
{
    return t->loss_step[j] > t->state.step - in->steps;
}

static lw_status log_metrics(lw_trainer *t, const lw_interval *in, double now_s, lw_error *err)
{
    lw_job *job = t->job;
    lw_llm_keys keys[3];
    lw_metric m[24 + 3 * LW_MAX_MODELS];
    int n = 0;
    double wall_s = now_s - in->start_s;
    const lw_leg *leg = leg_of(t, t->state.step - 1);
    int64_t step = t->state.step - 1 - leg->first_step;
    m[n++] = LW_METRIC_COUNT("step", t->state.step);
    if (t->course.count > 1) {
        m[n++] = LW_METRIC_STRING("phase", leg->name);
    }
    m[n++] = LW_METRIC_COUNT("epoch", t->state.epoch);
    m[n++] = LW_METRIC_COUNT("samples", t->state.samples);
    m[n++] = LW_METRIC_NUMBER("loss", t->mean_loss);
    if (t->step.only >= 0) {
        m[n++] = LW_METRIC_STRING("model", job->llms[t->step.only].name); // whose step it was
    }
    for (int64_t j = 0; j < job->llm_count; j++) {
        if (stepped_since(t, in, j)) {
            snprintf(keys[0][j], sizeof keys[0][j], "loss_%s", job->llms[j].name);
            m[n++] = LW_METRIC_NUMBER(keys[0][j], t->loss[j]);
        }
    }
    for (int64_t j = 0; j < job->llm_count && t->teachers[t->leg] != NULL; j++) {
        if (stepped_since(t, in, j)) {
            snprintf(keys[2][j], sizeof keys[2][j], "kd_loss_%s", job->llms[j].name);
            m[n++] = LW_METRIC_NUMBER(keys[2][j], t->kl[j]);
        }
    }
    m[n++] = LW_METRIC_NUMBER("grad_norm", t->grad_norm);
    m[n++] = LW_METRIC_NUMBER("lr", lw_schedule_lr(leg->config, &leg->schedule, step));
    m[n++] = LW_METRIC_NUMBER("lr_encoder", lw_schedule_rate(leg->config, &leg->schedule, LW_RATE_ENCODER, step));
    lw_rate adapter = LW_RATE_ADAPTER + (t->step.only >= 0 ? (lw_rate)t->step.only : 0);
    m[n++] = LW_METRIC_NUMBER("lr_adapter", lw_schedule_rate(leg->config, &leg->schedule, adapter, step));
    m[n++] = LW_METRIC_NUMBER("samples_per_s", (double)in->samples / wall_s);
    m[n++] = LW_METRIC_NUMBER("tokens_per_s", (double)in->rows / wall_s);
    m[n++] = LW_METRIC_NUMBER("step_s", wall_s / (double)in->steps);
    m[n++] = LW_METRIC_NUMBER("mfu", in->flop / wall_s / (t->gemm_flop_per_s * job->ranks));
    m[n++] = LW_METRIC_COUNT("device_bytes", (int64_t)job->dev->allocated_bytes);
    m[n++] = LW_METRIC_COUNT("skipped", t->state.skipped);
    m[n++] = LW_METRIC_NUMBER("checkpoint_stall_s", t->saves.row_stall_s);
    m[n++] = LW_METRIC_NUMBER("latent_cosine", t->latent_cosine);
    if (!isnan(t->state.eval_nll)) {
        n += held_out_metrics(t, keys[1], m + n);
    }
    return lw_run_dir_metrics(job->run, m, n, err);
}

// A row that cannot be written is tried once more; then the run ends, for the file would lack a step.
static void write_row(lw_trainer *t, const lw_interval *in, double now_s)
{
    lw_error err;
    lw_status status = log_metrics(t, in, now_s, &err);
    if (status != LW_OK) {
        lw_log(t->job->run, "warning: %s; trying once more", err.text);
        status = log_metrics(t, in, now_s, &err);
    }
    if (status != LW_OK) {
        lw_trainer_disk_failed(t, status, &err);
    }
    t->saves.row_stall_s = 0.0;
}

static void show_progress(const lw_trainer *t, const lw_interval *in, double now_s)
{
    double rate = now_s > in->start_s ? (double)in->samples / (now_s - in->start_s) : 0.0;
    double left = (double)(t->course.total_samples - t->state.samples);
    lw_run_dir_progress(t->job->run, &(lw_progress_state){.label = "step",
                                                          .done = t->state.step,
                                                          .total = t->course.total_steps,
                                                          .loss = t->mean_loss,
                                                          .samples_per_s = rate,
                                                          .left_s = rate > 0.0 ? left / rate : -1.0});
}

// True at steps where something is written.
static bool due(int64_t step, int64_t every, int64_t last)
{
    return step == last || (every > 0 && step % every == 0);
}

// Of the last pass of each rank: what is still in memory.
static lw_status look_at_latents(lw_trainer *t, lw_error *err)
{
    int64_t first;
    int64_t count;
    const lw_leg *leg = leg_of(t, t->state.step - 1);
    lw_schedule_share(&leg->schedule, t->state.step - 1 - leg->first_step, t->job->rank, t->job->ranks, &first, &count);
    int64_t samples = count > 0 ? t->step.batch.samples : 0; // else it is an earlier step's
    LW_TRY(
        lw_collapse_cosine(&t->collapse, t->step.encoder.z, t->step.batch.at.z_start, samples, err, &t->latent_cosine));
    lw_collapse_note_cosine(&t->collapse, t->state.step, t->latent_cosine);
    return LW_OK;
}

// A stop cannot wait for an evaluation: where one was agreed on, or comes in between, there is no figure of this step.
static lw_status evaluate(lw_trainer *t, lw_error *err)
{
    lw_job *job = t->job;
    double start_s = lw_now_s();
    LW_TRY(lw_eval_held_out(job, t->eval, err, &t->held_out));
    t->state.eval_nll = t->held_out.nll;
    t->signal = t->held_out.signal;
    if (t->signal == LW_SIGNAL_NONE) {
        lw_log(job->run, "step %lld: held-out loss %.4f per answer token, on %.0f samples in %.2f s",
               (long long)t->state.step, t->state.eval_nll, t->held_out.sums[0].samples, t->held_out.wall_s);
        lw_collapse_note_first_tokens(&t->collapse, t->state.step, t->held_out.sums);
    }
    LW_TRY(lw_comm_agree(job->comm, lw_step_reclaim(&t->step, err), err));
    t->evaluated_s += lw_now_s() - start_s;
    return LW_OK;
}

static bool evaluation_due(const lw_trainer *t)
{
    int64_t every = t->job->config->eval.every_steps;
    return t->eval != NULL && every > 0 && due(t->state.step, every, t->course.total_steps);
}

// Takes note of a new least of the held-out loss.
static bool is_best(lw_trainer *t)
{
    if (!t->job->config->checkpoint.keep_best || !(t->state.eval_nll < t->best_nll)) {
        return false;
    }
    t->best_nll = t->state.eval_nll;
    return true;
}

// A stop came in place of the evaluation of the step that is continued: its row gets the figure now, and so does its
// checkpoint where it is the best.
static lw_status make_up_evaluation(lw_trainer *t, lw_error *err)
{
    lw_llm_keys keys;
    lw_metric m[1 + LW_MAX_MODELS];
    if (t->state.step == 0 || !evaluation_due(t) || !isnan(t->state.eval_nll)) {
        return LW_OK;
    }
    LW_TRY(evaluate(t, err));
    lw_status status = LW_OK;
    if (t->job->rank == 0 && !isnan(t->state.eval_nll)) {
        status = lw_run_dir_extend_metrics(t->job->run, t->state.step, m, held_out_metrics(t, keys, m), err);
    }
    LW_TRY(lw_comm_agree(t->job->comm, status, err));
    if (is_best(t)) {
        t->last_saved = -1; // once more, with the figure
        return lw_trainer_save(t, true, err);
    }
    return LW_OK;
}

// Periodic, at a new least of the held-out loss, at the end, at a signal.
static lw_status save_when_due(lw_trainer *t, lw_interval *in, double now_s, lw_error *err)
{
    const lw_config *c = t->job->config;
    bool last = t->state.step == t->course.total_steps;
    // While steps are skipped the parameters may be what is wrong: the checkpoint from before stays the newest.
    bool sound = t->state.skipped_in_row == 0 || last;
    bool best = sound && is_best(t);
    bool stops = t->signal != LW_SIGNAL_NONE;
    if (stops || best || (sound && due(t->state.step, c->checkpoint.every_steps, t->course.total_steps))) {
        LW_TRY(lw_trainer_save(t, last || stops, err));
        in->start_s += lw_now_s() - now_s; // what a checkpoint takes is not a step's time
    }
    return LW_OK;
}

static lw_status after_step(lw_trainer *t, lw_interval *in, lw_error *err)
{
    lw_job *job = t->job;
    const lw_config *c = job->config;
    double now_s = lw_now_s();
    double evaluated_s = t->evaluated_s;
    bool evaluates = evaluation_due(t);
    if (t->disk_failed) {
        return lw_trainer_leave(t, err);
    }
    show_progress(t, in, now_s);
    if (evaluates || due(t->state.step, c->log.every_steps, t->course.total_steps)) {
        LW_TRY(look_at_latents(t, err));
        if (evaluates && t->signal == LW_SIGNAL_NONE) {
            LW_TRY(evaluate(t, err));
        }
        if (job->rank == 0) {
            write_row(t, in, now_s);
        }
        *in = (lw_interval){.start_s = now_s + t->evaluated_s - evaluated_s};
        now_s = in->start_s;
    }
    return save_when_due(t, in, now_s, err);
}

lw_status lw_trainer_run(lw_trainer *t, lw_error *err)
{
    lw_job *job = t->job;
    lw_decoder *decoders[LW_MAX_MODELS];
    lw_step_loss loss = lw_step_loss_of(job->config);
    for (int64_t j = 0; j < job->llm_count; j++) {
        decoders[j] = job->llms[j].decoder;
    }
    lw_status status = t->eval != NULL ? lw_eval_start(job, t->eval, err) : LW_OK;
    if (status == LW_OK) {
        status = lw_step_start(&t->step, job->config, &job->wire, decoders, &loss, err);
        t->step.states = lw_teacher_states; // asked only where there is distillation
    }
    if (status == LW_OK) {
        lw_gemm largest = lw_step_largest_product(&t->step);
        status = lw_product_rate(job->dev, &largest, err, &t->gemm_flop_per_s);
    }
    status = lw_comm_agree(job->comm, lw_signal_check(status), err);
    if (status == LW_OK && t->state.step == 0 && job->config->adapter.start == LW_ADAPTER_EMBEDDINGS) {
        lw_trainer_enter(t);
        status = lw_adapter_fit(job, &t->step, &job->train[t->leg], err);
    }
    LW_TRY(lw_job_stopped(job, status, "before the first step", err)); // with nothing new to save
    t->saves.last_request_s = lw_now_s();
    LW_TRY(make_up_evaluation(t, err));
    lw_interval interval = {.start_s = lw_now_s()};
    double last_s = interval.start_s;
    while (t->state.step < t->course.total_steps && t->signal == LW_SIGNAL_NONE) {
        int64_t samples = t->state.samples;
        int64_t rows = 0;
        status = lw_trainer_step(t, err, &rows);
        double now_s = lw_now_s();
        t->state.train_s += now_s - last_s;
        last_s = now_s;
        interval.steps++;
        interval.samples += t->state.samples - samples;
        interval.rows += rows;
        interval.flop += t->flop_per_sample[t->leg] * (double)(t->state.samples - samples);
        double evaluated_s = t->evaluated_s;
        if (status == LW_OK) {
            status = after_step(t, &interval, err);
        }
        LW_TRY(status);
        last_s += t->evaluated_s - evaluated_s;
    }
    if (t->signal == LW_SIGNAL_NONE) {
        return LW_OK;
    }
    lw_log(job->run, "stopped by %s after step %lld of %lld; a checkpoint is written, start again to go on",
           lw_signal_name(t->signal), (long long)t->state.step, (long long)t->course.total_steps);
    err->text[0] = '\0'; // told already
    return lw_signal_to_status(t->signal);
}
