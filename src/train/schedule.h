// schedule.h: which stage a step belongs to, which samples it uses and at which rates it updates. A stage is what the
// configuration calls a phase. All of this is a function of the configuration, the data and the number of ranks, so a
// resumed run needs the number of its step alone. Local.
//
// schedule.c has the schedule of one stage, stages.c that of the whole run.
#ifndef LW_SCHEDULE_H
#define LW_SCHEDULE_H

#include "config/config.h"
#include "device/params.h"

// The order of the samples in one stage. Steps and positions count from the stage's beginning.
typedef struct lw_schedule {
    int64_t samples;       // in the data set
    int64_t global;        // samples of a step over all ranks
    int64_t micro;         // most samples of a pass on this rank
    int64_t total_samples; // of the stage: samples * epochs, or fewer if max_steps ends it
    int64_t total_steps;   // the last step may be smaller than the others
    uint64_t seed;
} lw_schedule;

// Returns LW_ERR_CONFIG when there are more ranks than samples in a step or in the data.
lw_status lw_schedule_make(const lw_config *config, int64_t samples, int ranks, lw_error *err, lw_schedule *out);
// The sample at `position` of the stage, which counts over all epochs.
int64_t lw_schedule_sample(const lw_schedule *schedule, int64_t position);
// How often one sample may be in a pass of `micro` consecutive positions. Each epoch has its own order, so the last
// samples of one epoch may be the first of the next. At least 1.
int64_t lw_schedule_occurrences(int64_t samples, int64_t micro, int64_t epochs);
// First position and count of the samples that `rank` takes in step `step` (from 0). Shares differ by one sample at
// most.
void lw_schedule_share(const lw_schedule *schedule, int64_t step, int rank, int ranks, int64_t *first, int64_t *count);
// First position and count of all samples of the step.
void lw_schedule_step(const lw_schedule *schedule, int64_t step, int64_t *first, int64_t *count);
// The learning rate: linear warm-up, then cosine to min_lr * lr (Loshchilov & Hutter 2017). step from 0.
double lw_schedule_lr(const lw_config *config, const lw_schedule *schedule, int64_t step);
// The only LLM that runs in this step; -1: all of them run.
int64_t lw_schedule_only_llm(const lw_config *config, int64_t step);
// The learning rate of one part of the parameters. An adapter's rate is 0 in a step in which another LLM alone runs.
// The encoder's rate is 0 in the first encoder_start of the steps; it then rises to the curve in as many steps as the
// warm-up has.
double lw_schedule_rate(const lw_config *config, const lw_schedule *schedule, lw_rate rate, int64_t step);
// How many of the first `steps` steps update that part.
int64_t lw_schedule_updates(const lw_config *config, const lw_schedule *schedule, lw_rate rate, int64_t steps);

typedef struct lw_stage {
    const lw_config *config; // borrowed: lw_config_phase
    const char *name;        // borrowed: lw_config_phase_name
    lw_schedule schedule;
    int64_t first_step, first_sample; // of the run
} lw_stage;

typedef struct lw_run_schedule {
    lw_stage stages[LW_MAX_PHASES];
    int64_t count;
    int64_t global, micro;              // of every stage
    int64_t total_steps, total_samples; // of the run: less than those of the stages where train.max_steps ends it
} lw_run_schedule;

// samples[i]: number of samples in the data of stage i. Fails as lw_schedule_make does and names the stage.
lw_status lw_run_schedule_make(const lw_config *config, const int64_t *samples, int ranks, lw_error *err,
                               lw_run_schedule *out);
// The stage of step `step` (from 0). Steps beyond the end of the run belong to the last stage.
int64_t lw_run_schedule_stage(const lw_run_schedule *schedule, int64_t step);
// How many steps before `step` updated a part of the parameters, over all stages.
int64_t lw_run_schedule_updates(const lw_run_schedule *schedule, lw_rate rate, int64_t step);
// How many of the run's steps from .. to belong to stage i.
int64_t lw_run_schedule_overlap(const lw_run_schedule *schedule, int64_t i, int64_t from, int64_t to);

#endif
