// rows.cu: moving and averaging rows.
#include "cuda_internal.cuh"

// Threads of a block that goes over rows of `runs` pieces.
static int threads_for(int64_t runs)
{
    return runs >= 256 ? 256 : (int)((runs + 31) / 32 * 32);
}

// --- gather

// One block a row.
template <typename T>
__global__ void __launch_bounds__(256)
    gather_kernel(int64_t d, bool vector, const T *__restrict__ in, const int32_t *__restrict__ in_index,
                  const int32_t *__restrict__ out_index, bool accumulate, float *out)
{
    const int64_t row = blockIdx.x;
    const T *from = in + (in_index == NULL ? row : (int64_t)in_index[row]) * d;
    float *to = out + (out_index == NULL ? row : (int64_t)out_index[row]) * d;
    for (int64_t at = (int64_t)threadIdx.x * 4; at < d; at += (int64_t)blockDim.x * 4) {
        float x[4], old[4];
        lw_load4_part(from + at, d - at, vector, x);
        if (accumulate) {
            lw_load4_part(to + at, d - at, vector, old);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                x[i] += old[i];
            }
        }
        lw_store4_part(to + at, d - at, vector, x);
    }
}

template <typename T> static void launch_gather(lw_device *dev, const lw_gather_args *a)
{
    const bool vector = a->d % 4 == 0 && lw_aligned16(a->in) && lw_aligned16(a->out);
    LW_LAUNCH((gather_kernel<T>), (unsigned)a->n, threads_for((a->d + 3) / 4), 0, lw_cuda_of(dev)->stream, a->d, vector,
              static_cast<const T *>(a->in), a->in_index, a->out_index, a->accumulate, a->out);
    (void)lw_cuda_launched(dev, "gather");
}

void lw_cuda_gather(lw_device *dev, const lw_gather_args *a)
{
    if (a->n <= 0 || a->d <= 0 || !lw_cuda_rows_fit(dev, "gather", a->n)) {
        return;
    }
    if (a->in_type == LW_F16) {
        launch_gather<__half>(dev, a);
        return;
    }
    LW_FOR_TYPE(dev, "gather", a->in_type, T, { launch_gather<T>(dev, a); });
}

// --- copy_rows

// W: any type as wide as what is copied at a time; d and the strides count it.
template <typename W>
__global__ void __launch_bounds__(256)
    copy_rows_kernel(int64_t d, const W *__restrict__ in, int64_t in_stride, const int32_t *__restrict__ out_index,
                     W *out, int64_t out_stride)
{
    const int64_t row = blockIdx.x;
    const W *from = in + row * in_stride;
    W *to = out + (int64_t)out_index[row] * out_stride;
    for (int64_t at = threadIdx.x; at < d; at += blockDim.x) {
        to[at] = from[at];
    }
}

template <typename W> static void copy_rows_as(lw_device *dev, const lw_copy_rows_args *a, int64_t per_word)
{
    const int64_t words = a->d / per_word;
    LW_LAUNCH((copy_rows_kernel<W>), (unsigned)a->n, threads_for(words), 0, lw_cuda_of(dev)->stream, words,
              static_cast<const W *>(a->in), a->in_stride / per_word, a->out_index, static_cast<W *>(a->out),
              a->out_stride / per_word);
    (void)lw_cuda_launched(dev, "copy_rows");
}

void lw_cuda_copy_rows(lw_device *dev, const lw_copy_rows_args *a)
{
    if (a->n <= 0 || a->d <= 0 || !lw_cuda_rows_fit(dev, "copy_rows", a->n)) {
        return;
    }
    const int64_t bytes = (int64_t)lw_dtype_bytes(a->type), per_word = 16 / bytes;
    if (lw_aligned16(a->in) && lw_aligned16(a->out) && a->d % per_word == 0 && a->in_stride % per_word == 0 &&
        a->out_stride % per_word == 0) {
        copy_rows_as<uint4>(dev, a, per_word);
    } else if (bytes == 4) {
        copy_rows_as<unsigned>(dev, a, 1);
    } else {
        copy_rows_as<unsigned short>(dev, a, 1);
    }
}

// --- scatter_add

#define SCATTER_THREADS 128

// Which of the entries [first, first + SCATTER_THREADS) name `row`: their numbers, in order, into `match`. Every thread
// returns their count.
__device__ __forceinline__ int find_matches(const int32_t *index, int64_t first, int64_t n, int32_t row, int *match,
                                            int *of_warp)
{
    const int warp = (int)(threadIdx.x / 32), lane = (int)(threadIdx.x % 32);
    const int64_t i = first + threadIdx.x;
    const bool mine = i < n && index[i] == row;
    const unsigned lanes = __ballot_sync(LW_ALL_LANES, mine);
    if (lane == 0) {
        of_warp[warp] = __popc(lanes);
    }
    __syncthreads();
    int before = 0, count = 0;
    for (int w = 0; w < SCATTER_THREADS / 32; w++) {
        before += w < warp ? of_warp[w] : 0;
        count += of_warp[w];
    }
    if (mine) {
        match[before + __popc(lanes & ((1u << lane) - 1u))] = (int)threadIdx.x;
    }
    __syncthreads();
    return count;
}

// Block (i, c): if entry i is the first that names its row, adds up all that do, in order, in columns 4 *
// SCATTER_THREADS * c and on. So rows may repeat and no two blocks write to one place.
__global__ void __launch_bounds__(SCATTER_THREADS)
    scatter_add_kernel(int64_t n, int64_t d, bool vector, const float *__restrict__ in,
                       const int32_t *__restrict__ index, float *out)
{
    __shared__ int match[SCATTER_THREADS], of_warp[SCATTER_THREADS / 32];
    const int64_t mine = blockIdx.x;
    const int32_t row = index[mine];
    const int64_t column = ((int64_t)blockIdx.y * SCATTER_THREADS + threadIdx.x) * 4;
    float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    float *to = out + (int64_t)row * d + column;
    for (int64_t first = 0; first < n; first += SCATTER_THREADS) {
        const int count = find_matches(index, first, n, row, match, of_warp);
        if (count > 0 && first + match[0] < mine) {
            return; // another block's; the same for all threads
        }
        if (count > 0 && first + match[0] == mine) {
            lw_load4_part(to, d - column, vector, sum);
        }
#pragma unroll 4
        for (int m = 0; m < count; m++) {
            float x[4];
            lw_load4_part(in + (first + match[m]) * d + column, d - column, vector, x);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                sum[i] += x[i];
            }
        }
        __syncthreads(); // before `match` is written again
    }
    lw_store4_part(to, d - column, vector, sum);
}

void lw_cuda_scatter_add(lw_device *dev, int64_t n, int64_t d, const float *in, const int32_t *index, int64_t out_rows,
                         float *out)
{
    (void)out_rows;
    if (n <= 0 || d <= 0 || !lw_cuda_rows_fit(dev, "scatter_add", n)) {
        return;
    }
    const bool vector = d % 4 == 0 && lw_aligned16(in) && lw_aligned16(out);
    const int64_t strips = (d + 4 * SCATTER_THREADS - 1) / (4 * SCATTER_THREADS);
    if (strips > 65535) {
        lw_cuda_fail(dev, "cuda: scatter_add: rows of %lld elements are too long", (long long)d);
        return;
    }
    LW_LAUNCH(scatter_add_kernel, dim3((unsigned)n, (unsigned)strips), SCATTER_THREADS, 0, lw_cuda_of(dev)->stream, n,
              d, vector, in, index, out);
    (void)lw_cuda_launched(dev, "scatter_add");
}

// --- means of spans

__global__ void __launch_bounds__(256)
    span_mean_kernel(int64_t d, const int32_t *__restrict__ start, const float *__restrict__ x, float *y)
{
    const int64_t span = blockIdx.x, begin = start[span], end = start[span + 1];
    const float factor = end > begin ? 1.0f / (float)(end - begin) : 0.0f;
    for (int64_t column = threadIdx.x; column < d; column += blockDim.x) {
        float sum = 0.0f;
#pragma unroll 8
        for (int64_t row = begin; row < end; row++) {
            sum += x[row * d + column];
        }
        y[span * d + column] = sum * factor;
    }
}

__global__ void __launch_bounds__(256)
    span_mean_backward_kernel(int64_t d, const int32_t *__restrict__ start, const float *__restrict__ dy, float *dx)
{
    const int64_t span = blockIdx.x, begin = start[span], end = start[span + 1];
    const float factor = end > begin ? 1.0f / (float)(end - begin) : 0.0f;
    for (int64_t column = threadIdx.x; column < d; column += blockDim.x) {
        const float value = dy[span * d + column] * factor;
        for (int64_t row = begin; row < end; row++) {
            dx[row * d + column] = value;
        }
    }
}

void lw_cuda_span_mean(lw_device *dev, int64_t spans, int64_t d, const int32_t *start, const float *x, float *y)
{
    if (spans <= 0 || d <= 0 || !lw_cuda_rows_fit(dev, "span_mean", spans)) {
        return;
    }
    LW_LAUNCH(span_mean_kernel, (unsigned)spans, threads_for(d), 0, lw_cuda_of(dev)->stream, d, start, x, y);
    (void)lw_cuda_launched(dev, "span_mean");
}

void lw_cuda_span_mean_backward(lw_device *dev, int64_t spans, int64_t d, const int32_t *start, const float *dy,
                                float *dx)
{
    if (spans <= 0 || d <= 0 || !lw_cuda_rows_fit(dev, "span_mean_backward", spans)) {
        return;
    }
    LW_LAUNCH(span_mean_backward_kernel, (unsigned)spans, threads_for(d), 0, lw_cuda_of(dev)->stream, d, start, dy, dx);
    (void)lw_cuda_launched(dev, "span_mean_backward");
}
