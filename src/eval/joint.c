// joint.c: one answer for all LLMs, by the log-probabilities that they give to each other's answers.
//
// Every LLM reads the latents and then a candidate answer, in its own tokens, with its end token where the answer was
// not cut. The sum is over all tokens and all LLMs, and not a mean: it is the log-probability of the whole answer.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/sample.h"
#include "eval/eval_internal.h"

static int32_t end_token(const lw_llm *llm)
{
    int64_t own = llm->config.eos_count > 0 ? llm->config.eos_id[0] : -1;
    return llm->eos >= 0 ? llm->eos : (int32_t)own;
}

// Leaves in e->candidate what LLM `author` answered to sample i, as tokens of LLM `reader`. The passes have room for
// twice as many tokens as the author may generate; the rest is cut.
static lw_status candidate(lw_job *job, lw_eval *e, int64_t i, int64_t author, int64_t reader, lw_error *err)
{
    const int32_t *ids = lw_eval_own_ids(job, e, i, author, LW_EVAL_LATENT);
    int64_t count = *lw_eval_own_length(job, e, i, author);
    bool ended = count < job->config->eval.max_new_tokens;
    size_t most = (size_t)lw_config_new_tokens(job->config);
    lw_ids *out = &e->candidate;
    out->len = 0;
    if (author == reader) {
        for (int64_t t = 0; t < count; t++) {
            LW_TRY(lw_ids_push(out, ids[t], err));
        }
    } else {
        char *text = NULL;
        size_t bytes = 0;
        LW_TRY(lw_tokenizer_decode(job->llms[author].tokenizer, ids, (size_t)count, true, err, &text, &bytes));
        lw_status status = lw_tokenizer_encode(job->llms[reader].tokenizer, text, bytes, false, err, out);
        free(text);
        LW_TRY(status);
    }
    if (ended && end_token(&job->llms[reader]) >= 0) {
        LW_TRY(lw_ids_push(out, end_token(&job->llms[reader]), err));
    }
    out->len = out->len < most ? out->len : most;
    return LW_OK;
}

lw_status lw_eval_exchange_answers(lw_job *job, lw_eval *e, int64_t first, int64_t count, lw_error *err)
{
    int64_t most = job->config->eval.max_new_tokens;
    int64_t n = count * job->llm_count;
    memset(e->exchanged, 0, (size_t)(n * (1 + most)) * sizeof *e->exchanged);
    for (int64_t at = 0; at < n; at++) {
        int64_t i = first + at / job->llm_count;
        int64_t j = at % job->llm_count;
        int64_t *answer = e->exchanged + at * (1 + most);
        if (!lw_job_owns(job, j)) {
            continue;
        }
        answer[0] = *lw_eval_own_length(job, e, i, j);
        for (int64_t t = 0; t < answer[0]; t++) {
            answer[1 + t] = lw_eval_own_ids(job, e, i, j, LW_EVAL_LATENT)[t];
        }
    }
    LW_TRY(lw_comm_sum_i64(job->models, e->exchanged, n * (1 + most), err)); // one rank has it, the others zeros
    for (int64_t at = 0; at < n; at++) {
        int64_t i = first + at / job->llm_count;
        int64_t j = at % job->llm_count;
        const int64_t *answer = e->exchanged + at * (1 + most);
        *lw_eval_own_length(job, e, i, j) = (int32_t)answer[0];
        for (int64_t t = 0; t < answer[0]; t++) {
            lw_eval_own_ids(job, e, i, j, LW_EVAL_LATENT)[t] = (int32_t)answer[1 + t];
        }
    }
    return LW_OK;
}

static double *score_of(const lw_job *job, const lw_eval *e, int64_t i, int64_t author, int64_t reader)
{
    return &e->joint[(i * job->llm_count + author) * job->llm_count + reader];
}

// Runs a pass of `reader` over what has been added: samples first .. last - 1 of the set.
static lw_status flush(lw_job *job, lw_eval *e, int64_t author, int64_t reader, int64_t first, int64_t last,
                       lw_error *err)
{
    lw_generator *g = &e->generators[reader];
    if (first == last) {
        return LW_OK;
    }
    LW_TRY(lw_generator_score(g, e->adapters[reader].soft, err));
    for (int64_t i = first; i < last; i++) {
        *score_of(job, e, i, author, reader) = -g->sequences[i - first].nll;
    }
    lw_generator_clear(g);
    return LW_OK;
}

static lw_status read_answers(lw_job *job, lw_eval *e, int64_t author, int64_t reader, int64_t first, int64_t count,
                              lw_error *err)
{
    lw_generator *g = &e->generators[reader];
    const lw_eval_system *system = &e->task.systems[LW_EVAL_LATENT];
    int64_t added = first;
    lw_generator_clear(g);
    for (int64_t i = first; i < first + count; i++) {
        const lw_token_sample *s = &job->eval.samples[i];
        LW_TRY(candidate(job, e, i, author, reader, err));
        if (e->candidate.len == 0) { // the answer has only tokens without a text, and no end
            LW_TRY(flush(job, e, author, reader, added, i, err));
            *score_of(job, e, i, author, reader) = -INFINITY;
            added = i + 1;
            continue;
        }
        lw_tokens answer = {e->candidate.data, (int64_t)e->candidate.len};
        int64_t latents = lw_eval_latents(job->config, system, s->source.count);
        if (!lw_generator_fits(g, latents + s->suffix[reader].count, answer.count)) {
            LW_TRY(flush(job, e, author, reader, added, i, err));
            added = i;
        }
        if (!lw_eval_add(job, e, reader, system, s, i - first, answer)) {
            return lw_fail(err, LW_ERR_INTERNAL, "an answer to choose from exceeds the limits of a pass");
        }
    }
    return flush(job, e, author, reader, added, first + count, err);
}

lw_status lw_eval_joint_chunk(lw_job *job, lw_eval *e, int64_t first, int64_t count, lw_error *err)
{
    for (int64_t reader = 0; reader < job->llm_count; reader++) {
        if (!lw_job_owns(job, reader)) {
            continue;
        }
        lw_adapter_forward(job->dev, &job->wire.params, &job->wire.adapters[reader], e->batch.z_rows, e->latents,
                           &e->adapters[reader]);
        for (int64_t author = 0; author < job->llm_count; author++) {
            LW_TRY(read_answers(job, e, author, reader, first, count, err));
        }
    }
    return LW_OK;
}

int64_t lw_eval_joint_choice(const lw_job *job, const lw_eval *e, int64_t i)
{
    int64_t best = 0;
    double best_sum = 0.0;
    for (int64_t author = 0; author < job->llm_count; author++) {
        double sum = 0.0;
        for (int64_t reader = 0; reader < job->llm_count; reader++) {
            sum += *score_of(job, e, i, author, reader);
        }
        if (author == 0 || sum > best_sum) {
            best = author;
            best_sum = sum;
        }
    }
    return best;
}
