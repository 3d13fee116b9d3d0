// teacher.h: the teachers of distillation: frozen LLMs that read the text prompt instead of the latents.
//
// The teacher of an LLM is the LLM itself on [text prompt | answer]. It never changes, so it runs once. Its final-norm
// states at the first loss.k answer positions of every sample are kept in a file (teacher_file.h), and a step turns
// them into exact logits with the product that it needs anyway. The file is named by a hash of all that the states
// depend on: weights and shape of the model, the tokens that it reads, loss.k, and the type of the states, which is the
// device's operand type, so that the states equal those of a pass inside the step.
//
// teacher.c finds or computes the states, teacher_sizes.c says what that takes.
#ifndef LW_TEACHER_H
#define LW_TEACHER_H

#include "data/sample.h"
#include "job/job.h"
#include "train/teacher_file.h"
#include "wire/step.h"

typedef struct lw_teacher lw_teacher;

// Rows of a pass, unless one sample has more: enough for products at full rate, and little beside the memory of a step.
enum { LW_TEACHER_PASS_ROWS = 4096 };

// What the states of one LLM on a data set need. Plans use it too.
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

// An estimate of the same without data, for `samples` samples. The limits are for the largest samples that the
// configuration admits, the rest for prompts of `prompt` tokens and answers of `answer` tokens on average. Local.
lw_teacher_sizes lw_teacher_sizes_guess(const lw_config *config, const lw_hf_config *llm, lw_dtype type,
                                        int64_t samples, double prompt, double answer);

// Measures or places the buffers of a pass, which shares its memory with everything else that runs at other times.
// Local.
lw_status lw_teacher_pass_layout(lw_arena *arena, lw_device *dev, const lw_hf_config *llm, const lw_pass_limits *limits,
                                 lw_error *err, void **indices, lw_decoder_buffers *out);

// The teachers of a data set; samples are borrowed. job is open; config is the job's or that of a stage. Local.
lw_status lw_teacher_create(lw_job *job, const lw_config *config, const lw_token_sample *samples, int64_t count,
                            lw_error *err, lw_teacher **out);
void lw_teacher_destroy(lw_teacher **teacher);
// Measures or places the buffers of the passes (device/arena.h). Local.
lw_status lw_teacher_buffers_layout(lw_arena *arena, lw_teacher *teacher, lw_error *err);

// Finds the states on the disk, checks them, and computes what is missing or damaged; the ranks share the chunks. A
// kill loses only the chunks that are being computed. Returns LW_REQUEUE or LW_INTERRUPTED after a signal. Collective.
lw_status lw_teacher_run(lw_teacher *teacher, lw_error *err);

// An lw_step_states, to be called after lw_teacher_run: context is the teacher, and `sample` one of its samples. Local.
lw_status lw_teacher_states(void *context, int64_t llm, const lw_token_sample *sample, lw_error *err, void *out);

typedef struct lw_teacher_figures { // of all LLMs together
    int64_t samples;                // of the data set, once for each LLM
    int64_t made;                   // those of them that this run computed
    int64_t file_bytes;
    double check_s, made_s;
} lw_teacher_figures;
lw_teacher_figures lw_teacher_figures_of(const lw_teacher *teacher);

#endif
