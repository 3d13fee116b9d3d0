#include "eval/eval.h"

#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/signals.h"
#include "data/prompt.h"
#include "data/sample.h"
#include "eval/eval_internal.h"
#include "eval/score.h"
#include "wire/quantise.h"

// --- one chunk

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

// What comes through a wire of `bits` bits takes the place of the latents.
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

// The soft tokens of LLM j; behind them comes the token of the samples' task, where they have one.
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

// A window of text. In place of the latents may come as many of its last tokens, which tell most of what follows.
static bool add_window(lw_job *job, lw_eval *e, int64_t j, lw_eval_mode mode, int64_t first, int64_t latents,
                       lw_tokens prompt, lw_tokens answer)
{
    lw_generator *g = &e->generators[j];
    int64_t bos = job->llms[j].bos >= 0 ? 1 : 0;
    lw_tokens none = {NULL, 0};
    if (mode == LW_EVAL_TEXT) {
        return lw_generator_add(g, 0, 0, prompt, none, answer);
    }
    if (mode == LW_EVAL_TRUNCATED) {
        int64_t keep = prompt.count - bos < latents ? prompt.count - bos : latents;
        lw_tokens tail = {prompt.ids + prompt.count - keep, keep};
        return bos > 0 ? lw_generator_add(g, 0, 0, (lw_tokens){prompt.ids, bos}, tail, answer)
                       : lw_generator_add(g, 0, 0, tail, none, answer);
    }
    return lw_generator_add_task(g, first, mode == LW_EVAL_NO_CONTEXT ? 0 : latents, e->batch.z_rows, answer);
}

bool lw_eval_add(lw_job *job, lw_eval *e, int64_t j, const lw_eval_system *system, const lw_token_sample *s, int64_t at,
                 lw_tokens answer)
{
    lw_generator *g = &e->generators[j];
    int64_t first = e->batch.at.z_start[at];
    int64_t latents = e->batch.at.z_start[at + 1] - first;
    lw_tokens none = {NULL, 0};
    lw_tokens suffix = s->suffix[j];
    int64_t read = system->latents > 0 && system->latents < latents ? system->latents : latents; // of queries
    if (s->task != LW_TASK_ANSWER) {
        return add_window(job, e, j, system->mode, first, read, s->prompt[j], answer);
    }
    if (system->mode == LW_EVAL_TEXT) {
        return lw_generator_add(g, 0, 0, s->prompt[j], none, answer);
    }
    if (system->mode == LW_EVAL_NO_CONTEXT) {
        return lw_generator_add(g, 0, 0, suffix, none, answer);
    }
    if (system->mode == LW_EVAL_TRUNCATED) {
        int64_t bos = job->llms[j].bos >= 0 ? 1 : 0;
        lw_tokens tail = {suffix.ids + bos, suffix.count - bos};
        int64_t text = s->prompt[j].count - tail.count;
        int64_t keep = text < bos + latents ? text : bos + latents;
        return lw_generator_add(g, 0, 0, (lw_tokens){s->prompt[j].ids, keep > 0 ? keep : 0}, tail, answer);
    }
    return lw_generator_add(g, first, read, suffix, none, answer);
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

// Of sample i, LLM j and the task's system number `slot`.
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
        lw_comm_alive(job->comm);
    }
    return LW_OK;
}

// All systems that read the latents of system `lead`.
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

// --- the whole

// The joint choice where other ranks run other LLMs: they answer first, and then score each other's answers.
static lw_status choose_across_ranks(lw_job *job, lw_eval *e, int64_t first, int64_t count, lw_error *err)
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

// The rounds of an evaluation: in each, every rank does a chunk at most, and all agree to go on. A signal on any rank
// stops all of them then.
static lw_status run_rounds(lw_job *job, lw_eval *e, lw_error *err)
{
    int64_t n = e->task.samples;
    int64_t chunks = (n + e->chunk - 1) / e->chunk;
    lw_status status = LW_OK;
    for (int64_t round = 0; round < chunks && status == LW_OK; round += job->grid.data) {
        int64_t first = (round + job->place.data) * e->chunk;
        int64_t count = n - first < e->chunk ? n - first : e->chunk;
        lw_comm_phase(job->comm, "evaluation, samples from %lld on", (long long)(round * e->chunk));
        if (count > 0) {
            status = lw_eval_chunk(job, e, first, count, err);
        }
        status = lw_comm_agree(job->comm, lw_signal_check(status), err);
        if (status == LW_OK && e->task.joint && job->models != NULL) {
            status = choose_across_ranks(job, e, first, count > 0 ? count : 0, err);
        }
        if (status == LW_OK && e->task.generate) {
            int64_t done = (round + job->grid.data) * e->chunk;
            lw_run_dir_progress(job->run, &(lw_progress_state){.label = "eval",
                                                               .done = done < n ? done : n,
                                                               .total = n,
                                                               .loss = __builtin_nan(""),
                                                               .left_s = -1.0});
        }
    }
    return status;
}

lw_status lw_eval_run_task(lw_job *job, lw_eval *e, const lw_eval_task *task, lw_error *err, lw_signal *signal)
{
    int64_t values = task->samples * job->llm_count * task->system_count * LW_RECORD_COUNT;
    int64_t joint = task->joint ? task->samples * job->llm_count * job->llm_count : 0;
    e->task = *task;
    memset(e->records, 0, (size_t)values * sizeof *e->records);
    memset(e->joint, 0, (size_t)joint * sizeof *e->joint);
    LW_TRY(lw_comm_agree(job->comm, lw_eval_start(job, e, err), err));
    lw_status status = run_rounds(job, e, err);
    if (status == LW_REQUEUE || status == LW_INTERRUPTED) {
        double worst = (double)lw_signal_pending();
        LW_TRY(lw_comm_max_f64(job->comm, &worst, 1, err));
        *signal = (lw_signal)worst;
    }
    LW_TRY(status);
    // Each record is written by one rank and zero elsewhere, so the sum is exact.
    LW_TRY(lw_comm_sum_f64(job->comm, e->records, values, err));
    return joint > 0 ? lw_comm_sum_f64(job->comm, e->joint, joint, err) : LW_OK;
}

// The generated tokens of all ranks, to rank 0. Collective.
static lw_status gather_ids(lw_job *job, lw_eval *e, lw_error *err)
{
    int64_t numbers = e->own * job->llm_count * job->config->eval.max_new_tokens;
    int64_t *counts = calloc((size_t)job->ranks, sizeof *counts);
    lw_status status = LW_OK;
    if (counts == NULL) {
        status = lw_fail(err, LW_ERR_MEMORY, "no memory to gather the answers of an evaluation");
    }
    status = lw_comm_agree(job->comm, status, err);
    for (int slot = 0; slot < e->task.system_count && status == LW_OK; slot++) {
        void *all = NULL;
        status = lw_comm_gather_v(job->comm, 0, e->ids + slot * numbers, numbers * (int64_t)sizeof *e->ids, err, &all,
                                  counts);
        if (status == LW_OK) {
            free(e->all_ids[slot]);
            e->all_ids[slot] = all;
        }
    }
    free(counts);
    return status;
}

lw_status lw_eval_run(lw_job *job, lw_eval *e, lw_error *err, lw_eval_result *out)
{
    double start_s = lw_now_s();
    lw_signal signal = LW_SIGNAL_NONE;
    lw_eval_task task = {.samples = job->eval.count, .generate = !lw_eval_is_text(job)};
    task.joint = task.generate && lw_config_joint(job->config);
    task.system_count = lw_eval_systems(job->config, task.systems);
    lw_status status = lw_eval_run_task(job, e, &task, err, &signal);
    LW_TRY(lw_job_stopped(job, status, "during evaluation", err)); // training is saved by then
    LW_TRY(gather_ids(job, e, err));
    LW_TRY(lw_comm_agree(job->comm, lw_eval_figures(job, e, err, out), err));
    out->wall_s = lw_now_s() - start_s;
    return LW_OK;
}

lw_status lw_eval_held_out(lw_job *job, lw_eval *e, lw_error *err, lw_held_out *out)
{
    double start_s = lw_now_s();
    int64_t wanted = job->config->eval.loss_samples;
    lw_eval_task task = {.samples = wanted > 0 && wanted < job->eval.count ? wanted : job->eval.count,
                         .systems = {{.mode = LW_EVAL_LATENT}},
                         .system_count = 1};
    *out = (lw_held_out){.nll = __builtin_nan("")};
    lw_status status = lw_eval_run_task(job, e, &task, err, &out->signal);
    if (out->signal != LW_SIGNAL_NONE) {
        return LW_OK;
    }
    LW_TRY(status);
    out->nll = 0.0;
    for (int64_t j = 0; j < job->llm_count; j++) {
        out->sums[j] = lw_eval_sum_up(job, e, j, 0);
        out->llm_nll[j] = out->sums[j].nll / out->sums[j].answer_tokens;
        out->nll += out->llm_nll[j] / (double)job->llm_count;
    }
    out->wall_s = lw_now_s() - start_s;
    return LW_OK;
}
