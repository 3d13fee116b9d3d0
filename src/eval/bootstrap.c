// bootstrap.c: the percentile bootstrap and the sign-flip test over clusters of samples.
#include "eval/bootstrap.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "core/random.h"

// The sums of one cluster.
typedef struct cluster_sums {
    double num, den;
} cluster_sums;

// The sums of one figure, (clusters) each; b is NULL where there is no second ratio.
typedef struct prepared {
    cluster_sums *a, *b;
} prepared;

static lw_status sums_of(const lw_resampling *r, const lw_ratio *ratio, lw_error *err, cluster_sums **out)
{
    *out = NULL;
    if (ratio->num == NULL) {
        return LW_OK;
    }
    cluster_sums *sums = calloc((size_t)r->clusters + 1, sizeof *sums);
    if (sums == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the intervals of an evaluation");
    }
    int64_t stride = ratio->stride > 0 ? ratio->stride : 1;
    for (int64_t i = 0; i < r->samples; i++) {
        sums[r->cluster[i]].num += ratio->num[i * stride];
        sums[r->cluster[i]].den += ratio->den[i * stride];
    }
    *out = sums;
    return LW_OK;
}

static lw_status prepare(const lw_resampling *r, const lw_figure *figure, lw_error *err, prepared *out)
{
    LW_TRY(sums_of(r, &figure->a, err, &out->a));
    return sums_of(r, &figure->b, err, &out->b);
}

static void release(prepared *p)
{
    free(p->a);
    free(p->b);
}

static double ratio_of(cluster_sums s)
{
    return s.den > 0.0 ? s.num / s.den : NAN;
}

// The ratio over the clusters that `chosen` lists; NULL: over all clusters, each once.
static double ratio_over(const cluster_sums *of, const int64_t *chosen, int64_t clusters)
{
    cluster_sums total = {0.0, 0.0};
    for (int64_t k = 0; k < clusters; k++) {
        cluster_sums one = of[chosen != NULL ? chosen[k] : k];
        total.num += one.num;
        total.den += one.den;
    }
    return ratio_of(total);
}

static double figure_over(const prepared *p, const int64_t *chosen, int64_t clusters)
{
    double a = ratio_over(p->a, chosen, clusters);
    return p->b != NULL ? a - ratio_over(p->b, chosen, clusters) : a;
}

// Chooses the clusters of a resample.
static void choose(const lw_resampling *r, int64_t resample, int64_t *chosen)
{
    uint64_t stream = lw_random_stream("bootstrap");
    for (int64_t k = 0; k < r->clusters; k++) {
        double u = lw_random_uniform(r->seed, stream, (uint64_t)(resample * r->clusters + k));
        chosen[k] = (int64_t)(u * (double)r->clusters);
    }
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

// A quantile of `count` sorted values, interpolated between the two nearest ones.
static double quantile(const double *sorted, int64_t count, double share)
{
    double at = share * (double)(count - 1);
    int64_t below = (int64_t)at;
    int64_t above = below + 1 < count ? below + 1 : below;
    return sorted[below] + (at - (double)below) * (sorted[above] - sorted[below]);
}

static void interval_of(double *values, int64_t count, lw_estimate *out)
{
    int64_t used = 0;
    for (int64_t i = 0; i < count; i++) {
        if (!isnan(values[i])) {
            values[used++] = values[i];
        }
    }
    qsort(values, (size_t)used, sizeof *values, compare);
    out->low = used > 0 ? quantile(values, used, 0.025) : NAN;
    out->high = used > 0 ? quantile(values, used, 0.975) : NAN;
}

// Whether resamples can differ at all: at least two clusters must have samples that belong to the figure.
static bool varies(const prepared *p, int64_t clusters)
{
    int64_t with = 0;
    for (int64_t c = 0; c < clusters && with < 2; c++) {
        with += p->a[c].den > 0.0 || (p->b != NULL && p->b[c].den > 0.0);
    }
    return with >= 2;
}

lw_status lw_bootstrap_intervals(const lw_resampling *r, const lw_figure *figures, int64_t count, lw_error *err,
                                 lw_estimate *out)
{
    prepared *p = calloc((size_t)count + 1, sizeof *p);
    double *values = calloc((size_t)(count * r->resamples) + 1, sizeof *values);
    int64_t *chosen = calloc((size_t)r->clusters + 1, sizeof *chosen);
    lw_status status = LW_OK;
    if (p == NULL || values == NULL || chosen == NULL) {
        status = lw_fail(err, LW_ERR_MEMORY, "no memory for the intervals of an evaluation");
    }
    for (int64_t f = 0; f < count && status == LW_OK; f++) {
        status = prepare(r, &figures[f], err, &p[f]);
    }
    for (int64_t i = 0; i < r->resamples && status == LW_OK; i++) {
        choose(r, i, chosen);
        for (int64_t f = 0; f < count; f++) {
            values[f * r->resamples + i] = figure_over(&p[f], chosen, r->clusters);
        }
    }
    for (int64_t f = 0; f < count && status == LW_OK; f++) {
        out[f].value = figure_over(&p[f], NULL, r->clusters);
        interval_of(values + f * r->resamples, varies(&p[f], r->clusters) ? r->resamples : 0, &out[f]);
    }
    for (int64_t f = 0; p != NULL && f < count; f++) {
        release(&p[f]);
    }
    free(p);
    free(values);
    free(chosen);
    return status;
}

// The difference after the figures of the two systems have been swapped in the clusters that flip number `flip`
// chooses.
static double flipped(const lw_resampling *r, const prepared *p, int64_t flip)
{
    uint64_t stream = lw_random_stream("sign flips");
    cluster_sums a = {0.0, 0.0};
    cluster_sums b = {0.0, 0.0};
    for (int64_t c = 0; c < r->clusters; c++) {
        bool swap = (lw_random_u64(r->seed, stream, (uint64_t)(flip * r->clusters + c)) >> 63) != 0;
        cluster_sums x = swap ? p->b[c] : p->a[c];
        cluster_sums y = swap ? p->a[c] : p->b[c];
        a = (cluster_sums){a.num + x.num, a.den + x.den};
        b = (cluster_sums){b.num + y.num, b.den + y.den};
    }
    return ratio_of(a) - ratio_of(b);
}

lw_status lw_bootstrap_sign_flip(const lw_resampling *r, const lw_figure *figure, lw_error *err, double *out)
{
    prepared p = {0};
    lw_status status = prepare(r, figure, err, &p);
    if (status == LW_OK) {
        double found = fabs(figure_over(&p, NULL, r->clusters));
        int64_t as_large = 0;
        for (int64_t i = 0; i < r->resamples; i++) {
            // A flip adds the same numbers in another order: a difference in the last places does not count as one.
            as_large += fabs(flipped(r, &p, i)) >= found * (1.0 - 1e-9);
        }
        *out = isnan(found) ? NAN : (double)(1 + as_large) / (double)(1 + r->resamples);
    }
    release(&p);
    return status;
}
