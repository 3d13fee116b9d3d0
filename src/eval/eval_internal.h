// eval_internal.h: what the files of an evaluation share.
#ifndef LW_EVAL_INTERNAL_H
#define LW_EVAL_INTERNAL_H

#include "core/ids.h"
#include "data/sample.h"
#include "eval/eval.h"

// The record of one sample, one LLM and one system: numbers that are summed over ranks (one rank has them, the others
// have 0).
enum {
    LW_RECORD_PRESENT, // 1, or 0 where the system leaves the sample out: it has no partner for shuffling
    LW_RECORD_EXACT,
    LW_RECORD_F1,
    LW_RECORD_NLL,
    LW_RECORD_TOKENS,
    LW_RECORD_FIRST,       // 1 where the likeliest first token is the gold one, else 0
    LW_RECORD_FIRST_TOKEN, // the likeliest first token
    LW_RECORD_LENGTH,      // number of generated tokens
    LW_RECORD_COUNT
};

// What one evaluation does.
typedef struct lw_eval_task {
    int64_t samples; // so many of job->eval, from the first on
    int system_count;
    lw_eval_system systems[LW_EVAL_SYSTEMS];
    bool generate;
    bool joint; // needs `generate`: the candidates are the answers of system LW_EVAL_LATENT
} lw_eval_task;

struct lw_eval {
    int64_t chunk; // samples per pass
    lw_encoder_buffers encoder;
    lw_encoder_batch batch;
    lw_adapter_buffers adapters[LW_MAX_MODELS];
    lw_generator generators[LW_MAX_MODELS];
    int64_t *partner;       // (samples) whose latents the shuffled control reads; -1: none
    int64_t *which;         // (chunk) whose latents are encoded
    uint64_t *context_hash; // (samples) of the context; of the question where there is none
    int64_t *cluster;       // (samples) samples with one context, or windows of one document, are one cluster
    int64_t clusters;
    double *records; // (samples, LLMs, systems of the task, LW_RECORD_COUNT)
    double *joint;   // (samples, LLMs as authors, LLMs as readers) log-probability of the author's answer
    int64_t own;     // most samples that a rank has: whole chunks
    int32_t *ids;    // (systems, own, LLMs, max_new_tokens) generated on this rank
    int32_t *all_ids[LW_EVAL_SYSTEMS]; // rank 0, after an evaluation: (ranks, own, LLMs, max_new_tokens) each
    int32_t *lengths;                  // (own, LLMs) of the answers through the latents, which are chosen from
    int64_t *exchanged;                // (chunk, LLMs, 1 + max_new_tokens) scratch, where other ranks have other LLMs
    lw_ids candidate;                  // scratch
    const float *latents;              // device: what the adapters read in this pass
    float *received;                   // device, (latent rows of a chunk, d_z); NULL: no quantised systems
    float *z;                          // the same on the host
    void *wire;                        // (latent rows of a chunk) rows as bytes, room for the widest form
    lw_eval_task task;
    bool started;
};

// Whether the samples are windows of text: what follows them is scored, and nothing is generated.
static inline bool lw_eval_is_text(const lw_job *job)
{
    return job->eval.samples[0].task != LW_TASK_ANSWER;
}

// The record of sample i, LLM j and the task's system `slot`.
static inline double *lw_eval_record(const lw_job *job, const lw_eval *e, int64_t i, int64_t j, int slot)
{
    return e->records + ((i * job->llm_count + j) * e->task.system_count + slot) * LW_RECORD_COUNT;
}

// The position of sample i among the samples of its rank.
static inline int64_t lw_eval_own_index(const lw_job *job, const lw_eval *e, int64_t i)
{
    return i / e->chunk / job->grid.data * e->chunk + i % e->chunk;
}

static inline int32_t *lw_eval_own_ids(const lw_job *job, const lw_eval *e, int64_t i, int64_t j, int slot)
{
    int64_t at = (slot * e->own + lw_eval_own_index(job, e, i)) * job->llm_count + j;
    return e->ids + at * job->config->eval.max_new_tokens;
}

static inline int32_t *lw_eval_own_length(const lw_job *job, const lw_eval *e, int64_t i, int64_t j)
{
    return &e->lengths[lw_eval_own_index(job, e, i) * job->llm_count + j];
}

// On rank 0, after the answers have been gathered: the generated tokens of any sample.
static inline const int32_t *lw_eval_all_ids(const lw_job *job, const lw_eval *e, int64_t i, int64_t j, int slot)
{
    int rank = lw_job_owner_rank(job, j, (int)(i / e->chunk % job->grid.data));
    int64_t at = (rank * e->own + lw_eval_own_index(job, e, i)) * job->llm_count + j;
    return e->all_ids[slot] + at * job->config->eval.max_new_tokens;
}

// --- joint.c

// Brings the answers to the chunk of those LLMs that other ranks run. Collective over job->models.
lw_status lw_eval_exchange_answers(lw_job *job, lw_eval *e, int64_t first, int64_t count, lw_error *err);
// Lets every LLM of this rank score the answers that every LLM gave to the chunk through its latents. The latents of
// the chunk are in e->latents.
lw_status lw_eval_joint_chunk(lw_job *job, lw_eval *e, int64_t first, int64_t count, lw_error *err);
// The author whose answer has the largest sum over the readers; among equals the first one.
int64_t lw_eval_joint_choice(const lw_job *job, const lw_eval *e, int64_t i);

// --- run.c
// Leaves the records of the whole task on every rank. LW_REQUEUE or LW_INTERRUPTED: *signal says why. Collective.
lw_status lw_eval_run_task(lw_job *job, lw_eval *e, const lw_eval_task *task, lw_error *err, lw_signal *signal);

// --- chunk.c
// Leaves the latents that `system` reads of samples which[0 .. count - 1], at most e->chunk of them, in e->latents.
// Queries give all of theirs, of which the first are read. After lw_eval_start.
lw_status lw_eval_encode(lw_job *job, lw_eval *e, const int64_t *which, int64_t count, const lw_eval_system *system,
                         lw_error *err);
// Runs e->task on samples first .. + count - 1, at most e->chunk of them, and leaves their records. After
// lw_eval_start.
lw_status lw_eval_chunk(lw_job *job, lw_eval *e, int64_t first, int64_t count, lw_error *err);
// The joint choice for a chunk (count 0: none) where other ranks run other LLMs: these have answered, and the ranks now
// score each other's answers. Collective.
lw_status lw_eval_choose_across_ranks(lw_job *job, lw_eval *e, int64_t first, int64_t count, lw_error *err);

// --- show.c
// Appends sample `at` of the chunk as `system` shows it to LLM j, with `answer` to be scored. False beyond the limits.
bool lw_eval_add(lw_job *job, lw_eval *e, int64_t j, const lw_eval_system *system, const lw_token_sample *s, int64_t at,
                 lw_tokens answer);

// --- predictions.c
// The name of sample i. A sample without an id of its own is "FILE:LINE", without the folder of the file.
const char *lw_eval_sample_id(const lw_job *job, int64_t i);
enum { LW_EVAL_CONTEXT_ID_BYTES = 24 };
void lw_eval_context_id(const lw_eval *e, int64_t i, char *out);

// --- clusters.c
// Fills context_hash, cluster and clusters. LW_ERR_MEMORY.
lw_status lw_eval_clusters(const lw_job *job, lw_eval *e, lw_error *err);
// What the clusters are: "contexts" or "documents".
const char *lw_eval_cluster_name(const lw_job *job);

// --- figures.c
// Computes the sums, and on rank 0 the intervals.
lw_status lw_eval_figures(const lw_job *job, const lw_eval *e, lw_error *err, lw_eval_result *out);
lw_eval_sums lw_eval_sum_up(const lw_job *job, const lw_eval *e, int64_t j, int slot);

#endif
