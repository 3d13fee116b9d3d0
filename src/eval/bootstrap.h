// bootstrap.h: how sure a figure of an evaluation is, and whether two systems differ. Local.
//
// A figure is a ratio of sums over samples (F1: scores over samples; loss per token: losses over tokens), or the
// difference of two such ratios over the same samples. Questions about one context are not independent of each other,
// so whole clusters of samples are drawn, never single ones.
//   interval   percentile bootstrap: clusters are drawn with replacement, as many as there are (Efron & Tibshirani
//   1993,
//              chapters 6 and 13; clusters: Cameron, Gelbach & Miller 2008)
//   test       sign flips: under the null hypothesis the two systems are exchangeable within a cluster, so the figures
//              of the two are swapped at random, cluster by cluster (Dror et al. 2018); two-sided
// Draws are f(seed, resample, number): the same for all figures of a set of samples, which therefore are paired.
#ifndef LW_BOOTSTRAP_H
#define LW_BOOTSTRAP_H

#include <stdint.h>

#include "core/status.h"

// Borrowed.
typedef struct lw_resampling {
    int64_t samples;
    const int64_t *cluster; // (samples) 0 .. clusters - 1
    int64_t clusters;
    int64_t resamples;
    uint64_t seed;
} lw_resampling;

// Sum of num over sum of den; a sample that has no part in it has both 0.
typedef struct lw_ratio {
    const double *num, *den; // (samples) borrowed
    int64_t stride;          // between the numbers of two samples; 0 is 1
} lw_ratio;

typedef struct lw_figure {
    lw_ratio a, b; // ratio a, less ratio b where b.num is not NULL
} lw_figure;

typedef struct lw_estimate {
    // Of the samples themselves, NAN where none has a part in it; 95 % interval, NAN where fewer than two clusters
    // have.
    double value, low, high;
} lw_estimate;

// out (count). Resamples in which a figure has no samples do not count for it. LW_ERR_MEMORY.
lw_status lw_bootstrap_intervals(const lw_resampling *r, const lw_figure *figures, int64_t count, lw_error *err,
                                 lw_estimate *out);

// The share of sign flips with a difference at least as large as the one found, which is counted among them:
// (1 + n) / (1 + resamples), never 0. The figure has both ratios. NAN without samples. LW_ERR_MEMORY.
lw_status lw_bootstrap_sign_flip(const lw_resampling *r, const lw_figure *figure, lw_error *err, double *out);

#endif
