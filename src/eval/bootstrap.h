// bootstrap.h: confidence intervals of an evaluation's figures, and a test of whether two systems differ. Local.
//
// A figure is a ratio of sums over samples (F1: scores over samples; loss per token: losses over tokens), or the
// difference of two such ratios over the same samples. Questions about one context are not independent of each other,
// so whole clusters of samples are resampled, never single ones.
//   interval   percentile bootstrap: clusters are resampled with replacement, as many as there are (Efron & Tibshirani
//              1993, chapters 6 and 13; clusters: Cameron, Gelbach & Miller 2008)
//   test       sign flips: under the null hypothesis the two systems are exchangeable within a cluster, so the figures
//              of the two are swapped at random, cluster by cluster (Dror et al. 2018); two-sided
// The choice is a function of seed, resample and number, and so the same for all figures of a set of samples, which are
// paired by that.
#ifndef LW_BOOTSTRAP_H
#define LW_BOOTSTRAP_H

#include <stdint.h>

#include "core/status.h"

// What is resampled; borrowed.
typedef struct lw_resampling {
    int64_t samples;
    const int64_t *cluster; // (samples) 0 .. clusters - 1
    int64_t clusters;
    int64_t resamples;
    uint64_t seed;
} lw_resampling;

// The sum of num over the sum of den. A sample that does not belong to the figure has 0 in both.
typedef struct lw_ratio {
    const double *num, *den; // (samples) borrowed
    int64_t stride;          // between the numbers of two samples; 0 is 1
} lw_ratio;

typedef struct lw_figure {
    lw_ratio a, b; // ratio a, minus ratio b where b.num is not NULL
} lw_figure;

typedef struct lw_estimate {
    // The figure of the samples themselves (NAN where none belongs to it) and its 95 % interval (NAN where fewer than
    // two clusters have such samples).
    double value, low, high;
} lw_estimate;

// out (count): an estimate for each figure. Resamples in which a figure has no samples do not count for it.
// LW_ERR_MEMORY.
lw_status lw_bootstrap_intervals(const lw_resampling *r, const lw_figure *figures, int64_t count, lw_error *err,
                                 lw_estimate *out);

// The p-value of a figure with both ratios: the share of sign flips whose difference is at least as large as the one
// found, which is counted among them: (1 + n) / (1 + resamples), never 0. NAN without samples. LW_ERR_MEMORY.
lw_status lw_bootstrap_sign_flip(const lw_resampling *r, const lw_figure *figure, lw_error *err, double *out);

#endif
