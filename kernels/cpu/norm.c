// norm.c: RMSNorm, LayerNorm and the fixed-RMS scale, forward and backward. Rows are independent; sums over rows (the
// gradients of gains and biases) are taken in order of the rows whatever the thread count.
#include <string.h>

#include "cpu.h"
#include "simd.h"

LW_INLINE float dot2(int64_t d, const float *a, const float *b)
{
    lw_vf s0 = lw_vset(0.0f), s1 = lw_vset(0.0f);
    int64_t i = 0;
    for (; i + 2 * LW_VL <= d; i += 2 * LW_VL) {
        s0 = lw_vfma(lw_vload(a + i), lw_vload(b + i), s0);
        s1 = lw_vfma(lw_vload(a + i + LW_VL), lw_vload(b + i + LW_VL), s1);
    }
    LW_FOR_LANES(j, lanes, i, d, { s0 = lw_vfma(lw_load(a + j, lanes), lw_load(b + j, lanes), s0); });
    return lw_vsum(s0 + s1);
}

// sum_i a_i b_i c_i
LW_INLINE float dot3(int64_t d, const float *a, const float *b, const float *c)
{
    lw_vf s0 = lw_vset(0.0f), s1 = lw_vset(0.0f);
    int64_t i = 0;
    for (; i + 2 * LW_VL <= d; i += 2 * LW_VL) {
        s0 = lw_vfma(lw_vload(a + i) * lw_vload(b + i), lw_vload(c + i), s0);
        s1 = lw_vfma(lw_vload(a + i + LW_VL) * lw_vload(b + i + LW_VL), lw_vload(c + i + LW_VL), s1);
    }
    LW_FOR_LANES(j, lanes, i, d,
                 { s0 = lw_vfma(lw_load(a + j, lanes) * lw_load(b + j, lanes), lw_load(c + j, lanes), s0); });
    return lw_vsum(s0 + s1);
}

static float row_rstd(int64_t d, const float *x, float eps)
{
    return 1.0f / sqrtf(dot2(d, x, x) / (float)d + eps);
}

// --- RMSNorm

void LW_CPU(rmsnorm)(lw_device *dev, const lw_rmsnorm_args *a)
{
    const int64_t rows = a->rows, d = a->d;
    const float *w = a->w;
    if (rows <= 0 || d <= 0 || !lw_cpu_is_f32(dev, "rmsnorm", a->type)) {
        return;
    }
    int threads = lw_cpu_threads(dev, rows * d);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t r = 0; r < rows; r++) {
        const float *in = a->x + r * d;
        float *out = (float *)a->y + r * d;
        float scale = row_rstd(d, in, a->eps);
        LW_FOR_LANES(i, lanes, 0, d,
                     { lw_store(out + i, lw_load(in + i, lanes) * lw_vset(scale) * lw_load(w + i, lanes), lanes); });
        if (a->rstd != NULL) {
            a->rstd[r] = scale;
        }
    }
}

void LW_CPU(rmsnorm_backward)(lw_device *dev, const lw_rmsnorm_backward_args *a)
{
    const int64_t rows = a->rows, d = a->d;
    const float *w = a->w;
    if (rows <= 0 || d <= 0 || (a->dx_copy != NULL && !lw_cpu_is_f32(dev, "rmsnorm_backward", a->type))) {
        return;
    }
    int threads = lw_cpu_threads(dev, rows * d * 2);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t r = 0; r < rows; r++) {
        const float *in = a->x + r * d, *g = a->dy + r * d;
        float *out = a->dx + r * d;
        float s = a->rstd[r];
        float c = dot3(d, w, g, in) / (float)d * s * s * s;
        LW_FOR_LANES(i, lanes, 0, d, {
            lw_vf sum = lw_vfma(lw_load(w + i, lanes) * lw_load(g + i, lanes), lw_vset(s), lw_load(out + i, lanes));
            lw_store(out + i, lw_vfma(lw_load(in + i, lanes), lw_vset(-c), sum), lanes);
        });
        if (a->dx_copy != NULL) {
            memcpy((float *)a->dx_copy + r * d, out, (size_t)d * sizeof *out);
        }
    }
}

// --- LayerNorm

static void layernorm_row(int64_t d, float eps, const float *x, const float *g, const float *b, float *y, float *mean,
                          float *rstd)
{
    lw_vf sum = lw_vset(0.0f);
    LW_FOR_LANES(i, lanes, 0, d, { sum += lw_load(x + i, lanes); });
    const float m = lw_vsum(sum) / (float)d;
    // The mean is taken away before squaring: sum(x^2) - mean^2 would cancel where |mean| is large.
    lw_vf squares = lw_vset(0.0f);
    LW_FOR_LANES(i, lanes, 0, d, {
        lw_vf a = lw_vfirst(lw_load(x + i, lanes) - lw_vset(m), lw_vset(0.0f), lanes);
        squares = lw_vfma(a, a, squares);
    });
    const float s = 1.0f / sqrtf(lw_vsum(squares) / (float)d + eps);
    LW_FOR_LANES(i, lanes, 0, d, {
        lw_vf a = (lw_load(x + i, lanes) - lw_vset(m)) * lw_vset(s);
        lw_store(y + i, lw_vfma(a, lw_load(g + i, lanes), lw_load(b + i, lanes)), lanes);
    });
    *mean = m;
    *rstd = s;
}

void LW_CPU(layernorm)(lw_device *dev, const lw_layernorm_args *a)
{
    const int64_t rows = a->rows, d = a->d;
    if (rows <= 0 || d <= 0) {
        return;
    }
    int threads = lw_cpu_threads(dev, rows * d * 2);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t r = 0; r < rows; r++) {
        layernorm_row(d, a->eps, a->x + r * d, a->g, a->b, a->y + r * d, a->mean + r, a->rstd + r);
    }
}

// dx += rstd (g dy - mean(g dy) - xhat mean(g dy xhat)), xhat = (x - mean) rstd
static void layernorm_dx(const lw_layernorm_backward_args *l, int64_t row)
{
    int64_t d = l->d;
    const float *x = l->x + row * d, *dy = l->dy + row * d, *g = l->g;
    float *dx = l->dx + row * d;
    const lw_vf mean = lw_vset(l->mean[row]), rstd = lw_vset(l->rstd[row]);
    lw_vf sum = lw_vset(0.0f), product = lw_vset(0.0f);
    LW_FOR_LANES(i, lanes, 0, d, { // dy is 0 in the lanes beyond the row, and so is a
        lw_vf a = lw_load(g + i, lanes) * lw_load(dy + i, lanes);
        sum += a;
        product = lw_vfma(a, (lw_load(x + i, lanes) - mean) * rstd, product);
    });
    const lw_vf sum_mean = lw_vset(lw_vsum(sum) / (float)d), product_mean = lw_vset(lw_vsum(product) / (float)d);
    LW_FOR_LANES(i, lanes, 0, d, {
        lw_vf xhat = (lw_load(x + i, lanes) - mean) * rstd;
        lw_vf a = lw_load(g + i, lanes) * lw_load(dy + i, lanes) - sum_mean - xhat * product_mean;
        lw_store(dx + i, lw_vfma(a, rstd, lw_load(dx + i, lanes)), lanes);
    });
}

// dg, db += the sums over rows [r0, r1), of columns [c0, c1)
static void layernorm_dg_db(const lw_layernorm_backward_args *l, int64_t r0, int64_t r1, int64_t c0, int64_t c1)
{
    LW_FOR_LANES(i, lanes, c0, c1, {
        lw_vf dg = lw_vset(0.0f);
        lw_vf db = lw_vset(0.0f);
        for (int64_t r = r0; r < r1; r++) {
            lw_vf dy = lw_load(l->dy + r * l->d + i, lanes);
            lw_vf xhat = (lw_load(l->x + r * l->d + i, lanes) - lw_vset(l->mean[r])) * lw_vset(l->rstd[r]);
            dg = lw_vfma(dy, xhat, dg);
            db += dy;
        }
        lw_store(l->dg + i, lw_load(l->dg + i, lanes) + dg, lanes);
        lw_store(l->db + i, lw_load(l->db + i, lanes) + db, lanes);
    });
}

// Rows whose sum is formed before it is added to dg and db: few enough to stay in the first-level cache.
#define SUM_ROWS 16
// Columns a thread sums at a time.
#define SUM_COLUMNS (4 * LW_VL)

void LW_CPU(layernorm_backward)(lw_device *dev, const lw_layernorm_backward_args *l)
{
    const int64_t rows = l->rows, d = l->d;
    if (rows <= 0 || d <= 0) {
        return;
    }
    int threads = lw_cpu_threads(dev, rows * d * 4);
    if (threads == 1) { // both parts of a block of rows while it is in the cache
        for (int64_t r0 = 0; r0 < rows; r0 += SUM_ROWS) {
            int64_t r1 = lw_min_i64(r0 + SUM_ROWS, rows);
            for (int64_t r = r0; r < r1 && l->dx != NULL; r++) {
                layernorm_dx(l, r);
            }
            layernorm_dg_db(l, r0, r1, 0, d);
        }
        return;
    }
    if (l->dx != NULL) {
#pragma omp parallel for schedule(static) num_threads(threads)
        for (int64_t r = 0; r < rows; r++) {
            layernorm_dx(l, r);
        }
    }
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t c0 = 0; c0 < d; c0 += SUM_COLUMNS) {
        for (int64_t r0 = 0; r0 < rows; r0 += SUM_ROWS) {
            layernorm_dg_db(l, r0, lw_min_i64(r0 + SUM_ROWS, rows), c0, lw_min_i64(c0 + SUM_COLUMNS, d));
        }
    }
}

static void column_sum_block(int64_t r0, int64_t r1, int64_t n, int64_t c0, int64_t c1, const float *dy, float *db)
{
    LW_FOR_LANES(i, lanes, c0, c1, {
        lw_vf sum = lw_vset(0.0f);
        for (int64_t r = r0; r < r1; r++) {
            sum += lw_load(dy + r * n + i, lanes);
        }
        lw_store(db + i, lw_load(db + i, lanes) + sum, lanes);
    });
}

void LW_CPU(column_sum)(lw_device *dev, int64_t rows, int64_t n, const float *dy, float *db)
{
    int threads = lw_cpu_threads(dev, rows * n);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t c0 = 0; c0 < n; c0 += SUM_COLUMNS) {
        for (int64_t r0 = 0; r0 < rows; r0 += SUM_ROWS) {
            column_sum_block(r0, lw_min_i64(r0 + SUM_ROWS, rows), n, c0, lw_min_i64(c0 + SUM_COLUMNS, n), dy, db);
        }
    }
}

// --- rows of a fixed RMS

void LW_CPU(rmsscale)(lw_device *dev, const lw_rmsscale_args *a)
{
    const int64_t rows = a->rows, d = a->d;
    if (rows <= 0 || d <= 0) {
        return;
    }
    float factor = a->scale * a->gain[0];
    int threads = lw_cpu_threads(dev, rows * d);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t r = 0; r < rows; r++) {
        const float *in = a->x + r * d;
        float *out = a->y + r * d;
        float s = row_rstd(d, in, a->eps);
        lw_vf of_x = lw_vset(s * factor);
        LW_FOR_LANES(i, lanes, 0, d, { lw_store(out + i, lw_load(in + i, lanes) * of_x, lanes); });
        a->rstd[r] = s;
    }
}

// Rows whose part of dgain is formed at a time, and the parts kept at a time.
#define GAIN_ROWS 16
#define GAIN_PARTS 256

void LW_CPU(rmsscale_backward)(lw_device *dev, const lw_rmsscale_backward_args *a)
{
    const int64_t rows = a->rows, d = a->d;
    if (rows <= 0 || d <= 0) {
        return;
    }
    float factor = a->scale * a->gain[0];
    double total = 0.0;
    for (int64_t base = 0; base < rows; base += GAIN_ROWS * GAIN_PARTS) {
        int64_t parts = lw_min_i64(GAIN_PARTS, (rows - base + GAIN_ROWS - 1) / GAIN_ROWS);
        double part[GAIN_PARTS];
        int threads = lw_cpu_threads(dev, parts * GAIN_ROWS * d * 2);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
        for (int64_t p = 0; p < parts; p++) {
            part[p] = 0.0;
            int64_t end = lw_min_i64(base + (p + 1) * GAIN_ROWS, rows);
            for (int64_t r = base + p * GAIN_ROWS; r < end; r++) {
                const float *in = a->x + r * d, *g = a->dy + r * d;
                float *out = a->dx + r * d;
                float s = a->rstd[r];
                float xg = dot2(d, in, g);
                part[p] += (double)xg * (double)s;
                lw_vf of_dy = lw_vset(factor * s), of_x = lw_vset(-factor * s * s * s * (xg / (float)d));
                LW_FOR_LANES(i, lanes, 0, d, {
                    lw_vf c = lw_load(in + i, lanes) * of_x;
                    lw_store(out + i, lw_vfma(lw_load(g + i, lanes), of_dy, c), lanes);
                });
            }
        }
        for (int64_t p = 0; p < parts; p++) {
            total += part[p];
        }
    }
    a->dgain[0] += (float)((double)a->scale * total);
}
