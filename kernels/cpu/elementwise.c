// elementwise.c: activations, axpy and conversions.
#include "core/half.h"
#include "core/random.h"
#include "cpu.h"
#include "simd.h"

// Elements a thread takes at a time.
#define CHUNK 4096

static int64_t chunks(int64_t n)
{
    return (n + CHUNK - 1) / CHUNK;
}

// --- SwiGLU: y = g s(g) u with s the logistic function

static void swiglu_row(int64_t f, const float *g, const float *u, float *y)
{
    LW_FOR_LANES(i, lanes, 0, f, {
        lw_vf gate = lw_load(g + i, lanes);
        lw_store(y + i, gate * lw_vsigmoid(gate) * lw_load(u + i, lanes), lanes);
    });
}

// d/dg = s (1 + g (1 - s)) u dy, d/du = g s dy
static void swiglu_backward_row(int64_t f, const float *g, const float *u, const float *dy, float *dg, float *du)
{
    LW_FOR_LANES(i, lanes, 0, f, {
        lw_vf gate = lw_load(g + i, lanes);
        lw_vf up = lw_load(u + i, lanes);
        lw_vf d = lw_load(dy + i, lanes);
        lw_vf s = lw_vsigmoid(gate);
        lw_vf silu = gate * s;
        lw_store(du + i, silu * d, lanes);
        lw_store(dg + i, (s + silu * (lw_vset(1.0f) - s)) * (up * d), lanes);
    });
}

void LW_CPU(swiglu)(lw_device *dev, int64_t rows, int64_t f, lw_dtype type, const void *gu, void *y)
{
    if (rows <= 0 || f <= 0 || !lw_cpu_is_f32(dev, "swiglu", type)) {
        return;
    }
    const float *in = gu;
    float *out = y;
    int threads = lw_cpu_threads(dev, rows * f * 8);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t r = 0; r < rows; r++) {
        swiglu_row(f, in + r * 2 * f, in + r * 2 * f + f, out + r * f);
    }
}

void LW_CPU(swiglu_backward)(lw_device *dev, int64_t rows, int64_t f, lw_dtype type, const void *gu, const void *dy,
                             void *dgu)
{
    if (rows <= 0 || f <= 0 || !lw_cpu_is_f32(dev, "swiglu_backward", type)) {
        return;
    }
    const float *in = gu, *d = dy;
    float *out = dgu;
    int threads = lw_cpu_threads(dev, rows * f * 12);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t r = 0; r < rows; r++) {
        int64_t at = r * 2 * f;
        swiglu_backward_row(f, in + at, in + at + f, d + r * f, out + at, out + at + f);
    }
}

// --- GELU, tanh form: y = x (1 + tanh(t)) / 2 = x s(2t), t = sqrt(2/pi) (x + 0.044715 x^3), s the logistic function.
// In this form there is no cancellation for negative x.

#define GELU_A 1.5957691216057308f // 2 sqrt(2/pi)
#define GELU_B 0.07135481282636f   // 2 sqrt(2/pi) 0.044715

static void gelu_chunk(int64_t n, const float *x, float *y)
{
    LW_FOR_LANES(i, lanes, 0, n, {
        lw_vf a = lw_load(x + i, lanes);
        lw_vf t = a * lw_vfma(a * a, lw_vset(GELU_B), lw_vset(GELU_A));
        lw_store(y + i, a * lw_vsigmoid(t), lanes);
    });
}

static void gelu_backward_chunk(int64_t n, const float *x, const float *dy, float *dx)
{
    LW_FOR_LANES(i, lanes, 0, n, {
        lw_vf a = lw_load(x + i, lanes);
        lw_vf square = a * a;
        lw_vf t = a * lw_vfma(square, lw_vset(GELU_B), lw_vset(GELU_A));
        lw_vf slope = lw_vfma(square, lw_vset(3.0f * GELU_B), lw_vset(GELU_A));
        lw_vf s = lw_vsigmoid(t);
        // s' = s (1 - s); where s is 0 the product is 0 for every finite x, however large the slope.
        lw_vf derivative = lw_vfma(a * slope, s * (lw_vset(1.0f) - s), s);
        lw_store(dx + i, lw_load(dy + i, lanes) * derivative, lanes);
    });
}

void LW_CPU(gelu)(lw_device *dev, int64_t n, const float *x, float *y)
{
    int threads = lw_cpu_threads(dev, n * 8);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t c = 0; c < chunks(n); c++) {
        gelu_chunk(lw_min_i64(CHUNK, n - c * CHUNK), x + c * CHUNK, y + c * CHUNK);
    }
}

void LW_CPU(gelu_backward)(lw_device *dev, int64_t n, const float *x, const float *dy, float *dx)
{
    int threads = lw_cpu_threads(dev, n * 12);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t c = 0; c < chunks(n); c++) {
        gelu_backward_chunk(lw_min_i64(CHUNK, n - c * CHUNK), x + c * CHUNK, dy + c * CHUNK, dx + c * CHUNK);
    }
}

// --- GELU with the normal distribution: y = x Phi(x) = max(x, 0) - |x| erfc(z) / 2, z = |x| / sqrt(2). In this form
// there is no cancellation for negative x.

// exp(z^2) erfc(z) / 2 for z >= 0, as t times a polynomial in t = 1 / (1 + z/2): least squares at Chebyshev points,
// weighted towards the least largest relative error (4e-9 for z <= 10).
LW_INLINE lw_vf half_erfcx(lw_vf z)
{
    static const float c[] = {0.2820880115032196f,  0.28226393461227417f,  0.24506403505802155f,  0.18624751269817352f,
                              0.0525476448237896f,  0.040897075086832047f, -0.03062993474304676f, -0.2805126905441284f,
                              0.37536871433258057f, -0.18871048092842102f, 0.035376179963350296f};
    const int last = (int)(sizeof c / sizeof *c) - 1;
    lw_vf t = lw_vset(1.0f) / lw_vfma(z, lw_vset(0.5f), lw_vset(1.0f));
    lw_vf p = lw_vset(c[last]);
    for (int i = last - 1; i >= 0; i--) {
        p = lw_vfma(p, t, lw_vset(c[i]));
    }
    return p * t * lw_vset(0.5f);
}

static void gelu_erf_chunk(int64_t n, const float *x, float *y)
{
    LW_FOR_LANES(i, lanes, 0, n, {
        lw_vf a = lw_load(x + i, lanes);
        lw_vf size = lw_vmax(-a, a);
        lw_vf tail = half_erfcx(size * lw_vset(0.70710678118654752f)) * lw_vexp(a * a * lw_vset(-0.5f));
        lw_store(y + i, lw_vmax(lw_vset(0.0f), a) - size * tail, lanes);
    });
}

void LW_CPU(gelu_frozen)(lw_device *dev, int64_t n, bool erf_form, lw_dtype type, const void *x, void *y)
{
    if (n <= 0 || !lw_cpu_is_f32(dev, "gelu_frozen", type)) {
        return;
    }
    const float *in = x;
    float *out = y;
    int threads = lw_cpu_threads(dev, n * 12);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t c = 0; c < chunks(n); c++) {
        int64_t at = c * CHUNK;
        (erf_form ? gelu_erf_chunk : gelu_chunk)(lw_min_i64(CHUNK, n - at), in + at, out + at);
    }
}

// --- axpy

static void axpy_chunk(int64_t n, float alpha, const float *x, float *y)
{
    LW_FOR_LANES(i, lanes, 0, n,
                 { lw_store(y + i, lw_vfma(lw_vset(alpha), lw_load(x + i, lanes), lw_load(y + i, lanes)), lanes); });
}

void LW_CPU(axpy)(lw_device *dev, int64_t n, float alpha, const float *x, float *y)
{
    int threads = lw_cpu_threads(dev, n);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t c = 0; c < chunks(n); c++) {
        axpy_chunk(lw_min_i64(CHUNK, n - c * CHUNK), alpha, x + c * CHUNK, y + c * CHUNK);
    }
}

// --- conversions

static void cast_chunk(int64_t n, const void *in, lw_dtype in_type, void *out, lw_dtype out_type)
{
    if (in_type == out_type) {
        memcpy(out, in, (size_t)n * lw_dtype_bytes(in_type));
        return;
    }
    float block[256];
    for (int64_t i = 0; i < n; i += 256) {
        int64_t count = lw_min_i64(256, n - i);
        lw_half_read(count, (const char *)in + (size_t)i * lw_dtype_bytes(in_type), in_type, block);
        lw_half_write(count, block, (char *)out + (size_t)i * lw_dtype_bytes(out_type), out_type);
    }
}

void LW_CPU(cast)(lw_device *dev, int64_t n, const void *in, lw_dtype in_type, void *out, lw_dtype out_type)
{
    if (n <= 0) {
        return;
    }
    if ((in_type == LW_I32 || out_type == LW_I32) && in_type != out_type) {
        lw_cpu_fail(dev, "cpu: cast from %s to %s is not an operation", lw_dtype_name(in_type),
                    lw_dtype_name(out_type));
        return;
    }
    int threads = lw_cpu_threads(dev, n * 2);
    size_t in_bytes = lw_dtype_bytes(in_type), out_bytes = lw_dtype_bytes(out_type);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t c = 0; c < chunks(n); c++) {
        size_t at = (size_t)(c * CHUNK);
        cast_chunk(lw_min_i64(CHUNK, n - c * CHUNK), (const char *)in + at * in_bytes, in_type,
                   (char *)out + at * out_bytes, out_type);
    }
}

void LW_CPU(upload_as)(lw_device *dev, int64_t n, const void *host_source, lw_dtype in_type, void *out,
                       lw_dtype out_type)
{
    LW_CPU(cast)(dev, n, host_source, in_type, out, out_type);
}

void LW_CPU(random_normal)(lw_device *dev, const lw_random_normal_args *a)
{
    int threads = lw_cpu_threads(dev, a->n * 100);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t first = 0; first < a->n; first += 256) {
        float block[256];
        int64_t count = lw_min_i64(256, a->n - first);
        for (int64_t i = 0; i < count; i++) {
            block[i] = a->mean + a->std * (float)lw_random_normal(a->seed, a->stream, (uint64_t)(first + i));
        }
        lw_half_write(count, block, (char *)a->out + (size_t)first * lw_dtype_bytes(a->type), a->type);
    }
}
