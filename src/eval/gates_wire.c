// gates_wire.c: the gates of encoder and adapters with their current parameters.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/numbers.h"
#include "data/sample.h"
#include "eval/eval_internal.h"
#include "eval/gates_internal.h"

enum { MOST = 32 };

static const lw_eval_task latent_loss = {.systems = {{.mode = LW_EVAL_LATENT}}, .system_count = 1};

// --- packing

lw_status lw_gate_packing(lw_job *job, lw_eval *e, lw_error *err, lw_gate_result *out)
{
    double together[MOST * LW_MAX_MODELS];
    double worst = 0.0;
    int64_t n = lw_min_i64(e->chunk, job->eval.count);
    n = lw_min_i64(n, MOST);
    if (n < 2) {
        lw_gate_skip(out, "eval.batch and data.eval leave one sample a pass: nothing is packed");
        return LW_OK;
    }
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
            if (!lw_job_owns(job, j)) {
                continue;
            }
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

static bool same_source(const lw_token_sample *a, const lw_token_sample *b)
{
    return a->source.count == b->source.count &&
           memcmp(a->source.ids, b->source.ids, (size_t)a->source.count * sizeof *a->source.ids) == 0;
}

// Finds the first samples, at most `most`, whose texts differ from all earlier ones.
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

// The latents of several different texts, on the host.
typedef struct gathered {
    int64_t count;
    int64_t which[MOST];     // of the evaluation's samples
    int64_t start[MOST + 1]; // rows of z
    float *z;
} gathered;

// Compares the latents pairwise; of two texts with different numbers of latents, as many as both have.
static void compare_latents(const lw_job *job, const gathered *g, lw_gate_result *out)
{
    // Where the alarm is off, texts may be as alike as they like, but not all the same.
    const double alike = 1.0 - 1e-3;
    double limit = job->config->train.collapse_cosine > 0.0 ? job->config->train.collapse_cosine : alike;
    int64_t n = g->count;
    int64_t d_z = job->config->wire.d_z;
    double sum = 0.0;
    double most = -1.0;
    bool equal = false; // different numbers of latents distinguish two texts, even if one begins like the other
    for (int64_t a = 0; a < n; a++) {
        for (int64_t b = a + 1; b < n; b++) {
            int64_t rows_a = g->start[a + 1] - g->start[a];
            int64_t rows_b = g->start[b + 1] - g->start[b];
            int64_t rows = lw_min_i64(rows_a, rows_b);
            double found = cosine(g->z + g->start[a] * d_z, g->z + g->start[b] * d_z, rows * d_z);
            sum += found;
            most = fmax(most, found);
            equal = equal || (rows_a == rows_b && found >= 1.0 - 1e-6);
        }
    }
    double mean = sum / (double)(n * (n - 1) / 2);
    lw_gate_note(out, mean < limit && !equal, mean, limit,
                 "mean cosine %.4f, largest %.6f, between the latents of %lld texts", mean, most, (long long)n);
}

// Gathers one chunk at a time, as an evaluation is sized for that.
static lw_status gather_latents(lw_job *job, lw_eval *e, gathered *g, lw_error *err)
{
    static const lw_eval_system latent = {.mode = LW_EVAL_LATENT};
    int64_t d_z = job->config->wire.d_z;
    for (int64_t first = 0; first < g->count; first += e->chunk) {
        int64_t count = lw_min_i64(g->count - first, e->chunk);
        LW_TRY(lw_eval_encode(job, e, g->which + first, count, &latent, err));
        for (int64_t i = 0; i < count; i++) {
            g->start[first + i + 1] = g->start[first] + e->batch.at.z_start[i + 1];
        }
        float *to = realloc(g->z, (size_t)(g->start[first + count] * d_z) * sizeof *g->z);
        if (to == NULL) {
            return lw_fail(err, LW_ERR_MEMORY, "no memory for the latents of a gate");
        }
        g->z = to;
        job->dev->ops->download(job->dev, e->latents, (size_t)(e->batch.z_rows * d_z) * sizeof *g->z,
                                g->z + g->start[first] * d_z);
        LW_TRY(job->dev->ops->sync(job->dev, err));
    }
    return LW_OK;
}

lw_status lw_gate_latents(lw_job *job, lw_eval *e, lw_error *err, lw_gate_result *out)
{
    gathered g = {0};
    g.count = different_texts(job, MOST, g.which);
    if (g.count < 2) {
        lw_gate_skip(out, "one text only in %lld samples of data.eval: nothing to compare", (long long)job->eval.count);
        return LW_OK;
    }
    LW_TRY(lw_eval_start(job, e, err));
    lw_status status = gather_latents(job, e, &g, err);
    if (status == LW_OK) {
        compare_latents(job, &g, out);
    }
    free(g.z);
    return status;
}
