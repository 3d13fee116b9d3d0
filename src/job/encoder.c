// encoder.c: the frozen model that an encoder reads with. Kind `llm`: an LLM of its own, or one of the models' once
// more; kind `bert`: a BERT.
#include <stdio.h>
#include <string.h>

#include "job/job_internal.h"

static bool reads_with_llm(const lw_job *job)
{
    return job->config->encoder.kind == LW_ENCODER_LLM;
}

static bool reads_with_bert(const lw_job *job)
{
    return job->config->encoder.kind == LW_ENCODER_BERT;
}

bool lw_llm_loaded(const lw_llm *model)
{
    return model->decoder != NULL || model->bert != NULL;
}

uint64_t lw_llm_fingerprint(const lw_llm *model)
{
    return model->bert != NULL ? lw_bert_fingerprint(model->bert) : lw_decoder_fingerprint(model->decoder);
}

static bool is_shared(const lw_job *job)
{
    return reads_with_llm(job) && job->encoder_share >= 0;
}

int64_t lw_job_encoder_share(const lw_config *config)
{
    for (int64_t j = 0; j < config->model_count; j++) {
        if (strcmp(config->models[j].name, config->encoder.share) == 0) {
            return j;
        }
    }
    return -1;
}

static lw_status read_own(lw_job *job, int what, lw_error *err)
{
    job->encoder = (lw_llm){.path = job->config->encoder.path};
    LW_TRY(lw_hf_config_read(job->encoder.path, err, &job->encoder.config));
    return (what & LW_JOB_SYNTHETIC) != 0 ? LW_OK : lw_job_open_tokenizer(&job->encoder, err);
}

static lw_status find_marks(lw_llm *e, lw_error *err)
{
    e->bos = lw_tokenizer_bos_id(e->tokenizer);
    e->end = lw_tokenizer_end_id(e->tokenizer);
    e->bos = e->bos >= 0 ? e->bos : lw_tokenizer_token_id(e->tokenizer, "[CLS]");
    e->end = e->end >= 0 ? e->end : lw_tokenizer_token_id(e->tokenizer, "[SEP]");
    if (e->bos < 0 || e->end < 0 || e->bos >= e->config.vocab || e->end >= e->config.vocab) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: tokenizer.json has no [CLS] or no [SEP] in the vocabulary", e->path);
    }
    return LW_OK;
}

static lw_status read_bert(lw_job *job, int what, lw_error *err)
{
    lw_llm *e = &job->encoder;
    *e = (lw_llm){.name = "encoder", .path = job->config->encoder.path};
    job->encoder_share = -1;
    LW_TRY(lw_bert_config_read(e->path, err, &e->bert_config));
    e->config.vocab = e->bert_config.vocab;
    if ((what & LW_JOB_SYNTHETIC) != 0) {
        return LW_OK; // windows of the same sizes: token 0 stands for [CLS] and [SEP]
    }
    LW_TRY(lw_job_open_tokenizer(e, err));
    return find_marks(e, err);
}

lw_status lw_job_read_encoder(lw_job *job, int what, lw_error *err)
{
    if (reads_with_bert(job)) {
        lw_status status = read_bert(job, what, err);
        return status == LW_OK ? LW_OK : lw_fail_in(err, status, "encoder.path");
    }
    if (!reads_with_llm(job)) {
        return LW_OK;
    }
    lw_llm *e = &job->encoder;
    job->encoder_share = lw_job_encoder_share(job->config);
    if (is_shared(job)) {
        *e = job->llms[job->encoder_share];
    } else {
        lw_status status = read_own(job, what, err);
        if (status != LW_OK) {
            return lw_fail_in(err, status, "encoder.path");
        }
    }
    e->name = "encoder";
    // As its tokenizer has it, whatever prompt.bos says of the models' prompts.
    e->bos = e->tokenizer != NULL ? lw_tokenizer_bos_id(e->tokenizer) : -1;
    if (e->bos >= e->config.vocab) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: the BOS id lies outside vocab_size %lld", e->path,
                       (long long)e->config.vocab);
    }
    return LW_OK;
}

const lw_encoder_backbone *lw_job_backbone(const lw_job *job, lw_encoder_backbone *room)
{
    *room = (lw_encoder_backbone){.llm = &job->encoder.config,
                                  .bert = &job->encoder.bert_config,
                                  .bos = job->encoder.bos,
                                  .end = job->encoder.end};
    return reads_with_llm(job) || reads_with_bert(job) ? room : NULL;
}

static int64_t longest_source(const lw_corpus *c, int64_t least)
{
    int64_t longest = least;
    for (int64_t i = 0; i < c->count; i++) {
        longest = c->samples[i].source.count > longest ? c->samples[i].source.count : longest;
    }
    return longest;
}

static int64_t positions(const lw_job *job)
{
    int64_t longest = longest_source(&job->eval, job->min_source);
    for (int64_t i = 0; i < job->phase_count; i++) {
        longest = longest_source(&job->train[i], longest);
    }
    return lw_reader_llm_positions(&job->wire.encoder.llm, longest);
}

int64_t lw_job_encoder_positions(const lw_job *job, int64_t j)
{
    return is_shared(job) && job->encoder_share == j ? positions(job) : 0;
}

size_t lw_job_encoder_bytes(const lw_job *job)
{
    if (reads_with_bert(job)) {
        return lw_bert_weight_bytes(&job->wire.encoder.bert.config, job->dev->frozen_type);
    }
    if (!reads_with_llm(job) || is_shared(job)) {
        return 0;
    }
    return lw_decoder_weight_bytes(&job->wire.encoder.llm.config, job->dev->frozen_type, positions(job));
}

static lw_status load_bert(lw_job *job, int what, lw_error *err)
{
    lw_llm *e = &job->encoder;
    lw_bert_options options = {.layers = job->wire.encoder.bert.config.layers,
                               .random = (what & LW_JOB_SYNTHETIC) != 0,
                               .seed = (uint64_t)job->config->seed};
    lw_status status = lw_bert_load(job->dev, e->path, &options, err, &e->bert);
    if (status != LW_OK) {
        return lw_fail_in(err, status, "encoder.path");
    }
    job->frozen_bytes += lw_job_encoder_bytes(job);
    job->wire.encoder.bert.bert = e->bert;
    return LW_OK;
}

lw_status lw_job_load_encoder(lw_job *job, int what, lw_error *err)
{
    if (reads_with_bert(job)) {
        return load_bert(job, what, err);
    }
    if (!reads_with_llm(job)) {
        return LW_OK;
    }
    lw_llm *e = &job->encoder;
    if (is_shared(job)) {
        e->decoder = job->llms[job->encoder_share].decoder;
    } else {
        lw_decoder_options options = {.max_positions = positions(job),
                                      .random = (what & LW_JOB_SYNTHETIC) != 0,
                                      .seed = (uint64_t)job->config->seed,
                                      .backbone = true,
                                      .layers = job->wire.encoder.llm.config.layers};
        lw_status status = lw_decoder_load(job->dev, e->path, &options, err, &e->decoder);
        if (status != LW_OK) {
            return lw_fail_in(err, status, "encoder.path");
        }
        job->frozen_bytes += lw_job_encoder_bytes(job);
    }
    job->wire.encoder.llm.decoder = e->decoder;
    return LW_OK;
}

void lw_job_close_encoder(lw_job *job)
{
    if (job->encoder_share < 0) {
        lw_decoder_destroy(&job->encoder.decoder);
        lw_bert_destroy(&job->encoder.bert);
        lw_tokenizer_destroy(&job->encoder.tokenizer);
    }
    job->encoder = (lw_llm){0};
}

static void describe_bert(const lw_job *job)
{
    const lw_reader_bert *r = &job->wire.encoder.bert;
    lw_frozen_figures load = lw_bert_load_figures(job->encoder.bert);
    lw_log(job->run,
           "encoder: bert, the first %lld of %lld layers, width %lld, %.2f M parameters, frozen; windows of %lld "
           "positions, [CLS] and [SEP] included; %.1f MB read in %.2f s",
           (long long)r->config.layers, (long long)job->encoder.bert_config.layers, (long long)r->config.d,
           (double)lw_bert_config_parameters(&r->config) / 1e6, (long long)r->windows.most, (double)load.bytes / 1e6,
           load.wall_s);
}

void lw_job_describe_encoder(const lw_job *job)
{
    if (reads_with_bert(job)) {
        describe_bert(job);
    }
    if (!reads_with_llm(job)) {
        return;
    }
    const lw_reader_llm *r = &job->wire.encoder.llm;
    const lw_hf_counts n = lw_hf_config_counts(&r->config);
    char updates[96] = "no updates";
    char weights[128] = "weights of its own";
    if (r->lora.rank > 0) {
        snprintf(updates, sizeof updates, "LoRA of rank %lld, scale %g: %.3f M parameters", (long long)r->lora.rank,
                 (double)r->lora.scale, (double)lw_lora_elements(&r->lora) / 1e6);
    }
    if (is_shared(job)) {
        snprintf(weights, sizeof weights, "weights shared with model %s", job->config->encoder.share);
    }
    lw_log(job->run,
           "encoder: %s, the first %lld of %lld layers, width %lld, %s, %.2f M parameters, frozen, %s; windows "
           "of %lld positions%s; %s",
           r->config.model_type, (long long)r->config.layers, (long long)job->encoder.config.layers,
           (long long)r->config.d, r->bidirectional ? "bidirectional" : "causal", (double)n.total / 1e6, weights,
           (long long)r->window, r->bos >= 0 ? ", begin-of-text first" : "", updates);
}
