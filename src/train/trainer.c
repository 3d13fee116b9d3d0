// trainer.c: what a trainer owns: its schedule, buffers and teachers, made and freed.
#include <math.h>
#include <stdlib.h>

#include "cost/flops.h"
#include "train/trainer_internal.h"

static lw_status make_schedule(const lw_job *job, lw_error *err, lw_run_schedule *out)
{
    int64_t samples[LW_MAX_PHASES];
    for (int64_t i = 0; i < job->phase_count; i++) {
        samples[i] = job->train[i].count;
    }
    return lw_run_schedule_make(job->config, samples, job->grid.data, err, out);
}

// The limits are the most that a pass of any stage needs.
static lw_status make_limits(lw_trainer *t, lw_error *err)
{
    for (int64_t i = 0; i < t->schedule.count; i++) {
        const lw_corpus *c = &t->job->train[i];
        const lw_config *config = t->schedule.stages[i].config;
        int64_t micro = t->schedule.micro;
        lw_step_limits limits;
        LW_TRY(lw_step_limits_of(config, c->samples, c->view_count, micro,
                                 lw_schedule_occurrences(c->count, micro, config->train.epochs), err, &limits));
        lw_step_limits_join(&t->step.limits, &limits);
    }
    return LW_OK;
}

static lw_status make_teachers(lw_trainer *t, lw_error *err)
{
    for (int64_t i = 0; i < t->schedule.count; i++) {
        const lw_config *c = t->schedule.stages[i].config;
        const lw_corpus *data = &t->job->train[i];
        if (lw_teacher_wanted(c)) {
            LW_TRY(lw_teacher_create(t->job, c, data->samples, data->count, err, &t->teachers[i]));
        }
    }
    return LW_OK;
}

static lw_status make(lw_trainer *t, lw_error *err)
{
    lw_job *job = t->job;
    LW_TRY(make_schedule(job, err, &t->schedule));
    LW_TRY(lw_job_checkpoint_info(job, err, &t->state));
    t->state.eval_nll = NAN;
    LW_TRY(make_limits(t, err));
    t->micro_batch = calloc((size_t)t->schedule.micro, sizeof *t->micro_batch);
    t->positions = calloc((size_t)t->schedule.micro, sizeof *t->positions);
    t->host = calloc((size_t)job->wire.params.elements, 3 * sizeof *t->host);
    LW_TRY(lw_params_views(&job->wire.params, err, &t->views));
    const lw_stage *first = &t->schedule.stages[0];
    int64_t warmup = (int64_t)(first->config->train.warmup * (double)first->schedule.total_steps);
    LW_TRY(lw_collapse_create(job, t->schedule.micro, warmup, err, &t->collapse));
    if (t->micro_batch == NULL || t->positions == NULL || t->host == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the trainer's tables");
    }
    LW_TRY(lw_trainer_open_disk(t, err));
    return make_teachers(t, err);
}

lw_status lw_trainer_create(lw_job *job, lw_error *err, lw_trainer **out)
{
    lw_trainer *t = calloc(1, sizeof *t);
    if (t == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for a trainer");
    }
    *t = (lw_trainer){.job = job, .stage = -1, .last_saved = -1, .mean_loss = NAN, .best_nll = INFINITY};
    for (int64_t j = 0; j < LW_MAX_MODELS; j++) {
        t->loss[j] = NAN; // no step yet
    }
    lw_status status = make(t, err);
    if (status != LW_OK) {
        lw_trainer_destroy(&t);
        return status;
    }
    *out = t;
    return LW_OK;
}

lw_status lw_trainer_layout(lw_arena *arena, lw_trainer *t, lw_error *err)
{
    const lw_hf_config *configs[LW_MAX_MODELS];
    lw_step_limits limits = t->step.limits;
    lw_job_configs(t->job, configs);
    for (int64_t i = 0; i < t->schedule.count; i++) {
        lw_sample_shape shape = lw_corpus_shape(t->schedule.stages[i].config, &t->job->train[i]);
        t->flop_per_sample[i] = lw_step_flop(&t->job->wire, configs, &shape);
    }
    for (int64_t i = 0; i < t->schedule.count; i++) { // the teachers run before the first step, in the memory of a step
        lw_arena_mark mark = lw_arena_save(arena);
        if (t->teachers[i] != NULL) {
            LW_TRY(lw_teacher_buffers_layout(arena, t->teachers[i], err));
        }
        lw_arena_rewind(arena, mark);
    }
    lw_job_own_configs(t->job, configs);
    return lw_step_layout(arena, t->job->dev, &t->job->wire, configs, &limits, err, &t->step);
}

lw_status lw_trainer_teach(lw_trainer *t, lw_error *err)
{
    for (int64_t i = 0; i < t->schedule.count; i++) {
        if (t->teachers[i] != NULL) {
            LW_TRY(lw_teacher_run(t->teachers[i], err));
        }
    }
    return LW_OK;
}

void lw_trainer_destroy(lw_trainer **trainer)
{
    lw_trainer *t = *trainer;
    if (t == NULL) {
        return;
    }
    lw_checkpoint_writer_destroy(&t->writer); // first: it finishes what it has begun, and reads the buffers until then
    lw_step_free(&t->step);
    lw_collapse_free(&t->collapse);
    for (int64_t i = 0; i < LW_MAX_PHASES; i++) {
        lw_teacher_destroy(&t->teachers[i]);
    }
    free(t->micro_batch);
    free(t->positions);
    free(t->host);
    free(t->views);
    free(t);
    *trainer = NULL;
}

// --- queries

const lw_checkpoint_info *lw_trainer_state(const lw_trainer *t)
{
    return &t->state;
}

const lw_run_schedule *lw_trainer_schedule(const lw_trainer *t)
{
    return &t->schedule;
}

const lw_stage *lw_trainer_stage(const lw_trainer *t, int64_t step)
{
    return &t->schedule.stages[lw_run_schedule_stage(&t->schedule, step)];
}

void lw_trainer_check_result(lw_trainer *t, const lw_eval_result *result)
{
    lw_collapse_check_result(&t->collapse, result);
}

static bool add_teachers(const lw_trainer *t, lw_teacher_figures *out)
{
    bool any = false;
    for (int64_t i = 0; i < t->schedule.count; i++) {
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

lw_trainer_figures lw_trainer_figures_of(const lw_trainer *t)
{
    const lw_saves *s = &t->saves;
    lw_trainer_figures f = {.mean_loss = t->mean_loss,
                            .checkpoints = s->count,
                            .checkpoint_write_s = s->write_s,
                            .checkpoint_stall_s = s->stall_s,
                            .checkpoint_stall_share = s->between_s > 0.0 ? s->stall_s / s->between_s : 0.0};
    for (int64_t j = 0; j < LW_MAX_MODELS; j++) {
        f.loss[j] = t->loss[j];
    }
    f.distils = add_teachers(t, &f.teacher);
    return f;
}
