// cmd_eval.c: `lwmpi eval`: the figures of a checkpoint.
#include <stdio.h>
#include <stdlib.h>

#include "cli/command.h"
#include "cli/config_words.h"
#include "cli/options.h"
#include "eval/against.h"
#include "eval/gates.h"
#include "run/checkpoint.h"

// Which checkpoint; before anything is opened or written for it. Rank 0 looks, all ranks agree.
static lw_status resolve(const lw_job *job, const char *checkpoint, lw_error *err, char **out)
{
    lw_status status = LW_OK;
    if (lw_comm_rank(job->comm) == 0) {
        status = lw_checkpoint_resolve(checkpoint != NULL ? checkpoint : job->config->run.dir, lw_print_warning, NULL,
                                       err, out);
    }
    return lw_comm_agree(job->comm, status, err);
}

// On rank 0.
static lw_status read_parameters(lw_job *job, const char *path, const lw_flat_state *state, lw_error *err)
{
    lw_checkpoint_info now = {0};
    lw_checkpoint_info found;
    lw_job_checkpoint_models(job, &now);
    LW_TRY(lw_checkpoint_load(path, state, err, &found));
    return lw_checkpoint_same_use(path, &found, job->config, &now, lw_print_warning, err);
}

static lw_status load(lw_job *job, const char *path, lw_error *err)
{
    lw_params *p = &job->wire.params;
    lw_flat_view *views = NULL;
    float *host = calloc((size_t)p->elements, sizeof *host);
    lw_status status = LW_OK;
    if (host == NULL) {
        status = lw_fail(err, LW_ERR_MEMORY, "no memory for the parameters");
    }
    if (status == LW_OK) {
        status = lw_params_views(&job->wire.params, err, &views);
    }
    if (status == LW_OK && job->rank == 0) {
        lw_flat_state state = {.views = views,
                               .view_count = p->count,
                               .elements = p->elements,
                               .param = host,
                               .beat = lw_comm_beat(job->comm)};
        status = read_parameters(job, path, &state, err);
    }
    LW_TRY_GOTO(lw_comm_agree(job->comm, status, err));
    LW_TRY_GOTO(lw_comm_broadcast(job->comm, 0, host, p->elements * (int64_t)sizeof(float), err));
    job->dev->ops->upload(job->dev, host, (size_t)p->elements * sizeof(float), p->param);
    LW_TRY_GOTO(job->dev->ops->sync(job->dev, err));
done:
    free(views);
    free(host);
    return status;
}

// What is asked for beside the configuration.
typedef struct wishes {
    const char *checkpoint, *predictions, *against; // NULL where not given
    bool gates, json;
} wishes;

static lw_status show(const lw_job *job, const lw_eval_result *result, const lw_against *against,
                      const char *checkpoint, const wishes *w, lw_error *err)
{
    json_t *figures = NULL;
    if (!w->json) {
        lw_eval_print(job, result, stdout);
        if (w->against != NULL) {
            lw_against_print(job, against, w->against, stdout);
        }
        return LW_OK;
    }
    LW_TRY(lw_eval_json(job, result, err, &figures));
    json_object_set_new(figures, "checkpoint", json_string(checkpoint));
    if (w->against != NULL) {
        json_object_set_new(figures, "against", lw_against_json(job, against, w->against));
    }
    json_dumpf(figures, stdout, JSON_INDENT(2));
    printf("\n");
    json_decref(figures);
    return LW_OK;
}

// On rank 0.
static lw_status report(const lw_job *job, const lw_eval *eval, const lw_eval_result *result,
                        const lw_predictions *other, const char *checkpoint, const wishes *w, lw_error *err)
{
    lw_against against;
    if (w->predictions != NULL) {
        LW_TRY(lw_eval_write_predictions(job, eval, w->predictions, err));
    }
    if (w->against != NULL) {
        LW_TRY(lw_eval_against(job, eval, other, err, &against));
    }
    return show(job, result, &against, checkpoint, w, err);
}

static lw_status open_workspace(lw_job *job, lw_error *err, lw_eval **eval, lw_arena *out)
{
    lw_arena arena = lw_arena_measure();
    LW_TRY(lw_eval_layout(&arena, job, err, eval));
    LW_TRY(lw_arena_alloc(job->dev, &arena, "work space of an evaluation", err, out));
    arena = *out;
    return lw_eval_layout(&arena, job, err, eval);
}

static lw_status evaluate(lw_job *job, const wishes *w, lw_error *err)
{
    lw_eval *eval = NULL;
    lw_arena workspace = {0};
    lw_eval_result result;
    lw_predictions *other = NULL;
    char *path = NULL;
    lw_status status = LW_OK;
    LW_TRY_GOTO(resolve(job, w->checkpoint, err, &path));
    if (w->against != NULL && lw_comm_rank(job->comm) == 0) {
        status = lw_predictions_read(w->against, err, &other);
    }
    LW_TRY_GOTO(lw_comm_agree(job->comm, status, err));
    LW_TRY_GOTO(lw_job_open(job, LW_JOB_EVAL, err));
    LW_TRY_GOTO(load(job, path, err));
    status = open_workspace(job, err, &eval, &workspace);
    if (status == LW_OK && other != NULL) { // before hours of work that could not be compared
        status = lw_predictions_match(job, eval, other, err);
    }
    LW_TRY_GOTO(lw_comm_agree(job->comm, status, err));
    LW_TRY_GOTO(lw_eval_run(job, eval, err, &result));
    if (job->rank == 0) {
        status = report(job, eval, &result, other, path, w, err);
    }
    status = lw_comm_agree(job->comm, status, err);
done:
    free(path);
    lw_predictions_free(&other);
    lw_eval_destroy(&eval);
    if (job->dev != NULL) {
        lw_arena_free(job->dev, &workspace);
    }
    return status;
}

// --- gates

// What gates need of the data, and no more.
static void shorten(lw_config *c)
{
    c->data.samples = LW_GATE_ITEMS;
    for (int64_t i = 0; i < c->phase_count; i++) {
        c->phases[i].view->data.samples = LW_GATE_ITEMS;
    }
    if (c->data.eval_samples == 0 || c->data.eval_samples > LW_GATE_SAMPLES) {
        c->data.eval_samples = LW_GATE_SAMPLES;
    }
    c->eval.quantise = c->eval.curve = c->eval.joint = false;
    c->eval.bootstrap = 0;
}

// Gates may be looked at before anything is trained: without a checkpoint in the run directory they see initial
// parameters. One that is asked for by name has to be there.
static lw_status load_newest(lw_job *job, const wishes *w, lw_error *err, char **path)
{
    lw_error missing;
    bool found = true;
    if (w->checkpoint == NULL && job->rank == 0) {
        found = lw_checkpoint_resolve(job->config->run.dir, lw_print_warning, NULL, &missing, path) == LW_OK;
        if (!found) {
            fprintf(stderr, "lwmpi: no checkpoint in %s: the gates look at initial parameters\n", job->config->run.dir);
        }
    }
    LW_TRY(lw_comm_broadcast(job->comm, 0, &found, sizeof found, err));
    if (w->checkpoint != NULL) {
        LW_TRY(resolve(job, w->checkpoint, err, path));
    }
    return found ? load(job, *path, err) : LW_OK;
}

static lw_status report_gates(const lw_gates *gates, bool json, lw_error *err)
{
    if (json) {
        json_t *o = lw_gates_json(gates);
        json_dumpf(o, stdout, JSON_INDENT(2));
        printf("\n");
        json_decref(o);
    } else {
        lw_gates_print(gates, stdout);
    }
    if (gates->failed > 0) {
        return lw_fail(err, LW_ERR_MISMATCH, "%d of %d gates failed: no figure of this configuration counts",
                       gates->failed, LW_GATE_COUNT);
    }
    return LW_OK;
}

static lw_status check_gates(lw_job *job, const wishes *w, lw_error *err)
{
    lw_eval *eval = NULL;
    lw_arena workspace = {0};
    lw_gates gates;
    char *path = NULL;
    lw_status status = LW_OK;
    shorten(job->config);
    LW_TRY_GOTO(lw_job_open(job, LW_JOB_EVAL | LW_JOB_TRAIN, err));
    LW_TRY_GOTO(load_newest(job, w, err, &path));
    LW_TRY_GOTO(lw_comm_agree(job->comm, open_workspace(job, err, &eval, &workspace), err));
    LW_TRY_GOTO(lw_gates_run(job, eval, err, &gates));
    status = lw_comm_agree(job->comm, job->rank == 0 ? report_gates(&gates, w->json, err) : LW_OK, err);
done:
    free(path);
    lw_eval_destroy(&eval);
    if (job->dev != NULL) {
        lw_arena_free(job->dev, &workspace);
    }
    return status;
}

lw_status lw_cmd_eval(int argc, char **argv, lw_error *err)
{
    wishes w = {0};
    int count;
    const lw_option options[] = {{"checkpoint", &w.checkpoint, NULL},
                                 {"predictions", &w.predictions, NULL},
                                 {"against", &w.against, NULL},
                                 {"gates", NULL, &w.gates},
                                 {"json", NULL, &w.json},
                                 {NULL, NULL, NULL}};
    lw_job job = {0};
    lw_comm *comm = NULL;
    lw_status status = LW_OK;
    LW_TRY(lw_options_parse(options, argc, argv, err, &count));
    LW_TRY(lw_signals_install(err));
    LW_TRY(lw_comm_create(&(lw_comm_options){.timeout_s = LW_START_TIMEOUT_S}, err, &comm));
    job.comm = comm;
    LW_TRY_GOTO(lw_comm_agree(comm, lw_config_from_words(count, argv + 1, err, &job.config), err));
    if (w.gates && (w.predictions != NULL || w.against != NULL)) {
        status = lw_fail(err, LW_ERR_USAGE, "--gates evaluates nothing: it goes without --predictions and --against");
    }
    LW_TRY_GOTO(lw_comm_agree(comm, status, err));
    status = w.gates ? check_gates(&job, &w, err) : evaluate(&job, &w, err);
done:
    lw_job_close(&job);
    lw_comm_destroy(&comm);
    return status;
}
