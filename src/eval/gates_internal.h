// gates_internal.h: the gates one by one. Local except for the last.
#ifndef LW_GATES_INTERNAL_H
#define LW_GATES_INTERNAL_H

#include "eval/gates.h"

// The largest difference of two losses per token that rounding may cause.
double lw_gate_tolerance(const lw_job *job);

// Fills in the result of a gate; `format` says what was measured.
__attribute__((format(printf, 5, 6))) void lw_gate_note(lw_gate_result *out, bool passed, double value, double limit,
                                                        const char *format, ...);
// Marks a gate that these data cannot decide as skipped, with the reason.
__attribute__((format(printf, 2, 3))) void lw_gate_skip(lw_gate_result *out, const char *format, ...);

// gates_llm.c
lw_status lw_gate_llms(lw_job *job, lw_error *err, lw_gate_result *soft_tokens, lw_gate_result *labels);
// gates_wire.c
lw_status lw_gate_packing(lw_job *job, lw_eval *e, lw_error *err, lw_gate_result *out);
lw_status lw_gate_latents(lw_job *job, lw_eval *e, lw_error *err, lw_gate_result *out);
// gates_train.c
lw_status lw_gate_training(lw_job *job, lw_eval *e, lw_error *err, lw_gate_result *out);
lw_status lw_gate_overfit(lw_job *job, lw_error *err, lw_gate_result *out); // Collective

#endif
