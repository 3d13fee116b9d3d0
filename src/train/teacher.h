// teacher.h: what a frozen LLM that reads the text prompt would say: the other side of distillation.
//
// The teacher of an LLM is the LLM itself on [text prompt | answer]. It never changes, so it runs once: its final-norm
// states of the first loss.k answer positions of every sample are kept in a file (teacher_file.h), and a step makes
// exact logits of them with the product that it needs anyway. The file is named by a hash of all that the states depend
// on: weights and shape of the model, the tokens that it reads, loss.k, the type of the states (the device's operand
// type, so that they are what a pass in the step would have given).
#ifndef LW_TEACHER_H
#define LW_TEACHER_H

#include "data/sample.h"
#include "job/job.h"
#include "train/teacher_file.h"
#include "wire/step.h"

typedef struct lw_teacher lw_teacher;

// Rows of a pass, where one sample has not more: enough for products at full rate, little beside a step's memory.
enum { LW_TEACHER_PASS_ROWS = 4096 };

// What one LLM's states of a data set need; for plans, too.
typedef struct lw_teacher_sizes {
    int64_t rows;          // states
    int64_t file_bytes;    // on disk
    double tokens;         // rows that a pass over all samples processes
    lw_pass_limits limits; // of the largest pass
} lw_teacher_sizes;

// loss.kd_weight > 0. Local.
bool lw_teacher_wanted(const lw_config *config);
lw_status lw_teacher_sizes_of(const lw_config *config, const lw_hf_config *llm, lw_dtype type,
                              const lw_token_sample *samples, int64_t count, int64_t j, lw_error *err,
                              lw_teacher_sizes *out);

// The same where no data tells, for `samples` samples: limits for the largest that the configuration admits, the rest
// for prompts of `prompt` tokens and answers of `answer` on average. Local.
lw_teacher_sizes lw_teacher_sizes_guess(const lw_config *config, const lw_hf_config *llm, lw_dtype type,
                                        int64_t samples, double prompt, double answer);

// Room for a pass of LLM number j, which takes turns with everything else in the same memory. Local.
lw_status lw_teacher_pass_layout(lw_arena *arena, lw_device *dev, const lw_hf_config *llm, const lw_pass_limits *limits,
                                 lw_error *err, void **indices, lw_decoder_buffers *out);

// The teachers of a data set; samples are borrowed. job is open, config its own or that of a phase. Local.
lw_status lw_teacher_create(lw_job *job, const lw_config *config, const lw_token_sample *samples, int64_t count,
                            lw_error *err, lw_teacher **out);
void lw_teacher_destroy(lw_teacher **teacher);
// Places the buffers of its passes; measuring and placing as everywhere. Local.
lw_status lw_teacher_buffers_layout(lw_arena *arena, lw_teacher *teacher, lw_error *err);

// Finds the states on the disk, checks them, and makes what is missing or damaged: each rank its share of the chunks. A
// kill loses the chunks under way. LW_REQUEUE or LW_INTERRUPTED after a signal. Collective.
lw_status lw_teacher_run(lw_teacher *teacher, lw_error *err);

// An lw_step_states: context is the teacher, after lw_teacher_run, and `sample` one of its samples. Local.
lw_status lw_teacher_states(void *context, int64_t llm, const lw_token_sample *sample, lw_error *err, void *out);

typedef struct lw_teacher_figures { // of all LLMs together
    int64_t samples;                // of the data set, once for each LLM
    int64_t made;                   // of these by this run
    int64_t file_bytes;
    double check_s, made_s;
} lw_teacher_figures;
lw_teacher_figures lw_teacher_figures_of(const lw_teacher *teacher);

#endif
