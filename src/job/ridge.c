// ridge.c: sums, inverse and solution of the ridge regression.
#include "job/ridge.h"

#include <math.h>
#include <stdlib.h>

int64_t lw_ridge_sums(int64_t p, int64_t q)
{
    return p * p + p * q + p + q + 1;
}

int64_t lw_ridge_elements(int64_t p, int64_t q)
{
    return lw_ridge_sums(p, q) + p * q;
}

void lw_ridge_place(lw_ridge *r, float *memory)
{
    r->xx = memory;
    r->xt = r->xx + r->p * r->p;
    r->x = r->xt + r->p * r->q;
    r->t = r->x + r->p;
    r->tt = r->t + r->q;
    r->weight = r->tt + 1;
}

static void add_product(lw_device *dev, int64_t m, int64_t n, int64_t rows, const float *a, const float *b, float *sum)
{
    dev->ops->gemm(dev, &(lw_gemm){.trans_a = true,
                                   .m = m,
                                   .n = n,
                                   .k = rows,
                                   .alpha = 1.0F,
                                   .beta = 1.0F,
                                   .a = a,
                                   .b = b,
                                   .c = sum,
                                   .lda = m,
                                   .ldb = n,
                                   .ldc = n});
}

void lw_ridge_add(lw_device *dev, lw_ridge *r, int64_t rows, const float *x, const float *t, const float *ones)
{
    add_product(dev, r->p, r->p, rows, x, x, r->xx);
    add_product(dev, r->p, r->q, rows, x, t, r->xt);
    add_product(dev, 1, r->p, rows, ones, x, r->x);
    add_product(dev, 1, r->q, rows, ones, t, r->t);
    add_product(dev, 1, 1, rows * r->q, t, t, r->tt);
    r->rows += rows;
}

// Replaces the symmetric positive definite a (n, n) by its inverse, by Gauss-Jordan elimination, which needs no
// pivoting for such a matrix. Returns false if a is not positive definite.
static bool invert(int64_t n, double *a)
{
    for (int64_t k = 0; k < n; k++) {
        double *row = a + k * n;
        double inverse = 1.0 / row[k];
        if (!(row[k] > 0.0) || !isfinite(inverse)) {
            return false;
        }
        row[k] = 1.0;
        for (int64_t j = 0; j < n; j++) {
            row[j] *= inverse;
        }
        for (int64_t i = 0; i < n; i++) {
            double *other = a + i * n;
            double factor = other[k];
            if (i == k) {
                continue;
            }
            other[k] = 0.0;
            for (int64_t j = 0; j < n; j++) {
                other[j] -= factor * row[j];
            }
        }
    }
    return true;
}

// h holds the sums on the host. xx becomes the inverse of  sum (x - mean)(x - mean)^T + lambda I,  and xt
// sum (x - mean)(t - mean)^T.
static lw_status center(const lw_ridge *h, double penalty, lw_error *err)
{
    double trace = 0.0;
    double *work = malloc((size_t)(h->p * h->p) * sizeof *work);
    if (work == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for a fit of %lld numbers to %lld", (long long)h->p,
                       (long long)h->q);
    }
    for (int64_t i = 0; i < h->p; i++) {
        double mean = (double)h->x[i] / (double)h->rows;
        for (int64_t k = 0; k < h->p; k++) {
            work[i * h->p + k] = (double)h->xx[i * h->p + k] - mean * (double)h->x[k];
        }
        for (int64_t k = 0; k < h->q; k++) {
            h->xt[i * h->q + k] -= (float)(mean * (double)h->t[k]);
        }
        trace += work[i * h->p + i];
    }
    for (int64_t i = 0; i < h->p; i++) {
        work[i * h->p + i] += penalty * trace / (double)h->p;
    }
    bool solvable = isfinite(trace) && trace > 0.0 && invert(h->p, work);
    for (int64_t i = 0; i < h->p * h->p; i++) {
        h->xx[i] = (float)work[i];
    }
    free(work);
    return solvable ? LW_OK
                    : lw_fail(err, LW_ERR_NUMERIC, "a fit to %lld rows of numbers that are not finite, or all alike",
                              (long long)h->rows);
}

// bias = mean t - W mean x.
static void finish(const lw_ridge *h, const float *weight, float *bias, double *explained)
{
    double explained_sum = 0.0;
    double total = (double)h->tt[0];
    for (int64_t k = 0; k < h->q; k++) {
        double b = (double)h->t[k];
        total -= b * b / (double)h->rows;
        for (int64_t i = 0; i < h->p; i++) {
            b -= (double)weight[k * h->p + i] * (double)h->x[i];
            explained_sum += (double)weight[k * h->p + i] * (double)h->xt[i * h->q + k];
        }
        bias[k] = (float)(b / (double)h->rows);
    }
    *explained = explained_sum / total;
}

lw_status lw_ridge_solve(lw_device *dev, lw_ridge *r, double penalty, lw_error *err, float *weight, float *bias,
                         double *explained)
{
    lw_ridge h = {.p = r->p, .q = r->q, .rows = r->rows};
    size_t bytes = (size_t)lw_ridge_sums(r->p, r->q) * sizeof(float);
    float *host = malloc(bytes);
    if (host == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for a fit of %lld numbers to %lld", (long long)r->p,
                       (long long)r->q);
    }
    lw_ridge_place(&h, host); // the host copy has no room for `weight`
    dev->ops->download(dev, r->xx, bytes, host);
    lw_status status = dev->ops->sync(dev, err);
    if (status == LW_OK) {
        status = center(&h, penalty, err);
    }
    if (status == LW_OK) { // the product W^T = inverse xt runs on the device
        dev->ops->upload(dev, host, bytes, r->xx);
        dev->ops->gemm(dev, &(lw_gemm){.trans_a = true,
                                       .m = r->q,
                                       .n = r->p,
                                       .k = r->p,
                                       .alpha = 1.0F,
                                       .a = r->xt,
                                       .b = r->xx,
                                       .c = r->weight,
                                       .lda = r->q,
                                       .ldb = r->p,
                                       .ldc = r->p});
        dev->ops->download(dev, r->weight, (size_t)(r->q * r->p) * sizeof *weight, weight);
        status = dev->ops->sync(dev, err);
    }
    if (status == LW_OK) {
        finish(&h, weight, bias, explained);
    }
    free(host);
    return status;
}
