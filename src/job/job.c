#include "job/job_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "core/signals.h"
#include "core/version.h"
#include "io/files.h"
#include "kernels/cuda/device_cuda.h"
#include "kernels/devices.h"
#include "mpi/comm_nccl.h"
#include "mpi/threads.h"
#include "run/checkpoint.h"

// --- text

static lw_status choose_bos(const lw_job *job, lw_llm *m, lw_error *err)
{
    int32_t from_tokenizer = lw_tokenizer_bos_id(m->tokenizer);
    m->bos = -1;
    if (job->config->prompt.bos == LW_BOS_AUTO) {
        m->bos = from_tokenizer;
    } else if (job->config->prompt.bos == LW_BOS_YES) {
        m->bos = from_tokenizer >= 0 ? from_tokenizer : (int32_t)m->config.bos_id;
        if (m->bos < 0) {
            return lw_fail(err, LW_ERR_CONFIG,
                           "prompt.bos = \"yes\", but neither tokenizer.json nor config.json of model \"%s\" names a "
                           "BOS token",
                           m->name);
        }
    }
    return LW_OK;
}

lw_status lw_job_open_tokenizer(lw_llm *m, lw_error *err)
{
    char *path = NULL;
    LW_TRY(lw_path_join(m->path, "tokenizer.json", err, &path));
    lw_status status = lw_tokenizer_load(path, err, &m->tokenizer);
    free(path);
    LW_TRY(status);
    int64_t vocab = lw_tokenizer_vocab_size(m->tokenizer);
    if (vocab > m->config.vocab) {
        return lw_fail(err, LW_ERR_FORMAT,
                       "%s: tokenizer.json has ids up to %lld, but config.json says vocab_size %lld; the files belong "
                       "to different models",
                       m->path, (long long)vocab - 1, (long long)m->config.vocab);
    }
    return LW_OK;
}

lw_status lw_job_open_text(const lw_job *job, lw_llm *m, lw_error *err)
{
    LW_TRY(lw_job_open_tokenizer(m, err));
    m->eos = m->config.eos_count > 0 ? (int32_t)m->config.eos_id[0] : -1;
    LW_TRY(choose_bos(job, m, err));
    if (m->bos >= m->config.vocab || m->eos >= m->config.vocab) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: the BOS or EOS id lies outside vocab_size %lld", m->path,
                       (long long)m->config.vocab);
    }
    return LW_OK;
}

// config: the job's, or that of a phase.
static lw_status read_corpus(lw_job *job, const lw_config *config, const char *key, const char *path, int64_t limit,
                             lw_error *err, lw_corpus *out)
{
    lw_llm_text texts[LW_MAX_MODELS];
    char *cache = NULL;
    if (path[0] == '\0') {
        return lw_fail(err, LW_ERR_CONFIG, "%s is not set; name the file with the samples", key);
    }
    for (int64_t j = 0; j < job->llm_count; j++) {
        texts[j] = (lw_llm_text){job->llms[j].tokenizer, job->llms[j].bos, job->llms[j].eos};
    }
    if (job->config->data.cache) {
        LW_TRY(lw_path_join(job->config->run.dir, "cache", err, &cache));
    }
    lw_data_source source = lw_data_source_of(config, path, limit);
    if (job->comm != NULL) {
        source.beat = lw_comm_beat(job->comm);
    }
    lw_status status = lw_corpus_read(config, &source, job->encoder.tokenizer, texts, cache, err, out);
    free(cache);
    return status;
}

static lw_status read_phases(lw_job *job, lw_error *err)
{
    for (int64_t i = 0; i < job->phase_count; i++) {
        const lw_config *c = lw_config_phase(job->config, i);
        lw_status status = read_corpus(job, c, "data.train", c->data.train, c->data.samples, err, &job->train[i]);
        if (status != LW_OK) {
            const char *name = lw_config_phase_name(job->config, i);
            return name[0] != '\0' ? lw_fail_in(err, status, "phase \"%s\"", name) : status;
        }
    }
    return LW_OK;
}

lw_status lw_job_read(lw_job *job, int what, lw_error *err)
{
    const lw_config *c = job->config;
    job->llm_count = c->model_count;
    job->phase_count = lw_config_phase_count(c);
    job->train = calloc((size_t)job->phase_count, sizeof *job->train);
    if (job->train == NULL) {
        job->phase_count = 0;
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the data of the phases");
    }
    for (int64_t j = 0; j < job->llm_count; j++) {
        lw_llm *m = &job->llms[j];
        m->name = c->models[j].name;
        m->path = c->models[j].path;
        lw_status status = lw_hf_config_read(m->path, err, &m->config);
        if (status == LW_OK && (what & LW_JOB_SYNTHETIC) == 0) {
            status = lw_job_open_text(job, m, err);
        }
        if (status != LW_OK) {
            return lw_fail_in(err, status, "model \"%s\"", m->name);
        }
    }
    LW_TRY(lw_job_read_encoder(job, what, err));
    if ((what & LW_JOB_TRAIN) != 0) {
        LW_TRY(read_phases(job, err));
    }
    if ((what & LW_JOB_EVAL) != 0) {
        LW_TRY(read_corpus(job, c, "data.eval", c->data.eval, c->data.eval_samples, err, &job->eval));
    }
    return LW_OK;
}

const lw_corpus *lw_job_answers(const lw_job *job)
{
    for (int64_t i = job->phase_count - 1; i >= 0; i--) {
        if (lw_config_phase(job->config, i)->data.format != LW_DATA_TEXT) {
            return &job->train[i];
        }
    }
    return &job->train[job->phase_count - 1];
}

// --- device and models

int64_t lw_job_max_positions(const lw_job *job, int64_t j)
{
    int64_t most = lw_corpus_max_positions(&job->eval, job->config, j);
    int64_t encoder = lw_job_encoder_positions(job, j);
    most = most > encoder ? most : encoder;
    for (int64_t i = 0; i < job->phase_count; i++) {
        int64_t here = lw_corpus_max_positions(&job->train[i], lw_config_phase(job->config, i), j);
        most = here > most ? here : most;
    }
    return most > job->min_positions ? most : job->min_positions;
}

static lw_status open_models(lw_job *job, int what, lw_error *err)
{
    const lw_config *c = job->config;
    int64_t d[LW_MAX_MODELS];
    lw_encoder_backbone backbone;
    for (int64_t j = 0; j < job->llm_count; j++) {
        d[j] = job->llms[j].config.d;
    }
    LW_TRY(lw_wire_declare(c, d, lw_job_backbone(job, &backbone), err, &job->wire));
    LW_TRY(lw_device_open(job->device.kind, job->device.index, job->threads, err, &job->dev));
    job->dev->beat = lw_comm_beat(job->comm);
    lw_comm_bound_device(job->comm, job->dev);
    for (int64_t j = 0; j < job->llm_count; j++) {
        lw_llm *m = &job->llms[j];
        lw_decoder_options options = {.max_positions = lw_job_max_positions(job, j),
                                      .random =
                                          (what & LW_JOB_SYNTHETIC) != 0 || c->models[j].init == LW_MODEL_INIT_RANDOM,
                                      .seed = (uint64_t)c->seed};
        lw_status status = lw_decoder_load(job->dev, m->path, &options, err, &m->decoder);
        if (status != LW_OK) {
            return lw_fail_in(err, status, "model \"%s\"", m->name);
        }
        job->frozen_bytes += lw_decoder_weight_bytes(&m->config, job->dev->frozen_type, options.max_positions);
    }
    LW_TRY(lw_job_load_encoder(job, what, err));
    lw_arena arena = lw_arena_measure();
    lw_wire_layout(&arena, true, &job->wire);
    LW_TRY(lw_arena_alloc(job->dev, &arena, "trainable parameters", err, &job->wire_memory));
    arena = job->wire_memory;
    lw_wire_layout(&arena, true, &job->wire);
    for (int64_t j = 0; j < job->llm_count; j++) {
        float rms = lw_decoder_embedding_rms(job->llms[j].decoder);
        lw_wire_set_embedding_rms(&job->wire, j, c->adapter.embedding_scale ? rms : 1.0F);
    }
    return lw_wire_init(job->dev, &job->wire, (uint64_t)c->seed, err);
}

static lw_status choose_threads(lw_job *job, lw_error *err)
{
    if (job->config->threads > 0) {
        job->threads = (int)job->config->threads;
        return LW_OK;
    }
    return lw_threads_auto(job->comm, err, &job->threads);
}

static lw_status open_job(lw_job *job, int what, lw_error *err)
{
    lw_comm_set_timeout(job->comm, job->config->comm.timeout_s);
    LW_TRY(choose_threads(job, err));
    LW_TRY(lw_rank_device_choose(job->config, job->comm, err, &job->device));
    // One rank of a node writes the token cache, the others then find it.
    lw_status status = LW_OK;
    lw_comm_phase(job->comm, "reading tokenizers and data");
    if (lw_comm_local_rank(job->comm) == 0) {
        status = lw_job_read(job, what, err);
    }
    LW_TRY(lw_comm_agree(job->comm, lw_signal_check(status), err));
    if (lw_comm_local_rank(job->comm) != 0) {
        status = lw_job_read(job, what, err);
    }
    LW_TRY(lw_comm_agree(job->comm, lw_signal_check(status), err));
    lw_comm_phase(job->comm, "loading models");
    LW_TRY(lw_comm_agree(job->comm, lw_signal_check(open_models(job, what, err)), err));
    lw_comm_phase(job->comm, "connecting devices");
    return lw_comm_attach_device(job->comm, job->dev, job->config->comm.backend, job->wire.reduce_elements, err);
}

lw_status lw_job_open(lw_job *job, int what, lw_error *err)
{
    job->rank = lw_comm_rank(job->comm);
    job->ranks = lw_comm_size(job->comm);
    return lw_job_stopped(job, open_job(job, what, err), "while loading", err);
}

lw_status lw_job_stopped(lw_job *job, lw_status status, const char *when, lw_error *err)
{
    if (status != LW_REQUEUE && status != LW_INTERRUPTED) {
        return status;
    }
    double worst = (double)lw_signal_pending();
    LW_TRY(lw_comm_max_f64(job->comm, &worst, 1, err));
    const char *name = lw_signal_name((lw_signal)worst);
    if (job->run != NULL) {
        lw_log(job->run, "stopped by %s %s; start again to go on", name, when);
    } else if (job->rank == 0) {
        fprintf(stderr, "lwmpi: stopped by %s %s\n", name, when);
    }
    return status;
}

void lw_job_close(lw_job *job)
{
    if (job->comm != NULL) {
        lw_comm_detach_device(job->comm);
    }
    if (job->dev != NULL) {
        lw_arena_free(job->dev, &job->wire_memory);
    }
    lw_wire_free(&job->wire);
    for (int64_t i = 0; i < job->phase_count; i++) {
        lw_corpus_free(&job->train[i]);
    }
    free(job->train);
    lw_corpus_free(&job->eval);
    lw_job_close_encoder(job);
    for (int64_t j = 0; j < LW_MAX_MODELS; j++) {
        lw_decoder_destroy(&job->llms[j].decoder);
        lw_tokenizer_destroy(&job->llms[j].tokenizer);
    }
    lw_device_close(&job->dev);
    lw_config_destroy(&job->config);
    *job = (lw_job){0};
}

// --- what people see

static void describe_load(const lw_decoder *decoder, char *out, size_t size)
{
    lw_decoder_loaded l = lw_decoder_load_figures(decoder);
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
        describe_load(m->decoder, load, sizeof load);
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

typedef struct lw_place {
    char host[64];
    int threads;
    char device[128];
} lw_place;

// What moves the data between the ranks, and which libraries do the arithmetic.
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
}

static lw_status describe_places(lw_job *job, lw_error *err)
{
    lw_place mine = {.threads = job->threads};
    snprintf(mine.host, sizeof mine.host, "%s", lw_comm_host(job->comm));
    snprintf(mine.device, sizeof mine.device, "%s", job->dev->description);
    lw_place *all = job->rank == 0 ? calloc((size_t)job->ranks, sizeof *all) : NULL;
    lw_status status = LW_OK;
    if (job->rank == 0 && all == NULL) {
        status = lw_fail(err, LW_ERR_MEMORY, "no memory for a table of %d ranks", job->ranks);
    }
    status = lw_comm_agree(job->comm, status, err);
    if (status == LW_OK) {
        status = lw_comm_gather(job->comm, 0, &mine, sizeof mine, err, all);
    }
    for (int r = 0; status == LW_OK && all != NULL && r < job->ranks; r++) {
        lw_log(job->run, "rank %d on %s: %s", r, all[r].host, all[r].device);
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
        lw_job_describe_encoder(job);
        char latents[64];
        describe_latents(c, latents, sizeof latents);
        char shape[64] = "";
        if (c->encoder.kind == LW_ENCODER_BYTE) {
            snprintf(shape, sizeof shape, " (%lld layers, width %lld)", (long long)c->encoder.layers,
                     (long long)c->encoder.width);
        }
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
    return describe_places(job, err);
}

static void note_model(const lw_llm *m, lw_checkpoint_model *out)
{
    snprintf(out->name, sizeof out->name, "%s", m->name);
    out->weights_hash = lw_llm_fingerprint(m);
    out->tokenizer_hash = lw_tokenizer_fingerprint(m->tokenizer);
}

// What a held-out loss is a figure of: the samples, and how many of them.
static uint64_t hash_evaluation(const lw_job *job)
{
    int64_t wanted = job->config->eval.loss_samples;
    int64_t count = wanted > 0 && wanted < job->eval.count ? wanted : job->eval.count;
    const uint64_t numbers[] = {job->eval.data.fingerprint, (uint64_t)count};
    return count > 0 ? lw_xxh64(numbers, sizeof numbers, 0) : 0;
}

// Of all phases' data; of one phase it is the data's own.
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
        note_model(&job->llms[j], &info->models[j]);
    }
    if (lw_llm_loaded(&job->encoder)) {
        note_model(&job->encoder, &info->models[info->model_count++]);
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
