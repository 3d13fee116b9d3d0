// chunk.c: all systems of an evaluation on one chunk of samples: encoded, answered, scored.
#include <stdlib.h>
#include <string.h>

#include "core/signals.h"
#include "data/prompt.h"
#include "data/sample.h"
#include "eval/eval_internal.h"
#include "eval/score.h"
#include "wire/quantise.h"

lw_status lw_eval_encode(lw_job *job, lw_eval *e, const int64_t *which, int64_t count, const lw_eval_system *system,
                         lw_error *err)
{
    static const lw_eval_system all = {.mode = LW_EVAL_LATENT};
    const lw_eval_system *pooled = lw_config_pools(job->config, LW_POOLS_SPANS) ? system : &all;
    lw_encoder_batch_clear(&e->batch);
    for (int64_t i = 0; i < count; i++) {
        lw_tokens source = job->eval.samples[which[i]].source;
        if (lw_encoder_batch_add(&e->batch, source, lw_eval_latents(job->config, pooled, source.count)) < 0) {
            return lw_fail(err, LW_ERR_INTERNAL, "an evaluation chunk exceeds the limits it was sized for");
        }
    }
    LW_TRY(lw_encoder_upload(job->dev, &job->wire.encoder, &e->batch, err, &e->encoder));
    lw_encoder_forward(job->dev, &job->wire.params, &job->wire.encoder, &e->batch, &e->encoder);
    e->latents = e->encoder.z;
    return LW_OK;
}

static lw_status encode(lw_job *job, lw_eval *e, int64_t first, int64_t count, const lw_eval_system *system,
                        lw_error *err)
{
    for (int64_t i = 0; i < count; i++) {
        int64_t partner = system->mode == LW_EVAL_SHUFFLED ? e->partner[first + i] : -1;
        e->which[i] = partner >= 0 ? partner : first + i;
    }
    return lw_eval_encode(job, e, e->which, count, system, err);
}

// Replaces the latents by what arrives through a wire of `bits` bits.
static lw_status send_in_bits(lw_job *job, lw_eval *e, int64_t bits, lw_error *err)
{
    int64_t d_z = job->config->wire.d_z;
    int64_t rows = e->batch.z_rows;
    size_t bytes = (size_t)(rows * d_z) * sizeof *e->z;
    job->dev->ops->download(job->dev, e->encoder.z, bytes, e->z);
    LW_TRY(job->dev->ops->sync(job->dev, err));
    LW_TRY(lw_quantise_encode(bits, rows, d_z, e->z, err, e->wire));
    LW_TRY(lw_quantise_decode(bits, rows, d_z, e->wire, err, e->z));
    job->dev->ops->upload(job->dev, e->z, bytes, e->received);
    e->latents = e->received;
    return LW_OK;
}

// Makes the soft tokens of LLM j; the token of the samples' task follows them, where there is one.
static void make_soft_tokens(lw_job *job, lw_eval *e, int64_t j)
{
    const lw_wire *wire = &job->wire;
    int64_t d = wire->adapters[j].d;
    lw_adapter_forward(job->dev, &wire->params, &wire->adapters[j], e->batch.z_rows, e->latents, &e->adapters[j]);
    if (lw_eval_is_text(job)) {
        int64_t row = (int64_t)job->eval.samples[0].task - 1;
        job->dev->ops->copy(job->dev, lw_param_at(&wire->params, wire->task[j]) + row * d, (size_t)d * sizeof(float),
                            e->adapters[j].soft + e->batch.z_rows * d);
    }
}

static lw_status score_text(lw_job *job, int64_t j, int64_t i, const lw_generated *g, double *record, lw_error *err)
{
    const lw_sample *sample = &job->eval.data.samples[i];
    char *text = NULL;
    size_t bytes = 0;
    lw_score s;
    LW_TRY(lw_tokenizer_decode(job->llms[j].tokenizer, g->ids, (size_t)g->count, true, err, &text, &bytes));
    bytes = lw_prompt_answer_bytes(job->config, text, bytes);
    lw_status status = lw_score_answer(text, bytes, sample->answers, sample->answer_count, err, &s);
    free(text);
    LW_TRY(status);
    record[LW_RECORD_EXACT] = s.exact;
    record[LW_RECORD_F1] = s.f1;
    return LW_OK;
}

// Fills the record of sample i, LLM j and the task's system number `slot`.
static lw_status score(lw_job *job, lw_eval *e, int64_t j, int slot, int64_t i, const lw_generated *g, lw_error *err)
{
    double *record = lw_eval_record(job, e, i, j, slot);
    const lw_tokens *answer = &job->eval.samples[i].answer[j];
    if (e->task.generate) {
        LW_TRY(score_text(job, j, i, g, record, err));
        record[LW_RECORD_LENGTH] = (double)g->count;
        memcpy(lw_eval_own_ids(job, e, i, j, slot), g->ids, (size_t)g->count * sizeof *g->ids);
        if (slot == LW_EVAL_LATENT) {
            *lw_eval_own_length(job, e, i, j) = (int32_t)g->count;
        }
    }
    if (!e->task.generate) {
        record[LW_RECORD_EXACT] = record[LW_RECORD_F1] = __builtin_nan("");
    }
    record[LW_RECORD_PRESENT] = 1.0;
    record[LW_RECORD_NLL] = g->nll;
    record[LW_RECORD_TOKENS] = (double)answer->count;
    record[LW_RECORD_FIRST] = g->first_token == answer->ids[0] ? 1.0 : 0.0;
    record[LW_RECORD_FIRST_TOKEN] = (double)g->first_token;
    return LW_OK;
}

static lw_status run_system(lw_job *job, lw_eval *e, int64_t j, int slot, int64_t first, int64_t count, lw_error *err)
{
    lw_generator *g = &e->generators[j];
    const lw_eval_system *system = &e->task.systems[slot];
    lw_generator_clear(g);
    for (int64_t i = 0; i < count; i++) {
        const lw_token_sample *s = &job->eval.samples[first + i];
        if (!lw_eval_add(job, e, j, system, s, i, s->answer[j])) {
            return lw_fail(err, LW_ERR_INTERNAL, "an evaluation chunk exceeds the limits it was sized for");
        }
    }
    if (e->task.generate) {
        LW_TRY(lw_generator_run(g, e->adapters[j].soft, job->llms[j].eos, err));
    } else {
        LW_TRY(lw_generator_score(g, e->adapters[j].soft, err));
    }
    for (int64_t i = 0; i < count; i++) {
        if (system->mode != LW_EVAL_SHUFFLED || e->partner[first + i] >= 0) {
            LW_TRY(score(job, e, j, slot, first + i, &g->sequences[i], err));
        }
        lw_comm_send_heartbeat(job->comm);
    }
    return LW_OK;
}

// Runs all systems that read the latents of system `lead`.
static lw_status run_sharing(lw_job *job, lw_eval *e, int lead, int64_t first, int64_t count, lw_error *err)
{
    const lw_eval_task *task = &e->task;
    LW_TRY(encode(job, e, first, count, &task->systems[lead], err));
    if (task->systems[lead].bits > 0) {
        LW_TRY(send_in_bits(job, e, task->systems[lead].bits, err));
    }
    for (int64_t j = 0; j < job->llm_count; j++) {
        if (!lw_job_owns(job, j)) {
            continue;
        }
        make_soft_tokens(job, e, j);
        for (int slot = lead; slot < task->system_count; slot++) {
            if (lw_eval_same_latents(job->config, &task->systems[slot], &task->systems[lead])) {
                LW_TRY(run_system(job, e, j, slot, first, count, err));
            }
        }
    }
    return LW_OK;
}

lw_status lw_eval_chunk(lw_job *job, lw_eval *e, int64_t first, int64_t count, lw_error *err)
{
    const lw_eval_task *task = &e->task;
    for (int lead = 0; lead < task->system_count; lead++) {
        bool done = false;
        for (int slot = 0; slot < lead; slot++) {
            done = done || lw_eval_same_latents(job->config, &task->systems[slot], &task->systems[lead]);
        }
        if (done) {
            continue;
        }
        LW_TRY(run_sharing(job, e, lead, first, count, err));
        if (lead == 0 && task->joint && job->models == NULL) { // the latents are still there
            LW_TRY(lw_eval_joint_chunk(job, e, first, count, err));
        }
    }
    return LW_OK;
}

lw_status lw_eval_choose_across_ranks(lw_job *job, lw_eval *e, int64_t first, int64_t count, lw_error *err)
{
    lw_status status = LW_OK;
    LW_TRY(lw_eval_exchange_answers(job, e, first, count, err));
    if (count > 0) {
        status = encode(job, e, first, count, &e->task.systems[LW_EVAL_LATENT], err);
    }
    if (status == LW_OK && count > 0) {
        status = lw_eval_joint_chunk(job, e, first, count, err);
    }
    return lw_comm_agree(job->comm, lw_signal_check(status), err);
}
