// optim.cu: sums of products of long vectors, and AdamW.
//
// A sum has two kernels: as many parts as the length alone decides, then the parts in order. In double, where the
// products of floats are exact.
#include "cuda_internal.cuh"

#define SUM_THREADS 256
#define SUM_VECTORS 4           // vectors that a thread has under way
#define SUM_MOST_PARTS 1024     // doubles in the device's partial sums
#define SUM_PART_ELEMENTS 16384 // the least worth a block

static_assert(SUM_MOST_PARTS * sizeof(double) <= LW_CUDA_PARTIALS * sizeof(float), "the parts have room");

template <typename T, int W> __device__ __forceinline__ double product(const T *x, const T *y)
{
    float a[W], b[W];
    lw_load_vector<W>(x, a);
    lw_load_vector<W>(y, b); // the same register where y is x
    double sum = 0.0;
#pragma unroll
    for (int e = 0; e < W; e++) {
        sum = fma((double)a[e], (double)b[e], sum);
    }
    return sum;
}

template <typename T, int W>
__global__ void __launch_bounds__(SUM_THREADS) sum_parts(int64_t n, const T *x, const T *y, double *parts)
{
    __shared__ double shared[LW_MAX_WARPS];
    const int64_t vectors = n / W, step = (int64_t)gridDim.x * SUM_THREADS;
    const int64_t first = (int64_t)blockIdx.x * SUM_THREADS + threadIdx.x;
    double sum[SUM_VECTORS];
#pragma unroll
    for (int u = 0; u < SUM_VECTORS; u++) {
        sum[u] = 0.0;
    }
    for (int64_t i = first; i < vectors; i += SUM_VECTORS * step) {
#pragma unroll
        for (int u = 0; u < SUM_VECTORS; u++) {
            const int64_t at = i + u * step;
            if (at < vectors) {
                sum[u] += product<T, W>(x + at * W, y + at * W);
            }
        }
    }
    double total = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    if (first < n - vectors * W) { // what is left over is less than a vector
        total += product<T, 1>(x + vectors * W + first, y + vectors * W + first);
    }
    total = lw_block_sum(total, shared);
    if (threadIdx.x == 0) {
        parts[blockIdx.x] = total;
    }
}

__global__ void __launch_bounds__(SUM_THREADS) sum_finish(int parts, const double *part, bool accumulate, float *out)
{
    __shared__ double shared[LW_MAX_WARPS];
    double sum = 0.0;
    for (int i = (int)threadIdx.x; i < parts; i += SUM_THREADS) {
        sum += part[i];
    }
    sum = lw_block_sum(sum, shared);
    if (threadIdx.x == 0) {
        out[0] = (float)(accumulate ? (double)out[0] + sum : sum); // infinity beyond the range of float
    }
}

template <typename T>
static void sum_products(lw_device *dev, const char *op, int64_t n, const T *x, const T *y, bool accumulate, float *out)
{
    const int64_t most = (n + SUM_PART_ELEMENTS - 1) / SUM_PART_ELEMENTS;
    const int parts = (int)(most < SUM_MOST_PARTS ? most : SUM_MOST_PARTS); // 0 where n is 0
    double *part = reinterpret_cast<double *>(lw_cuda_of(dev)->partial);
    cudaStream_t stream = lw_cuda_of(dev)->stream;
    if (parts > 0 && lw_aligned16(x) && lw_aligned16(y)) {
        LW_LAUNCH((sum_parts<T, 16 / sizeof(T)>), (unsigned)parts, SUM_THREADS, 0, stream, n, x, y, part);
    } else if (parts > 0) {
        LW_LAUNCH((sum_parts<T, 1>), (unsigned)parts, SUM_THREADS, 0, stream, n, x, y, part);
    }
    if (lw_cuda_launched(dev, op)) {
        LW_LAUNCH((sum_finish), 1, SUM_THREADS, 0, stream, parts, part, accumulate, out);
        (void)lw_cuda_launched(dev, op);
    }
}

void lw_cuda_sqnorm(lw_device *dev, int64_t n, const void *x, lw_dtype type, float *out)
{
    LW_FOR_TYPE(dev, "sqnorm", type, T, {
        const T *in = static_cast<const T *>(x);
        sum_products(dev, "sqnorm", n, in, in, false, out);
    });
}

void lw_cuda_dot(lw_device *dev, int64_t n, const float *x, const float *y, float *out)
{
    sum_products(dev, "dot", n, x, y, true, out);
}

// --- AdamW

#define ADAMW_THREADS 256

typedef struct adamw_factors {
    float beta1, beta2;
    float m_scale, v_scale; // 1 / (1 - beta^step): the bias corrections
    float lr, eps, decay;   // decay = 1 - lr weight_decay
    float clip;
} adamw_factors;

__device__ __forceinline__ void adamw_element(const adamw_factors &f, float grad, float *m, float *v, float *param)
{
    *m = fmaf(f.beta1, *m, (1.0f - f.beta1) * grad);
    *v = fmaf(f.beta2, *v, (1.0f - f.beta2) * (grad * grad));
    const float update = *m * f.m_scale / (sqrtf(*v * f.v_scale) + f.eps);
    *param = fmaf(-f.lr, update, *param * f.decay);
}

// Clipping multiplies the gradient by min(1, clip / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_ does.
__device__ __forceinline__ float clip_scale(float clip, float sqnorm)
{
    const double scale = clip > 0.0f ? (double)clip / (sqrt((double)sqnorm) + 1e-6) : 1.0;
    return (float)(scale < 1.0 ? scale : 1.0);
}

template <int W>
__global__ void __launch_bounds__(ADAMW_THREADS) adamw_elements(int64_t n, adamw_factors f, const float *grad_sqnorm,
                                                                const float *grad, float *m, float *v, float *param)
{
    __shared__ float scale;
    const float sqnorm = grad_sqnorm[0];
    if (!isfinite(sqnorm)) {
        return;
    }
    if (threadIdx.x == 0) {
        scale = clip_scale(f.clip, sqnorm);
    }
    __syncthreads();
    const int64_t step = (int64_t)gridDim.x * ADAMW_THREADS * W;
    for (int64_t i = ((int64_t)blockIdx.x * ADAMW_THREADS + threadIdx.x) * W; i < n; i += step) {
        if (i + W <= n) {
            float g[W], m1[W], v1[W], p[W];
            lw_load_vector<W>(grad + i, g);
            lw_load_vector<W>(m + i, m1);
            lw_load_vector<W>(v + i, v1);
            lw_load_vector<W>(param + i, p);
#pragma unroll
            for (int e = 0; e < W; e++) {
                adamw_element(f, g[e] * scale, &m1[e], &v1[e], &p[e]);
            }
            lw_store_vector<W>(m + i, m1);
            lw_store_vector<W>(v + i, v1);
            lw_store_vector<W>(param + i, p);
        } else {
            for (int64_t j = i; j < n; j++) {
                adamw_element(f, grad[j] * scale, m + j, v + j, param + j);
            }
        }
    }
}

void lw_cuda_adamw(lw_device *dev, const lw_adamw *o)
{
    if (o->n <= 0) {
        return;
    }
    adamw_factors f = {};
    f.beta1 = o->beta1;
    f.beta2 = o->beta2;
    f.m_scale = (float)(1.0 / (1.0 - pow((double)o->beta1, (double)o->step)));
    f.v_scale = (float)(1.0 / (1.0 - pow((double)o->beta2, (double)o->step)));
    f.lr = o->lr;
    f.eps = o->eps;
    f.decay = (float)(1.0 - (double)o->lr * (double)o->weight_decay);
    f.clip = o->clip;
    const bool vector = lw_aligned16(o->grad) && lw_aligned16(o->m) && lw_aligned16(o->v) && lw_aligned16(o->param);
    cudaStream_t stream = lw_cuda_of(dev)->stream;
    if (vector) {
        LW_LAUNCH((adamw_elements<4>), lw_cuda_grid(dev, o->n, ADAMW_THREADS * 4), ADAMW_THREADS, 0, stream, o->n, f,
                  o->grad_sqnorm, o->grad, o->m, o->v, o->param);
    } else {
        LW_LAUNCH((adamw_elements<1>), lw_cuda_grid(dev, o->n, ADAMW_THREADS), ADAMW_THREADS, 0, stream, o->n, f,
                  o->grad_sqnorm, o->grad, o->m, o->v, o->param);
    }
    (void)lw_cuda_launched(dev, "adamw");
}
