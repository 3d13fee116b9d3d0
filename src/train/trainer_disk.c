// trainer_disk.c: the trainer's state on disk: checkpoints written while steps run, the trial write, and the resume.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/numbers.h"
#include "io/files.h"
#include "run/checkpoint.h"
#include "run/loss_keys.h"
#include "train/trainer_internal.h"

// While ranks wait for rank 0's disk it sends a heartbeat this often, and at least four times within the deadline of a
// collective, so that a slow disk is not taken for a dead rank.
static const double max_heartbeat_s = 5.0;
static const double retry_pause_s = 0.2;
static const double slow_disk_s = 30.0; // a longer wait is reported

static lw_flat_state flat_state(const lw_trainer *t)
{
    int64_t n = t->job->wire.params.elements;
    return (lw_flat_state){.views = t->views,
                           .view_count = t->job->wire.params.count,
                           .elements = n,
                           .param = t->host,
                           .adam_m = t->host + n,
                           .adam_v = t->host + 2 * n,
                           .heartbeat = lw_comm_heartbeat(t->job->comm)};
}

lw_status lw_trainer_open_disk(lw_trainer *t, lw_error *err)
{
    const lw_config *c = t->job->config;
    if (t->job->rank != 0) {
        return LW_OK;
    }
    const lw_checkpoint_writer_options options = {.run_dir = c->run.dir,
                                                  .state = flat_state(t),
                                                  .retention = {.keep = c->checkpoint.keep,
                                                                .keep_every = c->checkpoint.keep_every,
                                                                .keep_best = c->checkpoint.keep_best},
                                                  .retry_pause_s = retry_pause_s};
    return lw_checkpoint_writer_create(&options, err, &t->writer);
}

// --- reports of the writer

void lw_trainer_disk_failed(lw_trainer *t, lw_status status, const lw_error *err)
{
    if (t->disk_status == LW_OK) {
        t->disk_status = status;
        t->disk_error = *err;
        lw_log_file(t->job->run, "failed: %s", err->text);
    }
}

static void log_written(lw_trainer *t, const lw_checkpoint_written *w)
{
    lw_saves *s = &t->saves;
    if (w->trial) {
        lw_log(t->job->run, "trial write: a checkpoint of %.1f MiB takes %.2f s in %s, where %.1f MiB are free",
               (double)w->bytes / LW_MIB, w->write_s, t->job->config->run.dir, (double)w->free_bytes / LW_MIB);
        t->free_bytes = w->free_bytes;
        t->checkpoint_bytes = w->bytes;
        return;
    }
    s->count++;
    s->write_s += w->write_s;
    lw_log_file(
        t->job->run,
        "checkpoint of step %lld written in %.3f s; the steps waited %.4f s for it, %.2f %% of the %.2f s since "
        "the one before",
        (long long)w->step, w->write_s, s->last_stall_s, 100.0 * s->last_stall_s / s->last_interval_s,
        s->last_interval_s);
}

void lw_trainer_poll_disk(lw_trainer *t)
{
    lw_checkpoint_written written;
    lw_error err;
    bool finished = false;
    if (t->writer == NULL) {
        return;
    }
    lw_status status = lw_checkpoint_writer_poll(t->writer, lw_log_warning, t->job->run, &err, &finished, &written);
    if (finished) {
        log_written(t, &written);
    }
    if (status != LW_OK && t->disk_status == LW_OK) {
        lw_fail_in(&err, status, "tried twice, the run ends here; start it again when the cause is gone");
        lw_trainer_disk_failed(t, status, &err);
    }
}

lw_status lw_trainer_leave(lw_trainer *t, lw_error *err)
{
    if (t->disk_status != LW_OK) {
        *err = t->disk_error;
    }
    return lw_comm_agree(t->job->comm, t->disk_status, err);
}

// --- writing

// Waits until nothing is being written, however long that takes. Collective.
static lw_status settle(lw_trainer *t, lw_error *err)
{
    enum { BUSY, DONE, FAILED };
    double timeout_s = t->job->config->comm.timeout_s;
    double heartbeat_s = timeout_s / 4.0 < max_heartbeat_s ? timeout_s / 4.0 : max_heartbeat_s;
    double tell_s = lw_now_s() + slow_disk_s;
    int32_t state = BUSY;
    while (state == BUSY) {
        if (t->job->rank == 0) {
            bool idle = lw_checkpoint_writer_wait(t->writer, heartbeat_s);
            lw_trainer_poll_disk(t);
            state = !idle ? BUSY : t->disk_status == LW_OK ? DONE : FAILED;
            if (!idle && lw_now_s() > tell_s) {
                lw_log(t->job->run, "note: all ranks wait for the disk, where a checkpoint is being written");
                tell_s += slow_disk_s;
            }
        }
        LW_TRY(lw_comm_broadcast(t->job->comm, 0, &state, sizeof state, err));
    }
    return state == FAILED ? lw_trainer_leave(t, err) : LW_OK;
}

static lw_status copy_state(lw_trainer *t, lw_error *err)
{
    lw_job *job = t->job;
    lw_params *p = &job->wire.params;
    size_t bytes = (size_t)p->elements * sizeof(float);
    lw_flat_state state = flat_state(t);
    job->dev->ops->download(job->dev, p->param, bytes, state.param);
    job->dev->ops->download(job->dev, p->m, bytes, state.adam_m);
    job->dev->ops->download(job->dev, p->v, bytes, state.adam_v);
    return job->dev->ops->sync(job->dev, err);
}

static void count_stall(lw_trainer *t, double start_s, bool stalls)
{
    lw_saves *s = &t->saves;
    double now_s = lw_now_s();
    s->last_interval_s = start_s - s->last_request_s;
    s->last_stall_s = stalls ? now_s - start_s : 0.0;
    s->last_request_s = now_s;
    if (stalls) {
        s->stall_s += s->last_stall_s;
        s->row_stall_s += s->last_stall_s;
        s->between_s += s->last_interval_s;
    }
}

lw_status lw_trainer_save(lw_trainer *t, bool wait, lw_error *err)
{
    double start_s = lw_now_s();
    if (t->last_saved != t->state.step) {
        lw_comm_doing(t->job->comm, "checkpoint of step %lld", (long long)t->state.step);
        LW_TRY(settle(t, err));
        if (t->job->rank == 0) {
            lw_status status = copy_state(t, err);
            if (status != LW_OK) { // the device has failed, and the other ranks are about to enter the next step
                lw_comm_abort(t->job->comm, status, err);
            }
            lw_checkpoint_writer_start(t->writer, &t->state);
        }
        t->last_saved = t->state.step;
        count_stall(t, start_s, !wait);
    }
    return wait ? settle(t, err) : LW_OK;
}

// Warns if the free space is too small for the checkpoints that the retention will still add, including one that is
// being written.
static void warn_of_space(lw_trainer *t)
{
    lw_error ignored;
    int64_t present = 0;
    int64_t keep = t->job->config->checkpoint.keep;
    if (t->free_bytes < 0 || keep > 1000 || lw_checkpoint_count(t->job->config->run.dir, &ignored, &present) != LW_OK) {
        return;
    }
    int64_t more = keep + 1 - present;
    if (more > 0 && t->free_bytes / more < t->checkpoint_bytes) {
        lw_log(
            t->job->run,
            "warning: %.1f MiB are free for %lld more checkpoints of %.1f MiB (checkpoint.keep = %lld, and one being "
            "written)",
            (double)t->free_bytes / LW_MIB, (long long)more, (double)t->checkpoint_bytes / LW_MIB, (long long)keep);
    }
}

lw_status lw_trainer_trial(lw_trainer *t, lw_error *err)
{
    // Touch the host copy once now: the first copy faults its pages in, and no step should wait for that.
    LW_TRY(lw_comm_agree(t->job->comm, t->job->rank == 0 ? copy_state(t, err) : LW_OK, err));
    if (!t->job->config->checkpoint.trial) {
        lw_log(t->job->run, "no trial write of a checkpoint (checkpoint.trial = false): whether one fits on the disk "
                            "shows when the first is written");
        return LW_OK;
    }
    lw_comm_doing(t->job->comm, "trial write of a checkpoint");
    if (t->job->rank == 0) {
        t->free_bytes = -1;
        lw_checkpoint_writer_start_trial(t->writer);
    }
    LW_TRY(settle(t, err));
    if (t->job->rank == 0) {
        warn_of_space(t);
    }
    return LW_OK;
}

// --- resuming

// Reads the losses of the last logged step, which are the run's final losses if no step is left.
static lw_status recall_losses(lw_trainer *t, lw_error *err)
{
    json_t *row = NULL;
    LW_TRY(lw_run_dir_last_metrics(t->job->run, err, &row));
    const json_t *mean = json_object_get(row, lw_loss_key(LW_LOSS_TRAINING));
    t->mean_loss = json_is_number(mean) ? json_number_value(mean) : NAN;
    for (int64_t j = 0; j < t->job->llm_count; j++) {
        char key[LW_LOSS_KEY_BYTES];
        const json_t *loss = json_object_get(row, lw_loss_key_of_model(LW_LOSS_TRAINING, t->job->llms[j].name, key));
        t->loss[j] = json_is_number(loss) ? json_number_value(loss) : NAN;
    }
    json_decref(row);
    return LW_OK;
}

// The step number alone decides which samples come next, so the steps so far must have been steps of this schedule.
static lw_status check_same_steps(const lw_trainer *t, const lw_checkpoint_info *found, lw_error *err)
{
    const lw_stage *stage = &t->schedule.stages[lw_run_schedule_stage(&t->schedule, found->step)];
    const lw_schedule *s = &stage->schedule;
    int64_t steps = found->step - stage->first_step; // of the stage
    int64_t samples = found->samples - stage->first_sample;
    int64_t whole = 0;
    bool fits = !__builtin_mul_overflow(steps, s->global, &whole);
    if (fits && samples == whole) {
        return LW_OK; // a step beyond the end is fine too: nothing is left to do
    }
    if (fits && steps == s->total_steps && samples == s->total_samples) {
        return LW_OK; // the last step of the stage may be smaller
    }
    if (fits && samples < whole && samples > whole - s->global) {
        return lw_fail(
            err, LW_ERR_FORMAT,
            "it is the end of a shorter run, whose last step had %lld samples where this run has %lld; a run "
            "is lengthened from the checkpoint before (checkpoint.keep = 2 leaves one), or from an end with a "
            "whole step (train.max_steps)",
            (long long)(samples - (whole - s->global)), (long long)s->global);
    }
    return lw_fail(err, LW_ERR_CONFIG,
                   "it has seen %lld samples in %lld steps, which are not steps of %lld samples as with "
                   "batch.%s = %lld at %d ranks; %s, or give another run.dir",
                   (long long)found->samples, (long long)found->step, (long long)s->global,
                   t->job->config->batch.per_rank > 0 ? "per_rank" : "global",
                   (long long)(t->job->config->batch.per_rank > 0 ? t->job->config->batch.per_rank
                                                                  : t->job->config->batch.global),
                   t->job->ranks, t->job->config->batch.per_rank > 0 ? "start as many ranks as before" : "set it back");
}

// If the configuration that a checkpoint was made with is missing, its hash still shows whether it was the same one.
static lw_status check_same_hash(const lw_trainer *t, const lw_checkpoint_info *found, lw_error *err)
{
    char *path = NULL;
    LW_TRY(lw_path_join(t->job->config->run.dir, "config.cfg", err, &path));
    bool known = lw_path_is_file(path); // then the keys themselves were compared before
    free(path);
    if (known || found->config_hash == t->state.config_hash) {
        return LW_OK;
    }
    return lw_fail(
        err, LW_ERR_CONFIG,
        "it was made with another configuration, and %s/config.cfg, which would say what differs, is missing; "
        "give another run.dir, or run.accept_changes=true if you know that it fits",
        t->job->config->run.dir);
}

// A lw_checkpoint_accept.
static lw_status may_continue(void *context, const char *checkpoint_dir, const lw_checkpoint_info *found, lw_error *err)
{
    const lw_trainer *t = context;
    bool accepts = t->job->config->run.accept_changes;
    lw_status status = lw_checkpoint_same_inputs(found, &t->state, err);
    if (status == LW_OK) {
        status = check_same_hash(t, found, err);
    }
    if (status != LW_OK && accepts) {
        lw_log(t->job->run, "warning: continuing all the same (run.accept_changes): %s", err->text);
        status = LW_OK;
    }
    if (status == LW_OK) {
        status = check_same_steps(t, found, err);
    }
    return status == LW_ERR_CONFIG ? lw_fail_in(err, status, "%s cannot be continued", checkpoint_dir) : status;
}

static void warn_passed(void *context, const char *message)
{
    const lw_trainer *t = context;
    lw_log_warning(t->job->run, message);
}

static lw_status load_newest(lw_trainer *t, lw_error *err, bool *found)
{
    lw_job *job = t->job;
    lw_flat_state state = flat_state(t);
    lw_checkpoint_info info;
    char *path = NULL;
    const lw_checkpoint_reader reader = {.accept = may_continue, .warn = warn_passed, .context = t};
    LW_TRY(lw_checkpoint_load_newest(job->config->run.dir, &state, &reader, err, found, &info, &path));
    if (*found) {
        // The inputs are those of this job, the counters those of the checkpoint.
        lw_checkpoint_info now = t->state;
        t->state = info;
        t->state.config_hash = now.config_hash;
        t->state.wire_hash = now.wire_hash;
        t->state.data_hash = now.data_hash;
        t->state.eval_hash = now.eval_hash;
        for (int i = 0; i < LW_CHECKPOINT_MAX_MODELS; i++) {
            t->state.models[i] = now.models[i];
        }
        t->state.model_count = now.model_count;
        snprintf(t->state.lwmpi_version, sizeof t->state.lwmpi_version, "%s", now.lwmpi_version);
        lw_log(job->run, "continuing %s: step %lld of %lld", path, (long long)info.step,
               (long long)t->schedule.total_steps);
    }
    free(path);
    lw_comm_send_heartbeat(job->comm);
    LW_TRY(lw_run_dir_resume_metrics(job->run, *found ? t->state.step : 0, err));
    return recall_losses(t, err);
}

// Reads the lowest held-out NLL so far, which the next ones have to beat. It stays INFINITY if `best` names no
// checkpoint or one whose NLL is of another evaluation.
static void recall_best(lw_trainer *t)
{
    lw_error ignored;
    char *mark = NULL;
    char *path = NULL;
    lw_checkpoint_info info;
    if (lw_path_join(t->job->config->run.dir, "best", &ignored, &mark) == LW_OK && lw_path_is_file(mark) &&
        lw_checkpoint_resolve(mark, NULL, NULL, &ignored, &path) == LW_OK &&
        lw_checkpoint_describe(path, &ignored, &info) == LW_OK && info.step <= t->state.step &&
        info.eval_hash == t->state.eval_hash && isfinite(info.eval_nll)) {
        t->best_nll = info.eval_nll;
    }
    free(path);
    free(mark);
}

lw_status lw_trainer_resume(lw_trainer *t, lw_error *err)
{
    lw_job *job = t->job;
    lw_params *p = &job->wire.params;
    int64_t bytes = p->elements * (int64_t)sizeof(float);
    bool found = false;
    lw_comm_doing(job->comm, "loading a checkpoint");
    lw_status status = job->rank == 0 ? load_newest(t, err, &found) : LW_OK;
    LW_TRY(lw_comm_agree(job->comm, status, err));
    LW_TRY(lw_comm_broadcast(job->comm, 0, &found, sizeof found, err));
    if (!found) {
        return LW_OK;
    }
    if (job->rank == 0) {
        recall_best(t);
    }
    LW_TRY(lw_comm_broadcast(job->comm, 0, &t->best_nll, sizeof t->best_nll, err));
    LW_TRY(lw_comm_broadcast(job->comm, 0, &t->state, sizeof t->state, err));
    LW_TRY(lw_comm_broadcast(job->comm, 0, t->host, 3 * bytes, err));
    job->dev->ops->upload(job->dev, t->host, (size_t)bytes, p->param);
    job->dev->ops->upload(job->dev, t->host + p->elements, (size_t)bytes, p->m);
    job->dev->ops->upload(job->dev, t->host + 2 * p->elements, (size_t)bytes, p->v);
    t->last_saved = t->state.step;
    return job->dev->ops->sync(job->dev, err);
}
