// teacher_internal.h: shared by teacher.c and teacher_sizes.c. Local.
#ifndef LW_TEACHER_INTERNAL_H
#define LW_TEACHER_INTERNAL_H

#include "train/teacher.h"

// How many samples from `first` on, and before `end`, one pass of LLM j takes: at least one. *used: what they need.
int64_t lw_teacher_next_pass(const lw_step_loss *loss, const lw_token_sample *samples, int64_t j, int64_t first,
                             int64_t end, lw_pass_limits *used);

// The most that any pass over the chunks needs.
lw_pass_limits lw_teacher_limits_of(const lw_step_loss *loss, const lw_token_sample *samples, int64_t j,
                                    const lw_teacher_index *index);

// The index of the samples' states, all but key, weights and tokens. Free it after a failure, too.
lw_status lw_teacher_index_samples(const lw_step_loss *loss, const lw_hf_config *llm, lw_dtype type,
                                   const lw_token_sample *samples, int64_t count, int64_t j, lw_error *err,
                                   lw_teacher_index *out);

#endif
