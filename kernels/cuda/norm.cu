// norm.cu: RMSNorm, LayerNorm and the fixed-RMS scale, forward and backward.
//
// One block a row, the row in its registers: every operand is asked for before the first sum, and read once. At a
// batch of a few samples a row is a few kilobytes and these kernels take little more than one trip to memory.
#include "cuda_internal.cuh"

#define MOST_THREADS 1024
#define MOST_RUNS 8 // of four elements that a thread holds

// How rows of d elements are laid over a block: `runs` runs of four elements a thread, `threads` apart.
typedef struct row_shape {
    int d, threads, runs;
    bool vector;
} row_shape;

// vector: whether all pointers allow it.
static bool shape_of(lw_device *dev, const char *op, int64_t rows, int64_t d, bool vector, row_shape *out)
{
    const int64_t runs = (d + 3) / 4;
    if (runs > MOST_THREADS * MOST_RUNS) {
        lw_cuda_fail(dev, "cuda: %s takes rows of at most %d elements, not %lld", op, 4 * MOST_THREADS * MOST_RUNS,
                     (long long)d);
        return false;
    }
    const int64_t half = ((runs + 1) / 2 + 31) / 32 * 32;
    out->d = (int)d;
    out->threads = (int)(half < MOST_THREADS ? half : MOST_THREADS);
    out->runs = runs <= 2 * out->threads ? 2 : runs <= 4 * out->threads ? 4 : MOST_RUNS;
    out->vector = vector && d % 4 == 0;
    return lw_cuda_rows_fit(dev, op, rows);
}

// Runs the statements with V as the number of runs of a thread.
#define FOR_RUNS(shape, V, ...)         \
    do {                                \
        if ((shape).runs == 2) {        \
            enum { V = 2 };             \
            __VA_ARGS__                 \
        } else if ((shape).runs == 4) { \
            enum { V = 4 };             \
            __VA_ARGS__                 \
        } else {                        \
            enum { V = MOST_RUNS };     \
            __VA_ARGS__                 \
        }                               \
    } while (0)

__device__ __forceinline__ int run_start(int run)
{
    return (run * (int)blockDim.x + (int)threadIdx.x) * 4;
}

template <typename T, int V>
__device__ __forceinline__ void load_row(const T *row, int d, bool vector, float (&x)[V][4])
{
#pragma unroll
    for (int v = 0; v < V; v++) {
        const int at = run_start(v);
        lw_load4_part(row + at, d - at, vector, x[v]);
    }
}

template <typename T, int V>
__device__ __forceinline__ void store_row(T *row, int d, bool vector, const float (&x)[V][4])
{
#pragma unroll
    for (int v = 0; v < V; v++) {
        const int at = run_start(v);
        lw_store4_part(row + at, d - at, vector, x[v]);
    }
}

template <int V> __device__ __forceinline__ float dot_rows(const float (&a)[V][4], const float (&b)[V][4])
{
    float sum = 0.0f;
#pragma unroll
    for (int v = 0; v < V; v++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            sum = fmaf(a[v][i], b[v][i], sum);
        }
    }
    return sum;
}

// --- RMSNorm

template <typename T, int V>
__global__ void __launch_bounds__(MOST_THREADS)
    rmsnorm_kernel(int d, bool vector, float eps, const float *__restrict__ x, const float *__restrict__ w, T *y,
                   float *rstd)
{
    __shared__ float shared[LW_MAX_WARPS];
    const int64_t row = blockIdx.x;
    float a[V][4], g[V][4];
    load_row(x + row * d, d, vector, a);
    load_row(w, d, vector, g);
    const float scale = 1.0f / sqrtf(lw_block_sum(dot_rows(a, a), shared) / (float)d + eps);
#pragma unroll
    for (int v = 0; v < V; v++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            a[v][i] *= scale * g[v][i];
        }
    }
    store_row(y + row * d, d, vector, a);
    if (rstd != NULL && threadIdx.x == 0) {
        rstd[row] = scale;
    }
}

void lw_cuda_rmsnorm(lw_device *dev, const lw_rmsnorm_args *a)
{
    row_shape s;
    const bool vector = lw_aligned16(a->x) && lw_aligned16(a->w) && lw_aligned16(a->y);
    if (a->rows <= 0 || a->d <= 0 || !shape_of(dev, "rmsnorm", a->rows, a->d, vector, &s)) {
        return;
    }
    LW_FOR_TYPE(dev, "rmsnorm", a->type, T, {
        FOR_RUNS(s, V, {
            LW_LAUNCH((rmsnorm_kernel<T, V>), (unsigned)a->rows, s.threads, 0, lw_cuda_of(dev)->stream, s.d, s.vector,
                      a->eps, a->x, a->w, static_cast<T *>(a->y), a->rstd);
        });
    });
    (void)lw_cuda_launched(dev, "rmsnorm");
}

template <typename T, int V>
__global__ void __launch_bounds__(MOST_THREADS)
    rmsnorm_backward_kernel(int d, bool vector, const float *__restrict__ x, const float *__restrict__ w,
                            const float *__restrict__ rstd, const float *__restrict__ dy, float *dx, T *dx_copy)
{
    __shared__ float shared[LW_MAX_WARPS];
    const int64_t row = blockIdx.x;
    float a[V][4], g[V][4], out[V][4];
    load_row(x + row * d, d, vector, a);
    load_row(dy + row * d, d, vector, g);
    load_row(dx + row * d, d, vector, out);
    float factor[V][4];
    load_row(w, d, vector, factor);
    const float s = rstd[row];
#pragma unroll
    for (int v = 0; v < V; v++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            g[v][i] *= factor[v][i];
        }
    }
    const float c = lw_block_sum(dot_rows(g, a), shared) / (float)d * s * s * s;
#pragma unroll
    for (int v = 0; v < V; v++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            out[v][i] = fmaf(a[v][i], -c, fmaf(g[v][i], s, out[v][i]));
        }
    }
    store_row(dx + row * d, d, vector, out);
    if (dx_copy != NULL) {
        store_row(dx_copy + row * d, d, vector, out);
    }
}

void lw_cuda_rmsnorm_backward(lw_device *dev, const lw_rmsnorm_backward_args *a)
{
    row_shape s;
    const bool vector = lw_aligned16(a->x) && lw_aligned16(a->w) && lw_aligned16(a->dy) && lw_aligned16(a->dx) &&
                        lw_aligned16(a->dx_copy); // also when that is NULL
    if (a->rows <= 0 || a->d <= 0 || !shape_of(dev, "rmsnorm_backward", a->rows, a->d, vector, &s)) {
        return;
    }
    const lw_dtype type = a->dx_copy == NULL ? LW_F32 : a->type;
    LW_FOR_TYPE(dev, "rmsnorm_backward", type, T, {
        FOR_RUNS(s, V, {
            LW_LAUNCH((rmsnorm_backward_kernel<T, V>), (unsigned)a->rows, s.threads, 0, lw_cuda_of(dev)->stream, s.d,
                      s.vector, a->x, a->w, a->rstd, a->dy, a->dx, static_cast<T *>(a->dx_copy));
        });
    });
    (void)lw_cuda_launched(dev, "rmsnorm_backward");
}

// --- LayerNorm

// Takes `mean` from the elements of a row; those beyond its end stay 0.
template <int V> __device__ __forceinline__ void center_row(int d, float mean, float (&x)[V][4])
{
#pragma unroll
    for (int v = 0; v < V; v++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            x[v][i] = run_start(v) + i < d ? x[v][i] - mean : 0.0f;
        }
    }
}

template <int V>
__global__ void __launch_bounds__(MOST_THREADS)
    layernorm_kernel(int d, bool vector, float eps, const float *__restrict__ x, const float *__restrict__ g,
                     const float *__restrict__ b, float *y, float *mean, float *rstd)
{
    __shared__ float shared[LW_MAX_WARPS];
    const int64_t row = blockIdx.x;
    float a[V][4], gain[V][4], bias[V][4];
    load_row(x + row * d, d, vector, a);
    load_row(g, d, vector, gain);
    load_row(b, d, vector, bias);
    float sum = 0.0f;
#pragma unroll
    for (int v = 0; v < V; v++) {
        sum += (a[v][0] + a[v][1]) + (a[v][2] + a[v][3]);
    }
    const float m = lw_block_sum(sum, shared) / (float)d;
    center_row(d, m, a); // before squaring: sum(x^2) - mean^2 would cancel where |mean| is large
    const float s = 1.0f / sqrtf(lw_block_sum(dot_rows(a, a), shared) / (float)d + eps);
#pragma unroll
    for (int v = 0; v < V; v++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            a[v][i] = fmaf(a[v][i] * s, gain[v][i], bias[v][i]);
        }
    }
    store_row(y + row * d, d, vector, a);
    if (threadIdx.x == 0) {
        mean[row] = m;
        rstd[row] = s;
    }
}

void lw_cuda_layernorm(lw_device *dev, const lw_layernorm_args *a)
{
    row_shape s;
    const bool vector = lw_aligned16(a->x) && lw_aligned16(a->g) && lw_aligned16(a->b) && lw_aligned16(a->y);
    if (a->rows <= 0 || a->d <= 0 || !shape_of(dev, "layernorm", a->rows, a->d, vector, &s)) {
        return;
    }
    FOR_RUNS(s, V, {
        LW_LAUNCH((layernorm_kernel<V>), (unsigned)a->rows, s.threads, 0, lw_cuda_of(dev)->stream, s.d, s.vector,
                  a->eps, a->x, a->g, a->b, a->y, a->mean, a->rstd);
    });
    (void)lw_cuda_launched(dev, "layernorm");
}

// dx += rstd (g dy - mean(g dy) - xhat mean(g dy xhat)), xhat = (x - mean) rstd
template <int V>
__global__ void __launch_bounds__(MOST_THREADS)
    layernorm_dx_kernel(int d, bool vector, const float *__restrict__ x, const float *__restrict__ g,
                        const float *__restrict__ mean, const float *__restrict__ rstd, const float *__restrict__ dy,
                        float *dx)
{
    __shared__ float shared[LW_MAX_WARPS];
    const int64_t row = blockIdx.x;
    float xhat[V][4], a[V][4], factor[V][4];
    load_row(x + row * d, d, vector, xhat);
    load_row(dy + row * d, d, vector, a);
    load_row(g, d, vector, factor);
    const float s = rstd[row];
    center_row(d, mean[row], xhat);
    float sum = 0.0f;
#pragma unroll
    for (int v = 0; v < V; v++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            xhat[v][i] *= s;
            a[v][i] *= factor[v][i];
            sum += a[v][i];
        }
    }
    const float sum_mean = lw_block_sum(sum, shared) / (float)d;
    const float product_mean = lw_block_sum(dot_rows(a, xhat), shared) / (float)d;
    load_row(dx + row * d, d, vector, factor);
#pragma unroll
    for (int v = 0; v < V; v++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            a[v][i] = fmaf(a[v][i] - sum_mean - xhat[v][i] * product_mean, s, factor[v][i]);
        }
    }
    store_row(dx + row * d, d, vector, a);
}

void lw_cuda_layernorm_backward(lw_device *dev, const lw_layernorm_backward_args *a)
{
    row_shape s;
    const bool vector = lw_aligned16(a->x) && lw_aligned16(a->g) && lw_aligned16(a->dy) && lw_aligned16(a->dx);
    if (a->rows <= 0 || a->d <= 0 || !shape_of(dev, "layernorm_backward", a->rows, a->d, vector, &s)) {
        return;
    }
    if (a->dx != NULL) {
        FOR_RUNS(s, V, {
            LW_LAUNCH((layernorm_dx_kernel<V>), (unsigned)a->rows, s.threads, 0, lw_cuda_of(dev)->stream, s.d, s.vector,
                      a->x, a->g, a->mean, a->rstd, a->dy, a->dx);
        });
        (void)lw_cuda_launched(dev, "layernorm_backward");
    }
    lw_cuda_layernorm_columns(dev, a);
}

// --- rows of a fixed RMS

template <int V>
__global__ void __launch_bounds__(MOST_THREADS)
    rmsscale_kernel(int d, bool vector, float eps, float scale, const float *__restrict__ gain,
                    const float *__restrict__ x, float *y, float *rstd)
{
    __shared__ float shared[LW_MAX_WARPS];
    const int64_t row = blockIdx.x;
    float a[V][4];
    load_row(x + row * d, d, vector, a);
    const float s = 1.0f / sqrtf(lw_block_sum(dot_rows(a, a), shared) / (float)d + eps);
    const float factor = s * (scale * gain[0]);
#pragma unroll
    for (int v = 0; v < V; v++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            a[v][i] *= factor;
        }
    }
    store_row(y + row * d, d, vector, a);
    if (threadIdx.x == 0) {
        rstd[row] = s;
    }
}

void lw_cuda_rmsscale(lw_device *dev, const lw_rmsscale_args *a)
{
    row_shape s;
    const bool vector = lw_aligned16(a->x) && lw_aligned16(a->y);
    if (a->rows <= 0 || a->d <= 0 || !shape_of(dev, "rmsscale", a->rows, a->d, vector, &s)) {
        return;
    }
    FOR_RUNS(s, V, {
        LW_LAUNCH((rmsscale_kernel<V>), (unsigned)a->rows, s.threads, 0, lw_cuda_of(dev)->stream, s.d, s.vector, a->eps,
                  a->scale, a->gain, a->x, a->y, a->rstd);
    });
    (void)lw_cuda_launched(dev, "rmsscale");
}

// part[row] = the row's part of dgain / scale
template <int V>
__global__ void __launch_bounds__(MOST_THREADS)
    rmsscale_backward_kernel(int d, bool vector, float scale, const float *__restrict__ gain,
                             const float *__restrict__ x, const float *__restrict__ rstd, const float *__restrict__ dy,
                             float *dx, float *part)
{
    __shared__ float shared[LW_MAX_WARPS];
    const int64_t row = blockIdx.x;
    float a[V][4], g[V][4];
    load_row(x + row * d, d, vector, a);
    load_row(dy + row * d, d, vector, g);
    const float s = rstd[row], factor = scale * gain[0];
    const float product = lw_block_sum(dot_rows(a, g), shared);
    const float of_dy = factor * s, of_x = -factor * s * s * s * (product / (float)d);
#pragma unroll
    for (int v = 0; v < V; v++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            a[v][i] = fmaf(g[v][i], of_dy, a[v][i] * of_x);
        }
    }
    store_row(dx + row * d, d, vector, a);
    if (threadIdx.x == 0) {
        part[row] = product * s;
    }
}

// One block: dgain[0] += scale * sum of part
__global__ void __launch_bounds__(256) rmsscale_gain_kernel(int64_t rows, float scale, const float *part, float *dgain)
{
    __shared__ double shared[LW_MAX_WARPS];
    double sum = 0.0;
    for (int64_t row = threadIdx.x; row < rows; row += 256) {
        sum += (double)part[row];
    }
    sum = lw_block_sum(sum, shared);
    if (threadIdx.x == 0) {
        dgain[0] += (float)((double)scale * sum);
    }
}

void lw_cuda_rmsscale_backward(lw_device *dev, const lw_rmsscale_backward_args *a)
{
    row_shape s;
    const bool vector = lw_aligned16(a->x) && lw_aligned16(a->dy) && lw_aligned16(a->dx);
    if (a->rows <= 0 || a->d <= 0 || !shape_of(dev, "rmsscale_backward", a->rows, a->d, vector, &s)) {
        return;
    }
    lw_cuda *c = lw_cuda_of(dev);
    if (a->rows > LW_CUDA_PARTIALS) {
        lw_cuda_fail(dev, "cuda: rmsscale_backward takes at most %lld rows, not %lld", (long long)LW_CUDA_PARTIALS,
                     (long long)a->rows);
        return;
    }
    FOR_RUNS(s, V, {
        LW_LAUNCH((rmsscale_backward_kernel<V>), (unsigned)a->rows, s.threads, 0, c->stream, s.d, s.vector, a->scale,
                  a->gain, a->x, a->rstd, a->dy, a->dx, c->partial);
    });
    if (lw_cuda_launched(dev, "rmsscale_backward")) {
        LW_LAUNCH(rmsscale_gain_kernel, 1, 256, 0, c->stream, a->rows, a->scale, c->partial, a->dgain);
        (void)lw_cuda_launched(dev, "rmsscale_backward");
    }
}
