// cmd_eval.c: `lwmpi eval`: computes and prints the figures of a checkpoint, or checks the gates.
#include <stdio.h>
#include <stdlib.h>

#include "cli/options.h"
#include "eval/against.h"
#include "eval/gates.h"
#include "io/json.h"
#include "plan/rank_choice.h"
#include "run/checkpoint.h"

// Finds the checkpoint before anything is opened or written for it. Rank 0 looks, and all ranks agree. Collective.
static lw_status resolve(const lw_job *job, const char *checkpoint, lw_error *err, char **out)
{
    lw_status status = LW_OK;
    if (lw_comm_rank(job->comm) == 0) {
        status = lw_checkpoint_resolve(checkpoint != NULL ? checkpoint : job->config->run.dir, lw_print_warning, NULL,
                                       err, out);
    }
    return lw_comm_agree(job->comm, status, err);
}

// Called on rank 0 alone.
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
                               .heartbeat = lw_comm_heartbeat(job->comm)};
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

typedef struct arguments {
    const char *checkpoint, *predictions, *against; // NULL: not given
    bool gates, json;
} arguments;

static lw_status show(const lw_job *job, const lw_eval_result *result, const lw_against *against,
                      const char *checkpoint, const arguments *a, lw_error *err)
{
    json_t *figures = NULL;
    if (!a->json) {
        lw_eval_print(job, result, stdout);
        if (a->against != NULL) {
            lw_against_print(job, against, a->against, stdout);
        }
        return LW_OK;
    }
    LW_TRY(lw_eval_json(job, result, err, &figures));
    lw_json_put_text(figures, "checkpoint", checkpoint);
    if (a->against != NULL) {
        json_object_set_new(figures, "against", lw_against_json(job, against, a->against));
    }
    json_dumpf(figures, stdout, JSON_INDENT(2));
    printf("\n");
    json_decref(figures);
    return LW_OK;
}

// Called on rank 0 alone.
static lw_status report(const lw_job *job, const lw_eval *eval, const lw_eval_result *result,
                        const lw_predictions *other, const char *checkpoint, const arguments *a, lw_error *err)
{
    lw_against against;
    if (a->predictions != NULL) {
        LW_TRY(lw_eval_write_predictions(job, eval, a->predictions, err));
    }
    if (a->against != NULL) {
        LW_TRY(lw_eval_against(job, eval, other, err, &against));
    }
    return show(job, result, &against, checkpoint, a, err);
}

static lw_status evaluate(lw_job *job, const arguments *a, lw_error *err)
{
    lw_eval *eval = NULL;
    lw_arena workspace = {0};
    lw_eval_result result;
    lw_predictions *other = NULL;
    char *path = NULL;
    lw_status status = LW_OK;
    LW_TRY_GOTO(resolve(job, a->checkpoint, err, &path));
    if (a->against != NULL && lw_comm_rank(job->comm) == 0) {
        status = lw_predictions_read(a->against, err, &other);
    }
    LW_TRY_GOTO(lw_comm_agree(job->comm, status, err));
    LW_TRY_GOTO(lw_grid_choice(job, err));
    LW_TRY_GOTO(lw_job_open(job, LW_JOB_EVAL, err));
    LW_TRY_GOTO(load(job, path, err));
    status = lw_eval_place(job, err, &eval, &workspace);
    if (status == LW_OK && other != NULL) { // before hours of work that could not be compared
        status = lw_predictions_match(job, eval, other, err);
    }
    LW_TRY_GOTO(lw_comm_agree(job->comm, status, err));
    LW_TRY_GOTO(lw_eval_run(job, eval, err, &result));
    if (job->rank == 0) {
        status = report(job, eval, &result, other, path, a, err);
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

// Limits the data to what the gates need.
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

// Gates may be checked before anything is trained: without a checkpoint in the run directory they use the initial
// parameters. A checkpoint that the user names has to exist.
static lw_status load_newest(lw_job *job, const arguments *a, lw_error *err, char **path)
{
    lw_error missing;
    bool found = true;
    if (a->checkpoint == NULL && job->rank == 0) {
        found = lw_checkpoint_resolve(job->config->run.dir, lw_print_warning, NULL, &missing, path) == LW_OK;
        if (!found) {
            fprintf(stderr, "lwmpi: no checkpoint in %s: the gates look at initial parameters\n", job->config->run.dir);
        }
    }
    LW_TRY(lw_comm_broadcast(job->comm, 0, &found, sizeof found, err));
    if (a->checkpoint != NULL) {
        LW_TRY(resolve(job, a->checkpoint, err, path));
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

static lw_status check_gates(lw_job *job, const arguments *a, lw_error *err)
{
    lw_eval *eval = NULL;
    lw_arena workspace = {0};
    lw_gates gates;
    char *path = NULL;
    lw_status status = LW_OK;
    shorten(job->config);
    LW_TRY_GOTO(lw_grid_choice(job, err));
    LW_TRY_GOTO(lw_job_open(job, LW_JOB_EVAL | LW_JOB_TRAIN, err));
    LW_TRY_GOTO(load_newest(job, a, err, &path));
    LW_TRY_GOTO(lw_comm_agree(job->comm, lw_eval_place(job, err, &eval, &workspace), err));
    LW_TRY_GOTO(lw_gates_run(job, eval, err, &gates));
    status = lw_comm_agree(job->comm, job->rank == 0 ? report_gates(&gates, a->json, err) : LW_OK, err);
done:
    free(path);
    lw_eval_destroy(&eval);
    if (job->dev != NULL) {
        lw_arena_free(job->dev, &workspace);
    }
    return status;
}

static lw_status run(const lw_command *self, int argc, char **argv, lw_error *err)
{
    arguments a = {0};
    int count;
    lw_job job = {0};
    lw_comm *comm = NULL;
    lw_status status = LW_OK;
    LW_TRY(lw_options_parse(self, argc, argv, err, &a, &count));
    LW_TRY(lw_signals_install(err));
    LW_TRY(lw_comm_create(&(lw_comm_options){.timeout_s = LW_START_TIMEOUT_S}, err, &comm));
    job.comm = comm;
    LW_TRY_GOTO(lw_comm_agree(comm, lw_config_from_words(count, argv + 1, err, &job.config), err));
    if (a.gates && (a.predictions != NULL || a.against != NULL)) {
        status = lw_fail(err, LW_ERR_USAGE, "--gates evaluates nothing: it goes without --predictions and --against");
    }
    LW_TRY_GOTO(lw_comm_agree(comm, status, err));
    status = a.gates ? check_gates(&job, &a, err) : evaluate(&job, &a, err);
done:
    lw_job_close(&job);
    lw_comm_destroy(&comm);
    return status;
}

const lw_command lw_command_eval = {
    .name = "eval",
    .summary = "evaluate a checkpoint",
    .usage = "eval CONFIG [key=value ...] [--checkpoint DIR] [--predictions FILE] [--against RUN] [--json]\n"
             "      eval CONFIG [key=value ...] --gates [--checkpoint DIR] [--json]",
    .text = "Answers the questions of data.eval with every model of CONFIG and compares with the gold answers: exact "
            "match, token F1, negative log-likelihood of an answer token, accuracy of the first one. It does so for "
            "the full text prompt (text), the wire (latent) and three controls: no context at all (no_context), the "
            "latents of another sample (shuffled), and the text prompt cut to as many tokens as there are latents "
            "(truncated). Compression is given in tokens and in bytes. The headline is the gain over shuffled: "
            "without it nothing is read from the wire. Intervals are 95 % bootstrap intervals over contexts "
            "(eval.bootstrap). With several models, joint is the one of their answers that all together find "
            "likeliest (eval.joint).\n\n"
            "eval.quantise=true adds the wire in 16, 8, 6 and 4 bits a number, eval.curve=true that of fewer "
            "latents.\n\n"
            "Several ranks share the samples; the figures are the same at any number of ranks.",
    .options =
        {{"checkpoint", "DIR",
          "a checkpoint directory, RUN/latest or RUN/best; without it the newest one of run.dir that is whole",
          LW_OPTION_INTO(arguments, checkpoint)},
         {"predictions", "FILE", "write question, gold answers and every system's answer, a JSON object a sample",
          LW_OPTION_INTO(arguments, predictions)},
         {"against", "RUN",
          "compare the latent answers, sample by sample, with those in RUN/predictions.jsonl: differences with "
          "intervals, and sign-flip tests",
          LW_OPTION_INTO(arguments, against)},
         {"gates", NULL,
          "check what has to hold before any figure counts: the soft-token path answers as the text does, labels are "
          "shifted once, packing changes no loss, training and evaluation agree, latents differ, 32 items can be "
          "learned by heart (eval.gate_steps). Exit code 1 where one fails",
          LW_OPTION_INTO(arguments, gates)},
         {"json", NULL, "the figures as JSON, the only thing on stdout", LW_OPTION_INTO(arguments, json)}},
    .examples = {{"mpirun -np 2 lwmpi eval my.cfg", "the newest checkpoint of my.cfg's run directory"}},
    .takes_overrides = true,
    .lists_keys = true,
    .run = run,
};
