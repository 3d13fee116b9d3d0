// layout.c: sizes and makes the buffers and host tables of an evaluation.
#include <stdlib.h>
#include <string.h>

#include "core/numbers.h"
#include "data/sample.h"
#include "eval/eval_internal.h"
#include "wire/quantise.h"

bool lw_eval_in_training(const lw_config *config)
{
    return (config->eval.at_end || config->eval.every_steps > 0) && config->data.eval[0] != '\0';
}

static int64_t most_latents(const lw_job *job)
{
    int64_t most = 0;
    for (int64_t i = 0; i < job->eval.count; i++) {
        int64_t latents = lw_config_latents(job->config, job->eval.samples[i].source.count);
        most = lw_max_i64(most, latents);
    }
    return most;
}

// Finds the most that any chunk of consecutive samples needs. A text prompt replaces latents and suffix.
static void llm_limits(const lw_job *job, int64_t chunk, int64_t j, lw_pass_limits *out)
{
    const lw_config *c = job->config;
    int64_t latents = most_latents(job); // a partner may have more than the sample itself
    int64_t tasks = lw_task_rows(job->eval.samples[0].task);
    *out = (lw_pass_limits){.sequences = chunk, .prefix_rows = chunk * (latents + tasks)};
    int64_t suffix = 0;
    int64_t answer = 0;
    for (int64_t first = 0; first < job->eval.count; first += chunk) {
        int64_t rows = 0;
        int64_t scored = 0;
        for (int64_t i = first; i < first + chunk && i < job->eval.count; i++) {
            const lw_token_sample *s = &job->eval.samples[i];
            int64_t wire = latents + tasks + s->suffix[j].count + 1; // + 1: a truncated prompt keeps its BOS
            int64_t text = s->prompt[j].count;
            rows += lw_max_i64(wire, text) + s->answer[j].count;
            scored += s->answer[j].count;
            suffix = lw_max_i64(suffix, s->suffix[j].count);
            answer = lw_max_i64(answer, s->answer[j].count);
        }
        out->rows = lw_max_i64(out->rows, rows);
        out->supervised = lw_max_i64(out->supervised, scored);
    }
    int64_t text = lw_corpus_max_positions(&job->eval, c, j);
    int64_t most_new = lw_config_new_tokens(c);
    int64_t wire = latents + tasks + suffix + lw_max_i64(answer, most_new);
    out->max_len = lw_max_i64(text, wire);
    if (lw_config_joint(c)) { // there is room for at least one answer of another LLM; the others take further passes
        out->rows = lw_max_i64(out->rows, out->max_len);
        out->supervised = lw_max_i64(out->supervised, most_new);
    }
}

// Any `chunk` samples may be read together, as partners, so the encoder is sized for the longest sources.
static lw_encoder_limits encoder_limits(const lw_job *job, int64_t chunk)
{
    lw_encoder_limits l = {.samples = chunk};
    for (int64_t i = 0; i < job->eval.count; i++) {
        int64_t tokens = job->eval.samples[i].source.count;
        l.max_tokens = lw_max_i64(l.max_tokens, tokens);
    }
    l.tokens = chunk * l.max_tokens;
    l.max_latents = most_latents(job);
    l.latents = chunk * l.max_latents;
    return l;
}

// Finds a partner for sample i: searching from the opposite side of the set, the first sample with another context, as
// latents of the same context would not be a control. -1 where there is none.
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

// The control no_context reads only what follows the latents, and an LLM needs at least one token to continue.
static lw_status check_suffixes(const lw_job *job, lw_error *err)
{
    for (int64_t i = 0; i < job->eval.count; i++) {
        const lw_token_sample *s = &job->eval.samples[i];
        for (int64_t j = 0; j < job->llm_count && s->task == LW_TASK_ANSWER; j++) {
            if (s->suffix[j].count == 0) {
                return lw_fail(
                    err, LW_ERR_CONFIG,
                    "%s: without its context nothing is left for model %s to read: prompt.anchor is empty, and "
                    "the tokenizer begins a text with no token of its own. Set prompt.anchor, or evaluate "
                    "nothing (eval.at_end = false, eval.every_steps = 0)",
                    job->eval.data.samples[i].id, job->config->models[j].name);
            }
        }
    }
    return LW_OK;
}

// Allocates the host tables for all systems of a whole evaluation.
static bool allocate(const lw_job *job, lw_eval *e)
{
    lw_eval_system systems[LW_EVAL_SYSTEMS];
    const lw_config *c = job->config;
    size_t n = (size_t)job->eval.count;
    size_t llms = (size_t)job->llm_count;
    size_t count = (size_t)lw_eval_systems(c, systems);
    int64_t ranks = job->grid.data > 0 ? job->grid.data : 1; // a plan has none
    int64_t chunks = (job->eval.count + e->chunk - 1) / e->chunk;
    e->own = (chunks + ranks - 1) / ranks * e->chunk;
    e->partner = calloc(n, sizeof *e->partner);
    e->which = calloc((size_t)e->chunk, sizeof *e->which);
    e->context_hash = calloc(n, sizeof *e->context_hash);
    e->cluster = calloc(n, sizeof *e->cluster);
    e->records = calloc(n * llms * count, LW_RECORD_COUNT * sizeof *e->records);
    e->joint = calloc(n * llms * llms, sizeof *e->joint);
    e->ids = calloc(count * (size_t)e->own * llms, (size_t)c->eval.max_new_tokens * sizeof *e->ids);
    e->lengths = calloc((size_t)e->own * llms, sizeof *e->lengths);
    e->exchanged = calloc((size_t)e->chunk * llms, (size_t)(1 + c->eval.max_new_tokens) * sizeof *e->exchanged);
    bool done = e->partner != NULL && e->which != NULL && e->context_hash != NULL && e->cluster != NULL &&
                e->records != NULL && e->joint != NULL && e->ids != NULL && e->lengths != NULL && e->exchanged != NULL;
    if (done && c->eval.quantise) {
        size_t rows = (size_t)(e->chunk * most_latents(job));
        e->z = calloc(rows, (size_t)c->wire.d_z * sizeof *e->z);
        int64_t plain = lw_quantise_row_bytes(16, c->wire.d_z);
        int64_t scaled = lw_quantise_row_bytes(8, c->wire.d_z); // more, where a scale comes with a single number
        e->wire = calloc(rows, (size_t)lw_max_i64(plain, scaled));
        done = e->z != NULL && e->wire != NULL;
    }
    return done;
}

static lw_status create(const lw_job *job, lw_error *err, lw_eval **out)
{
    lw_eval *e = calloc(1, sizeof *e);
    int64_t n = job->eval.count;
    lw_status status = LW_OK;
    if (e != NULL) {
        e->chunk = lw_min_i64(job->config->eval.batch, n);
    }
    if (e == NULL || !allocate(job, e)) {
        status = lw_fail(err, LW_ERR_MEMORY, "no memory for the evaluation of %lld samples", (long long)n);
    }
    if (status == LW_OK) {
        status = check_suffixes(job, err);
    }
    if (status == LW_OK) {
        status = lw_eval_clusters(job, e, err);
    }
    if (status != LW_OK) {
        lw_eval_destroy(&e);
        return status;
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
    LW_TRY(lw_encoder_layout(arena, job->dev, &job->wire.params, &job->wire.encoder, LW_PASS_INFER, &limits, err,
                             &e->encoder));
    e->received =
        job->config->eval.quantise ? lw_arena_take(arena, limits.latents * job->config->wire.d_z, sizeof(float)) : NULL;
    lw_arena_mark mark = lw_arena_save(arena);
    for (int64_t j = 0; j < job->llm_count; j++) {
        lw_pass_limits llm;
        if (!lw_job_owns(job, j)) {
            continue;
        }
        llm_limits(job, e->chunk, j, &llm);
        lw_arena_rewind(arena, mark);
        lw_adapter_layout(arena, &job->wire.adapters[j], limits.latents, lw_eval_is_text(job) ? 1 : 0, &e->adapters[j]);
        LW_TRY(lw_generator_layout(arena, job->dev, &job->llms[j].config, &llm, job->config->eval.max_new_tokens, err,
                                   &e->generators[j]));
    }
    return LW_OK;
}

typedef struct eval_place {
    lw_job *job;
    lw_eval **eval;
} eval_place;

static lw_status layout(void *context, lw_arena *arena, lw_error *err)
{
    const eval_place *p = context;
    return lw_eval_layout(arena, p->job, err, p->eval);
}

lw_status lw_eval_place(lw_job *job, lw_error *err, lw_eval **eval, lw_arena *memory)
{
    return lw_arena_place(job->dev, "work space of an evaluation", layout, &(eval_place){job, eval}, err, memory);
}

lw_eval_part lw_eval_part_bytes(const lw_eval *e, int64_t j)
{
    const lw_generator *g = &e->generators[j];
    const lw_hf_config *c = g->config;
    if (c == NULL) {
        return (lw_eval_part){0}; // another rank has it
    }
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
        for (int slot = 0; slot < LW_EVAL_SYSTEMS; slot++) {
            free(e->all_ids[slot]);
        }
        lw_ids_free(&e->candidate);
        free(e->partner);
        free(e->which);
        free(e->context_hash);
        free(e->cluster);
        free(e->records);
        free(e->joint);
        free(e->ids);
        free(e->lengths);
        free(e->exchanged);
        free(e->z);
        free(e->wire);
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
        if (lw_job_owns(job, j)) {
            LW_TRY(lw_generator_start(&e->generators[j], job->llms[j].decoder, err));
        }
    }
    e->started = true;
    return LW_OK;
}
