// gates_wire.c: the gates that concern encoder and adapters as they are.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval_internal.h"
#include "gates_internal.h"

enum { MOST = 32 };

static const lw_eval_task latent_loss = {.systems = {{.mode = LW_EVAL_LATENT}}, .system_count = 1};

// --- packing

lw_status lw_gate_packing(lw_job *job, lw_eval *e, lw_error *err, lw_gate_result *out)
{
    double together[MOST * LW_MAX_MODELS];
    double worst = 0.0;
    int64_t n = e->chunk < job->eval.count ? e->chunk : job->eval.count;
    n = n < MOST ? n : MOST;
    LW_TRY(lw_eval_start(job, e, err));
    e->task = latent_loss;
    e->task.samples = n;
    LW_TRY(lw_eval_chunk(job, e, 0, n, err));
    for (int64_t k = 0; k < n * job->llm_count; k++) {
        together[k] = lw_eval_record(job, e, k / job->llm_count, k % job->llm_count, 0)[LW_RECORD_NLL];
    }
    for (int64_t i = 0; i < n; i++) {
        LW_TRY(lw_eval_chunk(job, e, i, 1, err));
        for (int64_t j = 0; j < job->llm_count; j++) {
            const double *alone = lw_eval_record(job, e, i, j, 0);
            worst =
                fmax(worst, fabs(alone[LW_RECORD_NLL] - together[i * job->llm_count + j]) / alone[LW_RECORD_TOKENS]);
        }
    }
    double limit = lw_gate_tolerance(job);
    lw_gate_note(out, worst <= limit, worst, limit,
                 "loss per token differs by %.2g at most between alone and one of %lld", worst, (long long)n);
    return LW_OK;
}

// --- latents

static double cosine(const float *a, const float *b, int64_t n)
{
    double ab = 0.0;
    double aa = 0.0;
    double bb = 0.0;
    for (int64_t k = 0; k < n; k++) {
        ab += (double)a[k] * (double)b[k];
        aa += (double)a[k] * (double)a[k];
        bb += (double)b[k] * (double)b[k];
    }
    return ab / sqrt(aa * bb);
}

static bool same_source(const lw_step_sample *a, const lw_step_sample *b)
{
    return a->source.count == b->source.count &&
           memcmp(a->source.ids, b->source.ids, (size_t)a->source.count * sizeof *a->source.ids) == 0;
}

// The first samples with texts that differ from all before, at most `most`.
static int64_t different_texts(const lw_job *job, int64_t most, int64_t *which)
{
    int64_t n = 0;
    for (int64_t i = 0; i < job->eval.count && n < most; i++) {
        bool seen = false;
        for (int64_t k = 0; k < n && !seen; k++) {
            seen = same_source(&job->eval.samples[which[k]], &job->eval.samples[i]);
        }
        if (!seen) {
            which[n++] = i;
        }
    }
    return n;
}

// Of two with unlike numbers of latents as many as both have.
static void compare_latents(const lw_job *job, const lw_eval *e, int64_t n, const float *z, lw_gate_result *out)
{
    const int32_t *start = e->batch.at.z_start;
    int64_t d_z = job->config->wire.d_z;
    double sum = 0.0;
    double most = -1.0;
    for (int64_t a = 0; a < n; a++) {
        for (int64_t b = a + 1; b < n; b++) {
            int64_t rows_a = start[a + 1] - start[a];
            int64_t rows_b = start[b + 1] - start[b];
            double found = cosine(z + start[a] * d_z, z + start[b] * d_z, (rows_a < rows_b ? rows_a : rows_b) * d_z);
            sum += found;
            most = fmax(most, found);
        }
    }
    double limit = job->config->train.collapse_cosine;
    double mean = n > 1 ? sum / (double)(n * (n - 1) / 2) : NAN;
    lw_gate_note(out, mean < limit && most < 1.0 - 1e-6, mean, limit,
                 "mean cosine %.4f, largest %.6f, between the latents of %lld texts", mean, most, (long long)n);
}

lw_status lw_gate_latents(lw_job *job, lw_eval *e, lw_error *err, lw_gate_result *out)
{
    static const lw_eval_system latent = {.mode = LW_EVAL_LATENT};
    int64_t which[MOST];
    int64_t n = different_texts(job, e->chunk < MOST ? e->chunk : MOST, which);
    LW_TRY(lw_eval_start(job, e, err));
    LW_TRY(lw_eval_encode(job, e, which, n, &latent, err));
    size_t bytes = (size_t)(e->batch.z_rows * job->config->wire.d_z) * sizeof(float);
    float *z = malloc(bytes);
    if (z == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the latents of a gate");
    }
    job->dev->ops->download(job->dev, e->latents, bytes, z);
    lw_status status = job->dev->ops->sync(job->dev, err);
    if (status == LW_OK) {
        compare_latents(job, e, n, z, out);
    }
    free(z);
    return status;
}
