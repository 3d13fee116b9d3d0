// collapse.c: measures the two signs of a collapsed wire and warns of them.
#include "train/collapse.h"

#include <math.h>
#include <stdlib.h>

#include "data/sample.h"

enum {
    MOST_SAMPLES = 64, // of a rank: bounds the cost of a check with large batches
    LEAST_SAMPLES = 8, // of an evaluation: in fewer samples the same first token may be chance
    LEAST_CHECKS = 3,
};

static const lw_collapse_sign unseen = {.since = -1};

static int64_t fewest_latents(const lw_job *job)
{
    int64_t fewest = INT64_MAX;
    for (int64_t p = 0; p < job->phase_count; p++) {
        for (int64_t i = 0; i < job->train[p].count; i++) {
            const lw_token_sample *sample = &job->train[p].samples[i];
            int64_t latents = lw_config_latents(lw_config_phase(job->config, p), sample->source.count);
            fewest = latents < fewest ? latents : fewest;
        }
    }
    return fewest < INT64_MAX ? fewest : lw_config_latents(job->config, 1);
}

lw_status lw_collapse_create(lw_job *job, int64_t micro, int64_t warmup_steps, lw_error *err, lw_collapse *out)
{
    lw_collapse c = {.job = job,
                     .warmup_steps = warmup_steps,
                     .d_z = job->config->wire.d_z,
                     .width = fewest_latents(job) * job->config->wire.d_z,
                     .most = micro < MOST_SAMPLES ? micro : MOST_SAMPLES,
                     .cosine = unseen};
    for (int64_t j = 0; j < LW_MAX_MODELS; j++) {
        c.first_token[j] = unseen;
    }
    c.latents = calloc((size_t)(c.most * c.width), sizeof *c.latents);
    c.sum = calloc((size_t)c.width + 1, sizeof *c.sum);
    if (c.latents == NULL || c.sum == NULL) {
        lw_collapse_free(&c);
        return lw_fail(err, LW_ERR_MEMORY, "no memory to look at the latents of %lld samples", (long long)c.most);
    }
    *out = c;
    return LW_OK;
}

void lw_collapse_free(lw_collapse *c)
{
    free(c->latents);
    free(c->sum);
    c->latents = NULL;
    c->sum = NULL;
}

// For unit vectors the sum over pairs i != j of u_i . u_j is |sum u|^2 - n, so the ranks only have to exchange one
// vector of sums.
lw_status lw_collapse_cosine(lw_collapse *c, const float *z, const int32_t *z_start, int64_t samples, lw_error *err,
                             double *out)
{
    lw_device *dev = c->job->dev;
    int64_t most =
        c->job->place.model == 0 ? c->most : 0; // ranks that differ in their LLMs alone have the same samples
    int64_t n = samples < most ? samples : most;
    for (int64_t i = 0; i < n; i++) {
        dev->ops->download(dev, z + z_start[i] * c->d_z, (size_t)c->width * sizeof *z, c->latents + i * c->width);
    }
    LW_TRY(dev->ops->sync(dev, err));
    for (int64_t k = 0; k <= c->width; k++) {
        c->sum[k] = 0.0;
    }
    for (int64_t i = 0; i < n; i++) {
        const float *latents = c->latents + i * c->width;
        double square = 0.0;
        for (int64_t k = 0; k < c->width; k++) {
            square += (double)latents[k] * (double)latents[k];
        }
        double scale = square > 0.0 ? 1.0 / sqrt(square) : 0.0;
        for (int64_t k = 0; k < c->width; k++) {
            c->sum[k] += scale * (double)latents[k];
        }
        c->sum[c->width] += 1.0;
    }
    LW_TRY(lw_comm_sum_f64(c->job->comm, c->sum, c->width + 1, err));
    double all = c->sum[c->width];
    double square = 0.0;
    for (int64_t k = 0; k < c->width; k++) {
        square += c->sum[k] * c->sum[k];
    }
    double mean = all >= 2.0 ? (square - all) / (all * (all - 1.0)) : NAN;
    *out = isfinite(mean) ? fmax(-1.0, fmin(1.0, mean)) : NAN;
    return LW_OK;
}

// Whether the sign has to be reported now: it has persisted for train.collapse_steps steps and a few checks, and was
// not reported before.
static bool is_due(const lw_collapse *c, lw_collapse_sign *sign, int64_t step, bool seen)
{
    if (!seen || step <= c->warmup_steps) {
        sign->since = -1;
        return false;
    }
    if (sign->since < 0) {
        sign->since = step;
        sign->checks = 0;
    }
    sign->checks++;
    bool due =
        !sign->reported && sign->checks >= LEAST_CHECKS && step - sign->since >= c->job->config->train.collapse_steps;
    sign->reported = sign->reported || due;
    return due;
}

void lw_collapse_note_cosine(lw_collapse *c, int64_t step, double cosine)
{
    double limit = c->job->config->train.collapse_cosine;
    if (limit > 0.0 && is_due(c, &c->cosine, step, cosine > limit)) {
        lw_log(
            c->job->run,
            "warning: the latents of different samples are alike: their mean cosine is %.4f at step %lld and has been "
            "above train.collapse_cosine = %g since step %lld, so the wire tells the models little about the sample. "
            "Try a lower train.lr, a longer train.warmup, loss.first_weight = 1, more wire.latents, or another "
            "seed; if eval_nll falls all the same, raise train.collapse_cosine",
            cosine, (long long)step, limit, (long long)c->cosine.since);
    }
}

bool lw_collapse_same_first(const lw_eval_sums *sums)
{
    return sums->same_first && sums->samples >= LEAST_SAMPLES && sums->first_correct < 0.5 * sums->samples;
}

void lw_collapse_note_first_tokens(lw_collapse *c, int64_t step, const lw_eval_sums *sums)
{
    if (!c->job->config->train.collapse_first) {
        return;
    }
    for (int64_t j = 0; j < c->job->llm_count; j++) {
        lw_collapse_sign *sign = &c->first_token[j];
        if (is_due(c, sign, step, lw_collapse_same_first(&sums[j]))) {
            lw_log(c->job->run,
                   "warning: model %s begins the answer to each of %.0f evaluation samples with the same token, since "
                   "step %lld, while the gold answers differ: it does not use the wire. Try loss.first_weight = 1, a "
                   "higher train.lr for this short a run or a lower one if the loss jumps, more wire.latents, or more "
                   "samples",
                   c->job->llms[j].name, sums[j].samples, (long long)sign->since);
        }
    }
}

void lw_collapse_check_result(lw_collapse *c, const lw_eval_result *result)
{
    for (int64_t j = 0; j < c->job->llm_count && c->job->config->train.collapse_first; j++) {
        const lw_eval_sums *sums = &result->sums[j][LW_EVAL_LATENT];
        if (!c->first_token[j].reported && lw_collapse_same_first(sums)) {
            c->first_token[j].reported = true;
            lw_log(c->job->run,
                   "warning: model %s begins the answer to each of %.0f samples with the same token when it reads the "
                   "wire, while the gold answers differ: it has not learned to use it. Try more epochs, another "
                   "train.lr, loss.first_weight = 1, or more wire.latents",
                   c->job->llms[j].name, sums->samples);
        }
    }
}
