// checkpoint_info.c: the hashes by which a checkpoint names the models, data and configuration that it came from.
#include <stdio.h>

#include "core/hash.h"
#include "core/version.h"
#include "job/job_internal.h"
#include "run/checkpoint.h"

void lw_llm_note(const lw_llm *m, lw_checkpoint_model *out)
{
    snprintf(out->name, sizeof out->name, "%s", m->name);
    out->weights_hash = m->weights_hash;
    out->tokenizer_hash = lw_tokenizer_fingerprint(m->tokenizer);
}

// A hash of what a held-out loss depends on: the samples, and how many of them are used.
static uint64_t hash_evaluation(const lw_job *job)
{
    int64_t wanted = job->config->eval.loss_samples;
    int64_t count = wanted > 0 && wanted < job->eval.count ? wanted : job->eval.count;
    const uint64_t numbers[] = {job->eval.data.fingerprint, (uint64_t)count};
    return count > 0 ? lw_xxh64(numbers, sizeof numbers, 0) : 0;
}

// A hash of the data of all phases; with one phase it is the fingerprint of its data.
static uint64_t data_hash(const lw_job *job)
{
    uint64_t hash = job->train[0].data.fingerprint;
    for (int64_t i = 1; i < job->phase_count; i++) {
        hash = lw_xxh64(&job->train[i].data.fingerprint, sizeof hash, hash);
    }
    return hash;
}

void lw_job_checkpoint_models(const lw_job *job, lw_checkpoint_info *info)
{
    info->model_count = (int)job->llm_count;
    for (int64_t j = 0; j < job->llm_count; j++) {
        lw_llm_note(&job->llms[j], &info->models[j]);
    }
    if (lw_job_note_encoder(job, &info->models[info->model_count])) {
        info->model_count++;
    }
}

lw_status lw_job_checkpoint_info(const lw_job *job, lw_error *err, lw_checkpoint_info *out)
{
    lw_checkpoint_info info = {.data_hash = data_hash(job), .eval_hash = hash_evaluation(job)};
    LW_TRY(lw_config_hash(job->config, err, &info.config_hash));
    LW_TRY(lw_config_wire_hash(job->config, err, &info.wire_hash));
    lw_job_checkpoint_models(job, &info);
    snprintf(info.lwmpi_version, sizeof info.lwmpi_version, "%s", lw_version());
    *out = info;
    return LW_OK;
}
