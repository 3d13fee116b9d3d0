// trainer.h: the training loop: steps of all stages over all ranks, state, checkpoints and metrics.
#ifndef LW_TRAINER_H
#define LW_TRAINER_H

#include "eval/eval.h"
#include "job/job.h"
#include "run/checkpoint.h"
#include "train/schedule.h"
#include "train/teacher.h"

typedef struct lw_trainer lw_trainer;

// job must be open and must outlive the trainer. Local.
lw_status lw_trainer_create(lw_job *job, lw_error *err, lw_trainer **out);
void lw_trainer_destroy(lw_trainer **trainer);
// Measures or places the buffers of a step and of the teachers (device/arena.h). Local.
lw_status lw_trainer_layout(lw_arena *arena, lw_trainer *t, lw_error *err);

// Resumes from the newest checkpoint of the run directory that verifies, if there is one. Collective.
lw_status lw_trainer_resume(lw_trainer *t, lw_error *err);
// Finds or computes the teacher's states if the run distils. Collective.
lw_status lw_trainer_teach(lw_trainer *t, lw_error *err);
// Writes a checkpoint on trial, unless checkpoint.trial is false. Collective.
lw_status lw_trainer_trial(lw_trainer *t, lw_error *err);
// Runs steps until the schedule ends or a signal arrives; the last checkpoint is then on the disk. eval: the evaluation
// of eval.every_steps, borrowed; NULL: none. If one rank alone fails inside a step, the job ends there. Returns
// LW_REQUEUE or LW_INTERRUPTED after a signal, LW_ERR_IO when a file of the run could not be written twice in a row.
// Collective.
lw_status lw_trainer_run(lw_trainer *t, lw_eval *eval, lw_error *err);
// Warns if the evaluation at the end shows that the models do not use the wire, unless that was reported before. Local.
void lw_trainer_check_result(lw_trainer *t, const lw_eval_result *result);

// How far the run is: steps, samples, skipped steps and time so far, and the fingerprints of its inputs. Local.
const lw_checkpoint_info *lw_trainer_state(const lw_trainer *t);
const lw_run_schedule *lw_trainer_schedule(const lw_trainer *t);

// What a summary of the run says beside its state.
typedef struct lw_trainer_figures {
    double mean_loss;           // of the last step; NAN: there was none
    double loss[LW_MAX_MODELS]; // of each LLM in its last step, distillation included
    // The checkpoints that this process wrote. On rank 0.
    int64_t checkpoints;
    double checkpoint_write_s;     // of the thread that writes
    double checkpoint_stall_s;     // that the steps waited
    double checkpoint_stall_share; // of the time between the checkpoints
    bool distils;
    lw_teacher_figures teacher; // of all stages together, if the run distils
} lw_trainer_figures;
lw_trainer_figures lw_trainer_figures_of(const lw_trainer *t); // Local.

#endif
