// collapse.h: warns when the wire no longer tells samples apart. There are two signs: the latents of different samples
// point in the same direction, and the models begin every answer with the same token. Both are common at the start of a
// run. A sign that persists is reported once, together with what to try.
#ifndef LW_COLLAPSE_H
#define LW_COLLAPSE_H

#include "eval/eval.h"
#include "job/job.h"

// How long a sign has persisted: since the step of the check that saw it first, without a check that did not see it.
typedef struct lw_collapse_sign {
    int64_t since; // -1: the last check did not see it
    int64_t checks;
    bool reported;
} lw_collapse_sign;

typedef struct lw_collapse {
    lw_job *job;          // borrowed
    int64_t warmup_steps; // checks up to this step are ignored
    int64_t d_z;
    int64_t width;  // floats of a sample that are compared: its first latents, as many as every sample has, times d_z
    int64_t most;   // samples of this rank that are compared
    float *latents; // (most, width)
    double *sum;    // (width + 1) sum of the unit vectors, then their number
    lw_collapse_sign cosine;
    lw_collapse_sign first_token[LW_MAX_MODELS];
} lw_collapse;

// micro: samples of a pass on this rank. Returns LW_ERR_MEMORY. Local.
lw_status lw_collapse_create(lw_job *job, int64_t micro, int64_t warmup_steps, lw_error *err, lw_collapse *out);
void lw_collapse_free(lw_collapse *c);

// Mean cosine between the latents of different samples, where the latents of a sample are one vector. The samples are
// those of all ranks. On this rank the latents of `samples` samples lie in z, those of sample i from row z_start[i]
// (host) on; at most `most` of them are used. *out is the same on every rank, and NAN if there are fewer than two
// samples or a latent is not finite. Collective.
lw_status lw_collapse_cosine(lw_collapse *c, const float *z, const int32_t *z_start, int64_t samples, lw_error *err,
                             double *out);

// Both record what was measured at `step` and warn if a sign has persisted for train.collapse_steps. Local.
void lw_collapse_note_cosine(lw_collapse *c, int64_t step, double cosine);
void lw_collapse_note_first_tokens(lw_collapse *c, int64_t step, const lw_eval_sums *sums); // (LLMs)

// Whether all samples begin with the same token while most of the gold answers begin with another. Local.
// For tests.
bool lw_collapse_same_first(const lw_eval_sums *sums);
// Warns of that after the evaluation at the end, unless it was reported before. Local.
void lw_collapse_check_result(lw_collapse *c, const lw_eval_result *result);

#endif
