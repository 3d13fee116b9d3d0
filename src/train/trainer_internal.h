// trainer_internal.h: shared by trainer.c (the loop), trainer_step.c (a step) and trainer_disk.c (its state on disk).
#ifndef LW_TRAINER_INTERNAL_H
#define LW_TRAINER_INTERNAL_H

#include "train/trainer.h"

// Sets the step up for the phase that comes next, where that is another one. Local.
void lw_trainer_enter(lw_trainer *t);

// The next step: the passes of this rank's share, the reduction, the update. *rows: that the LLMs processed on all
// ranks. A failure of one rank alone ends the job; one that all see, too many skipped steps in a row, is LW_ERR_NUMERIC
// on all. Collective.
lw_status lw_trainer_step(lw_trainer *t, lw_error *err, int64_t *rows);

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
