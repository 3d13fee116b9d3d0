// trainer_internal.h: shared by trainer.c (what a trainer owns), loop.c (the loop), trainer_step.c (a step),
// trainer_log.c (what it reports) and trainer_disk.c (its state on disk).
#ifndef LW_TRAINER_INTERNAL_H
#define LW_TRAINER_INTERNAL_H

#include "core/signals.h"
#include "data/sample.h"
#include "run/checkpoint_writer.h"
#include "run/loss_keys.h"
#include "run/run_dir.h"
#include "train/collapse.h"
#include "train/trainer.h"
#include "wire/step.h"

// What checkpoints took of the time of this process. On rank 0.
typedef struct lw_saves {
    int64_t count;       // written
    double write_s;      // of the thread that writes
    double stall_s;      // that the steps waited; what is written at the end or at a signal stops no step
    double between_s;    // between the requests that stall_s is of
    double row_stall_s;  // since the last row of metrics
    double last_stall_s; // of the newest request,
    double last_interval_s;
    double last_request_s; // and when that was
} lw_saves;

struct lw_trainer {
    lw_job *job;
    lw_eval *eval; // borrowed; of eval.every_steps; NULL: none, or not yet running
    lw_run_schedule schedule;
    int64_t stage; // that the step is set for; -1: none yet
    lw_step step;
    lw_step_spec spec;            // of the next or the last step
    lw_checkpoint_info state;     // steps done, samples, skipped, time; and the fingerprints
    int64_t last_saved;           // step of the newest checkpoint that was asked for; -1: none
    double best_nll;              // the least held-out NLL so far; INFINITY: none
    lw_checkpoint_writer *writer; // rank 0 alone
    lw_saves saves;
    int64_t checkpoint_bytes; // of one, and what was free, on trial
    int64_t free_bytes;
    lw_status disk_status; // rank 0: why the run has to end at the next step boundary
    lw_error disk_error;
    bool disk_failed;                    // rank 0 has such a reason: known to all
    lw_teacher *teachers[LW_MAX_PHASES]; // NULL: no distillation in that stage
    double loss[LW_MAX_MODELS];          // of the last step of each, distillation included
    int64_t loss_step[LW_MAX_MODELS];    // which that was, from 1
    double kl[LW_MAX_MODELS];            // mean over the positions that have a teacher; NAN: none has
    double kl_factor[LW_MAX_MODELS];     // to that mean from the step's sum
    double mean_loss;
    double grad_norm;
    double latent_cosine; // of the last logged step
    lw_held_out held_out; // the newest; state.eval_nll tells whether it is of this step
    double evaluated_s;   // time of all evaluations, which is no step's
    lw_collapse collapse;
    lw_signal signal;                      // agreed by all ranks
    double flop_per_sample[LW_MAX_PHASES]; // of each stage
    double gemm_flop_per_s;                // products' rate of this device, measured at the start
    const lw_token_sample **micro_batch;   // (micro)
    int64_t *positions;                    // (micro) their positions in the stage
    lw_flat_view *views;
    float *host; // (3 * elements) parameters and moments on their way from disk, and being written
};

// The stage of step `step` (from 0). Local.
const lw_stage *lw_trainer_stage(const lw_trainer *t, int64_t step);

// --- trainer_log.c

typedef struct lw_interval { // since the last logged step
    double start_s;
    int64_t samples, rows, steps;
    double flop;
} lw_interval;

// The keys of one kind of loss, for each LLM.
typedef char lw_llm_keys[LW_MAX_MODELS][LW_LOSS_KEY_BYTES];

// The newest held-out loss, as metrics with their names in `keys`; returns how many values. Local.
int lw_trainer_held_out_metrics(const lw_trainer *t, lw_llm_keys keys, lw_metric *m);

// Rank 0: writes the row of metrics of the last step. One that cannot be written is tried once more; then the run ends,
// for the file would lack a step. Local.
void lw_trainer_write_row(lw_trainer *t, const lw_interval *in, double now_s);

// Shows on the progress line how far the run is and how long the rest will take. Local.
void lw_trainer_show_progress(const lw_trainer *t, const lw_interval *in, double now_s);

// Logs that step `step` (from 1) was skipped because a loss or the gradient is not finite. The step covered positions
// first .. first + count of its stage; loss (LLMs). The first ids of its samples are shown on stderr, some hundreds of
// them are written to log.txt. Local.
void lw_trainer_log_skipped(const lw_job *job, int64_t stage, const lw_schedule *schedule, int64_t step, int64_t first,
                            int64_t count, const double *loss, double grad_norm);

// Describes the failure of a run that skipped train.max_skipped steps in a row. last_saved: step of the newest
// checkpoint; -1: there is none. Returns LW_ERR_NUMERIC. Local.
lw_status lw_trainer_give_up(const lw_job *job, int64_t in_row, int64_t last_saved, lw_error *err);

// --- trainer_step.c

// Sets t->spec up for the stage of the next step if that is another stage than before. Local.
void lw_trainer_enter(lw_trainer *t);

// Runs the next step: the passes over this rank's share, the reduction and the update. *rows: rows that the LLMs
// processed on all ranks. A failure of one rank alone ends the job. Too many skipped steps in a row, which all ranks
// see, are LW_ERR_NUMERIC on all. Collective.
lw_status lw_trainer_step(lw_trainer *t, lw_error *err, int64_t *rows);

// --- trainer_disk.c

// Starts the writer on rank 0. Local.
lw_status lw_trainer_open_disk(lw_trainer *t, lw_error *err);

// Rank 0: asks what the writer has done, logs it, and keeps a failure in t->disk_status. Local.
void lw_trainer_poll_disk(lw_trainer *t);
// Rank 0: records that a file could not be written, which ends the run at the next step boundary. The first failure is
// kept. Local.
void lw_trainer_disk_failed(lw_trainer *t, lw_status status, const lw_error *err);

// Hands a copy of the state to the writer as soon as the writer has finished the checkpoint before. With `wait` the
// call returns when the checkpoint is on the disk. All ranks return a failure of the disk. Collective.
lw_status lw_trainer_save(lw_trainer *t, bool wait, lw_error *err);

// Returns rank 0's failure on all ranks, once all of them have seen t->disk_failed. Collective.
lw_status lw_trainer_leave(lw_trainer *t, lw_error *err);

#endif
