#include "trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "clock.h"
#include "flops.h"

lw_status lw_trainer_create(lw_job *job, lw_error *err, lw_trainer *out)
{
    lw_trainer t = {.job = job, .last_saved = -1, .mean_loss = NAN};
    for (int64_t j = 0; j < LW_MAX_MODELS; j++) {
        t.loss[j] = NAN; // no step yet
    }
    LW_TRY(lw_schedule_make(job->config, job->train.count, job->ranks, err, &t.schedule));
    LW_TRY(lw_job_checkpoint_info(job, err, &t.state));
    lw_status status = lw_step_limits_of(job->train.samples, job->train.count, t.schedule.micro,
                                         job->config->wire.latents, job->llm_count, err, &t.step.limits);
    LW_TRY(status);
    t.micro_batch = calloc((size_t)t.schedule.micro, sizeof *t.micro_batch);
    t.host = calloc((size_t)job->wire.params.elements, 3 * sizeof *t.host);
    status = lw_wire_views(&job->wire, err, &t.views);
    if (status == LW_OK && (t.micro_batch == NULL || t.host == NULL)) {
        status = lw_fail(err, LW_ERR_MEMORY, "no memory for the trainer's tables");
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
    lw_sample_shape shape = lw_sample_shape_of(t->job->train.samples, t->job->train.count,
                                               t->job->config->wire.latents, t->job->llm_count);
    t->flop_per_sample = lw_step_flop(&t->job->wire, configs, &shape);
    return lw_step_layout(arena, t->job->dev, &t->job->wire, configs, &limits, err, &t->step);
}

void lw_trainer_free(lw_trainer *t)
{
    lw_step_free(&t->step);
    free(t->micro_batch);
    free(t->host);
    free(t->views);
    *t = (lw_trainer){0};
}

// --- state on disk

static lw_flat_state flat_state(const lw_trainer *t)
{
    int64_t n = t->job->wire.params.elements;
    return (lw_flat_state){.views = t->views,
                           .view_count = t->job->wire.params.count,
                           .elements = n,
                           .param = t->host,
                           .adam_m = t->host + n,
                           .adam_v = t->host + 2 * n};
}

static lw_status write_checkpoint(lw_trainer *t, lw_error *err)
{
    lw_job *job = t->job;
    lw_params *p = &job->wire.params;
    size_t bytes = (size_t)p->elements * sizeof(float);
    lw_flat_state state = flat_state(t);
    job->dev->ops->download(job->dev, p->param, bytes, state.param);
    job->dev->ops->download(job->dev, p->m, bytes, state.adam_m);
    job->dev->ops->download(job->dev, p->v, bytes, state.adam_v);
    LW_TRY(job->dev->ops->sync(job->dev, err));
    LW_TRY(lw_checkpoint_write(job->config->run.dir, &t->state, &state, (int)job->config->checkpoint.keep,
                               lw_log_warning, job->run, err));
    lw_log_file(job->run, "checkpoint of step %lld written", (long long)t->state.step);
    return LW_OK;
}

// Collective, so that a disk that is full on rank 0 ends all ranks together.
static lw_status save(lw_trainer *t, lw_error *err)
{
    lw_status status = LW_OK;
    if (t->last_saved == t->state.step) {
        return LW_OK;
    }
    lw_comm_phase(t->job->comm, "checkpoint of step %lld", (long long)t->state.step);
    if (t->job->rank == 0) {
        status = write_checkpoint(t, err);
    }
    LW_TRY(lw_comm_agree(t->job->comm, status, err));
    t->last_saved = t->state.step;
    return LW_OK;
}

// The losses of the last logged step: those of the run, when no step is left to do.
static lw_status recall_losses(lw_trainer *t, lw_error *err)
{
    json_t *row = NULL;
    LW_TRY(lw_run_dir_last_metrics(t->job->run, err, &row));
    const json_t *mean = json_object_get(row, "loss");
    t->mean_loss = json_is_number(mean) ? json_number_value(mean) : NAN;
    for (int64_t j = 0; j < t->job->llm_count; j++) {
        char key[80];
        snprintf(key, sizeof key, "loss_%s", t->job->llms[j].name);
        const json_t *loss = json_object_get(row, key);
        t->loss[j] = json_is_number(loss) ? json_number_value(loss) : NAN;
    }
    json_decref(row);
    return LW_OK;
}

// With batch.per_rank the samples of a step depend on the number of ranks, and a step number alone no longer says which
// samples have been seen.
static lw_status check_same_steps(const lw_trainer *t, const lw_checkpoint_info *found, lw_error *err)
{
    if (found->step <= t->schedule.total_steps) { // else its product with the batch may overflow
        int64_t first;
        int64_t rest;
        lw_schedule_step(&t->schedule, found->step, &first, &rest);
        if (found->samples == (first < t->schedule.total_samples ? first : t->schedule.total_samples)) {
            return LW_OK;
        }
    }
    return lw_fail(err, LW_ERR_CONFIG,
                   "it has seen %lld samples in %lld steps, which are not steps of %lld samples as with "
                   "batch.per_rank = %lld at %d ranks; start as many ranks as before, or give another run.dir",
                   (long long)found->samples, (long long)found->step, (long long)t->schedule.global,
                   (long long)t->job->config->batch.per_rank, t->job->ranks);
}

static lw_status load_newest(lw_trainer *t, lw_error *err, bool *found)
{
    lw_job *job = t->job;
    lw_flat_state state = flat_state(t);
    lw_checkpoint_info info;
    char *path = NULL;
    LW_TRY(lw_checkpoint_load_newest(job->config->run.dir, &state, lw_log_warning, job->run, err, found, &info,
                                     &path));
    if (*found) {
        lw_status status = lw_checkpoint_same_inputs(&info, &t->state, err);
        if (status == LW_OK) {
            status = check_same_steps(t, &info, err);
        }
        if (status != LW_OK) {
            lw_fail_in(err, status, "%s cannot be continued", path);
            free(path);
            return status;
        }
        uint64_t config_hash = t->state.config_hash;
        t->state = info;
        t->state.config_hash = config_hash;
        lw_log(job->run, "continuing %s: step %lld of %lld", path, (long long)info.step,
               (long long)t->schedule.total_steps);
    }
    free(path);
    LW_TRY(lw_run_dir_resume_metrics(job->run, *found ? t->state.step : 0, err));
    return recall_losses(t, err);
}

lw_status lw_trainer_resume(lw_trainer *t, lw_error *err)
{
    lw_job *job = t->job;
    lw_params *p = &job->wire.params;
    int64_t bytes = p->elements * (int64_t)sizeof(float);
    bool found = false;
    lw_comm_phase(job->comm, "loading a checkpoint");
    lw_status status = job->rank == 0 ? load_newest(t, err, &found) : LW_OK;
    LW_TRY(lw_comm_agree(job->comm, status, err));
    LW_TRY(lw_comm_broadcast(job->comm, 0, &found, sizeof found, err));
    if (!found) {
        return LW_OK;
    }
    LW_TRY(lw_comm_broadcast(job->comm, 0, &t->state, sizeof t->state, err));
    LW_TRY(lw_comm_broadcast(job->comm, 0, t->host, 3 * bytes, err));
    job->dev->ops->upload(job->dev, t->host, (size_t)bytes, p->param);
    job->dev->ops->upload(job->dev, t->host + p->elements, (size_t)bytes, p->m);
    job->dev->ops->upload(job->dev, t->host + 2 * p->elements, (size_t)bytes, p->v);
    t->last_saved = t->state.step;
    return job->dev->ops->sync(job->dev, err);
}

// --- one step

// Answer tokens of the whole step for each LLM, and rows that the LLMs process: every rank counts them all, which
// costs less than asking.
static void count_tokens(const lw_trainer *t, int64_t first, int64_t count, int64_t *answer_tokens, int64_t *rows)
{
    const lw_corpus *c = &t->job->train;
    for (int64_t j = 0; j < t->job->llm_count; j++) {
        answer_tokens[j] = 0;
    }
    *rows = 0;
    for (int64_t i = first; i < first + count; i++) {
        const lw_step_sample *s = &c->samples[lw_schedule_sample(&t->schedule, i)];
        for (int64_t j = 0; j < t->job->llm_count; j++) {
            answer_tokens[j] += s->answer[j].count;
            *rows += t->job->config->wire.latents + s->suffix[j].count + s->answer[j].count - 1;
        }
    }
}

static lw_status run_share(lw_trainer *t, const int64_t *answer_tokens, lw_error *err)
{
    lw_job *job = t->job;
    int64_t first;
    int64_t count;
    lw_schedule_share(&t->schedule, t->state.step, job->rank, job->ranks, &first, &count);
    for (int64_t done = 0; done < count;) {
        int64_t n = count - done < t->schedule.micro ? count - done : t->schedule.micro;
        for (int64_t i = 0; i < n; i++) {
            t->micro_batch[i] = &job->train.samples[lw_schedule_sample(&t->schedule, first + done + i)];
        }
        LW_TRY(lw_step_run(&t->step, t->micro_batch, n, answer_tokens, err));
        done += n;
    }
    return LW_OK;
}

// Puts this rank's signal behind the gradients; the reduction that comes anyway tells all ranks.
static void post_signal(lw_trainer *t)
{
    static const int slots[] = {
        [LW_SIGNAL_USR1] = LW_STAT_USR1, [LW_SIGNAL_TERM] = LW_STAT_TERM, [LW_SIGNAL_INT] = LW_STAT_INT};
    lw_signal pending = lw_signal_pending();
    if (pending != LW_SIGNAL_NONE) {
        const float one = 1.0F;
        lw_device *dev = t->job->dev;
        dev->ops->upload(dev, &one, sizeof one, t->job->wire.stats + slots[pending]);
    }
}

static lw_status read_back(lw_trainer *t, lw_error *err)
{
    lw_job *job = t->job;
    float stats[LW_STAT_COUNT];
    float sqnorm;
    job->dev->ops->download(job->dev, job->wire.stats, sizeof stats, stats);
    job->dev->ops->download(job->dev, job->wire.sqnorm, sizeof sqnorm, &sqnorm);
    LW_TRY(job->dev->ops->sync(job->dev, err));
    t->grad_norm = sqrt((double)sqnorm);
    t->mean_loss = 0.0;
    for (int64_t j = 0; j < job->llm_count; j++) {
        t->loss[j] = (double)stats[LW_STAT_LOSS + j] * (double)job->llm_count;
        t->mean_loss += (double)stats[LW_STAT_LOSS + j];
    }
    t->signal = stats[LW_STAT_INT] > 0.0F    ? LW_SIGNAL_INT
                : stats[LW_STAT_TERM] > 0.0F ? LW_SIGNAL_TERM
                : stats[LW_STAT_USR1] > 0.0F ? LW_SIGNAL_USR1
                                             : LW_SIGNAL_NONE;
    return LW_OK;
}

// A step that was skipped for non-finite numbers; too many in a row end the run.
static lw_status count_skipped(lw_trainer *t, int64_t first, int64_t count, lw_error *err)
{
    lw_job *job = t->job;
    t->state.skipped++;
    t->state.skipped_in_row++;
    lw_log(job->run, "warning: step %lld skipped: loss %g, gradient norm %g; its first sample is %s",
           (long long)t->state.step, t->mean_loss, t->grad_norm,
           job->train.data.samples[lw_schedule_sample(&t->schedule, first)].id);
    for (int64_t i = first; i < first + count; i++) {
        lw_log_file(job->run, "skipped sample %s",
                    job->train.data.samples[lw_schedule_sample(&t->schedule, i)].id);
    }
    if (t->state.skipped_in_row < job->config->train.max_skipped) {
        return LW_OK;
    }
    return lw_fail(err, LW_ERR_NUMERIC,
                   "%lld steps in a row had a non-finite loss or gradient (train.max_skipped); the newest checkpoint "
                   "is kept; lower train.lr or look at the samples named in log.txt",
                   (long long)t->state.skipped_in_row);
}

// Inside a step a failure is this rank's alone and the others wait for it in the reduction: end the job.
static void stop_all(lw_trainer *t, lw_status status, const lw_error *err)
{
    if (status != LW_OK) {
        lw_comm_abort(t->job->comm, status, err);
    }
}

static lw_status run_step(lw_trainer *t, lw_error *err, int64_t *rows)
{
    lw_job *job = t->job;
    lw_wire *wire = &job->wire;
    const lw_config *c = job->config;
    int64_t answer_tokens[LW_MAX_MODELS];
    int64_t first;
    int64_t count;
    lw_comm_phase(job->comm, "step %lld", (long long)(t->state.step + 1));
    lw_schedule_step(&t->schedule, t->state.step, &first, &count);
    count_tokens(t, first, count, answer_tokens, rows);
    job->dev->ops->zero(job->dev, (size_t)wire->reduce_elements * sizeof(float), wire->params.grad);
    stop_all(t, run_share(t, answer_tokens, err), err);
    post_signal(t);
    stop_all(t, lw_comm_all_reduce(job->comm, job->dev, wire->params.grad, wire->reduce_elements, err), err);
    lw_wire_update(job->dev, wire, &(lw_update){.lr = lw_schedule_lr(c, &t->schedule, t->state.step),
                                                .beta1 = c->train.beta1,
                                                .beta2 = c->train.beta2,
                                                .eps = c->train.eps,
                                                .weight_decay = c->train.weight_decay,
                                                .clip = c->train.clip,
                                                .step = t->state.step - t->state.skipped + 1});
    stop_all(t, read_back(t, err), err);
    t->state.step++;
    t->state.samples += count;
    t->state.epoch = t->state.samples / t->schedule.samples;
    if (isfinite(t->grad_norm)) {
        t->state.skipped_in_row = 0;
        return LW_OK;
    }
    return lw_comm_agree(job->comm, count_skipped(t, first, count, err), err); // all ranks saw it; one tells
}

// --- the loop

typedef struct lw_interval { // since the last logged step
    double start_s;
    int64_t samples, rows, steps;
    double flop;
} lw_interval;

static lw_status log_metrics(lw_trainer *t, const lw_interval *in, double now_s, lw_error *err)
{
    lw_job *job = t->job;
    char keys[LW_MAX_MODELS][80];
    lw_metric m[16 + LW_MAX_MODELS];
    int n = 0;
    double wall_s = now_s - in->start_s;
    m[n++] = LW_METRIC_COUNT("step", t->state.step);
    m[n++] = LW_METRIC_COUNT("epoch", t->state.epoch);
    m[n++] = LW_METRIC_COUNT("samples", t->state.samples);
    m[n++] = LW_METRIC_NUMBER("loss", t->mean_loss);
    for (int64_t j = 0; j < job->llm_count; j++) {
        snprintf(keys[j], sizeof keys[j], "loss_%s", job->llms[j].name);
        m[n++] = LW_METRIC_NUMBER(keys[j], t->loss[j]);
    }
    m[n++] = LW_METRIC_NUMBER("grad_norm", t->grad_norm);
    m[n++] = LW_METRIC_NUMBER("lr", lw_schedule_lr(job->config, &t->schedule, t->state.step - 1));
    m[n++] = LW_METRIC_NUMBER("samples_per_s", (double)in->samples / wall_s);
    m[n++] = LW_METRIC_NUMBER("tokens_per_s", (double)in->rows / wall_s);
    m[n++] = LW_METRIC_NUMBER("step_s", wall_s / (double)in->steps);
    m[n++] = LW_METRIC_NUMBER("mfu", in->flop / wall_s / (t->gemm_flop_per_s * job->ranks));
    m[n++] = LW_METRIC_COUNT("device_bytes", (int64_t)job->dev->allocated_bytes);
    m[n++] = LW_METRIC_COUNT("skipped", t->state.skipped);
    return lw_run_dir_metrics(job->run, m, n, err);
}

static void show_progress(const lw_trainer *t, const lw_interval *in, double now_s)
{
    double rate = now_s > in->start_s ? (double)in->samples / (now_s - in->start_s) : 0.0;
    double left = (double)(t->schedule.total_samples - t->state.samples);
    lw_run_dir_progress(t->job->run, &(lw_progress_state){.label = "step",
                                                          .done = t->state.step,
                                                          .total = t->schedule.total_steps,
                                                          .loss = t->mean_loss,
                                                          .samples_per_s = rate,
                                                          .left_s = rate > 0.0 ? left / rate : -1.0});
}

// True at steps where something is written.
static bool due(int64_t step, int64_t every, int64_t last)
{
    return step == last || (every > 0 && step % every == 0);
}

static lw_status after_step(lw_trainer *t, lw_interval *in, lw_error *err)
{
    lw_job *job = t->job;
    const lw_config *c = job->config;
    double now_s = lw_now_s();
    show_progress(t, in, now_s);
    if (due(t->state.step, c->log.every_steps, t->schedule.total_steps)) {
        if (job->rank == 0) {
            stop_all(t, log_metrics(t, in, now_s, err), err);
        }
        *in = (lw_interval){.start_s = now_s};
    }
    if (due(t->state.step, c->checkpoint.every_steps, t->schedule.total_steps) || t->signal != LW_SIGNAL_NONE) {
        LW_TRY(save(t, err));
        in->start_s += lw_now_s() - now_s; // what a checkpoint takes is not a step's time
    }
    return LW_OK;
}

lw_status lw_trainer_run(lw_trainer *t, lw_error *err)
{
    lw_job *job = t->job;
    lw_decoder *decoders[LW_MAX_MODELS];
    lw_step_loss loss = {
        .first_weight = job->config->loss.first_weight, .k_weight = job->config->loss.k_weight, .k = job->config->loss.k};
    for (int64_t j = 0; j < job->llm_count; j++) {
        decoders[j] = job->llms[j].decoder;
    }
    lw_status status = lw_step_start(&t->step, &job->wire, decoders, &loss, err);
    if (status == LW_OK) {
        status = lw_gemm_rate(job->dev, err, &t->gemm_flop_per_s);
    }
    LW_TRY(lw_comm_agree(job->comm, status, err));
    lw_interval interval = {.start_s = lw_now_s()};
    double last_s = interval.start_s;
    while (t->state.step < t->schedule.total_steps && t->signal == LW_SIGNAL_NONE) {
        int64_t samples = t->state.samples;
        int64_t rows = 0;
        status = run_step(t, err, &rows);
        double now_s = lw_now_s();
        t->state.train_s += now_s - last_s;
        last_s = now_s;
        interval.steps++;
        interval.samples += t->state.samples - samples;
        interval.rows += rows;
        interval.flop += t->flop_per_sample * (double)(t->state.samples - samples);
        if (status == LW_OK) {
            status = after_step(t, &interval, err);
        }
        LW_TRY(status);
    }
    if (t->signal == LW_SIGNAL_NONE) {
        return LW_OK;
    }
    lw_log(job->run, "stopped by %s after step %lld of %lld; a checkpoint is written, start again to go on",
           lw_signal_name(t->signal), (long long)t->state.step, (long long)t->schedule.total_steps);
    err->text[0] = '\0'; // told already
    return lw_signal_to_status(t->signal);
}
