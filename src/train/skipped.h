// skipped.h: what is said of a step that was skipped because its loss or gradient is not finite. Local.
#ifndef LW_SKIPPED_H
#define LW_SKIPPED_H

#include "job/job.h"
#include "train/trainer.h"

// Of step `step` (from 1), which covered positions first .. first + count of its phase: its losses (LLMs) and gradient
// norm, and the ids of its samples on all ranks; the first few on stderr, up to some hundreds in log.txt.
void lw_skipped_log(const lw_job *job, int64_t phase, const lw_schedule *schedule, int64_t step, int64_t first,
                    int64_t count, const double *loss, double grad_norm);

// The failure of a run that skipped train.max_skipped steps in a row. last_saved: step of the newest checkpoint; -1:
// there is none. LW_ERR_NUMERIC.
lw_status lw_skipped_give_up(const lw_job *job, int64_t in_row, int64_t last_saved, lw_error *err);

#endif
