// gates.c: runs the gates in turn; their results as JSON and as a table.
#include "eval/gates.h"

#include <stdio.h>

#include "data/sample.h"
#include "eval/gates_internal.h"
#include "io/json.h"

static const struct gate_words {
    const char *key, *meaning;
} words[] = {
#define LW_GATE_WORDS(name, key, meaning) [name] = {key, meaning},
    LW_GATES(LW_GATE_WORDS)
#undef LW_GATE_WORDS
};

// The gates before the last one are about the LLMs of a rank: the worst result of those that have other LLMs counts.
static lw_status take_worst(lw_job *job, lw_error *err, lw_gates *g)
{
    lw_gates all[LW_MAX_MODELS];
    if (job->models == NULL) {
        return LW_OK;
    }
    LW_TRY(lw_comm_all_gather(job->models, g, sizeof *g, err, all));
    for (int i = 0; i < LW_GATE_COUNT; i++) {
        for (int m = 0; m < job->grid.model; m++) {
            const lw_gate_result *one = &all[m].gate[i];
            bool worse = g->gate[i].passed != one->passed ? !one->passed : one->value > g->gate[i].value;
            g->gate[i] = worse ? *one : g->gate[i];
        }
    }
    return LW_OK;
}

lw_status lw_gates_run(lw_job *job, lw_eval *eval, lw_error *err, lw_gates *out)
{
    lw_gates g = {0};
    if (job->eval.samples[0].task != LW_TASK_ANSWER || lw_job_answers(job)->samples[0].task != LW_TASK_ANSWER) {
        lw_status refused = lw_fail(err, LW_ERR_UNSUPPORTED,
                                    "the gates need questions and answers, and data.format is "
                                    "\"text\": give them the data of question answering");
        return lw_comm_agree(job->comm, refused, err);
    }
    lw_status status = lw_gate_llms(job, err, &g.gate[LW_GATE_SOFT_TOKENS], &g.gate[LW_GATE_LABELS]);
    if (status == LW_OK) {
        status = lw_gate_packing(job, eval, err, &g.gate[LW_GATE_PACKING]);
    }
    if (status == LW_OK) {
        status = lw_gate_training(job, eval, err, &g.gate[LW_GATE_TRAINING]);
    }
    if (status == LW_OK) {
        status = lw_gate_latents(job, eval, err, &g.gate[LW_GATE_LATENTS]);
    }
    status = lw_comm_agree(job->comm, lw_signal_check(status), err);
    LW_TRY(lw_job_stopped(job, status, "during the gates", err));
    LW_TRY(take_worst(job, err, &g));
    LW_TRY(lw_gate_overfit(job, err, &g.gate[LW_GATE_OVERFIT]));
    for (int i = 0; i < LW_GATE_COUNT; i++) {
        g.failed += !g.gate[i].passed && !g.gate[i].skipped;
        g.skipped += g.gate[i].skipped;
    }
    *out = g;
    return LW_OK;
}

json_t *lw_gates_json(const lw_gates *gates)
{
    json_t *o = json_object();
    json_t *all = json_object();
    for (int i = 0; i < LW_GATE_COUNT; i++) {
        const lw_gate_result *g = &gates->gate[i];
        json_t *one = json_object();
        json_object_set_new(one, "passed", g->skipped ? json_null() : json_boolean(g->passed));
        lw_json_put_f64(one, "value", g->value);
        lw_json_put_f64(one, "limit", g->limit);
        lw_json_put_text(one, "text", g->text);
        json_object_set_new(all, words[i].key, one);
    }
    json_object_set_new(o, "passed", json_boolean(gates->failed == 0));
    lw_json_put_i64(o, "skipped", gates->skipped);
    json_object_set_new(o, "gates", all);
    return o;
}

void lw_gates_print(const lw_gates *gates, FILE *file)
{
    for (int i = 0; i < LW_GATE_COUNT; i++) {
        const lw_gate_result *g = &gates->gate[i];
        const char *verdict = g->skipped ? "skipped" : g->passed ? "passed" : "FAILED";
        fprintf(file, "%-7s %-14s %s\n%22s %s\n", verdict, words[i].key, words[i].meaning, "", g->text);
    }
}
