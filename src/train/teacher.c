// teacher.c: finds the states of the teachers on the disk, and computes those that are missing.
#include "train/teacher.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/hash.h"
#include "core/numbers.h"
#include "core/signals.h"
#include "data/sample.h"
#include "io/files.h"
#include "train/teacher_internal.h"

typedef struct teacher_llm {
    lw_teacher_index index;
    lw_pass_limits limits;
    void *indices; // device
    lw_decoder_buffers buffers;
    lw_packing packing;
    char *path;
    lw_teacher_file *file;
} teacher_llm;

struct lw_teacher {
    lw_job *job;                    // borrowed
    const lw_token_sample *samples; // borrowed
    int64_t count;
    lw_step_loss loss;
    teacher_llm llms[LW_MAX_MODELS];
    unsigned char *rows; // host: states of a chunk
    int64_t *missing;    // (chunks)
    lw_teacher_figures figures;
};

// --- identity

static uint64_t hash_tokens(const lw_tokens *tokens, uint64_t hash)
{
    hash = lw_xxh64(&tokens->count, sizeof tokens->count, hash);
    return lw_xxh64(tokens->ids, (size_t)tokens->count * sizeof *tokens->ids, hash);
}

// A hash of what the model reads. Data, templates, tokenizer and limits all show in it.
static uint64_t hash_samples(const lw_teacher *t, int64_t j)
{
    uint64_t hash = 0;
    for (int64_t i = 0; i < t->count; i++) {
        hash = hash_tokens(&t->samples[i].prompt[j], hash);
        hash = hash_tokens(&t->samples[i].answer[j], hash);
    }
    return hash;
}

// A hash of what config.json adds to the shapes of the weights.
static uint64_t hash_model(const lw_hf_config *c)
{
    const double numbers[] = {(double)c->d,
                              (double)c->layers,
                              (double)c->heads,
                              (double)c->kv_heads,
                              (double)c->head_dim,
                              (double)c->ffn,
                              (double)c->rms_eps,
                              c->rope_theta,
                              (double)c->rope_kind,
                              c->rope_factor,
                              c->rope_low_freq_factor,
                              c->rope_high_freq_factor,
                              c->rope_original_max_positions};
    return lw_xxh64(numbers, sizeof numbers, 0);
}

static void identify(const lw_teacher *t, int64_t j, lw_teacher_index *l)
{
    const lw_llm *m = &t->job->llms[j];
    l->weights = m->weights_hash;
    l->tokens = hash_samples(t, j);
    const uint64_t parts[] = {l->weights,     l->tokens,      hash_model(&m->config), (uint64_t)l->type,
                              (uint64_t)l->d, (uint64_t)l->k, (uint64_t)l->samples,   (uint64_t)l->chunk_samples};
    l->key = lw_xxh64(parts, sizeof parts, LW_TEACHER_FILE_VERSION);
}

static lw_status make_path(const lw_teacher *t, uint64_t key, lw_error *err, char **out)
{
    const lw_config *c = t->job->config;
    char name[64];
    char *dir = NULL;
    LW_TRY(c->loss.kd_cache[0] != '\0' ? lw_path_join(c->loss.kd_cache, "", err, &dir)
                                       : lw_path_join(c->run.dir, "cache", err, &dir));
    snprintf(name, sizeof name, "teacher-%016llx.bin", (unsigned long long)key);
    lw_status status = lw_path_join(dir, name, err, out);
    free(dir);
    return status;
}

// --- life

static lw_status create_llm(lw_teacher *t, int64_t j, lw_error *err)
{
    teacher_llm *l = &t->llms[j];
    const lw_llm *m = &t->job->llms[j];
    LW_TRY(lw_teacher_index_samples(&t->loss, &m->config, t->job->dev->frozen_type, t->samples, t->count, j, err,
                                    &l->index));
    identify(t, j, &l->index);
    l->limits = lw_teacher_limits_of(&t->loss, t->samples, j, &l->index);
    return make_path(t, l->index.key, err, &l->path);
}

lw_status lw_teacher_create(lw_job *job, const lw_config *config, const lw_token_sample *samples, int64_t count,
                            lw_error *err, lw_teacher **out)
{
    int64_t chunks = 0;
    int64_t bytes = 0;
    lw_status status = LW_OK;
    lw_teacher *t = calloc(1, sizeof *t);
    if (t == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for a teacher");
    }
    *t = (lw_teacher){.job = job, .samples = samples, .count = count, .loss = lw_step_loss_of(config)};
    for (int64_t j = 0; j < job->llm_count && status == LW_OK; j++) {
        status = create_llm(t, j, err);
        chunks = lw_max_i64(chunks, t->llms[j].index.chunks);
        bytes = lw_max_i64(bytes, t->llms[j].index.chunk_bytes);
    }
    if (status == LW_OK) {
        t->missing = calloc((size_t)chunks + 1, sizeof *t->missing);
        t->rows = malloc((size_t)bytes + 1);
        if (t->missing == NULL || t->rows == NULL) {
            status = lw_fail(err, LW_ERR_MEMORY, "no memory for the states of %lld samples", (long long)count);
        }
    }
    if (status != LW_OK) {
        lw_teacher_destroy(&t);
        return status;
    }
    *out = t;
    return LW_OK;
}

void lw_teacher_destroy(lw_teacher **teacher)
{
    lw_teacher *t = *teacher;
    if (t != NULL) {
        for (int64_t j = 0; j < LW_MAX_MODELS; j++) {
            teacher_llm *l = &t->llms[j];
            lw_teacher_file_close(&l->file);
            lw_teacher_index_free(&l->index);
            lw_packing_free(&l->packing);
            lw_decoder_buffers_free(&l->buffers);
            free(l->path);
        }
        free(t->missing);
        free(t->rows);
        free(t);
    }
    *teacher = NULL;
}

lw_status lw_teacher_buffers_layout(lw_arena *arena, lw_teacher *t, lw_error *err)
{
    lw_arena_mark mark = lw_arena_save(arena);
    for (int64_t j = 0; j < t->job->llm_count; j++) {
        teacher_llm *l = &t->llms[j];
        lw_arena_rewind(arena, mark);
        lw_decoder_buffers_free(&l->buffers);
        if (!lw_job_owns(t->job, j)) {
            continue;
        }
        LW_TRY(lw_teacher_pass_layout(arena, t->job->dev, &t->job->llms[j].config, &l->limits, err, &l->indices,
                                      &l->buffers));
    }
    return LW_OK;
}

lw_teacher_figures lw_teacher_figures_of(const lw_teacher *teacher)
{
    return teacher->figures;
}

// --- computing the states

static lw_status exceeded(lw_error *err)
{
    return lw_fail(err, LW_ERR_INTERNAL, "a teacher's pass exceeds the limits it was sized for");
}

// Runs one pass over `count` samples from `first` on; their states go to `rows`.
static lw_status run_pass(lw_teacher *t, int64_t j, int64_t first, int64_t count, void *rows, lw_error *err)
{
    teacher_llm *l = &t->llms[j];
    lw_packing *p = &l->packing;
    lw_device *dev = t->job->dev;
    const lw_decoder *decoder = t->job->llms[j].decoder;
    lw_packing_clear(p);
    for (int64_t i = first; i < first + count; i++) {
        const lw_token_sample *s = &t->samples[i];
        int64_t taught = lw_step_taught(&t->loss, s, j);
        if (taught == 0) {
            continue;
        }
        if (lw_packing_add(p, 0, 0, s->prompt[j].ids, s->prompt[j].count, 0) < 0) {
            return exceeded(err);
        }
        int64_t last = p->rows - 1;
        if (lw_packing_extend(p, s->answer[j].ids, taught - 1) < 0) {
            return exceeded(err);
        }
        for (int64_t k = 0; k < taught; k++) {
            if (!lw_packing_score(p, last + k, s->answer[j].ids[k], 0.0F)) {
                return exceeded(err);
            }
        }
    }
    if (p->supervised == 0) {
        return LW_OK;
    }
    lw_packing_upload(p, dev);
    lw_decoder_forward(decoder, p, NULL, NULL, &l->buffers);
    lw_decoder_hidden(decoder, p, &l->buffers);
    dev->ops->download(dev, l->buffers.hidden, (size_t)(p->supervised * l->index.row_bytes), rows);
    return dev->ops->sync(dev, err);
}

static lw_status run_chunk(lw_teacher *t, int64_t j, int64_t chunk, lw_error *err)
{
    teacher_llm *l = &t->llms[j];
    int64_t first = lw_teacher_index_first(&l->index, chunk);
    int64_t end = lw_teacher_index_first(&l->index, chunk + 1);
    for (int64_t i = first; i < end;) {
        lw_pass_limits used;
        int64_t count = lw_teacher_next_pass(&t->loss, t->samples, j, i, end, &used);
        int64_t before = l->index.first_row[i] - l->index.first_row[first];
        LW_TRY(run_pass(t, j, i, count, t->rows + before * l->index.row_bytes, err));
        i += count;
        lw_comm_send_heartbeat(t->job->comm);
    }
    return lw_teacher_file_write(l->file, chunk, t->rows, err);
}

static int64_t samples_in(const lw_teacher_index *l, const int64_t *chunks, int64_t count)
{
    int64_t samples = 0;
    for (int64_t i = 0; i < count; i++) {
        samples += lw_teacher_index_first(l, chunks[i] + 1) - lw_teacher_index_first(l, chunks[i]);
    }
    return samples;
}

// Computes the missing chunks in rounds. In each round every rank that has the LLM computes at most one chunk, and all
// agree to go on. A signal on any rank stops all of them after the round.
static lw_status run_rounds(lw_teacher *t, int64_t j, int64_t count, lw_error *err)
{
    lw_job *job = t->job;
    const lw_teacher_index *l = &t->llms[j].index;
    lw_status status = LW_OK;
    for (int64_t round = 0; round < count && status == LW_OK; round += job->grid.data) {
        lw_comm_doing(job->comm, "teacher of %s, chunk %lld of %lld", job->llms[j].name, (long long)round + 1,
                      (long long)count);
        if (lw_job_owns(job, j) && round + job->place.data < count) {
            status = run_chunk(t, j, t->missing[round + job->place.data], err);
        }
        status = lw_comm_agree(job->comm, lw_signal_check(status), err);
        int64_t done = round + job->grid.data < count ? round + job->grid.data : count;
        lw_run_dir_progress(job->run, &(lw_progress_state){.label = "teacher",
                                                           .done = samples_in(l, t->missing, done),
                                                           .total = samples_in(l, t->missing, count),
                                                           .loss = __builtin_nan(""),
                                                           .left_s = -1.0});
    }
    return status;
}

// --- finding the states

// Checks this rank's share of the chunks: missing[c] = 1 if chunk c is not whole.
static lw_status check_share(lw_teacher *t, int64_t j, lw_error *err)
{
    teacher_llm *l = &t->llms[j];
    for (int64_t c = t->job->rank; c < l->index.chunks; c += t->job->ranks) {
        bool whole = false;
        LW_TRY(lw_signal_check(LW_OK)); // a large file takes minutes
        LW_TRY(lw_teacher_file_check(l->file, c, err, &whole));
        t->missing[c] = !whole;
        lw_comm_send_heartbeat(t->job->comm);
    }
    return LW_OK;
}

// Lists the missing chunks of all ranks' shares at the beginning of t->missing. Collective.
static lw_status find_missing(lw_teacher *t, int64_t j, lw_error *err, int64_t *count)
{
    int64_t chunks = t->llms[j].index.chunks;
    lw_comm *comm = t->job->comm;
    memset(t->missing, 0, (size_t)chunks * sizeof *t->missing);
    LW_TRY(lw_comm_agree(comm, lw_signal_check(check_share(t, j, err)), err));
    LW_TRY(lw_comm_sum_i64(comm, t->missing, chunks, err));
    *count = 0;
    for (int64_t c = 0; c < chunks; c++) {
        if (t->missing[c] > 0) {
            t->missing[(*count)++] = c;
        }
    }
    return LW_OK;
}

// Opens the finished file and reads all hashes. This rank has to see what the other ranks wrote.
static lw_status load_all(lw_teacher *t, int64_t j, lw_error *err)
{
    teacher_llm *l = &t->llms[j];
    lw_teacher_file_close(&l->file); // a network file system shows what others wrote when the file is opened again
    if (!lw_job_owns(t->job, j)) {
        return LW_OK; // another rank runs the steps of this LLM
    }
    LW_TRY(lw_teacher_file_open(l->path, &l->index, false, err, &l->file));
    for (int64_t c = 0; c < l->index.chunks; c++) {
        bool whole = false;
        lw_comm_send_heartbeat(t->job->comm);
        LW_TRY(lw_teacher_file_load(l->file, c, err, &whole));
        if (!whole) {
            return lw_fail(err, LW_ERR_IO,
                           "%s: chunk %lld, which another rank has written, is not to be seen here: all nodes have to "
                           "share that folder; name another one with loss.kd_cache",
                           l->path, (long long)c);
        }
    }
    return LW_OK;
}

static void describe(const lw_teacher *t, int64_t j, int64_t made, double check_s, double made_s)
{
    const teacher_llm *l = &t->llms[j];
    char what[160];
    if (made == 0) {
        snprintf(what, sizeof what, "all there, checked in %.2f s", check_s);
    } else {
        snprintf(what, sizeof what, "%lld samples were there; %lld made in %.2f s, %.1f samples/s",
                 (long long)(t->count - made), (long long)made, made_s, (double)made / made_s);
    }
    lw_log(t->job->run, "teacher of %s: %lld states of the first %lld answer tokens of %lld samples, %.1f MB in %s: %s",
           t->job->llms[j].name, (long long)lw_teacher_index_rows(&l->index), (long long)t->loss.k, (long long)t->count,
           1e-6 * (double)lw_teacher_index_bytes(&l->index), l->path, what);
}

static lw_status make_missing(lw_teacher *t, int64_t j, int64_t count, lw_error *err)
{
    teacher_llm *l = &t->llms[j];
    lw_comm *comm = t->job->comm;
    lw_status status = LW_OK;
    if (lw_job_owns(t->job, j)) {
        status = lw_packing_create(&l->limits, l->indices, err, &l->packing);
    }
    LW_TRY(lw_comm_agree(comm, status, err));
    status = run_rounds(t, j, count, err);
    lw_packing_free(&l->packing);
    LW_TRY(status);
    return lw_comm_agree(comm, lw_teacher_file_sync(l->file, err), err);
}

static lw_status run_llm(lw_teacher *t, int64_t j, lw_error *err)
{
    lw_job *job = t->job;
    teacher_llm *l = &t->llms[j];
    int64_t count = 0;
    double start_s = lw_now_s();
    lw_comm_doing(job->comm, "reading the teacher's states of %s", job->llms[j].name);
    lw_status status = job->rank == 0 ? lw_teacher_file_prepare(l->path, &l->index, err) : LW_OK;
    LW_TRY(lw_comm_agree(job->comm, status, err));
    status = lw_teacher_file_open(l->path, &l->index, true, err, &l->file);
    if (status == LW_OK && job->rank == 0) {
        status = lw_teacher_file_lock(l->file, 0.5 * job->config->comm.timeout_s, err);
    }
    LW_TRY(lw_comm_agree(job->comm, lw_signal_check(status), err));
    LW_TRY(find_missing(t, j, err, &count));
    double checked_s = lw_now_s();
    int64_t made = samples_in(&l->index, t->missing, count);
    if (count > 0) {
        LW_TRY(make_missing(t, j, count, err));
    } // load_all closes the file and thereby releases the lock
    LW_TRY(lw_comm_agree(job->comm, load_all(t, j, err), err));
    double end_s = lw_now_s();
    t->figures.samples += t->count;
    t->figures.made += made;
    t->figures.file_bytes += lw_teacher_index_bytes(&l->index);
    t->figures.check_s += checked_s - start_s;
    t->figures.made_s += made > 0 ? end_s - checked_s : 0.0;
    describe(t, j, made, checked_s - start_s, end_s - checked_s);
    return LW_OK;
}

lw_status lw_teacher_run(lw_teacher *t, lw_error *err)
{
    t->figures = (lw_teacher_figures){0};
    for (int64_t j = 0; j < t->job->llm_count; j++) {
        if (lw_teacher_index_rows(&t->llms[j].index) == 0) {
            lw_log(t->job->run, "warning: loss.kd_weight is set, but no sample has a text prompt to learn from");
            return LW_OK;
        }
        LW_TRY(lw_job_stopped(t->job, run_llm(t, j, err), "while the teacher's states are made", err));
    }
    return LW_OK;
}

lw_status lw_teacher_states(void *context, int64_t llm, const lw_token_sample *sample, lw_error *err, void *out)
{
    lw_teacher *t = context;
    return lw_teacher_file_read(t->llms[llm].file, sample - t->samples, err, out);
}
