// trainer_internal.h: shared by trainer.c (what a trainer owns), loop.c (the loop), trainer_step.c (a step), trainer_log.c
// (what it reports) and trainer_disk.c (its state on disk).
#ifndef LW_TRAINER_INTERNAL_H
#define LW_TRAINER_INTERNAL_H

#include "run/loss_keys.h"
#include "run/run_dir.h"
#include "train/trainer.h"

// The phase of step `step` (from 0). Local.
const lw_leg *lw_trainer_leg(const lw_trainer *t, int64_t step);

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
// first .. first + count of its phase; loss (LLMs). The first ids of its samples are shown on stderr, some hundreds of
// them are written to log.txt. Local.
void lw_trainer_log_skipped(const lw_job *job, int64_t phase, const lw_schedule *schedule, int64_t step, int64_t first,
                            int64_t count, const double *loss, double grad_norm);

// Describes the failure of a run that skipped train.max_skipped steps in a row. last_saved: step of the newest
// checkpoint; -1: there is none. Returns LW_ERR_NUMERIC. Local.
lw_status lw_trainer_give_up(const lw_job *job, int64_t in_row, int64_t last_saved, lw_error *err);

// --- trainer_step.c

// Sets the step up for the phase that comes next, where that is another one. Local.
void lw_trainer_enter(lw_trainer *t);

// The next step: the passes of this rank's share, the reduction, the update. *rows: that the LLMs processed on all
// ranks. A failure of one rank alone ends the job; one that all see, too many skipped steps in a row, is LW_ERR_NUMERIC
// on all. Collective.
lw_status lw_trainer_step(lw_trainer *t, lw_error *err, int64_t *rows);

// --- trainer_disk.c

// Starts the writer on rank 0. Local.
lw_status lw_trainer_open_disk(lw_trainer *t, lw_error *err);

// Rank 0: hears what the writer has done, logs it, and keeps a failure in t->disk_status. Local.
void lw_trainer_poll_disk(lw_trainer *t);
// Rank 0: a failure of a file that ends the run at the next step boundary. The first one counts. Local.
void lw_trainer_disk_failed(lw_trainer *t, lw_status status, const lw_error *err);

// Hands a copy of the state to the writer, once that has finished the one before. With `wait` it returns when the
// checkpoint is on the disk. A failure of the disk is every rank's. Collective.
lw_status lw_trainer_save(lw_trainer *t, bool wait, lw_error *err);

// After t->disk_failed has been seen by all: the failure, told by rank 0. Collective.
lw_status lw_trainer_leave(lw_trainer *t, lw_error *err);

#endif
