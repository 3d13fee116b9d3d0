// ridge.h: linear regression with an intercept and a penalty (Hoerl & Kennard 1970), from sums over the rows. Local.
//
// From rows x (p) and t (q) it minimises  sum |W x + b - t|^2 + lambda |W|^2  over W (q, p) and b (q), by the normal
// equations.
#ifndef LW_RIDGE_H
#define LW_RIDGE_H

#include "device/device.h"

typedef struct lw_ridge {
    int64_t p, q, rows;
    float *xx, *xt; // device (p, p), (p, q): sums of x x^T and x t^T
    float *x, *t;   // device (p), (q): sums
    float *tt;      // device (1): sum of |t|^2
    float *weight;  // device (q, p)
} lw_ridge;

// Floats of the sums, which lie one after another in the order of the structure, and of these and the solution.
int64_t lw_ridge_sums(int64_t p, int64_t q);
int64_t lw_ridge_elements(int64_t p, int64_t q);
void lw_ridge_place(lw_ridge *r, float *memory); // p and q are set; the caller has zeroed the memory

// Enqueues the sums of further rows: x (rows, p), t (rows, q), ones (rows), all on the device.
void lw_ridge_add(lw_device *dev, lw_ridge *r, int64_t rows, const float *x, const float *t, const float *ones);

// lambda is `penalty` times the mean variance of x, times the number of rows. weight (q, p) and bias (q) are the
// caller's memory on the host. The sums are overwritten. *explained: the share of the variance of t that the solution
// explains. Returns LW_ERR_NUMERIC when x is not finite, or x or t does not vary.
lw_status lw_ridge_solve(lw_device *dev, lw_ridge *r, double penalty, lw_error *err, float *weight, float *bias,
                         double *explained);

#endif
