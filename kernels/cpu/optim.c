// optim.c: the squared norm of the gradient and AdamW.
#include "cpu.h"
#include "simd.h"

// The vector is cut into this many parts at most, whatever the thread count, and the parts are added in order.
#define NORM_PARTS 256
#define NORM_ALIGN 1024

// In double, where the products of floats are exact. Sixteen sums, which the compiler keeps in vectors.
static double part_dot(int64_t n, const float *x, const float *y)
{
    double sum[16] = {0};
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        for (int j = 0; j < 16; j++) {
            sum[j] += (double)x[i + j] * (double)y[i + j];
        }
    }
    for (; i < n; i++) {
        sum[0] += (double)x[i] * (double)y[i];
    }
    for (int half = 8; half > 0; half /= 2) {
        for (int j = 0; j < half; j++) {
            sum[j] += sum[j + half];
        }
    }
    return sum[0];
}

static double dot(lw_device *dev, int64_t n, const float *x, const float *y)
{
    double part[NORM_PARTS];
    int64_t length = (n / NORM_PARTS / NORM_ALIGN + 1) * NORM_ALIGN;
    int64_t parts = (n + length - 1) / length;
    int threads = lw_cpu_threads(dev, n);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t p = 0; p < parts; p++) {
        part[p] = part_dot(lw_min_i64(length, n - p * length), x + p * length, y + p * length);
    }
    double total = 0.0;
    for (int64_t p = 0; p < parts; p++) {
        total += part[p];
    }
    return total;
}

void LW_CPU(sqnorm)(lw_device *dev, int64_t n, const void *x, lw_dtype type, float *out)
{
    if (!lw_cpu_is_f32(dev, "sqnorm", type)) {
        return;
    }
    out[0] = (float)dot(dev, n, x, x); // infinity where it is beyond the range of float: adamw then skips the step
}

void LW_CPU(dot)(lw_device *dev, int64_t n, const float *x, const float *y, float *out)
{
    out[0] = (float)((double)out[0] + dot(dev, n, x, y));
}

typedef struct adamw_factors {
    float grad_scale; // of clipping
    float beta1, beta2;
    float m_scale, v_scale; // 1 / (1 - beta^step): the bias corrections
    float lr, eps, decay;   // decay = 1 - lr weight_decay
} adamw_factors;

static void adamw_chunk(int64_t n, const adamw_factors *f, const float *grad, float *m, float *v, float *param)
{
    const lw_vf beta1 = lw_vset(f->beta1), rest1 = lw_vset(1.0f - f->beta1);
    const lw_vf beta2 = lw_vset(f->beta2), rest2 = lw_vset(1.0f - f->beta2);
    LW_FOR_LANES(i, lanes, 0, n, {
        lw_vf g = lw_load(grad + i, lanes) * lw_vset(f->grad_scale);
        lw_vf m1 = lw_vfma(beta1, lw_load(m + i, lanes), rest1 * g);
        lw_vf v1 = lw_vfma(beta2, lw_load(v + i, lanes), rest2 * (g * g));
        lw_vf update = m1 * lw_vset(f->m_scale) / (lw_vsqrt(v1 * lw_vset(f->v_scale)) + lw_vset(f->eps));
        lw_vf p = lw_vfma(lw_vset(-f->lr), update, lw_load(param + i, lanes) * lw_vset(f->decay));
        lw_store(m + i, m1, lanes);
        lw_store(v + i, v1, lanes);
        lw_store(param + i, p, lanes);
    });
}

#define ADAMW_CHUNK 4096

// Clipping multiplies the gradient by min(1, clip / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_ does.
void LW_CPU(adamw)(lw_device *dev, const lw_adamw *o)
{
    float sqnorm = o->grad_sqnorm[0];
    if (!isfinite(sqnorm)) {
        return;
    }
    adamw_factors f = {.grad_scale = 1.0f, .beta1 = o->beta1, .beta2 = o->beta2, .lr = o->lr, .eps = o->eps};
    if (o->clip > 0.0f) {
        f.grad_scale = (float)fmin(1.0, (double)o->clip / (sqrt((double)sqnorm) + 1e-6));
    }
    f.m_scale = (float)(1.0 / (1.0 - pow((double)o->beta1, (double)o->step)));
    f.v_scale = (float)(1.0 / (1.0 - pow((double)o->beta2, (double)o->step)));
    f.decay = (float)(1.0 - (double)o->lr * (double)o->weight_decay);
    int64_t chunks = (o->n + ADAMW_CHUNK - 1) / ADAMW_CHUNK;
    int threads = lw_cpu_threads(dev, o->n * 4);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t c = 0; c < chunks; c++) {
        int64_t at = c * ADAMW_CHUNK;
        adamw_chunk(lw_min_i64(ADAMW_CHUNK, o->n - at), &f, o->grad + at, o->m + at, o->v + at, o->param + at);
    }
}
