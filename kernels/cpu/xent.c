// xent.c: cross-entropy and distillation on rows of logits, and argmax.
#include "cpu.h"
#include "simd.h"

static float row_max(int64_t n, const float *z)
{
    lw_vf m = lw_vset(-INFINITY);
    LW_FOR_LANES(i, lanes, 0, n, {
        lw_vf a = lw_load(z + i, lanes);
        m = lw_vmax(lw_vfirst(a, m, lanes), m);
    });
    return lw_vhmax(m);
}

// Index of the first element equal to the largest; 0 where none is (NaN throughout).
static int32_t row_argmax(int64_t n, const float *z, float largest)
{
    int64_t i = 0;
    while (i < n && z[i] != largest) {
        i++;
    }
    return i < n ? (int32_t)i : 0;
}

// sum_i exp((z_i - shift) inverse_tau); the terms are stored in e unless it is NULL (e may be z).
LW_INLINE float exp_sum(int64_t n, const float *z, float shift, float inverse_tau, float *e)
{
    const lw_vf t = lw_vset(inverse_tau), m = lw_vset(shift);
    // Four vectors of sums: the additions do not wait for one another, and no sum gets too many terms.
    lw_vf sum[4] = {lw_vset(0.0f), lw_vset(0.0f), lw_vset(0.0f), lw_vset(0.0f)};
    int64_t i = 0;
    for (; i + 4 * LW_VL <= n; i += 4 * LW_VL) {
        for (int j = 0; j < 4; j++) {
            lw_vf a = lw_vexp_low((lw_vload(z + i + j * LW_VL) - m) * t);
            sum[j] += a;
            if (e != NULL) {
                lw_vstore(e + i + j * LW_VL, a);
            }
        }
    }
    LW_FOR_LANES(k, lanes, i, n, {
        lw_vf a = lw_vexp_low((lw_load(z + k, lanes) - m) * t);
        sum[0] += lw_vfirst(a, lw_vset(0.0f), lanes);
        if (e != NULL) {
            lw_store(e + k, a, lanes);
        }
    });
    return lw_vsum((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

// A softmax of a row at a temperature: p_i = exp((z_i - shift) inverse_tau) / sum.
typedef struct softmax {
    float shift, inverse_tau, sum;
} softmax;

static softmax row_softmax(int64_t n, const float *z, float shift, float tau)
{
    softmax s = {shift, 1.0f / tau, 0.0f};
    s.sum = exp_sum(n, z, shift, s.inverse_tau, NULL);
    return s;
}

// sum_i p_i (log p_i - log q_i), p the teacher's softmax of t, q the student's of z
static float row_kl(int64_t n, const float *t, const softmax *p, const float *z, const softmax *q)
{
    const float offset = logf(q->sum) - logf(p->sum);
    lw_vf total = lw_vset(0.0f);
    LW_FOR_LANES(i, lanes, 0, n, {
        lw_vf a = (lw_load(t + i, lanes) - lw_vset(p->shift)) * lw_vset(p->inverse_tau);
        lw_vf b = (lw_load(z + i, lanes) - lw_vset(q->shift)) * lw_vset(q->inverse_tau);
        lw_vf term = lw_vexp_low(a) * (a - b + lw_vset(offset));
        total += lw_vfirst(term, lw_vset(0.0f), lanes);
    });
    return lw_vsum(total) / p->sum;
}

// z := a softmax(z) + b (softmax(z / tau) - softmax(t / tau)), without the one-hot term
static void mixed_gradient(int64_t n, float a, const softmax *one, float b, const softmax *q, const softmax *p,
                           const float *t, float *z)
{
    const lw_vf fa = lw_vset(a / one->sum), fq = lw_vset(b / q->sum), fp = lw_vset(b / p->sum);
    LW_FOR_LANES(i, lanes, 0, n, {
        lw_vf logit = lw_load(z + i, lanes);
        lw_vf teacher = lw_load(t + i, lanes);
        lw_vf g = fa * lw_vexp_low(logit - lw_vset(one->shift));
        lw_vf student = fq * lw_vexp_low((logit - lw_vset(q->shift)) * lw_vset(q->inverse_tau));
        lw_vf wanted = fp * lw_vexp_low((teacher - lw_vset(p->shift)) * lw_vset(p->inverse_tau));
        lw_store(z + i, g + (student - wanted), lanes);
    });
}

static void xent_row(const lw_xent *x, int64_t r)
{
    int64_t n = x->vocab;
    float *z = (float *)x->logits + r * n;
    float kl_weight = x->teacher == NULL || x->kl_weight == NULL ? 0.0f : x->kl_weight[r];
    bool distil = kl_weight != 0.0f;
    const float *t = distil ? (const float *)x->teacher + (x->teacher_row != NULL ? x->teacher_row[r] : r) * n : NULL;
    const int32_t target = x->target[r];
    const float target_logit = z[target], largest = row_max(n, z);
    if (x->argmax != NULL) {
        x->argmax[r] = row_argmax(n, z, largest);
    }
    softmax one = {largest, 1.0f, 0.0f}, q = {0}, p = {0};
    // Without distillation the exponentials are stored where the gradient goes, and only scaled afterwards.
    bool store = x->gradient && !distil;
    one.sum = store ? exp_sum(n, z, largest, 1.0f, z) : exp_sum(n, z, largest, 1.0f, NULL);
    x->nll[r] = logf(one.sum) + (largest - target_logit);
    if (distil) {
        q = row_softmax(n, z, largest, x->tau);
        p = row_softmax(n, t, row_max(n, t), x->tau);
    }
    if (x->kl != NULL) {
        x->kl[r] = distil ? row_kl(n, t, &p, z, &q) : 0.0f;
    }
    if (!x->gradient) {
        return;
    }
    float weight = x->weight[r];
    if (distil) {
        mixed_gradient(n, weight, &one, kl_weight * x->tau, &q, &p, t, z);
    } else {
        const lw_vf factor = lw_vset(weight / one.sum);
        LW_FOR_LANES(i, lanes, 0, n, { lw_store(z + i, lw_load(z + i, lanes) * factor, lanes); });
    }
    z[target] -= weight;
}

void LW_CPU(xent)(lw_device *dev, const lw_xent *x)
{
    if (x->rows <= 0 || x->vocab <= 0 || !lw_cpu_is_f32(dev, "xent", x->type)) {
        return;
    }
    int threads = lw_cpu_threads(dev, x->rows * x->vocab * 4);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t r = 0; r < x->rows; r++) {
        xent_row(x, r);
    }
}

void LW_CPU(argmax)(lw_device *dev, int64_t rows, int64_t n, const void *logits, lw_dtype type, int32_t *out)
{
    if (rows <= 0 || n <= 0 || !lw_cpu_is_f32(dev, "argmax", type)) {
        return;
    }
    int threads = lw_cpu_threads(dev, rows * n);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t r = 0; r < rows; r++) {
        const float *z = (const float *)logits + r * n;
        out[r] = row_argmax(n, z, row_max(n, z));
    }
}
