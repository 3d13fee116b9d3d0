// rope.c: rotary position embedding (Su et al. 2021), element i of a head paired with i + head_dim / 2 as Hugging Face
// does for Llama and Qwen2.
#include "cpu.h"
#include "simd.h"

// Pairs whose cosines and sines are taken apart at a time.
#define ROPE_PAIRS 64

static void rope_row(int64_t heads, int64_t head_dim, const float *cos_sin, bool inverse, float *x)
{
    int64_t half = head_dim / 2;
    float sign = inverse ? -1.0f : 1.0f;
    for (int64_t base = 0; base < half; base += ROPE_PAIRS) {
        float c[ROPE_PAIRS], s[ROPE_PAIRS];
        int64_t count = lw_min_i64(ROPE_PAIRS, half - base);
        for (int64_t i = 0; i < count; i++) {
            c[i] = cos_sin[2 * (base + i)];
            s[i] = sign * cos_sin[2 * (base + i) + 1];
        }
        for (int64_t h = 0; h < heads; h++) {
            float *first = x + h * head_dim + base, *second = first + half;
            LW_FOR_LANES(i, lanes, 0, count, {
                lw_vf a = lw_load(first + i, lanes);
                lw_vf b = lw_load(second + i, lanes);
                lw_vf cosine = lw_load(c + i, lanes);
                lw_vf sine = lw_load(s + i, lanes);
                lw_store(first + i, a * cosine - b * sine, lanes);
                lw_store(second + i, b * cosine + a * sine, lanes);
            });
        }
    }
}

void LW_CPU(rope)(lw_device *dev, const lw_rope_args *a)
{
    if (a->rows <= 0 || a->heads <= 0 || a->head_dim <= 0 || !lw_cpu_is_f32(dev, "rope", a->type)) {
        return;
    }
    int threads = lw_cpu_threads(dev, a->rows * a->heads * a->head_dim);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t r = 0; r < a->rows; r++) {
        rope_row(a->heads, a->head_dim, a->cos_sin + a->position[r] * a->head_dim, a->inverse,
                 (float *)a->x + r * a->stride);
    }
}
