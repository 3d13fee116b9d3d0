#include "eval.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "score.h"
#include "signals.h"

const char *lw_eval_mode_key(lw_eval_mode mode)
{
    static const char *const keys[] = {
#define LW_EVAL_KEY(name, key, meaning) [name] = key,
        LW_EVAL_MODES(LW_EVAL_KEY)
#undef LW_EVAL_KEY
    };
    return keys[mode];
}

// What is kept of one sample, one LLM and one mode.
enum {
    LW_RECORD_EXACT,
    LW_RECORD_F1,
    LW_RECORD_NLL,
    LW_RECORD_TOKENS,
    LW_RECORD_FIRST,       // whether the likeliest first token is the gold one
    LW_RECORD_FIRST_TOKEN, // which it is
    LW_RECORD_COUNT
};

// What one evaluation does.
typedef struct lw_eval_task {
    int64_t samples; // the first of them
    lw_eval_mode modes[LW_EVAL_MODE_COUNT];
    int mode_count;
    bool generate;
} lw_eval_task;

struct lw_eval {
    int64_t chunk; // samples of a pass
    lw_encoder_buffers encoder;
    lw_encoder_batch batch;
    lw_adapter_buffers adapters[LW_MAX_MODELS];
    lw_generator generators[LW_MAX_MODELS];
    int64_t *partner; // (samples) whose latents the shuffled control reads; -1: none
    double *records;  // (samples, LLMs, modes of the task, LW_RECORD_COUNT)
    lw_eval_task task;
    bool started;
};

bool lw_eval_wanted(const lw_config *config)
{
    return (config->eval.at_end || config->eval.every_steps > 0) && config->data.eval[0] != '\0';
}

// --- buffers

static int64_t most_latents(const lw_job *job)
{
    int64_t most = 0;
    for (int64_t i = 0; i < job->eval.count; i++) {
        int64_t latents = lw_encoder_latents(job->config, job->eval.samples[i].source.count);
        most = latents > most ? latents : most;
    }
    return most;
}

// The most that any chunk of consecutive samples needs. A text prompt takes the place of latents and suffix.
static void llm_limits(const lw_job *job, int64_t chunk, int64_t j, lw_pass_limits *out)
{
    const lw_config *c = job->config;
    int64_t latents = most_latents(job); // a partner's may be more than a sample's own
    *out = (lw_pass_limits){.sequences = chunk, .prefix_rows = chunk * latents};
    int64_t suffix = 0;
    int64_t answer = 0;
    for (int64_t first = 0; first < job->eval.count; first += chunk) {
        int64_t rows = 0;
        int64_t scored = 0;
        for (int64_t i = first; i < first + chunk && i < job->eval.count; i++) {
            const lw_step_sample *s = &job->eval.samples[i];
            int64_t wire = latents + s->suffix[j].count + 1; // + 1: a truncated prompt keeps its BOS
            int64_t text = s->prompt[j].count;
            rows += (wire > text ? wire : text) + s->answer[j].count;
            scored += s->answer[j].count;
            suffix = s->suffix[j].count > suffix ? s->suffix[j].count : suffix;
            answer = s->answer[j].count > answer ? s->answer[j].count : answer;
        }
        out->rows = rows > out->rows ? rows : out->rows;
        out->supervised = scored > out->supervised ? scored : out->supervised;
    }
    int64_t text = lw_corpus_max_positions(&job->eval, c, j);
    int64_t wire = latents + suffix + (answer > c->eval.max_new_tokens ? answer : c->eval.max_new_tokens);
    out->max_len = text > wire ? text : wire;
}

// Any `chunk` samples may meet as partners, so the encoder is sized for the longest.
static lw_encoder_limits encoder_limits(const lw_job *job, int64_t chunk)
{
    lw_encoder_limits l = {.samples = chunk};
    for (int64_t i = 0; i < job->eval.count; i++) {
        int64_t tokens = job->eval.samples[i].source.count;
        l.max_tokens = tokens > l.max_tokens ? tokens : l.max_tokens;
    }
    l.tokens = chunk * l.max_tokens;
    l.max_latents = most_latents(job);
    l.latents = chunk * l.max_latents;
    return l;
}

// The next sample from the middle of the set on that has another context; latents of the same one would not be a
// control.
static int64_t find_partner(const lw_job *job, int64_t i)
{
    const lw_dataset *d = &job->eval.data;
    for (int64_t k = 0; k < d->count; k++) {
        int64_t other = (i + d->count / 2 + k) % d->count;
        const lw_sample *a = &d->samples[i];
        const lw_sample *b = &d->samples[other];
        bool same = a->context[0] != '\0' || b->context[0] != '\0' ? strcmp(a->context, b->context) == 0
                                                                   : strcmp(a->question, b->question) == 0;
        if (!same) {
            return other;
        }
    }
    return -1;
}

static lw_status create(const lw_job *job, lw_error *err, lw_eval **out)
{
    lw_eval *e = calloc(1, sizeof *e);
    int64_t n = job->eval.count;
    if (e != NULL) {
        e->chunk = job->config->eval.batch < n ? job->config->eval.batch : n;
        e->partner = calloc((size_t)n, sizeof *e->partner);
        e->records = calloc((size_t)(n * job->llm_count * LW_EVAL_MODE_COUNT), LW_RECORD_COUNT * sizeof *e->records);
    }
    if (e == NULL || e->partner == NULL || e->records == NULL) {
        lw_eval_destroy(&e);
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the evaluation of %lld samples", (long long)n);
    }
    for (int64_t i = 0; i < n; i++) {
        e->partner[i] = find_partner(job, i);
    }
    *out = e;
    return LW_OK;
}

lw_status lw_eval_layout(lw_arena *arena, lw_job *job, lw_error *err, lw_eval **eval)
{
    if (*eval == NULL) {
        LW_TRY(create(job, err, eval));
    }
    lw_eval *e = *eval;
    lw_encoder_limits limits = encoder_limits(job, e->chunk);
    lw_encoder_buffers_free(&e->encoder);
    LW_TRY(lw_encoder_layout(arena, job->dev, &job->wire.encoder, &limits, err, &e->encoder));
    lw_arena_mark mark = lw_arena_save(arena);
    for (int64_t j = 0; j < job->llm_count; j++) {
        lw_pass_limits llm;
        llm_limits(job, e->chunk, j, &llm);
        lw_arena_rewind(arena, mark);
        lw_adapter_layout(arena, &job->wire.adapters[j], limits.latents, &e->adapters[j]);
        LW_TRY(lw_generator_layout(arena, job->dev, &job->llms[j].config, &llm, job->config->eval.max_new_tokens, err,
                                   &e->generators[j]));
    }
    return LW_OK;
}

lw_eval_part lw_eval_part_bytes(const lw_eval *e, int64_t j)
{
    const lw_generator *g = &e->generators[j];
    const lw_hf_config *c = g->config;
    size_t row = (size_t)(2 * c->layers * c->kv_heads * c->head_dim) * lw_dtype_bytes(g->dev->frozen_type);
    return (lw_eval_part){.logits = (size_t)(g->limits.supervised * c->vocab) * sizeof(float),
                          .caches = (size_t)(g->cache.slots * g->cache.capacity) * row};
}

void lw_eval_destroy(lw_eval **eval)
{
    lw_eval *e = *eval;
    if (e != NULL) {
        for (int64_t j = 0; j < LW_MAX_MODELS; j++) {
            lw_generator_free(&e->generators[j]);
        }
        lw_encoder_batch_free(&e->batch);
        lw_encoder_buffers_free(&e->encoder);
        free(e->partner);
        free(e->records);
        free(e);
    }
    *eval = NULL;
}

lw_status lw_eval_start(lw_job *job, lw_eval *e, lw_error *err)
{
    LW_TRY(lw_encoder_buffers_start(job->dev, &job->wire.encoder, &e->encoder, err));
    if (e->started) {
        return LW_OK;
    }
    LW_TRY(lw_encoder_batch_create(&e->encoder.limits, &e->encoder.on, err, &e->batch));
    for (int64_t j = 0; j < job->llm_count; j++) {
        LW_TRY(lw_generator_start(&e->generators[j], job->llms[j].decoder, err));
    }
    e->started = true;
    return LW_OK;
}

// --- one chunk

static lw_status encode(lw_job *job, lw_eval *e, int64_t first, int64_t count, bool partners, lw_error *err)
{
    lw_encoder_batch_clear(&e->batch);
    for (int64_t i = first; i < first + count; i++) {
        int64_t from = partners && e->partner[i] >= 0 ? e->partner[i] : i;
        lw_tokens source = job->eval.samples[from].source;
        if (lw_encoder_batch_add(&e->batch, source, lw_encoder_latents(job->config, source.count)) < 0) {
            return lw_fail(err, LW_ERR_INTERNAL, "an evaluation chunk exceeds the limits it was sized for");
        }
    }
    lw_encoder_batch_upload(&e->batch, job->dev);
    lw_encoder_forward(job->dev, &job->wire.params, &job->wire.encoder, &e->batch, &e->encoder);
    return LW_OK;
}

// Adds sample `at` of the chunk as `mode` shows it to LLM j.
static bool add(lw_job *job, lw_eval *e, int64_t j, lw_eval_mode mode, const lw_step_sample *s, int64_t at)
{
    lw_generator *g = &e->generators[j];
    int64_t first = e->batch.at.z_start[at];
    int64_t latents = e->batch.at.z_start[at + 1] - first;
    lw_tokens none = {NULL, 0};
    lw_tokens suffix = s->suffix[j];
    if (mode == LW_EVAL_TEXT) {
        return lw_generator_add(g, 0, 0, s->prompt[j], none, s->answer[j]);
    }
    if (mode == LW_EVAL_NO_CONTEXT) {
        return lw_generator_add(g, 0, 0, suffix, none, s->answer[j]);
    }
    if (mode == LW_EVAL_TRUNCATED) {
        int64_t bos = job->llms[j].bos >= 0 ? 1 : 0;
        lw_tokens tail = {suffix.ids + bos, suffix.count - bos};
        int64_t text = s->prompt[j].count - tail.count;
        int64_t keep = text < bos + latents ? text : bos + latents;
        return lw_generator_add(g, 0, 0, (lw_tokens){s->prompt[j].ids, keep > 0 ? keep : 0}, tail, s->answer[j]);
    }
    return lw_generator_add(g, first, latents, suffix, none, s->answer[j]);
}

static lw_status score_text(lw_job *job, int64_t j, int64_t i, const lw_generated *g, double *record, lw_error *err)
{
    const lw_sample *sample = &job->eval.data.samples[i];
    char *text = NULL;
    size_t bytes = 0;
    lw_score s;
    LW_TRY(lw_tokenizer_decode(job->llms[j].tokenizer, g->ids, (size_t)g->count, true, err, &text, &bytes));
    lw_status status = lw_score_answer(text, bytes, sample->answers, sample->answer_count, err, &s);
    free(text);
    LW_TRY(status);
    record[LW_RECORD_EXACT] = s.exact;
    record[LW_RECORD_F1] = s.f1;
    return LW_OK;
}

// Of sample i, LLM j and the task's mode number `slot`.
static lw_status score(lw_job *job, lw_eval *e, int64_t j, int slot, int64_t i, const lw_generated *g, lw_error *err)
{
    double *record = e->records + ((i * job->llm_count + j) * e->task.mode_count + slot) * LW_RECORD_COUNT;
    const lw_tokens *answer = &job->eval.samples[i].answer[j];
    if (e->task.generate) {
        LW_TRY(score_text(job, j, i, g, record, err));
    }
    record[LW_RECORD_NLL] = g->nll;
    record[LW_RECORD_TOKENS] = (double)answer->count;
    record[LW_RECORD_FIRST] = g->first_token == answer->ids[0] ? 1.0 : 0.0;
    record[LW_RECORD_FIRST_TOKEN] = (double)g->first_token;
    return LW_OK;
}

static lw_status run_mode(lw_job *job, lw_eval *e, int64_t j, int slot, int64_t first, int64_t count, lw_error *err)
{
    lw_generator *g = &e->generators[j];
    lw_eval_mode mode = e->task.modes[slot];
    lw_generator_clear(g);
    for (int64_t i = 0; i < count; i++) {
        if (!add(job, e, j, mode, &job->eval.samples[first + i], i)) {
            return lw_fail(err, LW_ERR_INTERNAL, "an evaluation chunk exceeds the limits it was sized for");
        }
    }
    if (e->task.generate) {
        LW_TRY(lw_generator_run(g, e->adapters[j].soft, job->llms[j].eos, err));
    } else {
        LW_TRY(lw_generator_score(g, e->adapters[j].soft, err));
    }
    for (int64_t i = 0; i < count; i++) {
        if (mode != LW_EVAL_SHUFFLED || e->partner[first + i] >= 0) {
            LW_TRY(score(job, e, j, slot, first + i, &g->sequences[i], err));
        }
    }
    return LW_OK;
}

static bool has_mode(const lw_eval_task *task, lw_eval_mode mode)
{
    for (int slot = 0; slot < task->mode_count; slot++) {
        if (task->modes[slot] == mode) {
            return true;
        }
    }
    return false;
}

static lw_status run_chunk(lw_job *job, lw_eval *e, int64_t first, int64_t count, lw_error *err)
{
    int passes = has_mode(&e->task, LW_EVAL_SHUFFLED) ? 2 : 1;
    for (int partners = 0; partners < passes; partners++) {
        LW_TRY(encode(job, e, first, count, partners == 1, err));
        for (int64_t j = 0; j < job->llm_count; j++) {
            lw_adapter_forward(job->dev, &job->wire.params, &job->wire.adapters[j], e->batch.z_rows, e->encoder.z,
                               &e->adapters[j]);
            for (int slot = 0; slot < e->task.mode_count; slot++) {
                if ((e->task.modes[slot] == LW_EVAL_SHUFFLED) == (partners == 1)) {
                    LW_TRY(run_mode(job, e, j, slot, first, count, err));
                }
            }
        }
    }
    return LW_OK;
}

// --- the whole

// The rounds of an evaluation: in each, every rank does a chunk at most, and all agree to go on. A signal on any rank
// stops all of them then. A rank that waits for one that has another chunk to do waits as long as a chunk takes longer.
static lw_status run_rounds(lw_job *job, lw_eval *e, lw_error *err)
{
    int64_t n = e->task.samples;
    int64_t chunks = (n + e->chunk - 1) / e->chunk;
    double longest_s = 0.0;
    lw_status status = LW_OK;
    for (int64_t round = 0; round < chunks && status == LW_OK; round += job->ranks) {
        int64_t first = (round + job->rank) * e->chunk;
        int64_t count = n - first < e->chunk ? n - first : e->chunk;
        double start_s = lw_now_s();
        lw_comm_phase(job->comm, "evaluation, samples from %lld on", (long long)(round * e->chunk));
        if (count > 0) {
            status = run_chunk(job, e, first, count, err);
        }
        double chunk_s = lw_now_s() - start_s;
        longest_s = chunk_s > longest_s ? chunk_s : longest_s;
        lw_comm_set_timeout(job->comm, job->config->comm.timeout_s + longest_s);
        status = lw_comm_agree(job->comm, lw_signal_check(status), err);
        if (status == LW_OK && e->task.generate) {
            int64_t done = (round + job->ranks) * e->chunk;
            lw_run_dir_progress(job->run, &(lw_progress_state){.label = "eval",
                                                               .done = done < n ? done : n,
                                                               .total = n,
                                                               .loss = __builtin_nan(""),
                                                               .left_s = -1.0});
        }
    }
    lw_comm_set_timeout(job->comm, job->config->comm.timeout_s);
    return status;
}

// Leaves the records of the whole task on every rank. LW_REQUEUE or LW_INTERRUPTED: *signal says why.
static lw_status run_task(lw_job *job, lw_eval *e, const lw_eval_task *task, lw_error *err, lw_signal *signal)
{
    int64_t values = task->samples * job->llm_count * task->mode_count * LW_RECORD_COUNT;
    e->task = *task;
    memset(e->records, 0, (size_t)values * sizeof *e->records);
    LW_TRY(lw_comm_agree(job->comm, lw_eval_start(job, e, err), err));
    lw_status status = run_rounds(job, e, err);
    if (status == LW_REQUEUE || status == LW_INTERRUPTED) {
        double worst = (double)lw_signal_pending();
        LW_TRY(lw_comm_max_f64(job->comm, &worst, 1, err));
        *signal = (lw_signal)worst;
    }
    LW_TRY(status);
    // Each record is written by one rank and zero elsewhere, so the sum is exact.
    return lw_comm_sum_f64(job->comm, e->records, values, err);
}

static void add_record(const double *record, lw_eval_sums *s, double *first_token)
{
    if (record[LW_RECORD_TOKENS] == 0.0) {
        return; // a sample without a partner
    }
    s->same_first = s->samples == 0.0 || (s->same_first && record[LW_RECORD_FIRST_TOKEN] == *first_token);
    *first_token = record[LW_RECORD_FIRST_TOKEN];
    s->exact += record[LW_RECORD_EXACT];
    s->f1 += record[LW_RECORD_F1];
    s->nll += record[LW_RECORD_NLL];
    s->answer_tokens += record[LW_RECORD_TOKENS];
    s->first_correct += record[LW_RECORD_FIRST];
    s->samples += 1.0;
}

// Of LLM j and the task's mode number `slot`, in the order of samples.
static lw_eval_sums sum_up(const lw_job *job, const lw_eval *e, int64_t j, int slot)
{
    lw_eval_sums sums = {0};
    double first_token = -1.0;
    for (int64_t i = 0; i < e->task.samples; i++) {
        add_record(e->records + ((i * job->llm_count + j) * e->task.mode_count + slot) * LW_RECORD_COUNT, &sums,
                   &first_token);
    }
    return sums;
}

lw_status lw_eval_run(lw_job *job, lw_eval *e, lw_error *err, lw_eval_result *out)
{
    double start_s = lw_now_s();
    lw_signal signal = LW_SIGNAL_NONE;
    lw_eval_task task = {.samples = job->eval.count, .mode_count = LW_EVAL_MODE_COUNT, .generate = true};
    for (int mode = 0; mode < LW_EVAL_MODE_COUNT; mode++) {
        task.modes[mode] = (lw_eval_mode)mode;
    }
    lw_status status = run_task(job, e, &task, err, &signal);
    LW_TRY(lw_job_stopped(job, status, "during evaluation", err)); // training is saved by then
    *out = (lw_eval_result){.samples = task.samples};
    for (int64_t j = 0; j < job->llm_count; j++) {
        for (int mode = 0; mode < LW_EVAL_MODE_COUNT; mode++) {
            out->sums[j][mode] = sum_up(job, e, j, mode);
        }
    }
    out->wall_s = lw_now_s() - start_s;
    return LW_OK;
}

lw_status lw_eval_held_out(lw_job *job, lw_eval *e, lw_error *err, lw_held_out *out)
{
    double start_s = lw_now_s();
    int64_t wanted = job->config->eval.loss_samples;
    lw_eval_task task = {.samples = wanted > 0 && wanted < job->eval.count ? wanted : job->eval.count,
                         .modes = {LW_EVAL_LATENT},
                         .mode_count = 1};
    *out = (lw_held_out){.nll = __builtin_nan("")};
    lw_status status = run_task(job, e, &task, err, &out->signal);
    if (out->signal != LW_SIGNAL_NONE) {
        return LW_OK;
    }
    LW_TRY(status);
    out->nll = 0.0;
    for (int64_t j = 0; j < job->llm_count; j++) {
        out->sums[j] = sum_up(job, e, j, 0);
        out->llm_nll[j] = out->sums[j].nll / out->sums[j].answer_tokens;
        out->nll += out->llm_nll[j] / (double)job->llm_count;
    }
    out->wall_s = lw_now_s() - start_s;
    return LW_OK;
}
