// describe.c: what rank 0 logs of an opened job: models, wire, data, ranks and libraries.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/version.h"
#include "job/job_internal.h"
#include "kernels/cuda/device_cuda.h"
#include "mpi/comm_nccl.h"

static void describe_load(lw_frozen_figures l, char *out, size_t size)
{
    if (l.bytes == 0) {
        snprintf(out, size, "random weights made in %.2f s", l.wall_s);
    } else {
        snprintf(out, size, "%.3g GB read in %.2f s, %.2f GB/s", (double)l.bytes * 1e-9, l.wall_s,
                 (double)l.bytes * 1e-9 / l.wall_s);
    }
}

static void describe_models(lw_job *job)
{
    for (int64_t j = 0; j < job->llm_count; j++) {
        char load[96];
        const lw_llm *m = &job->llms[j];
        describe_load(m->loaded, load, sizeof load);
        lw_hf_counts n = lw_hf_config_counts(&m->config);
        lw_log(job->run,
               "model %s: %s, %lld layers, width %lld, %lld heads (%lld kv), ffn %lld, vocabulary %lld%s, "
               "%.2f M parameters, frozen, %s; %s",
               m->name, m->config.model_type, (long long)m->config.layers, (long long)m->config.d,
               (long long)m->config.heads, (long long)m->config.kv_heads, (long long)m->config.ffn,
               (long long)m->config.vocab, m->config.tied ? " (tied)" : "", (double)n.total / 1e6,
               lw_dtype_name(job->dev->frozen_type), load);
    }
}

static void describe_corpus(lw_job *job, const char *what, const lw_corpus *c)
{
    if (c->count == 0) {
        return;
    }
    lw_log(job->run, "%s: %lld samples, %.0f source bytes on average", what, (long long)c->count,
           (double)c->source_bytes / (double)c->count);
    if (c->data.bad_rows > 0) {
        lw_log(job->run, "warning: %s: %lld malformed rows passed over; the first: %s", what,
               (long long)c->data.bad_rows, c->data.first_bad_row);
    }
    if (c->data.blank_rows > 0) {
        lw_log(job->run, "note: %s: %lld blank documents passed over", what, (long long)c->data.blank_rows);
    }
    if (c->cut_sources > 0) {
        lw_log(job->run, "warning: %s: %lld sources cut to prompt.max_source_bytes = %lld", what,
               (long long)c->cut_sources, (long long)job->config->prompt.max_source_bytes);
    }
    for (int64_t j = 0; j < c->llm_count; j++) {
        const lw_token_set *t = &c->tokens[j];
        if (t->cut_prompts > 0 || t->cut_answers > 0) {
            lw_log(job->run, "warning: %s, model %s: %lld prompts and %lld answers cut to their token limits", what,
                   job->llms[j].name, (long long)t->cut_prompts, (long long)t->cut_answers);
        }
        if (t->cache_note[0] != '\0') {
            lw_log(job->run, "note: %s", t->cache_note);
        }
    }
}

typedef struct lw_rank_row {
    char host[64];
    int threads;
    char device[128];
} lw_rank_row;

// Logs what moves the data between the ranks, and which libraries do the arithmetic.
static void describe_backend(lw_job *job)
{
    char plane[128];
    char cuda[64];
    char cublas[64];
    char nccl[64];
    if (strcmp(job->device.kind, "cuda") == 0) {
        lw_cuda_version(cuda, sizeof cuda);
        lw_cublas_version(cublas, sizeof cublas);
        lw_nccl_version(nccl, sizeof nccl);
        lw_log(job->run, "CUDA %s, cuBLAS %s, NCCL %s", cuda, cublas, nccl);
    }
    lw_comm_data_plane(job->comm, plane, sizeof plane);
    lw_log(job->run, "data plane: %s", plane);
    if (job->grid.model > 1) {
        lw_log(job->run, "grid: %d x %d (data x model): the LLMs are on different ranks", job->grid.data,
               job->grid.model);
    }
}

// Names the LLMs of a rank, " with llama, qwen", if not every rank has all of them.
static void describe_owned(const lw_job *job, int rank, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (int64_t j = 0; j < job->llm_count && job->grid.model > 1 && used < size; j++) {
        if (job->owner[j] == lw_grid_place_of(job->grid, rank).model) {
            int n = snprintf(out + used, size - used, "%s%s", used == 0 ? " with " : ", ", job->llms[j].name);
            used += n > 0 ? (size_t)n : 0;
        }
    }
}

static lw_status describe_ranks(lw_job *job, lw_error *err)
{
    lw_rank_row mine = {.threads = job->threads};
    snprintf(mine.host, sizeof mine.host, "%s", lw_comm_host(job->comm));
    snprintf(mine.device, sizeof mine.device, "%s", job->dev->description);
    lw_rank_row *all = job->rank == 0 ? calloc((size_t)job->ranks, sizeof *all) : NULL;
    lw_status status = LW_OK;
    if (job->rank == 0 && all == NULL) {
        status = lw_fail(err, LW_ERR_MEMORY, "no memory for a table of %d ranks", job->ranks);
    }
    status = lw_comm_agree(job->comm, status, err);
    if (status == LW_OK) {
        status = lw_comm_gather(job->comm, 0, &mine, sizeof mine, err, all);
    }
    for (int r = 0; status == LW_OK && all != NULL && r < job->ranks; r++) {
        char owned[256];
        describe_owned(job, r, owned, sizeof owned);
        lw_log(job->run, "rank %d on %s: %s%s", r, all[r].host, all[r].device, owned);
    }
    free(all);
    return status;
}

static void describe_latents(const lw_config *c, char *out, size_t size)
{
    if (c->wire.ratio > 0) {
        snprintf(out, size, "a latent for every %lld tokens", (long long)c->wire.ratio);
    } else {
        snprintf(out, size, "%lld latents", (long long)c->wire.latents);
    }
}

lw_status lw_job_describe(lw_job *job, lw_error *err)
{
    if (job->rank == 0) {
        const lw_config *c = job->config;
        lw_log(job->run, "lwmpi %s, configuration %s, %d rank%s", lw_version(), c->path, job->ranks,
               job->ranks == 1 ? "" : "s");
        describe_models(job);
        char latents[64];
        char shape[128];
        lw_job_describe_encoder(job, shape, sizeof shape);
        describe_latents(c, latents, sizeof latents);
        lw_log(job->run, "wire: %s x %lld from %s by encoder %s%s and pooler %s; %.3f M trainable parameters", latents,
               (long long)c->wire.d_z, lw_compress_name(c->wire.compress), lw_encoder_kind_name(c->encoder.kind), shape,
               lw_pooler_kind_name(c->pooler.kind), (double)job->wire.params.elements / 1e6);
        for (int64_t i = 0; i < job->phase_count; i++) {
            char what[128];
            const char *name = lw_config_phase_name(c, i);
            snprintf(what, sizeof what, "training data%s%s", name[0] != '\0' ? " of phase " : "", name);
            describe_corpus(job, what, &job->train[i]);
        }
        describe_corpus(job, "evaluation data", &job->eval);
        describe_backend(job);
    }
    return describe_ranks(job, err);
}
