// schedule.h: the way of a run through its phases: which step belongs to which phase, and which samples it sees. A
// function of the configuration, the data and the number of ranks, so that the number of a step says all. Local.
#ifndef LW_SCHEDULE_H
#define LW_SCHEDULE_H

#include "config/config.h"
#include "device/params.h"

// Which samples are seen when in one phase; steps and positions count from its beginning.
typedef struct lw_schedule {
    int64_t samples;       // in the data set
    int64_t global;        // samples of a step over all ranks
    int64_t micro;         // most samples of a pass on this rank
    int64_t total_samples; // of the phase: samples * epochs, less where max_steps ends it
    int64_t total_steps;   // the last step may be smaller than the others
    uint64_t seed;
} lw_schedule;

// LW_ERR_CONFIG when there are more ranks than samples in a step or in the data.
lw_status lw_schedule_make(const lw_config *config, int64_t samples, int ranks, lw_error *err, lw_schedule *out);
// Sample number `position` of the phase, counted over all epochs.
int64_t lw_schedule_sample(const lw_schedule *schedule, int64_t position);
// How often one sample may be in a pass of `micro` consecutive positions: each epoch has an order of its own, so that
// the last samples of one may be the first of the next. At least 1.
int64_t lw_schedule_occurrences(int64_t samples, int64_t micro, int64_t epochs);
// First position and count of `rank`'s share of step `step` (from 0). Shares differ by one sample at most.
void lw_schedule_share(const lw_schedule *schedule, int64_t step, int rank, int ranks, int64_t *first, int64_t *count);
// Positions of the whole step.
void lw_schedule_step(const lw_schedule *schedule, int64_t step, int64_t *first, int64_t *count);
// Linear warm-up, then cosine to min_lr * lr (Loshchilov & Hutter 2017). step from 0.
double lw_schedule_lr(const lw_config *config, const lw_schedule *schedule, int64_t step);
// The LLM that alone runs in this step; -1: all do.
int64_t lw_schedule_only_llm(const lw_config *config, int64_t step);
// The same of one part of the parameters; 0 in a step that is another LLM's. That of the encoder is 0 in the first
// encoder_start of the steps, and then rises to the curve within as many steps as the warm-up has.
double lw_schedule_rate(const lw_config *config, const lw_schedule *schedule, lw_rate rate, int64_t step);
// How many of the first `steps` steps move that part.
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

// samples[i]: of phase i's data. Fails as lw_schedule_make does, naming the phase.
lw_status lw_run_schedule_make(const lw_config *config, const int64_t *samples, int ranks, lw_error *err,
                               lw_run_schedule *out);
// The stage of step `step` (from 0): the last one for all that come after.
int64_t lw_run_schedule_stage(const lw_run_schedule *schedule, int64_t step);
// Steps before `step` that moved a part of the parameters, in all stages.
int64_t lw_run_schedule_updates(const lw_run_schedule *schedule, lw_rate rate, int64_t step);
// Steps of stage i within steps from .. to of the run.
int64_t lw_run_schedule_overlap(const lw_run_schedule *schedule, int64_t i, int64_t from, int64_t to);

#endif
