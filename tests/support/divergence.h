// divergence.h: distillation's terms in double, for comparison.
#ifndef LW_TEST_DIVERGENCE_H
#define LW_TEST_DIVERGENCE_H

#include <stdint.h>

// log sum_v exp(z_v / tau), v < n.
double reference_log_sum_exp(const float *z, int64_t n, double tau);
// KL(softmax(teacher / tau) || softmax(z / tau)).
double reference_divergence(const float *teacher, const float *z, int64_t n, double tau);

#endif
