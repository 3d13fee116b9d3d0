// plan_internal.h: shared by the .c files of this folder. Local.
#ifndef LW_PLAN_INTERNAL_H
#define LW_PLAN_INTERNAL_H

#include "plan/plan.h"

// --- inputs.c
// Models' shapes, samples or their guessed sizes, device and rates, wire, calibration, deadline.
lw_status lw_plan_open(lw_plan *plan, lw_error *err);
void lw_plan_close(lw_plan *plan);

// Sizes of the largest sample that a configuration admits, in tokens; task: those that tell a window of text's task.
typedef struct lw_plan_most {
    int64_t source, latents, task, suffix, answer, prompt;
} lw_plan_most;
lw_plan_most lw_plan_most_of(const lw_config *config);
// CPU threads of each of `ranks` ranks.
int64_t lw_plan_threads(const lw_plan *plan, int64_t ranks);

// "40.1 s", "12.3 min", "3.20 h"
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
