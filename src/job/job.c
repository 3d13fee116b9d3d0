// job.c: opens a job, from the configuration to models and wire on the device, and closes it.
#include "job/job_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/signals.h"
#include "io/files.h"
#include "kernels/devices.h"
#include "mpi/threads.h"

// --- samples

// config: that of the job or of a phase.
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
    source.heartbeat = job->comm != NULL ? lw_comm_heartbeat(job->comm) : job->heartbeat;
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

// --- the grid

int lw_job_owner_rank(const lw_job *job, int64_t j, int data)
{
    return lw_grid_rank(job->grid, (lw_grid_place){.data = data, .model = job->owner[j]});
}

void lw_job_configs(const lw_job *job, const lw_hf_config **out)
{
    for (int64_t j = 0; j < job->llm_count; j++) {
        out[j] = &job->llms[j].config;
    }
}

void lw_job_own_configs(const lw_job *job, const lw_hf_config **out)
{
    for (int64_t j = 0; j < job->llm_count; j++) {
        out[j] = lw_job_owns(job, j) ? &job->llms[j].config : NULL;
    }
}

void lw_job_decoders(const lw_job *job, lw_decoder **out)
{
    for (int64_t j = 0; j < job->llm_count; j++) {
        out[j] = job->llms[j].decoder;
    }
}

lw_status lw_job_grid(const lw_config *config, int64_t model, int ranks, lw_error *err, lw_grid *out)
{
    for (int64_t i = 0; model > 1 && i < lw_config_phase_count(config); i++) {
        if (lw_config_phase(config, i)->train.schedule == LW_SCHEDULE_ALTERNATE) {
            return lw_fail(
                err, LW_ERR_CONFIG,
                "grid.model = %lld with train.schedule = \"alternate\": only one group of ranks would work in "
                "a step while the others wait; set train.schedule = \"all\", or grid.model = 1",
                (long long)model);
        }
    }
    return lw_grid_make(ranks, model, 1, config->model_count, err, out);
}

void lw_job_set_place(lw_job *job, lw_grid grid, int rank)
{
    double bytes[LW_MAX_MODELS];
    job->grid = grid;
    job->place = lw_grid_place_of(grid, rank);
    for (int64_t j = 0; j < job->llm_count; j++) {
        bytes[j] = (double)lw_hf_config_counts(&job->llms[j].config).total;
    }
    lw_grid_owners(bytes, job->llm_count, grid.model, job->owner);
}

int64_t lw_job_model_groups(const lw_job *job)
{
    int64_t chosen = job->config->grid.model > 0 ? job->config->grid.model : job->grid.model;
    return chosen > 0 ? chosen : 1;
}

static lw_status make_grid(lw_job *job, lw_error *err)
{
    lw_grid grid;
    LW_TRY(lw_job_grid(job->config, lw_job_model_groups(job), job->ranks, err, &grid));
    lw_job_set_place(job, grid, job->rank);
    return LW_OK;
}

// --- models

static lw_status load_models(lw_job *job, int what, lw_error *err)
{
    const lw_config *c = job->config;
    for (int64_t j = 0; j < job->llm_count; j++) {
        lw_llm *m = &job->llms[j];
        lw_decoder_options options = {.max_positions = lw_job_max_positions(job, j),
                                      .random =
                                          (what & LW_JOB_SYNTHETIC) != 0 || c->models[j].init == LW_MODEL_INIT_RANDOM,
                                      .seed = (uint64_t)c->seed};
        if (!lw_job_owns(job, j)) {
            continue;
        }
        lw_status status = lw_decoder_load(job->dev, m->path, &options, err, &m->decoder);
        if (status != LW_OK) {
            return lw_fail_in(err, status, "model \"%s\"", m->name);
        }
        job->frozen_bytes += lw_decoder_weight_bytes(&m->config, job->dev->frozen_type, options.max_positions);
        m->weights_hash = lw_decoder_fingerprint(m->decoder);
        m->embedding_rms = lw_decoder_embedding_rms(m->decoder);
        m->loaded = lw_decoder_load_figures(m->decoder);
    }
    return LW_OK;
}

static lw_status open_models(lw_job *job, int what, lw_error *err)
{
    int64_t d[LW_MAX_MODELS];
    for (int64_t j = 0; j < job->llm_count; j++) {
        d[j] = job->llms[j].config.d;
    }
    LW_TRY(lw_wire_declare(job->config, d, &job->encoder.backbone, err, &job->wire));
    LW_TRY(lw_device_open(job->device.kind, job->device.index, job->threads, err, &job->dev));
    job->dev->heartbeat = lw_comm_heartbeat(job->comm);
    lw_comm_bound_device(job->comm, job->dev);
    LW_TRY(load_models(job, what, err));
    return lw_job_load_encoder(job, what, err);
}

// Exchanges what a rank needs to know of the LLMs that are on other ranks. Collective.
static lw_status share_facts(lw_job *job, lw_error *err)
{
    for (int64_t j = 0; j < job->llm_count; j++) {
        struct {
            uint64_t hash;
            float rms;
            lw_frozen_figures loaded;
        } facts;
        lw_llm *m = &job->llms[j];
        memset(&facts, 0, sizeof facts);
        facts.hash = m->weights_hash;
        facts.rms = m->embedding_rms;
        facts.loaded = m->loaded;
        LW_TRY(lw_comm_broadcast(job->comm, lw_job_owner_rank(job, j, 0), &facts, sizeof facts, err));
        m->weights_hash = facts.hash;
        m->embedding_rms = facts.rms;
        m->loaded = facts.loaded;
    }
    return LW_OK;
}

static lw_status layout_wire(void *wire, lw_arena *arena, lw_error *err)
{
    (void)err;
    lw_wire_layout(arena, true, wire);
    return LW_OK;
}

static lw_status open_wire(lw_job *job, lw_error *err)
{
    const lw_config *c = job->config;
    LW_TRY(lw_arena_place(job->dev, "trainable parameters", layout_wire, &job->wire, err, &job->wire_memory));
    for (int64_t j = 0; j < job->llm_count; j++) {
        lw_wire_set_embedding_rms(&job->wire, j, c->adapter.embedding_scale ? job->llms[j].embedding_rms : 1.0F);
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
    // One rank of each node writes the token cache first, so that the others find it.
    lw_status status = LW_OK;
    lw_comm_doing(job->comm, "reading tokenizers and data");
    if (lw_comm_local_rank(job->comm) == 0) {
        status = lw_job_read(job, what, err);
    }
    LW_TRY(lw_comm_agree(job->comm, lw_signal_check(status), err));
    if (lw_comm_local_rank(job->comm) != 0) {
        status = lw_job_read(job, what, err);
    }
    LW_TRY(lw_comm_agree(job->comm, lw_signal_check(status), err));
    LW_TRY(lw_comm_agree(job->comm, make_grid(job, err), err));
    if (job->grid.model > 1) {
        LW_TRY(lw_comm_group(job->comm, job->place.data * job->grid.tensor + job->place.tensor, err, &job->models));
    }
    lw_comm_doing(job->comm, "loading models");
    LW_TRY(lw_comm_agree(job->comm, lw_signal_check(open_models(job, what, err)), err));
    LW_TRY(share_facts(job, err));
    LW_TRY(lw_comm_agree(job->comm, lw_signal_check(open_wire(job, err)), err));
    lw_comm_doing(job->comm, "connecting devices");
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
    lw_comm_destroy(&job->models);
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
