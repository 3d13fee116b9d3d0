// cmd_train.c: `lwmpi train`: opens a run, trains, evaluates, and writes the summary.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/options.h"
#include "core/clock.h"
#include "core/numbers.h"
#include "core/version.h"
#include "eval/eval.h"
#include "io/files.h"
#include "io/json.h"
#include "plan/forecast.h"
#include "plan/rank_choice.h"
#include "run/loss_keys.h"
#include "train/trainer.h"

// A run directory that holds a checkpoint may be continued only with the configuration that began it.
static lw_status check_continues(const lw_job *job, lw_error *err)
{
    const lw_config *c = job->config;
    lw_config *before = NULL;
    char *file = NULL;
    char *differences = NULL;
    int64_t checkpoints = 0;
    lw_status status = LW_OK;
    LW_TRY_GOTO(lw_path_join(c->run.dir, "config.cfg", err, &file));
    LW_TRY_GOTO(lw_checkpoint_count(c->run.dir, err, &checkpoints));
    if (checkpoints == 0 || !lw_path_is_file(file)) {
        goto done; // nothing to continue, or nothing to compare with: the checkpoint's hash will tell
    }
    LW_TRY_GOTO(lw_config_load(file, 0, NULL, err, &before));
    LW_TRY_GOTO(lw_config_differences(before, c, err, &differences));
    if (differences[0] != '\0' && c->run.accept_changes) {
        differences[strlen(differences) - 1] = '\0'; // the last newline
        lw_log(job->run, "warning: continuing with another configuration (run.accept_changes):\n%s", differences);
    } else if (differences[0] != '\0') {
        status = lw_fail(err, LW_ERR_CONFIG,
                         "%s holds a run of another configuration; to continue it set these keys back, or give another "
                         "run.dir, or run.accept_changes=true to go on with the change",
                         c->run.dir);
        differences[strlen(differences) - 1] = '\0'; // the last newline
        lw_fail_lines(err, status, differences);
    }
done:
    free(differences);
    free(file);
    lw_config_destroy(&before);
    return status;
}

static lw_status open_run(lw_job *job, lw_error *err)
{
    LW_TRY(lw_progress_create(NULL, err, &job->progress));
    LW_TRY(lw_run_dir_open(job->config->run.dir, job->progress, err, &job->run));
    return check_continues(job, err);
}

// config.cfg says what the steps in this directory were made with, so a start that fails before its first step leaves
// the earlier file as it was.
static lw_status write_config(lw_job *job, lw_error *err)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *stream = open_memstream(&text, &bytes);
    if (stream == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory to write the configuration");
    }
    job->config->run.accept_changes = false; // it was for this start
    lw_status status = lw_config_write(job->config, stream, err);
    if (fclose(stream) != 0 && status == LW_OK) {
        status = lw_fail(err, LW_ERR_MEMORY, "no memory to write the configuration");
    }
    if (status == LW_OK) {
        status = lw_run_dir_write_config(job->run, text, err);
    }
    free(text);
    return status;
}

typedef struct workspace_place {
    lw_job *job;
    lw_trainer *trainer;
    lw_eval **eval;
} workspace_place;

static void log_prediction(const lw_job *job, size_t workspace_bytes)
{
    size_t predicted = job->frozen_bytes + job->wire_memory.size_bytes + workspace_bytes;
    lw_log(job->run,
           "predicted device memory per rank: %.1f MiB (frozen weights %.1f, trainables and optimizer %.1f, "
           "activations %.1f)",
           (double)predicted / LW_MIB, (double)job->frozen_bytes / LW_MIB, (double)job->wire_memory.size_bytes / LW_MIB,
           (double)workspace_bytes / LW_MIB);
}

// Training steps and evaluations use the memory in turn.
static lw_status layout(void *context, lw_arena *arena, lw_error *err)
{
    const workspace_place *p = context;
    lw_arena_mark start = lw_arena_save(arena);
    LW_TRY(lw_trainer_layout(arena, p->trainer, err));
    if (p->job->eval.count > 0) {
        lw_arena_rewind(arena, start);
        LW_TRY(lw_eval_layout(arena, p->job, err, p->eval));
    }
    if (arena->base == NULL) { // measured: the log says what was asked for before an allocation that may fail
        log_prediction(p->job, arena->high_water_bytes);
    }
    return LW_OK;
}

// Allocates all device memory besides weights and parameters.
static lw_status open_workspace(lw_job *job, lw_trainer *t, lw_eval **eval, lw_error *err, lw_arena *out)
{
    workspace_place p = {.job = job, .trainer = t, .eval = eval};
    LW_TRY(lw_arena_place(job->dev, "work space of a step", layout, &p, err, out));
    lw_log(job->run, "allocated device memory per rank: %.1f MiB", (double)job->dev->allocated_bytes / LW_MIB);
    return LW_OK;
}

static json_t *summary_json(const lw_job *job, const lw_trainer *t, const lw_forecast *forecast,
                            const lw_eval_result *evaluation, double wall_s)
{
    const lw_checkpoint_info *state = lw_trainer_state(t);
    lw_trainer_figures f = lw_trainer_figures_of(t);
    json_t *o = json_object();
    lw_json_put_text(o, "lwmpi", lw_version());
    lw_json_put_text(o, "commit", lw_commit());
    lw_json_put_text(o, "config", job->config->path);
    lw_json_put_text(o, "device", job->dev->description);
    lw_json_put_i64(o, "ranks", job->ranks);
    lw_json_put_i64(o, "steps", state->step);
    lw_json_put_i64(o, "skipped", state->skipped);
    lw_json_put_i64(o, "samples", state->samples);
    lw_json_put_f64(o, "train_s", state->train_s);
    lw_json_put_f64(o, "wall_s", wall_s);
    lw_json_put_f64(o, "samples_per_s", (double)state->samples / state->train_s);
    lw_json_put_i64(o, "device_bytes", (int64_t)job->dev->peak_bytes);
    lw_json_put_f64(o, lw_loss_key(LW_LOSS_TRAINING), f.mean_loss);
    for (int64_t j = 0; j < job->llm_count; j++) {
        char key[LW_LOSS_KEY_BYTES];
        lw_json_put_f64(o, lw_loss_key_of_model(LW_LOSS_TRAINING, job->llms[j].name, key), f.loss[j]);
    }
    lw_json_put_i64(o, "checkpoints", f.checkpoints);
    lw_json_put_f64(o, "checkpoint_write_s", f.checkpoint_write_s);
    lw_json_put_f64(o, "checkpoint_stall_s", f.checkpoint_stall_s);
    lw_json_put_f64(o, "checkpoint_stall_share", f.checkpoint_stall_share);
    if (f.distils) {
        json_object_set_new(o, "teacher",
                            json_pack("{s:I, s:I, s:I, s:f, s:f}", "samples", (json_int_t)f.teacher.samples,
                                      "samples_made", (json_int_t)f.teacher.made, "file_bytes",
                                      (json_int_t)f.teacher.file_bytes, "check_s", f.teacher.check_s, "made_s",
                                      f.teacher.made_s));
    }
    lw_forecast_summary(forecast, state, o);
    if (evaluation != NULL) {
        lw_json_put_f64(o, "gain_over_shuffled", evaluation->mean_gain.f1);
        for (int64_t j = 0; j < job->llm_count; j++) {
            for (int mode = 0; mode < LW_EVAL_MODE_COUNT; mode++) {
                char key[96];
                snprintf(key, sizeof key, "f1_%s_%s", lw_eval_mode_key((lw_eval_mode)mode), job->llms[j].name);
                lw_json_put_f64(o, key, lw_eval_f1(evaluation, j, (lw_eval_mode)mode));
            }
        }
    }
    return o;
}

static lw_status write_predictions(lw_job *job, const lw_eval *eval, lw_error *err)
{
    char *path = NULL;
    LW_TRY(lw_path_join(lw_run_dir_path(job->run), "predictions.jsonl", err, &path));
    lw_status status = lw_eval_write_predictions(job, eval, path, err);
    free(path);
    return status;
}

static lw_status write_results(lw_job *job, const lw_trainer *t, lw_forecast *forecast, const lw_eval *eval,
                               const lw_eval_result *evaluation, double start_s, lw_error *err)
{
    const lw_checkpoint_info *state = lw_trainer_state(t);
    lw_forecast_leave_record(forecast, state);
    if (evaluation != NULL) {
        json_t *json = NULL;
        LW_TRY(lw_eval_json(job, evaluation, err, &json));
        lw_status status = lw_run_dir_write_json(job->run, "eval.json", json, err);
        json_decref(json);
        LW_TRY(status);
        LW_TRY(write_predictions(job, eval, err));
        lw_eval_print(job, evaluation, NULL);
    }
    json_t *summary = summary_json(job, t, forecast, evaluation, lw_now_s() - start_s);
    lw_status status = lw_run_dir_write_json(job->run, "summary.json", summary, err);
    json_decref(summary);
    lw_log(job->run, "done: %lld steps, %lld samples, %.1f s of training at %.1f samples/s; results in %s",
           (long long)state->step, (long long)state->samples, state->train_s, (double)state->samples / state->train_s,
           lw_run_dir_path(job->run));
    return status;
}

// Whether summary.json is of this step: it may be of a shorter run that was extended afterwards.
static bool has_results(const char *run_dir, int64_t step)
{
    enum { SUMMARY_BYTES = 1 << 20 };
    lw_error ignored;
    char *path = NULL;
    json_t *summary = NULL;
    bool found = lw_path_join(run_dir, "summary.json", &ignored, &path) == LW_OK &&
                 lw_json_read_file(path, SUMMARY_BYTES, 0, &ignored, &summary) == LW_OK &&
                 json_integer_value(json_object_get(summary, "steps")) == (json_int_t)step;
    json_decref(summary);
    free(path);
    return found;
}

// Whether a run that is at its last step has its results already. Collective.
static lw_status is_finished(lw_job *job, const lw_trainer *t, lw_error *err, bool *out)
{
    int64_t step = lw_trainer_state(t)->step;
    bool finished =
        job->rank == 0 && step >= lw_trainer_schedule(t)->total_steps && has_results(job->config->run.dir, step);
    LW_TRY(lw_comm_broadcast(job->comm, 0, &finished, sizeof finished, err));
    if (finished) {
        lw_log(job->run,
               "nothing to do: all %lld steps are done and the results are in %s; give another run.dir to "
               "start anew",
               (long long)step, job->config->run.dir);
    }
    *out = finished;
    return LW_OK;
}

static lw_status train(lw_job *job, double start_s, lw_error *err)
{
    lw_trainer *trainer = NULL;
    lw_eval *eval = NULL;
    lw_arena workspace = {0};
    lw_eval_result evaluation;
    lw_forecast forecast = {0};
    const lw_config *c = job->config;
    lw_status status = LW_OK;
    bool evaluates = c->eval.at_end && lw_eval_in_training(c);
    LW_TRY_GOTO(lw_grid_choice(job, err));
    LW_TRY_GOTO(lw_job_open(job, LW_JOB_TRAIN | (lw_eval_in_training(c) ? LW_JOB_EVAL : 0), err));
    LW_TRY_GOTO(lw_job_describe(job, err));
    LW_TRY_GOTO(lw_comm_agree(job->comm, lw_trainer_create(job, err, &trainer), err));
    LW_TRY_GOTO(lw_comm_agree(job->comm, open_workspace(job, trainer, &eval, err, &workspace), err));
    LW_TRY_GOTO(lw_trainer_resume(trainer, err));
    bool finished;
    LW_TRY_GOTO(is_finished(job, trainer, err, &finished));
    if (finished) {
        goto done;
    }
    LW_TRY_GOTO(lw_trainer_trial(trainer, err));
    LW_TRY_GOTO(lw_trainer_teach(trainer, err));
    LW_TRY_GOTO(lw_comm_agree(job->comm, job->rank == 0 ? write_config(job, err) : LW_OK, err));
    lw_comm_doing(job->comm, "predicting time and memory");
    if (job->rank == 0) {
        size_t bytes = job->frozen_bytes + job->wire_memory.size_bytes + workspace.size_bytes;
        status = lw_forecast_make(job, lw_trainer_schedule(trainer), lw_trainer_state(trainer), bytes, err, &forecast);
    }
    LW_TRY_GOTO(lw_comm_agree(job->comm, status, err));
    LW_TRY_GOTO(lw_trainer_run(trainer, c->eval.every_steps > 0 ? eval : NULL, err));
    if (evaluates) {
        LW_TRY_GOTO(lw_eval_run(job, eval, err, &evaluation));
        lw_trainer_check_result(trainer, &evaluation);
    }
    if (job->rank == 0) {
        status = write_results(job, trainer, &forecast, eval, evaluates ? &evaluation : NULL, start_s, err);
    }
    // The work is done, but writing the results to a slow disk may take longer than the deadline of a collective.
    lw_error ignored;
    lw_comm_doing(job->comm, "end of the run");
    (void)lw_comm_rendezvous(job->comm, LW_OK, job->rank == 0, &ignored);
    status = lw_comm_agree(job->comm, status, err);
done:
    lw_eval_destroy(&eval);
    if (job->dev != NULL) {
        lw_arena_free(job->dev, &workspace);
    }
    lw_trainer_destroy(&trainer);
    return status;
}

// What all ranks do before they know which of them train. Collective.
static lw_status prepare(lw_job *job, lw_comm *world, lw_error *err)
{
    lw_comm_set_timeout(world, job->config->comm.timeout_s);
    LW_TRY(lw_comm_agree(world, lw_comm_rank(world) == 0 ? open_run(job, err) : LW_OK, err));
    return lw_rank_choice(job, world, err);
}

// A start that failed early leaves no directory that looks like a run; a failure is noted in the log.
static void end_run(lw_job *job, lw_status status)
{
    bool failed = status != LW_OK && status != LW_REQUEUE && status != LW_INTERRUPTED;
    if (job->run != NULL && failed) {
        lw_log_file(job->run, "ended: %s, exit code %d; the message is on stderr", lw_status_name(status),
                    lw_status_exit_code(status));
        lw_run_dir_abandon(&job->run);
    }
    lw_run_dir_close(&job->run);
}

static lw_status run(const lw_command *self, int argc, char **argv, lw_error *err)
{
    double start_s = lw_now_s();
    lw_job job = {0};
    lw_comm *world = NULL;
    lw_status status = LW_OK;
    int count;
    LW_TRY(lw_options_parse(self, argc, argv, err, NULL, &count)); // it has no options: "--x" is refused
    LW_TRY(lw_signals_install(err));
    LW_TRY(lw_comm_create(&(lw_comm_options){.timeout_s = LW_START_TIMEOUT_S}, err, &world));
    LW_TRY_GOTO(lw_comm_agree(world, lw_config_from_words(count, argv + 1, err, &job.config), err));
    LW_TRY_GOTO(prepare(&job, world, err));
    bool needed = job.comm != NULL;
    if (needed) {
        status = train(&job, start_s, err);
    }
    if (job.comm != world) {
        if (job.dev != NULL) {
            lw_comm_bound_device(world, job.dev);
        }
        lw_comm_destroy(&job.comm);
        status = lw_comm_rendezvous(world, status, needed, err);
    }
done:
    end_run(&job, status);
    lw_progress_destroy(&job.progress);
    lw_job_close(&job);
    lw_comm_destroy(&world);
    return status;
}

const lw_command lw_command_train = {
    .name = "train",
    .summary = "train the wire (the default command)",
    .usage = "[train] [CONFIG] [key=value ...]",
    .text = "Trains the encoder and one adapter for each frozen language model of CONFIG, evaluates them, and leaves "
            "everything in the run directory. Without CONFIG the embedded default, configs/tiny.cfg, is taken: two "
            "small models and their data, which fit any machine.\n\n"
            "Start it under mpirun or srun to use several ranks: they share each step's samples, and the result is "
            "the same at any number of ranks, to rounding. A run directory that holds a checkpoint is continued from "
            "the newest one that is whole; name another with run.dir=DIR to begin anew. A raised train.epochs or "
            "train.max_steps goes on longer; other changes of keys that influence results need "
            "run.accept_changes=true.\n\n"
            "Checkpoints are written beside the steps. A file that cannot be written is tried twice; then the run "
            "ends, and the checkpoints from before are as they were. SIGTERM, SIGUSR1 and Ctrl-C end the run at the "
            "next step, after a checkpoint; the same command continues it.",
    .exits = {{"75", "stopped by SIGTERM or SIGUSR1 after a checkpoint: start it again"},
              {"130", "interrupted (Ctrl-C) after a checkpoint"}},
    .examples = {{"mpirun -np 2 lwmpi", "the embedded default on two ranks"},
                 {"lwmpi train my.cfg train.lr=3e-4 run.dir=runs/lr3e-4", "another learning rate, another run"},
                 {"srun --mpi=pmix lwmpi my.cfg", "under Slurm"}},
    .takes_overrides = true,
    .lists_keys = true,
    .run = run,
};
