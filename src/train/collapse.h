// collapse.h: does the wire still tell samples apart? Two signs that it does not: the latents of different samples
// point the same way, and the models begin every answer with the same token. Either is common at the start of a run;
// one that stays is told once, with what to try.
#ifndef LW_COLLAPSE_H
#define LW_COLLAPSE_H

#include "eval/eval.h"
#include "job/job.h"

// How long a sign has been there without a break: since the step of the check that first saw it.
typedef struct lw_collapse_sign {
    int64_t since; // -1: the last check did not see it
    int64_t checks;
    bool told;
} lw_collapse_sign;

typedef struct lw_collapse {
    lw_job *job;          // borrowed
    int64_t warmup_steps; // checks up to this step do not count
    int64_t d_z;
    int64_t width;  // of a sample's latents that are looked at: d_z times the first of them, as many as all have
    int64_t most;   // samples of this rank that are looked at
    float *latents; // (most, width)
    double *sum;    // (width + 1) sum of unit vectors, and their number
    lw_collapse_sign cosine;
    lw_collapse_sign first_token[LW_MAX_MODELS];
} lw_collapse;

// micro: samples of a pass on this rank. LW_ERR_MEMORY. Local.
lw_status lw_collapse_create(lw_job *job, int64_t micro, int64_t warmup_steps, lw_error *err, lw_collapse *out);
void lw_collapse_free(lw_collapse *c);

// Mean cosine between the latents of different samples, each sample's latents taken as one vector: of the `samples` (at
// most `most` are looked at) whose latents lie in z on this rank, from row z_start[i] (host) on, and those of all other
// ranks. NAN with fewer than two samples, or where a latent is not finite. On every rank. Collective.
lw_status lw_collapse_cosine(lw_collapse *c, const float *z, const int32_t *z_start, int64_t samples, lw_error *err,
                             double *out);

// Takes note of what was measured at `step` and warns where a sign has stayed for train.collapse_steps. Local.
void lw_collapse_note_cosine(lw_collapse *c, int64_t step, double cosine);
void lw_collapse_note_first_tokens(lw_collapse *c, int64_t step, const lw_eval_sums *sums); // (LLMs)

// Whether all samples begin with the same token while most of the gold answers begin with another. Local.
bool lw_collapse_same_first(const lw_eval_sums *sums);
// Warns of it after the evaluation at the end, unless that has been told already. Local.
void lw_collapse_check_result(lw_collapse *c, const lw_eval_result *result);

#endif
