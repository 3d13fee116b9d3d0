// divergence.c: the terms of distillation in double precision.
#include "divergence.h"

#include <math.h>

double reference_log_sum_exp(const float *z, int64_t n, double tau)
{
    double largest = -INFINITY;
    double sum = 0.0;
    for (int64_t v = 0; v < n; v++) {
        largest = fmax(largest, (double)z[v] / tau);
    }
    for (int64_t v = 0; v < n; v++) {
        sum += exp((double)z[v] / tau - largest);
    }
    return largest + log(sum);
}

double reference_divergence(const float *teacher, const float *z, int64_t n, double tau)
{
    double p_log = reference_log_sum_exp(teacher, n, tau);
    double q_log = reference_log_sum_exp(z, n, tau);
    double sum = 0.0;
    for (int64_t v = 0; v < n; v++) {
        double p = (double)teacher[v] / tau - p_log;
        sum += exp(p) * (p - ((double)z[v] / tau - q_log));
    }
    return sum;
}
