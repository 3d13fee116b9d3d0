// roofline.h: how long a training step takes, from shapes and rates alone: a roofline, operator by operator. Local.
//
// An operator takes the longest of three times: its arithmetic at the device's rate, its memory traffic at the device's
// bandwidth, and one launch. The operators of a step run one after another. The all-reduce is a ring: 2 (n-1)/n of the
// bytes over the slowest link, and 2 (n-1) latencies.
#ifndef LW_PLAN_COST_H
#define LW_PLAN_COST_H

#include "cost/device_table.h"
#include "cost/flops.h"
#include "wire/step.h"
#include "wire/wire.h"

// To be raised when the cost functions change, since older calibration records can then not be compared any more.
enum { LW_COST_VERSION = 3 };

typedef struct lw_workload {
    const lw_wire *wire;                // declared
    const lw_hf_config *const *configs; // of each LLM; NULL: another rank runs it
    lw_sample_shape shape;              // mean sample
    int64_t share;                      // samples of a step on the busiest rank
    int64_t micro;                      // samples of a pass
    int64_t ranks;
} lw_workload;

typedef struct lw_step_time {
    double phase_s[LW_PHASE_COUNT];
    double total_s;
} lw_step_time;

// Seconds of one LLM's forward pass over `samples` text prompts, `tokens` in all, before the first step. The ranks
// share it, and run it in passes of at most `pass_rows` tokens and `pass_samples` samples.
double lw_predict_teacher(const lw_device_rates *rates, const lw_hf_config *config, double samples, double tokens,
                          int64_t pass_rows, int64_t pass_samples, int64_t ranks);

// Predicts a step: encoder, adapters and LLMs of the busiest rank, the reduction, the update.
lw_step_time lw_predict_step(const lw_device_rates *rates, const lw_workload *work);

#endif
