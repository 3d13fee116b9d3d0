// cmd_train.c: `lwmpi train`: open a run, train, evaluate, sum up.
#include <stdio.h>
#include <stdlib.h>

#include "clock.h"
#include "command.h"
#include "config_words.h"
#include "eval.h"
#include "file_util.h"
#include "forecast.h"
#include "rank_choice.h"
#include "trainer.h"
#include "version.h"

// A run directory that holds a checkpoint may be continued only with the configuration that began it.
static lw_status check_continues(const lw_job *job, lw_error *err)
{
    const lw_config *c = job->config;
    lw_config *before = NULL;
    char *file = NULL;
    char *differences = NULL;
    char *checkpoints = NULL;
    lw_error ignored;
    lw_status status = LW_OK;
    LW_TRY_GOTO(lw_path_join(c->run.dir, "config.cfg", err, &file));
    if (!lw_path_is_file(file) ||
        lw_checkpoint_resolve(c->run.dir, lw_log_warning, NULL, &ignored, &checkpoints) != LW_OK) {
        goto done; // nothing to continue
    }
    LW_TRY_GOTO(lw_config_load(file, 0, NULL, err, &before));
    LW_TRY_GOTO(lw_config_differences(before, c, err, &differences));
    if (differences[0] != '\0') {
        status = lw_fail(err, LW_ERR_CONFIG,
                         "%s holds a run of another configuration:\n%sset these back to continue it, or give another "
                         "run.dir",
                         c->run.dir, differences);
    }
done:
    free(checkpoints);
    free(differences);
    free(file);
    lw_config_destroy(&before);
    return status;
}

static lw_status open_run(lw_job *job, lw_error *err)
{
    char *text = NULL;
    LW_TRY(lw_progress_create(NULL, err, &job->progress));
    LW_TRY(lw_run_dir_open(job->config->run.dir, job->progress, err, &job->run));
    LW_TRY(check_continues(job, err));
    LW_TRY(lw_config_text(job->config, err, &text));
    lw_status status = lw_run_dir_write_config(job->run, text, err);
    free(text);
    return status;
}

// All device memory beside weights and parameters: a training step and an evaluation take turns in it.
static lw_status open_workspace(lw_job *job, lw_trainer *t, lw_eval **eval, lw_error *err, lw_arena *out)
{
    lw_arena arena = lw_arena_measure();
    lw_arena_mark start = lw_arena_save(&arena);
    LW_TRY(lw_trainer_layout(&arena, t, err));
    if (job->eval.count > 0) {
        lw_arena_rewind(&arena, start);
        LW_TRY(lw_eval_layout(&arena, job, err, eval));
    }
    size_t predicted = job->frozen_bytes + job->wire_memory.size_bytes + arena.high_water_bytes;
    lw_log(job->run, "predicted device memory per rank: %.1f MiB (frozen weights %.1f, trainables and optimizer %.1f, "
                     "activations %.1f)",
           (double)predicted / 1048576.0, (double)job->frozen_bytes / 1048576.0,
           (double)job->wire_memory.size_bytes / 1048576.0, (double)arena.high_water_bytes / 1048576.0);
    LW_TRY(lw_arena_alloc(job->dev, &arena, "work space of a step", err, out));
    lw_log(job->run, "allocated device memory per rank: %.1f MiB", (double)job->dev->allocated_bytes / 1048576.0);
    arena = *out;
    LW_TRY(lw_trainer_layout(&arena, t, err));
    if (job->eval.count > 0) {
        lw_arena_rewind(&arena, start);
        LW_TRY(lw_eval_layout(&arena, job, err, eval));
    }
    return LW_OK;
}

static json_t *summary_json(const lw_job *job, const lw_trainer *t, const lw_forecast *forecast,
                            const lw_eval_result *evaluation, double wall_s)
{
    json_t *o = json_object();
    json_object_set_new(o, "lwmpi", json_string(lw_version()));
    json_object_set_new(o, "commit", json_string(lw_commit()));
    json_object_set_new(o, "config", json_string(job->config->path));
    json_object_set_new(o, "device", json_string(job->dev->description));
    json_object_set_new(o, "ranks", json_integer(job->ranks));
    json_object_set_new(o, "steps", json_integer(t->state.step));
    json_object_set_new(o, "skipped", json_integer(t->state.skipped));
    json_object_set_new(o, "samples", json_integer(t->state.samples));
    json_object_set_new(o, "train_s", lw_json_number(t->state.train_s));
    json_object_set_new(o, "wall_s", lw_json_number(wall_s));
    json_object_set_new(o, "samples_per_s", lw_json_number((double)t->state.samples / t->state.train_s));
    json_object_set_new(o, "device_bytes", json_integer((json_int_t)job->dev->peak_bytes));
    json_object_set_new(o, "loss", lw_json_number(t->mean_loss));
    for (int64_t j = 0; j < job->llm_count; j++) {
        char key[80];
        snprintf(key, sizeof key, "loss_%s", job->llms[j].name);
        json_object_set_new(o, key, lw_json_number(t->loss[j]));
    }
    lw_forecast_summary(forecast, t, o);
    if (evaluation != NULL) {
        for (int64_t j = 0; j < job->llm_count; j++) {
            for (int mode = 0; mode < LW_EVAL_MODE_COUNT; mode++) {
                char key[96];
                snprintf(key, sizeof key, "f1_%s_%s", lw_eval_mode_key((lw_eval_mode)mode), job->llms[j].name);
                json_object_set_new(o, key, lw_json_number(lw_eval_f1(evaluation, j, (lw_eval_mode)mode)));
            }
        }
    }
    return o;
}

static lw_status write_results(lw_job *job, const lw_trainer *t, lw_forecast *forecast,
                               const lw_eval_result *evaluation, double start_s, lw_error *err)
{
    lw_forecast_leave_record(forecast, t);
    if (evaluation != NULL) {
        json_t *json = NULL;
        LW_TRY(lw_eval_json(job, evaluation, err, &json));
        lw_status status = lw_run_dir_write_json(job->run, "eval.json", json, err);
        json_decref(json);
        LW_TRY(status);
        lw_eval_print(job, evaluation, NULL);
    }
    json_t *summary = summary_json(job, t, forecast, evaluation, lw_now_s() - start_s);
    lw_status status = lw_run_dir_write_json(job->run, "summary.json", summary, err);
    json_decref(summary);
    lw_log(job->run, "done: %lld steps, %lld samples, %.1f s of training at %.1f samples/s; results in %s",
           (long long)t->state.step, (long long)t->state.samples, t->state.train_s,
           (double)t->state.samples / t->state.train_s, lw_run_dir_path(job->run));
    return status;
}

// Whether a run that is at its last step has its results already. Collective.
static lw_status is_finished(lw_job *job, const lw_trainer *t, lw_error *err, bool *out)
{
    char *summary = NULL;
    bool finished = false;
    lw_status status = LW_OK;
    if (job->rank == 0 && t->state.step >= t->schedule.total_steps) {
        status = lw_path_join(job->config->run.dir, "summary.json", err, &summary);
        finished = status == LW_OK && lw_path_is_file(summary);
        free(summary);
    }
    LW_TRY(lw_comm_agree(job->comm, status, err));
    LW_TRY(lw_comm_broadcast(job->comm, 0, &finished, sizeof finished, err));
    if (finished) {
        lw_log(job->run, "nothing to do: all %lld steps are done and the results are in %s; give another run.dir to "
                         "start anew",
               (long long)t->state.step, job->config->run.dir);
    }
    *out = finished;
    return LW_OK;
}

static lw_status train(lw_job *job, double start_s, lw_error *err)
{
    lw_trainer trainer = {0};
    lw_eval *eval = NULL;
    lw_arena workspace = {0};
    lw_eval_result evaluation;
    lw_forecast forecast = {0};
    const lw_config *c = job->config;
    bool evaluates = c->eval.at_end && c->data.eval[0] != '\0';
    lw_status status = LW_OK;
    LW_TRY_GOTO(lw_job_open(job, LW_JOB_TRAIN | (evaluates ? LW_JOB_EVAL : 0), err));
    LW_TRY_GOTO(lw_job_describe(job, err));
    LW_TRY_GOTO(lw_comm_agree(job->comm, lw_trainer_create(job, err, &trainer), err));
    LW_TRY_GOTO(lw_comm_agree(job->comm, open_workspace(job, &trainer, &eval, err, &workspace), err));
    LW_TRY_GOTO(lw_trainer_resume(&trainer, err));
    bool finished;
    LW_TRY_GOTO(is_finished(job, &trainer, err, &finished));
    if (finished) {
        goto done;
    }
    if (job->rank == 0) {
        size_t bytes = job->frozen_bytes + job->wire_memory.size_bytes + workspace.size_bytes;
        status = lw_forecast_make(&trainer, bytes, err, &forecast);
    }
    LW_TRY_GOTO(lw_comm_agree(job->comm, status, err));
    LW_TRY_GOTO(lw_trainer_run(&trainer, err));
    if (evaluates) {
        LW_TRY_GOTO(lw_eval_run(job, eval, err, &evaluation));
    }
    if (job->rank == 0) {
        status = write_results(job, &trainer, &forecast, evaluates ? &evaluation : NULL, start_s, err);
    }
    status = lw_comm_agree(job->comm, status, err);
done:
    lw_eval_destroy(&eval);
    if (job->dev != NULL) {
        lw_arena_free(job->dev, &workspace);
    }
    lw_trainer_free(&trainer);
    return status;
}

// What all ranks do before it is known which of them train. Collective.
static lw_status prepare(lw_job *job, lw_comm *world, lw_error *err)
{
    lw_comm_set_timeout(world, job->config->comm.timeout_s);
    LW_TRY(lw_comm_agree(world, lw_signals_install(err), err));
    LW_TRY(lw_comm_agree(world, lw_comm_rank(world) == 0 ? open_run(job, err) : LW_OK, err));
    return lw_rank_choice(job, world, err);
}

lw_status lw_cmd_train(int argc, char **argv, lw_error *err)
{
    double start_s = lw_now_s();
    lw_job job = {0};
    lw_comm *world = NULL;
    lw_status status = LW_OK;
    LW_TRY(lw_comm_create(&(lw_comm_options){.timeout_s = LW_START_TIMEOUT_S}, err, &world));
    LW_TRY_GOTO(lw_comm_agree(world, lw_config_from_words(argc - 1, argv + 1, err, &job.config), err));
    LW_TRY_GOTO(prepare(&job, world, err));
    lw_comm *mine = job.comm; // NULL: this rank is not needed
    if (mine != NULL) {
        status = train(&job, start_s, err);
    }
    if (mine != world) {
        lw_comm_destroy(&mine);
        status = lw_comm_rendezvous(world, status, err);
    }
done:
    lw_run_dir_close(&job.run);
    lw_progress_destroy(&job.progress);
    lw_job_close(&job);
    lw_comm_destroy(&world);
    return status;
}
