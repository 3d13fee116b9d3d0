// element.cu: activations, axpy and conversions.
#include "cuda_internal.cuh"

// 1 / (1 + exp(-x)); exp may overflow to infinity, which gives 0.
__device__ __forceinline__ float logistic(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

// --- SwiGLU: y = g s(g) u with s the logistic function

// Eight elements at a time where a row allows it. Rows go down the grid, since a thread would divide to find its own.
#define SWIGLU_THREADS 256
#define SWIGLU_WIDTH 8

template <typename T>
__device__ __forceinline__ void load_width(const T *p, int64_t left, bool vector, float (&x)[SWIGLU_WIDTH])
{
    if (vector) {
        lw_load8(p, x);
        return;
    }
#pragma unroll
    for (int i = 0; i < SWIGLU_WIDTH; i++) {
        x[i] = i < left ? lw_load(p + i) : 0.0f;
    }
}

template <typename T>
__device__ __forceinline__ void store_width(T *p, int64_t left, bool vector, const float (&x)[SWIGLU_WIDTH])
{
    if (vector) {
        lw_store8(p, x);
        return;
    }
#pragma unroll
    for (int i = 0; i < SWIGLU_WIDTH; i++) {
        if (i < left) {
            lw_store(p + i, x[i]);
        }
    }
}

template <typename T>
__global__ void __launch_bounds__(SWIGLU_THREADS)
    swiglu_kernel(int64_t rows, int64_t f, bool vector, const T *__restrict__ gu, T *__restrict__ y)
{
    const int64_t column = ((int64_t)blockIdx.x * SWIGLU_THREADS + threadIdx.x) * SWIGLU_WIDTH;
    if (column >= f) {
        return;
    }
    for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
        const T *from = gu + row * 2 * f + column;
        float g[SWIGLU_WIDTH], u[SWIGLU_WIDTH];
        load_width(from, f - column, vector, g);
        load_width(from + f, f - column, vector, u);
#pragma unroll
        for (int i = 0; i < SWIGLU_WIDTH; i++) {
            u[i] *= g[i] * logistic(g[i]);
        }
        store_width(y + row * f + column, f - column, vector, u);
    }
}

// d/dg = s (1 + g (1 - s)) u dy, d/du = g s dy
template <typename T>
__global__ void __launch_bounds__(SWIGLU_THREADS)
    swiglu_backward_kernel(int64_t rows, int64_t f, bool vector, const T *__restrict__ gu, const T *__restrict__ dy,
                           T *__restrict__ dgu)
{
    const int64_t column = ((int64_t)blockIdx.x * SWIGLU_THREADS + threadIdx.x) * SWIGLU_WIDTH;
    if (column >= f) {
        return;
    }
    for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
        const int64_t at = row * 2 * f + column;
        float g[SWIGLU_WIDTH], u[SWIGLU_WIDTH], d[SWIGLU_WIDTH];
        load_width(gu + at, f - column, vector, g);
        load_width(gu + at + f, f - column, vector, u);
        load_width(dy + row * f + column, f - column, vector, d);
#pragma unroll
        for (int i = 0; i < SWIGLU_WIDTH; i++) {
            const float s = logistic(g[i]), silu = g[i] * s;
            g[i] = (s + silu * (1.0f - s)) * (u[i] * d[i]);
            u[i] = silu * d[i];
        }
        store_width(dgu + at, f - column, vector, g);
        store_width(dgu + at + f, f - column, vector, u);
    }
}

static dim3 swiglu_grid(int64_t rows, int64_t f)
{
    const int64_t per_block = SWIGLU_THREADS * SWIGLU_WIDTH;
    return dim3((unsigned)((f + per_block - 1) / per_block), (unsigned)(rows < 65535 ? rows : 65535));
}

void lw_cuda_swiglu(lw_device *dev, int64_t rows, int64_t f, lw_dtype type, const void *gu, void *y)
{
    if (rows <= 0 || f <= 0) {
        return;
    }
    const bool vector = f % SWIGLU_WIDTH == 0 && lw_aligned16(gu) && lw_aligned16(y);
    LW_FOR_TYPE(dev, "swiglu", type, T, {
        LW_LAUNCH((swiglu_kernel<T>), swiglu_grid(rows, f), SWIGLU_THREADS, 0, lw_cuda_of(dev)->stream, rows, f, vector,
                  static_cast<const T *>(gu), static_cast<T *>(y));
    });
    (void)lw_cuda_launched(dev, "swiglu");
}

void lw_cuda_swiglu_backward(lw_device *dev, int64_t rows, int64_t f, lw_dtype type, const void *gu, const void *dy,
                             void *dgu)
{
    if (rows <= 0 || f <= 0) {
        return;
    }
    const bool vector = f % SWIGLU_WIDTH == 0 && lw_aligned16(gu) && lw_aligned16(dy) && lw_aligned16(dgu);
    LW_FOR_TYPE(dev, "swiglu_backward", type, T, {
        LW_LAUNCH((swiglu_backward_kernel<T>), swiglu_grid(rows, f), SWIGLU_THREADS, 0, lw_cuda_of(dev)->stream, rows,
                  f, vector, static_cast<const T *>(gu), static_cast<const T *>(dy), static_cast<T *>(dgu));
    });
    (void)lw_cuda_launched(dev, "swiglu_backward");
}

// --- four elements a thread, over the grid

#define THREADS 256

// The first element of a thread, and the distance to its next.
__device__ __forceinline__ int64_t first_element(void)
{
    return ((int64_t)blockIdx.x * THREADS + threadIdx.x) * 4;
}

__device__ __forceinline__ int64_t element_step(void)
{
    return (int64_t)gridDim.x * THREADS * 4;
}

static unsigned element_grid(lw_device *dev, int64_t n)
{
    return lw_cuda_grid(dev, n, THREADS * 4);
}

// Whether four elements from `at` on can be moved at once: the last may be fewer.
__device__ __forceinline__ bool whole(bool vector, int64_t left)
{
    return vector && left >= 4;
}

// --- GELU: y = x s(t), t = 2 sqrt(2/pi) (x + 0.044715 x^3), which is the tanh form

#define GELU_A 1.5957691216057308f // 2 sqrt(2/pi)
#define GELU_B 0.0713548162726009f // 0.044715 of it

__global__ void __launch_bounds__(THREADS) gelu_kernel(int64_t n, bool vector, const float *x, float *y)
{
    for (int64_t at = first_element(); at < n; at += element_step()) {
        float a[4];
        lw_load4_part(x + at, n - at, whole(vector, n - at), a);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            a[i] *= logistic(a[i] * fmaf(a[i] * a[i], GELU_B, GELU_A));
        }
        lw_store4_part(y + at, n - at, whole(vector, n - at), a);
    }
}

// dx may be dy.
__global__ void __launch_bounds__(THREADS)
    gelu_backward_kernel(int64_t n, bool vector, const float *x, const float *dy, float *dx)
{
    for (int64_t at = first_element(); at < n; at += element_step()) {
        float a[4], d[4];
        lw_load4_part(x + at, n - at, whole(vector, n - at), a);
        lw_load4_part(dy + at, n - at, whole(vector, n - at), d);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float square = a[i] * a[i];
            const float s = logistic(a[i] * fmaf(square, GELU_B, GELU_A));
            const float slope = fmaf(square, 3.0f * GELU_B, GELU_A);
            d[i] *= fmaf(a[i] * slope, s * (1.0f - s), s);
        }
        lw_store4_part(dx + at, n - at, whole(vector, n - at), d);
    }
}

// y may be x.
template <typename T, bool ERF>
__global__ void __launch_bounds__(SWIGLU_THREADS) gelu_frozen_kernel(int64_t n, bool vector, const T *x, T *y)
{
    const int64_t step = (int64_t)gridDim.x * SWIGLU_THREADS * SWIGLU_WIDTH;
    for (int64_t at = ((int64_t)blockIdx.x * SWIGLU_THREADS + threadIdx.x) * SWIGLU_WIDTH; at < n; at += step) {
        float a[SWIGLU_WIDTH];
        load_width(x + at, n - at, vector && n - at >= SWIGLU_WIDTH, a);
#pragma unroll
        for (int i = 0; i < SWIGLU_WIDTH; i++) {
            // erfc keeps the small values left of 0, where 1 + erf would cancel.
            a[i] *=
                ERF ? 0.5f * erfcf(-0.70710678118654752f * a[i]) : logistic(a[i] * fmaf(a[i] * a[i], GELU_B, GELU_A));
        }
        store_width(y + at, n - at, vector && n - at >= SWIGLU_WIDTH, a);
    }
}

void lw_cuda_gelu_frozen(lw_device *dev, int64_t n, bool erf_form, lw_dtype type, const void *x, void *y)
{
    if (n <= 0) {
        return;
    }
    const bool vector = lw_aligned16(x) && lw_aligned16(y);
    const unsigned grid = lw_cuda_grid(dev, n, SWIGLU_THREADS * SWIGLU_WIDTH);
    LW_FOR_TYPE(dev, "gelu_frozen", type, T, {
        if (erf_form) {
            LW_LAUNCH((gelu_frozen_kernel<T, true>), grid, SWIGLU_THREADS, 0, lw_cuda_of(dev)->stream, n, vector,
                      static_cast<const T *>(x), static_cast<T *>(y));
        } else {
            LW_LAUNCH((gelu_frozen_kernel<T, false>), grid, SWIGLU_THREADS, 0, lw_cuda_of(dev)->stream, n, vector,
                      static_cast<const T *>(x), static_cast<T *>(y));
        }
    });
    (void)lw_cuda_launched(dev, "gelu_frozen");
}

void lw_cuda_gelu(lw_device *dev, int64_t n, const float *x, float *y)
{
    if (n > 0) {
        LW_LAUNCH(gelu_kernel, element_grid(dev, n), THREADS, 0, lw_cuda_of(dev)->stream, n,
                  lw_aligned16(x) && lw_aligned16(y), x, y);
        (void)lw_cuda_launched(dev, "gelu");
    }
}

void lw_cuda_gelu_backward(lw_device *dev, int64_t n, const float *x, const float *dy, float *dx)
{
    if (n > 0) {
        LW_LAUNCH(gelu_backward_kernel, element_grid(dev, n), THREADS, 0, lw_cuda_of(dev)->stream, n,
                  lw_aligned16(x) && lw_aligned16(dy) && lw_aligned16(dx), x, dy, dx);
        (void)lw_cuda_launched(dev, "gelu_backward");
    }
}

// --- axpy

__global__ void __launch_bounds__(THREADS)
    axpy_kernel(int64_t n, bool vector, float alpha, const float *__restrict__ x, float *y)
{
    for (int64_t at = first_element(); at < n; at += element_step()) {
        float a[4], b[4];
        lw_load4_part(x + at, n - at, whole(vector, n - at), a);
        lw_load4_part(y + at, n - at, whole(vector, n - at), b);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            b[i] = fmaf(alpha, a[i], b[i]);
        }
        lw_store4_part(y + at, n - at, whole(vector, n - at), b);
    }
}

void lw_cuda_axpy(lw_device *dev, int64_t n, float alpha, const float *x, float *y)
{
    if (n > 0) {
        LW_LAUNCH(axpy_kernel, element_grid(dev, n), THREADS, 0, lw_cuda_of(dev)->stream, n,
                  lw_aligned16(x) && lw_aligned16(y), alpha, x, y);
        (void)lw_cuda_launched(dev, "axpy");
    }
}

// --- conversions

template <typename In, typename Out>
__global__ void __launch_bounds__(THREADS)
    cast_kernel(int64_t n, bool vector, const In *__restrict__ in, Out *__restrict__ out)
{
    for (int64_t at = first_element(); at < n; at += element_step()) {
        float a[4];
        lw_load4_part(in + at, n - at, whole(vector, n - at), a);
        lw_store4_part(out + at, n - at, whole(vector, n - at), a);
    }
}

template <typename In, typename Out> static void cast_from_to(lw_device *dev, int64_t n, const void *in, void *out)
{
    LW_LAUNCH((cast_kernel<In, Out>), element_grid(dev, n), THREADS, 0, lw_cuda_of(dev)->stream, n,
              lw_aligned16(in) && lw_aligned16(out), static_cast<const In *>(in), static_cast<Out *>(out));
    (void)lw_cuda_launched(dev, "cast");
}

template <typename In> static void cast_from(lw_device *dev, int64_t n, const void *in, void *out, lw_dtype out_type)
{
    if (out_type == LW_F16) {
        cast_from_to<In, __half>(dev, n, in, out);
    } else {
        LW_FOR_TYPE(dev, "cast", out_type, T, { cast_from_to<In, T>(dev, n, in, out); });
    }
}

void lw_cuda_cast(lw_device *dev, int64_t n, const void *in, lw_dtype in_type, void *out, lw_dtype out_type)
{
    if (n <= 0) {
        return;
    }
    if (in_type == out_type) {
        lw_cuda_copy(dev, in, (size_t)n * lw_dtype_bytes(in_type), out);
    } else if (in_type == LW_I32 || out_type == LW_I32) {
        lw_cuda_fail(dev, "cuda: cast from %s to %s is not an operation", lw_dtype_name(in_type),
                     lw_dtype_name(out_type));
    } else if (in_type == LW_F16) {
        cast_from<__half>(dev, n, in, out, out_type);
    } else {
        LW_FOR_TYPE(dev, "cast", in_type, T, { cast_from<T>(dev, n, in, out, out_type); });
    }
}
