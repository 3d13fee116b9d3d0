// reference.c: see reference.h.
#include "reference.h"

#include <math.h>
#include <stddef.h>

void ref_gemm(const ref_gemm_sizes *g, const double *a, const double *b, const double *bias, double *c)
{
    for (int64_t i = 0; i < g->m; i++) {
        for (int64_t j = 0; j < g->n; j++) {
            double sum = 0.0;
            for (int64_t p = 0; p < g->k; p++) {
                double x = g->trans_a ? a[p * g->lda + i] : a[i * g->lda + p];
                double y = g->trans_b ? b[j * g->ldb + p] : b[p * g->ldb + j];
                sum += x * y;
            }
            double *out = &c[i * g->ldc + j];
            double old = g->beta == 0.0 ? 0.0 : g->beta * *out;
            *out = g->alpha * sum + old + (bias != NULL ? bias[j] : 0.0);
        }
    }
}

void ref_rmsnorm(int64_t rows, int64_t d, double eps, const double *x, const double *w, double *y, double *rstd)
{
    for (int64_t r = 0; r < rows; r++) {
        double squares = 0.0;
        for (int64_t i = 0; i < d; i++) {
            squares += x[r * d + i] * x[r * d + i];
        }
        rstd[r] = 1.0 / sqrt(squares / (double)d + eps);
        for (int64_t i = 0; i < d; i++) {
            y[r * d + i] = x[r * d + i] * rstd[r] * w[i];
        }
    }
}

void ref_layernorm(int64_t rows, int64_t d, double eps, const double *x, const double *g, const double *b, double *y,
                   double *mean, double *rstd)
{
    for (int64_t r = 0; r < rows; r++) {
        double sum = 0.0, squares = 0.0;
        for (int64_t i = 0; i < d; i++) {
            sum += x[r * d + i];
        }
        mean[r] = sum / (double)d;
        for (int64_t i = 0; i < d; i++) {
            squares += (x[r * d + i] - mean[r]) * (x[r * d + i] - mean[r]);
        }
        rstd[r] = 1.0 / sqrt(squares / (double)d + eps);
        for (int64_t i = 0; i < d; i++) {
            y[r * d + i] = (x[r * d + i] - mean[r]) * rstd[r] * g[i] + b[i];
        }
    }
}

void ref_rmsscale(int64_t rows, int64_t d, double eps, double scale, double gain, const double *x, double *y,
                  double *rstd)
{
    for (int64_t r = 0; r < rows; r++) {
        double squares = 0.0;
        for (int64_t i = 0; i < d; i++) {
            squares += x[r * d + i] * x[r * d + i];
        }
        rstd[r] = 1.0 / sqrt(squares / (double)d + eps);
        for (int64_t i = 0; i < d; i++) {
            y[r * d + i] = scale * gain * x[r * d + i] * rstd[r];
        }
    }
}

void ref_span_mean(int64_t spans, int64_t d, const int32_t *start, const double *x, double *y)
{
    for (int64_t s = 0; s < spans; s++) {
        for (int64_t i = 0; i < d; i++) {
            double sum = 0.0;
            for (int64_t r = start[s]; r < start[s + 1]; r++) {
                sum += x[r * d + i];
            }
            y[s * d + i] = start[s + 1] > start[s] ? sum / (double)(start[s + 1] - start[s]) : 0.0;
        }
    }
}

void ref_rope(int64_t rows, int64_t heads, int64_t head_dim, int64_t stride, const double *cos_sin,
              const int32_t *position, double sign, double *x)
{
    int64_t half = head_dim / 2;
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t h = 0; h < heads; h++) {
            for (int64_t i = 0; i < half; i++) {
                double *first = &x[r * stride + h * head_dim + i], *second = first + half;
                double c = cos_sin[(position[r] * half + i) * 2], s = sign * cos_sin[(position[r] * half + i) * 2 + 1];
                double a = *first, b = *second;
                *first = a * c - b * s;
                *second = b * c + a * s;
            }
        }
    }
}

void ref_attention(const ref_attention_sizes *a, const double *q, const double *k, const double *v, double *o,
                   double *lse)
{
    int64_t d = a->head_dim, group = a->q_heads / a->kv_heads;
    for (int64_t s = 0; s < a->sequences; s++) {
        int64_t nq = a->q_start[s + 1] - a->q_start[s], nk = a->k_len[s];
        for (int64_t i = 0; i < nq; i++) {
            for (int64_t h = 0; h < a->q_heads; h++) {
                int64_t row = a->q_start[s] + i;
                const double *query = q + row * a->q_stride + h * d;
                double *out = o + row * a->o_stride + h * d;
                int64_t seen = a->causal ? nk - nq + i + 1 : nk;
                double largest = -INFINITY, sum = 0.0;
                for (int pass = 0; pass < 2; pass++) { // the maximum first, then the sums
                    for (int64_t c = 0; c < d && pass == 1; c++) {
                        out[c] = 0.0;
                    }
                    for (int64_t j = 0; j < seen; j++) {
                        const double *key = k + (a->k_start[s] + j) * a->k_stride + h / group * d;
                        const double *value = v + (a->k_start[s] + j) * a->v_stride + h / group * d;
                        double score = 0.0;
                        for (int64_t c = 0; c < d; c++) {
                            score += query[c] * key[c];
                        }
                        score *= a->scale;
                        if (pass == 0) {
                            largest = score > largest ? score : largest;
                            continue;
                        }
                        double e = exp(score - largest);
                        sum += e;
                        for (int64_t c = 0; c < d; c++) {
                            out[c] += e * value[c];
                        }
                    }
                }
                for (int64_t c = 0; c < d && seen > 0; c++) {
                    out[c] /= sum;
                }
                lse[row * a->q_heads + h] = seen > 0 ? largest + log(sum) : -INFINITY;
            }
        }
    }
}

void ref_swiglu(int64_t rows, int64_t f, const double *gu, double *y)
{
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < f; i++) {
            double g = gu[r * 2 * f + i], u = gu[r * 2 * f + f + i];
            y[r * f + i] = g / (1.0 + exp(-g)) * u;
        }
    }
}

void ref_gelu(int64_t n, const double *x, double *y)
{
    for (int64_t i = 0; i < n; i++) {
        double t = sqrt(2.0 / 3.14159265358979323846) * (x[i] + 0.044715 * x[i] * x[i] * x[i]);
        y[i] = 0.5 * x[i] * (1.0 + tanh(t));
    }
}

void ref_gelu_erf(int64_t n, const double *x, double *y)
{
    for (int64_t i = 0; i < n; i++) {
        y[i] = 0.5 * x[i] * erfc(-x[i] / sqrt(2.0));
    }
}

static double log_sum_exp(int64_t n, const double *z, double tau)
{
    double largest = -INFINITY, sum = 0.0;
    for (int64_t i = 0; i < n; i++) {
        largest = z[i] / tau > largest ? z[i] / tau : largest;
    }
    for (int64_t i = 0; i < n; i++) {
        sum += exp(z[i] / tau - largest);
    }
    return largest + log(sum);
}

void ref_xent_row(int64_t vocab, const double *z, int32_t target, const double *t, double tau, double *nll, double *kl)
{
    *nll = log_sum_exp(vocab, z, 1.0) - z[target];
    *kl = 0.0;
    if (t != NULL) {
        double of_z = log_sum_exp(vocab, z, tau), of_t = log_sum_exp(vocab, t, tau);
        for (int64_t i = 0; i < vocab; i++) {
            double log_p = t[i] / tau - of_t, log_q = z[i] / tau - of_z;
            *kl += exp(log_p) * (log_p - log_q);
        }
    }
}

void ref_adamw(int64_t n, const ref_adamw_factors *f, const double *grad, double *m, double *v, double *param)
{
    double clip = f->clip > 0.0 ? fmin(1.0, f->clip / (f->norm + 1e-6)) : 1.0;
    for (int64_t i = 0; i < n; i++) {
        double g = grad[i] * clip;
        m[i] = f->beta1 * m[i] + (1.0 - f->beta1) * g;
        v[i] = f->beta2 * v[i] + (1.0 - f->beta2) * g * g;
        double m_hat = m[i] / (1.0 - pow(f->beta1, (double)f->step));
        double v_hat = v[i] / (1.0 - pow(f->beta2, (double)f->step));
        param[i] -= f->lr * f->weight_decay * param[i] + f->lr * m_hat / (sqrt(v_hat) + f->eps);
    }
}
