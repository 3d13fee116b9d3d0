// job.h: what training and evaluation share: ranks, device, frozen models, data, and the wire.
//
// job.c opens and closes a job, llm.c the tokenizer of a model, encoder.c the model that the encoder reads with.
// describe.c logs what the job is, checkpoint_info.c fills in what a checkpoint says about it.
#ifndef LW_JOB_H
#define LW_JOB_H

#include "config/config.h"
#include "core/grid.h"
#include "data/corpus.h"
#include "job/rank_device.h"
#include "mpi/comm.h"
#include "run/checkpoint.h"
#include "run/run_dir.h"
#include "wire/wire.h"

typedef struct lw_llm {
    const char *name; // the configuration's
    const char *path;
    lw_hf_config config;
    lw_tokenizer *tokenizer;
    int32_t bos, eos;    // -1: none
    lw_decoder *decoder; // NULL on ranks that do not own it (lw_job_owns)
    // Every rank knows these of all LLMs:
    uint64_t weights_hash;
    float embedding_rms;
    lw_frozen_figures loaded;
} lw_llm;

// What the encoder reads with: a model of its own, or one of the LLMs.
typedef struct lw_job_encoder {
    const char *path;
    lw_tokenizer *tokenizer; // NULL: the encoder reads bytes, or the job is synthetic
    int64_t share;           // which of the LLMs it is, so that tokenizer and weights are borrowed; -1: none
    lw_backbone backbone;
} lw_job_encoder;

typedef struct lw_job {
    lw_config *config;
    lw_comm *comm; // borrowed
    int rank, ranks;
    lw_grid grid;    // before the job is opened: model, where the configuration leaves it open (lw_job_model_groups)
    lw_comm *models; // the ranks with the same samples and other LLMs, by their model coordinate; NULL: grid.model is 1
    lw_grid_place place;      // of this rank
    int owner[LW_MAX_MODELS]; // which model coordinate loads and runs LLM j
    int threads;              // of this rank
    lw_rank_device device;    // what this rank computes on
    lw_device *dev;
    lw_progress *progress; // rank 0 alone
    lw_run_dir *run;       // rank 0 alone; NULL where nothing is written
    int64_t llm_count;
    lw_llm llms[LW_MAX_MODELS];
    lw_job_encoder encoder;
    lw_corpus *train;    // (phase_count) the data of each phase; count 0 where not asked for
    int64_t phase_count; // 0: nothing has been read
    lw_corpus eval;      // count 0 where not asked for
    lw_wire wire;
    lw_arena wire_memory;
    lw_heartbeat heartbeat; // gets a heartbeat for every sample that is read, where there is no communicator
    int64_t min_positions;  // of the LLMs, where data does not tell
    int64_t min_source;     // tokens that the encoder reads, where data does not tell
    size_t frozen_bytes;    // predicted, of all LLMs, the encoder's included
} lw_job;

// The deadline of collectives until the configuration is known, in seconds.
#define LW_START_TIMEOUT_S 300.0

// What a job reads. Synthetic: random weights of the shapes in the config.json files, and neither tokenizers nor data.
enum { LW_JOB_TRAIN = 1, LW_JOB_EVAL = 2, LW_JOB_SYNTHETIC = 4 };

// Chooses the device of each rank, reads tokenizers and data, opens the device, loads the models, places and
// initialises the wire, and connects the devices for its all-reduce. The ranks agree after every part that can fail, so
// all of them return the same status. The caller sets job->config, comm, run and progress; the job owns the
// configuration alone. Collective.
lw_status lw_job_open(lw_job *job, int what, lw_error *err);
// To be called before the communicator is destroyed. Collective.
void lw_job_close(lw_job *job);

// Returns `status`. If it is a stop on request (LW_REQUEUE, LW_INTERRUPTED; the same on all ranks), rank 0 reports
// which signal came and when: "stopped by SIGTERM while loading; start again to go on". Collective.
lw_status lw_job_stopped(lw_job *job, lw_status status, const char *when, lw_error *err);

// Whether this rank loads and runs LLM j.
static inline bool lw_job_owns(const lw_job *job, int64_t j)
{
    return job->owner[j] == job->place.model;
}
// How many groups of ranks have different LLMs: grid.model, or what was chosen (plan/rank_choice.h)
// if that is "auto", or one. Local.
int64_t lw_job_model_groups(const lw_job *job);
// The grid of `ranks` ranks with `model` groups of different LLMs. Returns LW_ERR_CONFIG if the groups do not
// divide the ranks, are more than the LLMs, or would wait for each other (train.schedule = "alternate"). Local.
lw_status lw_job_grid(const lw_config *config, int64_t model, int ranks, lw_error *err, lw_grid *out);
// Sets the job up for rank `rank` of the grid. LLMs are distributed by the bytes of their weights, which a rank has to
// hold and to read in every step. The shapes of the LLMs have been read. Local.
void lw_job_set_place(lw_job *job, lw_grid grid, int rank);
// Shapes of all LLMs, of those that this rank runs, and the weights of these; NULL for the others. out (LW_MAX_MODELS)
void lw_job_configs(const lw_job *job, const lw_hf_config **out);
void lw_job_own_configs(const lw_job *job, const lw_hf_config **out);
void lw_job_decoders(const lw_job *job, lw_decoder **out);
// The rank that runs LLM j with the samples of data coordinate `data`.
int lw_job_owner_rank(const lw_job *job, int64_t j, int data);

// The parts of lw_job_open that a plan needs too. job->config is set. Local.
lw_status lw_job_read(lw_job *job, int what, lw_error *err); // shapes and tokenizers of the models, samples
int64_t lw_job_max_positions(const lw_job *job, int64_t j);  // rows of the longest sequence of LLM j
// The positions that the encoder's windows need of LLM j, if it shares the weights of that LLM; else 0. The wire is
// declared.
int64_t lw_job_encoder_positions(const lw_job *job, int64_t j);
// Device bytes of the encoder's own frozen weights. The wire is declared.
size_t lw_job_encoder_bytes(const lw_job *job);

// The training data of the last phase that has questions, or of the last phase if none has. job has been read. Local.
const lw_corpus *lw_job_answers(const lw_job *job);

// Logs the resolved job on rank 0: models, shapes, parameters, data, ranks and where they run. Collective.
lw_status lw_job_describe(lw_job *job, lw_error *err);

// What a checkpoint says about a loaded model, and about what the encoder reads with; false: nothing is loaded. Local.
void lw_llm_note(const lw_llm *model, lw_checkpoint_model *out);
bool lw_job_note_encoder(const lw_job *job, lw_checkpoint_model *out);
// Fills the models of the job into a checkpoint's info. Local.
void lw_job_checkpoint_models(const lw_job *job, lw_checkpoint_info *info);

// What a checkpoint of this job says about its inputs (step and counters left 0). Local.
lw_status lw_job_checkpoint_info(const lw_job *job, lw_error *err, lw_checkpoint_info *out);

#endif
