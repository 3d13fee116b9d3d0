// gates_llm.c: the gates of the frozen LLMs alone: the soft-token path, and which label belongs to which row.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/numbers.h"
#include "data/sample.h"
#include "eval/gates_internal.h"

enum { MOST = 8 }; // samples that are used

// A generator over the text prompts of the first samples of one LLM, with room for these prompts as soft tokens.
typedef struct llm_check {
    lw_job *job;
    int64_t j, count;
    lw_hf_config config; // without end tokens, so that what follows one is compared too
    lw_generator g;
    lw_arena memory;
    int64_t prompt_rows;
    int32_t *ids; // device: all prompts
    float *soft;  // device (prompt_rows, d)
} llm_check;

static const lw_token_sample *sample_of(const llm_check *l, int64_t i)
{
    return &l->job->eval.samples[i];
}

static lw_pass_limits limits_of(llm_check *l)
{
    lw_pass_limits limits = {.sequences = l->count};
    int64_t most_new = l->job->config->eval.max_new_tokens;
    l->prompt_rows = 0;
    for (int64_t i = 0; i < l->count; i++) {
        int64_t prompt = sample_of(l, i)->prompt[l->j].count;
        int64_t answer = sample_of(l, i)->answer[l->j].count;
        int64_t length = prompt + lw_max_i64(answer, most_new);
        l->prompt_rows += prompt;
        limits.rows += prompt + answer;
        limits.supervised += answer;
        limits.max_len = lw_max_i64(limits.max_len, length);
    }
    limits.prefix_rows = l->prompt_rows;
    return limits;
}

static lw_status layout(void *context, lw_arena *arena, lw_error *err)
{
    llm_check *l = context;
    lw_job *job = l->job;
    const lw_hf_config *config = &l->config;
    lw_pass_limits limits = limits_of(l);
    l->ids = LW_TAKE(arena, l->prompt_rows, int32_t);
    l->soft = LW_TAKE(arena, l->prompt_rows * config->d, float);
    return lw_generator_layout(arena, job->dev, config, &limits, job->config->eval.max_new_tokens, err, &l->g);
}

static void close_check(llm_check *l)
{
    lw_generator_free(&l->g);
    lw_arena_free(l->job->dev, &l->memory);
}

// Looks up the embeddings of the prompts as the model itself would.
static lw_status embed_prompts(llm_check *l, lw_error *err)
{
    int32_t *host = calloc((size_t)l->prompt_rows, sizeof *host);
    if (host == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the tokens of a gate");
    }
    int64_t at = 0;
    for (int64_t i = 0; i < l->count; i++) {
        lw_tokens prompt = sample_of(l, i)->prompt[l->j];
        memcpy(host + at, prompt.ids, (size_t)prompt.count * sizeof *host);
        at += prompt.count;
    }
    l->job->dev->ops->upload(l->job->dev, host, (size_t)l->prompt_rows * sizeof *host, l->ids);
    free(host);
    lw_decoder_embed(l->job->llms[l->j].decoder, l->prompt_rows, l->ids, l->soft);
    return LW_OK;
}

static lw_status open_check(lw_job *job, int64_t j, lw_error *err, llm_check *l)
{
    *l = (llm_check){.job = job, .j = j, .count = lw_min_i64(job->eval.count, MOST)};
    l->config = job->llms[j].config;
    l->config.eos_count = 0;
    LW_TRY(lw_arena_place(job->dev, "work space of a gate", layout, l, err, &l->memory));
    LW_TRY(lw_generator_start(&l->g, job->llms[j].decoder, err));
    return embed_prompts(l, err);
}

static lw_status too_long(lw_error *err)
{
    return lw_fail(err, LW_ERR_INTERNAL, "a gate exceeds the limits it was sized for");
}

// --- soft tokens

static lw_status answer_prompts(llm_check *l, bool soft, lw_error *err)
{
    const lw_tokens none = {NULL, 0};
    int64_t first = 0;
    lw_generator_clear(&l->g);
    for (int64_t i = 0; i < l->count; i++) {
        const lw_token_sample *s = sample_of(l, i);
        lw_tokens prompt = s->prompt[l->j];
        bool added = soft ? lw_generator_add(&l->g, first, prompt.count, none, none, s->answer[l->j])
                          : lw_generator_add(&l->g, 0, 0, prompt, none, s->answer[l->j]);
        if (!added) {
            return too_long(err);
        }
        first += prompt.count;
    }
    return lw_generator_run(&l->g, l->soft, -1, err);
}

// Counts the answers that differ between the two paths, and finds the largest difference of the gold answers' loss per
// token.
static lw_status compare_paths(llm_check *l, lw_error *err, int64_t *differ, int64_t *tokens, double *loss)
{
    int64_t most_new = l->g.max_new;
    int32_t *ids = calloc((size_t)(l->count * most_new), sizeof *ids);
    lw_generated *text = calloc((size_t)l->count, sizeof *text);
    lw_status status = LW_OK;
    if (ids == NULL || text == NULL) {
        status = lw_fail(err, LW_ERR_MEMORY, "no memory for the answers of a gate");
    }
    if (status == LW_OK) {
        status = answer_prompts(l, false, err);
    }
    if (status == LW_OK) {
        memcpy(ids, l->g.ids, (size_t)(l->count * most_new) * sizeof *ids);
        memcpy(text, l->g.sequences, (size_t)l->count * sizeof *text);
        status = answer_prompts(l, true, err);
    }
    for (int64_t i = 0; i < l->count && status == LW_OK; i++) {
        const lw_generated *soft = &l->g.sequences[i];
        bool same = soft->count == text[i].count && soft->first_token == text[i].first_token &&
                    memcmp(soft->ids, ids + i * most_new, (size_t)soft->count * sizeof *ids) == 0;
        *differ += !same;
        *tokens += text[i].count;
        *loss = fmax(*loss, fabs(soft->nll - text[i].nll) / (double)sample_of(l, i)->answer[l->j].count);
    }
    free(ids);
    free(text);
    return status;
}

// --- labels

static lw_status score_one(llm_check *l, lw_tokens before, lw_tokens after, lw_tokens answer, lw_error *err,
                           double *nll)
{
    lw_generator_clear(&l->g);
    if (!lw_generator_add(&l->g, 0, 0, before, after, answer)) {
        return too_long(err);
    }
    LW_TRY(lw_generator_score(&l->g, NULL, err));
    *nll = l->g.sequences[0].nll;
    return LW_OK;
}

// Scores each token on its own, as the only label after everything before it, so that no row can be confused with
// another. The last row of a sequence is also the one from which generation takes its next token.
static lw_status compare_labels(llm_check *l, int64_t i, lw_error *err, double *worst)
{
    lw_tokens prompt = sample_of(l, i)->prompt[l->j];
    lw_tokens answer = sample_of(l, i)->answer[l->j];
    const lw_tokens none = {NULL, 0};
    double whole = 0.0;
    double sum = 0.0;
    LW_TRY(score_one(l, prompt, none, answer, err, &whole));
    for (int64_t t = 0; t < answer.count; t++) {
        double one = 0.0;
        LW_TRY(score_one(l, prompt, (lw_tokens){answer.ids, t}, (lw_tokens){answer.ids + t, 1}, err, &one));
        sum += one;
    }
    *worst = fmax(*worst, fabs(whole - sum) / (double)answer.count);
    return LW_OK;
}

// --- both

typedef struct findings {
    int64_t answers, differ, tokens;
    double soft_loss, labels;
} findings;

static lw_status check_llm(lw_job *job, int64_t j, lw_error *err, findings *f)
{
    llm_check l;
    lw_status status = open_check(job, j, err, &l);
    if (status == LW_OK) {
        status = compare_paths(&l, err, &f->differ, &f->tokens, &f->soft_loss);
    }
    for (int64_t i = 0; i < l.count && status == LW_OK; i++) {
        status = compare_labels(&l, i, err, &f->labels);
    }
    f->answers += l.count;
    close_check(&l);
    return status;
}

lw_status lw_gate_llms(lw_job *job, lw_error *err, lw_gate_result *soft_tokens, lw_gate_result *labels)
{
    findings f = {0};
    double limit = lw_gate_tolerance(job);
    for (int64_t j = 0; j < job->llm_count; j++) {
        if (lw_job_owns(job, j)) {
            LW_TRY(check_llm(job, j, err, &f));
        }
    }
    lw_gate_note(soft_tokens, f.differ == 0 && f.soft_loss <= limit, (double)f.differ, 0.0,
                 "%lld of %lld answers (%lld tokens) differ; loss per token by %.2g at most", (long long)f.differ,
                 (long long)f.answers, (long long)f.tokens, f.soft_loss);
    lw_gate_note(labels, f.labels <= limit, f.labels, limit, "loss per token differs by %.2g at most in %lld answers",
                 f.labels, (long long)f.answers);
    return LW_OK;
}
