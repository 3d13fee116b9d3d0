// encoder.c: the frozen model that the encoder of a job reads with, job->encoder.
#include <stdio.h>

#include "job/job_internal.h"

static bool is_shared(const lw_job *job)
{
    return job->encoder.backbone.shared != NULL;
}

// A rank that does not own the LLM that the encoder shares loads a copy of the layers that the encoder reads with.
static bool borrows(const lw_job *job)
{
    return is_shared(job) && lw_job_owns(job, job->encoder.share);
}

// --- shapes and tokens

static int32_t mark(const lw_tokenizer *tokenizer, int32_t own, const char *name)
{
    return own >= 0 || name == NULL ? own : lw_tokenizer_token_id(tokenizer, name);
}

// Finds the tokens around a window in the tokenizer. prompt.bos has no influence: it is about the models' prompts.
static lw_status find_marks(lw_job_encoder *e, lw_error *err)
{
    lw_backbone *b = &e->backbone;
    const lw_backbone_ops *ops = b->ops;
    // Without a tokenizer, token 0 stands for the tokens around a window, so that windows have the same sizes.
    b->first = b->last = ops->first != NULL ? 0 : -1;
    if (e->tokenizer == NULL) {
        return LW_OK;
    }
    b->first = mark(e->tokenizer, lw_tokenizer_bos_id(e->tokenizer), ops->first);
    if (ops->last != NULL) {
        b->last = mark(e->tokenizer, lw_tokenizer_end_id(e->tokenizer), ops->last);
    }
    if (ops->first != NULL && (b->first < 0 || b->last < 0)) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: tokenizer.json has no %s or no %s in the vocabulary", e->path,
                       ops->first, ops->last);
    }
    if (b->first >= b->vocab || b->last >= b->vocab) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: the BOS id lies outside vocab_size %lld", e->path, (long long)b->vocab);
    }
    return LW_OK;
}

static lw_status read_own(lw_job_encoder *e, const lw_config *config, int what, lw_error *err)
{
    e->path = config->encoder.path;
    LW_TRY(e->backbone.ops->read(e->path, err, &e->backbone));
    if ((what & LW_JOB_SYNTHETIC) == 0) {
        LW_TRY(lw_job_open_tokenizer(e->path, e->backbone.vocab, err, &e->tokenizer));
    }
    return find_marks(e, err);
}

lw_status lw_job_read_encoder(lw_job *job, int what, lw_error *err)
{
    const lw_config *c = job->config;
    lw_job_encoder *e = &job->encoder;
    *e = (lw_job_encoder){.share = lw_config_encoder_share(c)};
    e->backbone.ops = lw_reader_of(c->encoder.kind)->backbone;
    if (e->backbone.ops == NULL) {
        return LW_OK;
    }
    if (e->share < 0) {
        lw_status status = read_own(e, c, what, err);
        return status == LW_OK ? LW_OK : lw_fail_in(err, status, "encoder.path");
    }
    const lw_llm *m = &job->llms[e->share];
    e->path = m->path;
    e->tokenizer = m->tokenizer;
    e->backbone.shared = m->name;
    e->backbone.shapes.llm = m->config;
    e->backbone.vocab = m->config.vocab;
    return find_marks(e, err);
}

// --- weights

static int64_t longest_source(const lw_corpus *c, int64_t least)
{
    int64_t longest = least;
    for (int64_t i = 0; i < c->count; i++) {
        longest = c->samples[i].source.count > longest ? c->samples[i].source.count : longest;
    }
    return longest;
}

static int64_t max_tokens(const lw_job *job)
{
    int64_t longest = longest_source(&job->eval, job->min_source);
    for (int64_t i = 0; i < job->phase_count; i++) {
        longest = longest_source(&job->train[i], longest);
    }
    return longest;
}

int64_t lw_job_encoder_positions(const lw_job *job, int64_t j)
{
    const lw_job_encoder *e = &job->encoder;
    return borrows(job) && e->share == j ? e->backbone.ops->positions(job->wire.encoder.reader, max_tokens(job)) : 0;
}

size_t lw_job_encoder_bytes(const lw_job *job)
{
    const lw_backbone *b = &job->encoder.backbone;
    if (b->ops == NULL || borrows(job)) {
        return 0;
    }
    return b->ops->weight_bytes(job->wire.encoder.reader, job->dev->frozen_type, max_tokens(job));
}

static lw_status load_own(lw_job *job, int what, lw_error *err)
{
    lw_job_encoder *e = &job->encoder;
    bool random = is_shared(job) && job->config->models[e->share].init == LW_MODEL_INIT_RANDOM;
    const lw_backbone_options options = {.max_tokens = max_tokens(job),
                                         .random = random || (what & LW_JOB_SYNTHETIC) != 0,
                                         .seed = (uint64_t)job->config->seed};
    lw_status status = e->backbone.ops->load(job->dev, e->path, job->wire.encoder.reader, &options, err, &e->backbone);
    if (status != LW_OK) {
        return lw_fail_in(err, status, "encoder.path");
    }
    job->frozen_bytes += lw_job_encoder_bytes(job);
    return LW_OK;
}

lw_status lw_job_load_encoder(lw_job *job, int what, lw_error *err)
{
    lw_backbone *b = &job->encoder.backbone;
    if (b->ops == NULL) {
        return LW_OK;
    }
    if (borrows(job)) {
        b->model = job->llms[job->encoder.share].decoder;
    } else {
        LW_TRY(load_own(job, what, err));
    }
    lw_encoder_attach(&job->wire.encoder, b);
    return LW_OK;
}

void lw_job_close_encoder(lw_job *job)
{
    lw_job_encoder *e = &job->encoder;
    if (e->backbone.ops != NULL && !borrows(job)) {
        e->backbone.ops->destroy(e->backbone.model);
    }
    if (e->backbone.ops != NULL && !is_shared(job)) {
        lw_tokenizer_destroy(&e->tokenizer);
    }
    *e = (lw_job_encoder){0};
}

// --- the log

bool lw_job_note_encoder(const lw_job *job, lw_checkpoint_model *out)
{
    const lw_job_encoder *e = &job->encoder;
    if (e->backbone.model == NULL) {
        return false;
    }
    *out = (lw_checkpoint_model){.name = "encoder",
                                 .weights_hash = is_shared(job) ? job->llms[e->share].weights_hash
                                                                : e->backbone.ops->fingerprint(e->backbone.model),
                                 .tokenizer_hash = lw_tokenizer_fingerprint(e->tokenizer)};
    return true;
}

void lw_job_describe_encoder(const lw_job *job, char *shape, size_t size)
{
    const lw_reader *r = job->wire.encoder.reader;
    char text[512];
    r->ops->describe(r, &job->encoder.backbone, text, sizeof text);
    shape[0] = '\0';
    if (job->encoder.backbone.ops != NULL) {
        lw_log(job->run, "encoder: %s", text);
    } else {
        snprintf(shape, size, " (%s)", text);
    }
}
