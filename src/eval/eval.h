// eval.h: measures what the wire carries: answers from latents beside answers from text and from controls.
//
// Implemented by layout.c (buffers, life time), run.c (the rounds of all ranks), chunk.c and show.c (one pass), joint.c
// (one answer for all LLMs), clusters.c and figures.c (sums and intervals), predictions.c and print.c (output).
#ifndef LW_EVAL_H
#define LW_EVAL_H

#include <jansson.h>
#include <stdio.h>

#include "core/signals.h"
#include "eval/bootstrap.h"
#include "eval/systems.h"
#include "job/job.h"
#include "model/generate.h"

// Sums over the samples.
typedef struct lw_eval_sums {
    double exact, f1;     // of generated answers; NAN for windows of text, for which nothing is generated
    double nll;           // of the first gold answer's tokens, end token included
    double answer_tokens; // of these
    double first_correct; // samples whose likeliest first token is the gold one
    double samples;
    bool same_first; // the likeliest first token is the same one in every sample
} lw_eval_sums;

// 95 % intervals, resampled by context (src/eval/bootstrap.h). `value` is NAN where eval.bootstrap is 0, and on ranks
// other than 0.
typedef struct lw_eval_intervals {
    lw_estimate exact, f1, nll; // nll: per answer token
} lw_eval_intervals;

// The gain from reading the latents of the sample instead of those of another one: latent minus shuffled; for nll the
// other way round, so that more is better.
typedef struct lw_eval_gain {
    double f1, nll; // NAN where no sample has a partner with another context
    lw_estimate f1_interval, nll_interval;
} lw_eval_gain;

// One answer for all LLMs: among the answers that they give through the latents, the one to which all of them together
// give the largest sum of log-probabilities.
typedef struct lw_eval_joint {
    bool measured;
    double exact, f1;             // sums over the samples
    double chosen[LW_MAX_MODELS]; // number of samples whose answer is that of this LLM
    lw_estimate exact_interval, f1_interval;
} lw_eval_joint;

typedef struct lw_eval_result {
    int64_t samples;
    int64_t contexts, resamples; // that the intervals are based on
    int system_count;
    lw_eval_system systems[LW_EVAL_SYSTEMS];
    lw_eval_sums sums[LW_MAX_MODELS][LW_EVAL_SYSTEMS];
    lw_eval_intervals intervals[LW_MAX_MODELS][LW_EVAL_SYSTEMS];
    lw_eval_gain gain[LW_MAX_MODELS];
    lw_eval_gain mean_gain; // mean over LLMs: the headline
    lw_eval_joint joint;
    double wall_s;
} lw_eval_result;

typedef struct lw_eval lw_eval;

// Whether training evaluates, in between or at its end. Local.
bool lw_eval_in_training(const lw_config *config);

// Takes the buffers of an evaluation of job->eval from the arena, which measures or places them. *eval is made at the
// first call; the caller owns it.
lw_status lw_eval_layout(lw_arena *arena, lw_job *job, lw_error *err, lw_eval **eval);
// The same in device memory of its own: the caller frees *memory after the evaluation. Local.
lw_status lw_eval_place(lw_job *job, lw_error *err, lw_eval **eval, lw_arena *memory);
void lw_eval_destroy(lw_eval **eval);

// Bytes in LLM j's part of the buffers: logits, and keys and values of generation. Local.
typedef struct lw_eval_part {
    size_t logits, caches;
} lw_eval_part;
lw_eval_part lw_eval_part_bytes(const lw_eval *eval, int64_t j);

// Makes the host tables, and fills the device memory that must hold something. The first call allocates; later calls
// only restore what others have overwritten. The functions below call it themselves; a call before a loop keeps
// allocations out of the loop. Local.
lw_status lw_eval_start(lw_job *job, lw_eval *eval, lw_error *err);

// Evaluates with the current parameters. For windows of text, the tokens that follow are scored and nothing is
// generated; the system no_context then reads only the task token, and truncated reads the window's last tokens. The
// samples are cut into fixed chunks that the ranks share, and all sums are taken in the order of samples, so that the
// figures do not depend on the number of ranks. Every rank gets the result; only rank 0 gets the intervals, and the
// answers for the functions below. A signal on any rank (src/core/signals.h) stops the evaluation within a chunk:
// LW_REQUEUE or LW_INTERRUPTED on all ranks. Collective.
lw_status lw_eval_run(lw_job *job, lw_eval *eval, lw_error *err, lw_eval_result *out);

// The loss of gold answers read through the wire, on the first eval.loss_samples samples, without generation.
typedef struct lw_held_out {
    double nll;                    // per answer token, mean over LLMs; NAN where a signal came first
    double llm_nll[LW_MAX_MODELS]; // of each LLM
    lw_eval_sums sums[LW_MAX_MODELS];
    lw_signal signal; // the most urgent one on any rank; unless it is LW_SIGNAL_NONE, nothing was measured
    double wall_s;
} lw_held_out;

// As lw_eval_run, for the loop of training: it changes no parameter, allocates nothing once started, and a signal is
// not a failure. It overwrites the work space that it shares with the step. Collective.
lw_status lw_eval_held_out(lw_job *job, lw_eval *eval, lw_error *err, lw_held_out *out);

// --- the answers of the evaluation that ran last. Rank 0.
// Writes them atomically, one line per sample, in the order of samples:
//   {"id", "question", "answers", "context_id",
//    "systems": {SYSTEM: {LLM: {"answer", "exact_match", "f1", "nll", "answer_tokens"}}},
//    "joint": {"answer", "model", "exact_match", "f1", "log_probability": {AUTHOR: {READER: number}}}}
// id: the SQuAD id, or "FILE:LINE" without folders. context_id: a hash; equal for the questions of one context. nll: of
// the first gold answer's answer_tokens tokens together. A system that leaves the sample out is absent.
lw_status lw_eval_write_predictions(const lw_job *job, const lw_eval *eval, const char *path, lw_error *err);

// eval.json. New reference. Local.
lw_status lw_eval_json(const lw_job *job, const lw_eval_result *result, lw_error *err, json_t **out);
// The same as a table for people, to `file`, or to the run's log where it is NULL. Local.
void lw_eval_print(const lw_job *job, const lw_eval_result *result, FILE *file);

static inline double lw_eval_f1(const lw_eval_result *r, int64_t llm, lw_eval_mode mode)
{
    return r->sums[llm][mode].f1 / r->sums[llm][mode].samples;
}

#endif
