// loop.c: the training loop: steps, and what is due after each of them (evaluation, a row of metrics, a checkpoint).
#include <math.h>

#include "core/clock.h"
#include "cost/rates.h"
#include "job/adapter_fit.h"
#include "train/trainer_internal.h"

// Whether something that happens every `every` steps, and at the last one, happens at this step.
static bool due(int64_t step, int64_t every, int64_t last)
{
    return step == last || (every > 0 && step % every == 0);
}

// Compares the latents of each rank's last pass, which are still in the buffers.
static lw_status look_at_latents(lw_trainer *t, lw_error *err)
{
    int64_t first;
    int64_t count;
    const lw_stage *stage = lw_trainer_stage(t, t->state.step - 1);
    lw_schedule_share(&stage->schedule, t->state.step - 1 - stage->first_step, t->job->place.data, t->job->grid.data,
                      &first, &count);
    int64_t samples = count > 0 ? t->step.batch.samples : 0; // else the buffers hold those of an earlier step
    LW_TRY(
        lw_collapse_cosine(&t->collapse, t->step.encoder.z, t->step.batch.at.z_start, samples, err, &t->latent_cosine));
    lw_collapse_note_cosine(&t->collapse, t->state.step, t->latent_cosine);
    return LW_OK;
}

// A stop does not wait for an evaluation: if a signal arrives before or during it, this step has no held-out loss.
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
    return t->eval != NULL && every > 0 && due(t->state.step, every, t->schedule.total_steps);
}

// Whether the held-out loss of this step is the lowest so far, which is then recorded.
static bool is_best(lw_trainer *t)
{
    if (!t->job->config->checkpoint.keep_best || !(t->state.eval_nll < t->best_nll)) {
        return false;
    }
    t->best_nll = t->state.eval_nll;
    return true;
}

// If a stop prevented the evaluation of the step that the run resumes from, evaluates now. The row of that step gets
// the loss, and so does its checkpoint if it is the best.
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
        status = lw_run_dir_extend_metrics(t->job->run, t->state.step, m, lw_trainer_held_out_metrics(t, keys, m), err);
    }
    LW_TRY(lw_comm_agree(t->job->comm, status, err));
    if (is_best(t)) {
        t->last_saved = -1; // the same step has to be written again, with the loss
        return lw_trainer_save(t, true, err);
    }
    return LW_OK;
}

// Checkpoints are written periodically, at a new lowest held-out loss, at the end, and at a signal.
static lw_status save_when_due(lw_trainer *t, lw_interval *in, double now_s, lw_error *err)
{
    const lw_config *c = t->job->config;
    bool last = t->state.step == t->schedule.total_steps;
    // While steps are being skipped the parameters may be at fault, so the checkpoint from before stays the newest.
    bool sound = t->state.skipped_in_row == 0 || last;
    bool best = sound && is_best(t);
    bool stops = t->signal != LW_SIGNAL_NONE;
    if (stops || best || (sound && due(t->state.step, c->checkpoint.every_steps, t->schedule.total_steps))) {
        LW_TRY(lw_trainer_save(t, last || stops, err));
        in->start_s += lw_now_s() - now_s; // the time of a checkpoint does not count as time of the steps
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
    lw_trainer_show_progress(t, in, now_s);
    if (evaluates || due(t->state.step, c->log.every_steps, t->schedule.total_steps)) {
        LW_TRY(look_at_latents(t, err));
        if (evaluates && t->signal == LW_SIGNAL_NONE) {
            LW_TRY(evaluate(t, err));
        }
        if (job->rank == 0) {
            lw_trainer_write_row(t, in, now_s);
        }
        *in = (lw_interval){.start_s = now_s + t->evaluated_s - evaluated_s};
        now_s = in->start_s;
    }
    return save_when_due(t, in, now_s, err);
}

lw_status lw_trainer_run(lw_trainer *t, lw_eval *eval, lw_error *err)
{
    lw_job *job = t->job;
    lw_decoder *decoders[LW_MAX_MODELS];
    lw_job_decoders(job, decoders);
    t->eval = eval;
    lw_status status = eval != NULL ? lw_eval_start(job, eval, err) : LW_OK;
    if (status == LW_OK) {
        status = lw_step_start(&t->step, &job->wire, decoders, err);
    }
    if (status == LW_OK) {
        lw_gemm largest = lw_step_largest_product(&t->step);
        status = lw_product_rate(job->dev, &largest, err, &t->gemm_flop_per_s);
    }
    status = lw_comm_agree(job->comm, lw_signal_check(status), err);
    if (status == LW_OK && t->state.step == 0 && job->config->adapter.start == LW_ADAPTER_EMBEDDINGS) {
        lw_trainer_enter(t);
        status = lw_adapter_fit(job, &t->step, t->spec.config, &job->train[t->stage], err);
    }
    LW_TRY(lw_job_stopped(job, status, "before the first step", err)); // there is nothing new to save
    t->saves.last_request_s = lw_now_s();
    LW_TRY(make_up_evaluation(t, err));
    lw_interval interval = {.start_s = lw_now_s()};
    double last_s = interval.start_s;
    while (t->state.step < t->schedule.total_steps && t->signal == LW_SIGNAL_NONE) {
        int64_t samples = t->state.samples;
        int64_t rows = 0;
        status = lw_trainer_step(t, err, &rows);
        double now_s = lw_now_s();
        t->state.train_s += now_s - last_s;
        last_s = now_s;
        interval.steps++;
        interval.samples += t->state.samples - samples;
        interval.rows += rows;
        interval.flop += t->flop_per_sample[t->stage] * (double)(t->state.samples - samples);
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
           lw_signal_name(t->signal), (long long)t->state.step, (long long)t->schedule.total_steps);
    err->text[0] = '\0'; // the message is in the log already
    return lw_signal_to_status(t->signal);
}
