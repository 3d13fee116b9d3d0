// reference.h: the operators of src/device/device.h in double precision, written as plainly as their formulas. Only
// forward passes: the gradients are their finite differences.
#ifndef OPS_REFERENCE_H
#define OPS_REFERENCE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct ref_gemm_sizes {
    int64_t m, n, k;
    bool trans_a, trans_b;
    double alpha, beta;
    int64_t lda, ldb, ldc;
} ref_gemm_sizes;

void ref_gemm(const ref_gemm_sizes *g, const double *a, const double *b, const double *bias, double *c);

void ref_rmsnorm(int64_t rows, int64_t d, double eps, const double *x, const double *w, double *y, double *rstd);
void ref_layernorm(int64_t rows, int64_t d, double eps, const double *x, const double *g, const double *b, double *y,
                   double *mean, double *rstd);
void ref_rmsscale(int64_t rows, int64_t d, double eps, double scale, double gain, const double *x, double *y,
                  double *rstd);
void ref_span_mean(int64_t spans, int64_t d, const int32_t *start, const double *x, double *y);

void ref_rope(int64_t rows, int64_t heads, int64_t head_dim, int64_t stride, const double *cos_sin,
              const int32_t *position, double sign, double *x);

typedef struct ref_attention_sizes {
    int64_t sequences, q_heads, kv_heads, head_dim;
    const int32_t *q_start, *k_start, *k_len;
    int64_t q_stride, k_stride, v_stride, o_stride;
    double scale;
    bool causal;
} ref_attention_sizes;

void ref_attention(const ref_attention_sizes *a, const double *q, const double *k, const double *v, double *o,
                   double *lse);

void ref_swiglu(int64_t rows, int64_t f, const double *gu, double *y);
void ref_gelu(int64_t n, const double *x, double *y);
void ref_gelu_erf(int64_t n, const double *x, double *y);

// z, t: (vocab); t may be NULL, then kl is 0
void ref_xent_row(int64_t vocab, const double *z, int32_t target, const double *t, double tau, double *nll, double *kl);

typedef struct ref_adamw_factors {
    double lr, beta1, beta2, eps, weight_decay, clip, norm;
    int64_t step;
} ref_adamw_factors;

void ref_adamw(int64_t n, const ref_adamw_factors *f, const double *grad, double *m, double *v, double *param);

#endif
