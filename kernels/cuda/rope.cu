// rope.cu: rotary position embedding (Su et al. 2021), element i of a head paired with i + head_dim / 2 as Hugging Face
// does for Llama and Qwen2. A block has a row, so that its cosines and sines are read from memory once.
#include "cuda_internal.cuh"

// W neighbouring pairs at a time.
template <typename T, int W>
__global__ void rope_rows(int heads, int head_dim, int64_t stride, const float *cos_sin, const int32_t *position,
                          float sign, T *x)
{
    const int half = head_dim / 2, vectors = half / W;
    const float *angle = cos_sin + (int64_t)position[blockIdx.x] * 2 * half;
    T *row = x + (int64_t)blockIdx.x * stride;
    for (int at = (int)threadIdx.x; at < heads * vectors; at += (int)blockDim.x) {
        const int head = at / vectors, i = at % vectors * W;
        T *first = row + (int64_t)head * head_dim + i, *second = first + half;
        float a[W], b[W], c[2 * W], y[W], z[W];
        lw_load_vector<W>(first, a);
        lw_load_vector<W>(second, b);
        lw_load_vector<2 * W>(angle + 2 * i, c);
#pragma unroll
        for (int e = 0; e < W; e++) {
            const float cosine = c[2 * e], sine = sign * c[2 * e + 1];
            y[e] = a[e] * cosine - b[e] * sine;
            z[e] = b[e] * cosine + a[e] * sine;
        }
        lw_store_vector<W>(first, y);
        lw_store_vector<W>(second, z);
    }
}

#define ROPE_MOST_THREADS 512

template <typename T, int W> static void launch_rope(lw_device *dev, const lw_rope_args *a)
{
    const int heads = (int)a->heads, head_dim = (int)a->head_dim;
    const int work = heads * (head_dim / 2 / W);
    const int threads = work < ROPE_MOST_THREADS ? (work + 31) / 32 * 32 : ROPE_MOST_THREADS;
    LW_LAUNCH((rope_rows<T, W>), (unsigned)a->rows, (unsigned)threads, 0, lw_cuda_of(dev)->stream, heads, head_dim,
              a->stride, a->cos_sin, a->position, a->inverse ? -1.0f : 1.0f, static_cast<T *>(a->x));
    (void)lw_cuda_launched(dev, "rope");
}

void lw_cuda_rope(lw_device *dev, const lw_rope_args *a)
{
    if (a->rows <= 0 || a->heads <= 0 || a->head_dim < 2 || !lw_cuda_rows_fit(dev, "rope", a->rows)) {
        return;
    }
    const bool vector = a->head_dim % 8 == 0 && a->stride % 8 == 0 && lw_aligned16(a->x) && lw_aligned16(a->cos_sin);
    LW_FOR_TYPE(dev, "rope", a->type, T, {
        if (vector) {
            launch_rope<T, 4>(dev, a);
        } else {
            launch_rope<T, 1>(dev, a);
        }
    });
}
