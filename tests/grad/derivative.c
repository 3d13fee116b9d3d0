// derivative.c: central differences of a loss in double precision.
#include "derivative.h"

#include <math.h>

#include "core/random.h"

enum { RUNGS = 9 };

double derivative(double (*value)(void *context, double h), void *context, double *uncertainty)
{
    double difference[RUNGS];
    double fourth[RUNGS];
    for (int r = 0; r < RUNGS; r++) {
        double h = ldexp(0.5, -r);
        difference[r] = (value(context, h) - value(context, -h)) / (2.0 * h);
    }
    for (int r = 0; r + 1 < RUNGS; r++) {
        fourth[r] = (4.0 * difference[r + 1] - difference[r]) / 3.0;
    }
    double best = fourth[0];
    *uncertainty = INFINITY;
    for (int r = 0; r + 2 < RUNGS; r++) {
        double apart = fabs(fourth[r] - fourth[r + 1]);
        if (apart < *uncertainty) {
            *uncertainty = apart;
            best = fourth[r + 1];
        }
    }
    return best;
}

void choose_direction(const float *g, int64_t n, int which, uint64_t stream, double *u)
{
    double norm_g = 0.0;
    double norm_r = 0.0;
    double dot = 0.0;
    for (int64_t k = 0; k < n; k++) {
        u[k] = lw_random_normal(11, stream, (uint64_t)k);
        norm_r += u[k] * u[k];
        norm_g += (double)g[k] * (double)g[k];
        dot += (double)g[k] * u[k];
    }
    double along = which == 0 && norm_g > 0.0 ? sqrt(0.5 / norm_g) : 0.0;
    double across = (along > 0.0 ? copysign(sqrt(0.5), dot) : 1.0) / sqrt(norm_r); // the two never cancel
    double norm = 0.0;
    for (int64_t k = 0; k < n; k++) {
        u[k] = along * (double)g[k] + across * u[k];
        norm += u[k] * u[k];
    }
    for (int64_t k = 0; k < n; k++) {
        u[k] /= sqrt(norm);
    }
}
