// rows.c: moving and averaging rows.
#include <string.h>

#include "core/half.h"
#include "cpu.h"
#include "simd.h"

static void add_row(int64_t d, const float *in, float *out)
{
    LW_FOR_LANES(i, lanes, 0, d, { lw_store(out + i, lw_load(out + i, lanes) + lw_load(in + i, lanes), lanes); });
}

void LW_CPU(gather)(lw_device *dev, const lw_gather_args *a)
{
    const int64_t n = a->n, d = a->d;
    const lw_dtype in_type = a->in_type;
    if (n <= 0 || d <= 0) {
        return;
    }
    if (in_type == LW_I32) {
        lw_cpu_fail(dev, "cpu: gather does not take rows of I32");
        return;
    }
    size_t row_bytes = (size_t)d * lw_dtype_bytes(in_type);
    int threads = lw_cpu_threads(dev, n * d);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t r = 0; r < n; r++) {
        const char *from = (const char *)a->in + (size_t)(a->in_index == NULL ? r : a->in_index[r]) * row_bytes;
        float *to = a->out + (a->out_index == NULL ? r : a->out_index[r]) * d;
        if (!a->accumulate) {
            lw_half_read(d, from, in_type, to);
        } else if (in_type == LW_F32) {
            add_row(d, (const float *)(const void *)from, to);
        } else {
            for (int64_t i = 0; i < d; i += 256) {
                float block[256];
                int64_t count = lw_min_i64(256, d - i);
                lw_half_read(count, from + (size_t)i * lw_dtype_bytes(in_type), in_type, block);
                add_row(count, block, to + i);
            }
        }
    }
}

void LW_CPU(copy_rows)(lw_device *dev, const lw_copy_rows_args *a)
{
    size_t element = lw_dtype_bytes(a->type);
    int threads = lw_cpu_threads(dev, a->n * a->d);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t r = 0; r < a->n; r++) {
        memcpy((char *)a->out + (size_t)(a->out_index[r] * a->out_stride) * element,
               (const char *)a->in + (size_t)(r * a->in_stride) * element, (size_t)a->d * element);
    }
}

// Rows may repeat, so the threads share the columns, not the rows.
#define SCATTER_COLUMNS (4 * LW_VL)

void LW_CPU(scatter_add)(lw_device *dev, int64_t n, int64_t d, const float *in, const int32_t *index, int64_t out_rows,
                         float *out)
{
    (void)out_rows;
    int threads = lw_cpu_threads(dev, n * d);
    if (threads == 1) {
        for (int64_t r = 0; r < n; r++) {
            add_row(d, in + r * d, out + index[r] * d);
        }
        return;
    }
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t c = 0; c < d; c += SCATTER_COLUMNS) {
        int64_t count = lw_min_i64(SCATTER_COLUMNS, d - c);
        for (int64_t r = 0; r < n; r++) {
            add_row(count, in + r * d + c, out + index[r] * d + c);
        }
    }
}

void LW_CPU(span_mean)(lw_device *dev, int64_t spans, int64_t d, const int32_t *start, const float *x, float *y)
{
    if (spans <= 0 || d <= 0) {
        return;
    }
    int threads = lw_cpu_threads(dev, (start[spans] - start[0]) * d);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t s = 0; s < spans; s++) {
        int64_t begin = start[s], end = start[s + 1];
        float factor = end > begin ? 1.0f / (float)(end - begin) : 0.0f;
        LW_FOR_LANES(i, lanes, 0, d, {
            lw_vf sum = lw_vset(0.0f);
            for (int64_t r = begin; r < end; r++) {
                sum += lw_load(x + r * d + i, lanes);
            }
            lw_store(y + s * d + i, sum * lw_vset(factor), lanes);
        });
    }
}

void LW_CPU(span_mean_backward)(lw_device *dev, int64_t spans, int64_t d, const int32_t *start, const float *dy,
                                float *dx)
{
    if (spans <= 0 || d <= 0) {
        return;
    }
    int threads = lw_cpu_threads(dev, (start[spans] - start[0]) * d);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t s = 0; s < spans; s++) {
        int64_t begin = start[s], end = start[s + 1];
        float factor = end > begin ? 1.0f / (float)(end - begin) : 0.0f;
        for (int64_t r = begin; r < end; r++) {
            LW_FOR_LANES(i, lanes, 0, d,
                         { lw_store(dx + r * d + i, lw_load(dy + s * d + i, lanes) * lw_vset(factor), lanes); });
        }
    }
}
