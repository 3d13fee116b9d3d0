// trainer.h: the training loop: the steps of all phases over ranks, state, checkpoints, metrics.
#ifndef LW_TRAINER_H
#define LW_TRAINER_H

#include "core/signals.h"
#include "data/sample.h"
#include "eval/eval.h"
#include "job/job.h"
#include "run/checkpoint.h"
#include "run/checkpoint_writer.h"
#include "train/collapse.h"
#include "train/course.h"
#include "train/teacher.h"
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

typedef struct lw_trainer {
    lw_job *job;
    lw_eval *eval; // borrowed; of eval.every_steps; NULL: none
    lw_course course;
    int64_t leg; // that the step is set for; -1: none yet
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
    lw_teacher *teachers[LW_MAX_PHASES]; // NULL: no distillation in that phase
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
    double flop_per_sample[LW_MAX_PHASES]; // of each leg
    double gemm_flop_per_s;                // products' rate of this device, measured at the start
    const lw_token_sample **micro_batch;   // (micro)
    int64_t *positions;                    // (micro) of these in the phase
    lw_flat_view *views;
    float *host; // (3 * elements) parameters and moments on their way from disk, and being written
} lw_trainer;

// Buffers of a step; measuring and placing as everywhere. Local.
lw_status lw_trainer_layout(lw_arena *arena, lw_trainer *t, lw_error *err);
// job must be open. Local.
lw_status lw_trainer_create(lw_job *job, lw_error *err, lw_trainer *out);
void lw_trainer_free(lw_trainer *t);

// Continues the newest checkpoint of the run directory that verifies, if there is one. Collective.
lw_status lw_trainer_resume(lw_trainer *t, lw_error *err);
// What the teachers of all phases took together; false where there is no distillation. Local.
bool lw_trainer_teachers(const lw_trainer *t, lw_teacher_figures *out);
// Finds or makes the teacher's states, where there is distillation. Collective.
lw_status lw_trainer_teach(lw_trainer *t, lw_error *err);
// A trial write of a checkpoint, unless checkpoint.trial is false. Collective.
lw_status lw_trainer_trial(lw_trainer *t, lw_error *err);
// Steps until the schedule ends or a signal comes; the last checkpoint is then on the disk. A failure that is one
// rank's alone ends the job there; LW_REQUEUE or LW_INTERRUPTED after a checkpoint for it. LW_ERR_IO when a file of the
// run cannot be written, twice. Collective.
lw_status lw_trainer_run(lw_trainer *t, lw_error *err);

#endif
