// plan_internal.h: shared by the .c files of this folder. Local.
#ifndef LW_PLAN_INTERNAL_H
#define LW_PLAN_INTERNAL_H

#include "plan/plan.h"

// --- inputs.c
// Reads shapes of the models and samples or guesses their sizes; opens device and rates, declares the wire, reads
// calibration and deadline.
lw_status lw_plan_open(lw_plan *plan, lw_error *err);
void lw_plan_close(lw_plan *plan);

// Sizes of the largest sample that a configuration admits, in tokens. task: the token that names the task of a window
// of text.
typedef struct lw_plan_most {
    int64_t source, latents, task, suffix, answer, prompt;
} lw_plan_most;
lw_plan_most lw_plan_most_of(const lw_config *config);
// The CPU threads of each of `ranks` ranks.
int64_t lw_plan_threads(const lw_plan *plan, int64_t ranks);

// A time for people: "40.1 s", "12.3 min", "3.20 h".
typedef struct lw_plan_time {
    char text[32];
} lw_plan_time;
lw_plan_time lw_plan_time_text(double seconds);

// --- memory.c
// Device memory of one of `ranks` ranks whose passes hold `micro` samples, of the changed job. `job` is the plan's, or
// a copy with another configuration and a wire declared for it.
lw_status lw_plan_memory_measure(const lw_plan *plan, lw_job *job, int64_t answer_factor, int64_t micro, int64_t ranks,
                                 lw_error *err, lw_plan_memory *out);

#endif
