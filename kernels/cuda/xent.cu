// xent.cu: cross-entropy and distillation on rows of logits, and argmax. A block has a row, which it reads twice: for
// the largest logit and the sums of exponentials, each thread with a running maximum (Milakov & Gimelshein 2018), and
// for the divergence and the gradient.
#include "cuda_internal.cuh"

#define ROW_THREADS 1024
#define NO_INDEX INT32_MAX

// visit(i, x) for this thread's vectors x of the row, the first element of each being element i. A batch is read before
// it is visited, so that visit may write where it was read.
template <typename T, int W, typename Visit>
__device__ __forceinline__ void each_vector(int n, const T *row, Visit visit)
{
    const int vectors = n / W, batch = W == 8 ? 2 : 4;
    for (int first = (int)threadIdx.x; first < vectors; first += batch * ROW_THREADS) {
        float x[batch][W];
#pragma unroll
        for (int u = 0; u < batch; u++) {
            if (first + u * ROW_THREADS < vectors) {
                lw_load_vector<W>(row + (first + u * ROW_THREADS) * W, x[u]);
            }
        }
#pragma unroll
        for (int u = 0; u < batch; u++) {
            if (first + u * ROW_THREADS < vectors) {
                visit((first + u * ROW_THREADS) * W, x[u]);
            }
        }
    }
}

// The largest element so far and where it came first. NaN is passed over, as by the comparison.
struct first_largest {
    float value;
    int index;

    __device__ __forceinline__ void take(float x, int i)
    {
        if (x > value || (x == value && index == NO_INDEX)) {
            value = x;
            index = i;
        }
    }
};

// Room for the reductions over the block.
struct row_shared {
    float sum[LW_MAX_WARPS], value[LW_MAX_WARPS];
    int index[LW_MAX_WARPS];
};

// The one of two that is larger or, where they are equal, comes first.
__device__ __forceinline__ void take_larger(first_largest *mine, float value, int index)
{
    if (value > mine->value || (value == mine->value && index < mine->index)) {
        mine->value = value;
        mine->index = index;
    }
}

// Of the whole row, for every thread; index 0 where there is nothing but NaN.
__device__ __forceinline__ first_largest row_largest(first_largest mine, row_shared *shared)
{
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
        const float value = __shfl_xor_sync(LW_ALL_LANES, mine.value, offset);
        const int index = __shfl_xor_sync(LW_ALL_LANES, mine.index, offset);
        take_larger(&mine, value, index);
    }
    if (threadIdx.x % 32 == 0) {
        shared->value[threadIdx.x / 32] = mine.value;
        shared->index[threadIdx.x / 32] = mine.index;
    }
    __syncthreads();
    first_largest all = {-INFINITY, NO_INDEX};
    for (int w = 0; w < ROW_THREADS / 32; w++) {
        take_larger(&all, shared->value[w], shared->index[w]);
    }
    __syncthreads();
    all.index = all.index == NO_INDEX ? 0 : all.index;
    return all;
}

// sum_i exp((x_i - shift) inverse_tau) with shift the largest x so far; the sums of x at two temperatures share it.
struct running_sum {
    float shift, sum, sum_tau;

    // exp(-inf - -inf) is not a number, where nothing but -inf has been seen
    static __device__ __forceinline__ float base(float largest)
    {
        return largest == -INFINITY ? 0.0f : largest;
    }

    __device__ __forceinline__ void rescale(float largest, float inverse_tau, bool second)
    {
        const float difference = shift - base(largest);
        sum *= expf(difference);
        if (second) {
            sum_tau *= expf(difference * inverse_tau);
        }
        shift = largest;
    }
};

template <typename T, int W>
__device__ __forceinline__ running_sum sum_row(int n, const T *row, float inverse_tau, bool second, row_shared *shared,
                                               first_largest *largest)
{
    running_sum s = {-INFINITY, 0.0f, 0.0f};
    first_largest best = {-INFINITY, NO_INDEX};
    each_vector<T, W>(n, row, [&](int i, const float(&x)[W]) {
        float top = x[0];
#pragma unroll
        for (int e = 1; e < W; e++) {
            top = fmaxf(top, x[e]);
        }
        if (top > best.value || best.index == NO_INDEX) {
#pragma unroll
            for (int e = 0; e < W; e++) {
                best.take(x[e], i + e);
            }
            s.rescale(best.value, inverse_tau, second);
        }
        const float base = running_sum::base(s.shift);
#pragma unroll
        for (int e = 0; e < W; e++) {
            s.sum += expf(x[e] - base);
            if (second) {
                s.sum_tau += expf((x[e] - base) * inverse_tau);
            }
        }
    });
    const first_largest all = row_largest(best, shared);
    s.rescale(all.value, inverse_tau, second);
    s.sum = lw_block_sum(s.sum, shared->sum);
    if (second) {
        s.sum_tau = lw_block_sum(s.sum_tau, shared->sum);
    }
    *largest = all;
    return s;
}

// z := factor exp(z - shift), and weight less at the target
template <typename T, int W>
__device__ __forceinline__ void plain_gradient(int n, T *z, float shift, float factor, int target, float weight)
{
    each_vector<T, W>(n, z, [&](int i, const float(&x)[W]) {
        float g[W];
#pragma unroll
        for (int e = 0; e < W; e++) {
            g[e] = factor * expf(x[e] - shift) - (i + e == target ? weight : 0.0f);
        }
        lw_store_vector<W>(z + i, g);
    });
}

// What a row with a teacher needs after the sums, of softmax(z) and, at temperature tau, of those of z (q) and of the
// teacher's t (p).
struct distillation {
    float shift, shift_t, inverse_tau; // largest z and t
    float offset;                      // log sum_q - log sum_p
    float factor, factor_q, factor_p;  // of the exponentials in the gradient
};

// This thread's part of sum_i exp((t_i - shift_t) / tau) (log p_i - log q_i); z becomes the gradient where asked for.
template <typename T, int W>
__device__ __forceinline__ float distil(int n, T *z, const T *t, const distillation &d, bool gradient, int target,
                                        float weight)
{
    float divergence = 0.0f;
    each_vector<T, W>(n, z, [&](int i, const float(&x)[W]) {
        float y[W], g[W];
        lw_load_vector<W>(t + i, y);
#pragma unroll
        for (int e = 0; e < W; e++) {
            const float a = (y[e] - d.shift_t) * d.inverse_tau, b = (x[e] - d.shift) * d.inverse_tau;
            const float wanted = expf(a);
            divergence += wanted * (a - b + d.offset);
            g[e] = d.factor * expf(x[e] - d.shift) + (d.factor_q * expf(b) - d.factor_p * wanted) -
                   (i + e == target ? weight : 0.0f);
        }
        if (gradient) {
            lw_store_vector<W>(z + i, g);
        }
    });
    return divergence;
}

template <typename T, int W> __global__ void __launch_bounds__(ROW_THREADS) xent_rows(lw_xent x)
{
    __shared__ row_shared shared;
    const int64_t r = blockIdx.x;
    const int n = (int)x.vocab, target = x.target[r];
    T *z = static_cast<T *>(x.logits) + r * x.vocab;
    const float kl_weight = x.teacher == NULL || x.kl_weight == NULL ? 0.0f : x.kl_weight[r];
    const float weight = x.gradient ? x.weight[r] : 0.0f, target_logit = lw_load(z + target);
    const bool distils = kl_weight != 0.0f;
    const int64_t teacher_row = distils && x.teacher_row != NULL ? x.teacher_row[r] : r;
    const T *t = distils ? static_cast<const T *>(x.teacher) + teacher_row * x.vocab : NULL;
    const float inverse_tau = 1.0f / x.tau;
    first_largest largest;
    const running_sum s = sum_row<T, W>(n, z, inverse_tau, distils, &shared, &largest);
    float kl = 0.0f;
    if (distils) {
        first_largest largest_t;
        // The sum at temperature 1 is not needed of the teacher; the one at tau alone is kept.
        const running_sum p = sum_row<T, W>(n, t, inverse_tau, true, &shared, &largest_t);
        const float b = kl_weight * x.tau;
        const distillation d = {largest.value,  largest_t.value, inverse_tau,  logf(s.sum_tau) - logf(p.sum_tau),
                                weight / s.sum, b / s.sum_tau,   b / p.sum_tau};
        const float divergence = distil<T, W>(n, z, t, d, x.gradient, target, weight);
        kl = lw_block_sum(divergence, shared.sum) / p.sum_tau;
    } else if (x.gradient) {
        plain_gradient<T, W>(n, z, largest.value, weight / s.sum, target, weight);
    }
    if (threadIdx.x == 0) {
        x.nll[r] = logf(s.sum) + (largest.value - target_logit);
        if (x.kl != NULL) {
            x.kl[r] = kl;
        }
        if (x.argmax != NULL) {
            x.argmax[r] = largest.index;
        }
    }
}

template <typename T, int W>
__global__ void __launch_bounds__(ROW_THREADS) argmax_rows(int n, const T *logits, int32_t *out)
{
    __shared__ row_shared shared;
    first_largest best = {-INFINITY, NO_INDEX};
    each_vector<T, W>(n, logits + (int64_t)blockIdx.x * n, [&](int i, const float(&x)[W]) {
#pragma unroll
        for (int e = 0; e < W; e++) {
            best.take(x[e], i + e);
        }
    });
    const first_largest all = row_largest(best, &shared);
    if (threadIdx.x == 0) {
        out[blockIdx.x] = all.index;
    }
}

// --- launching

// Whether rows of n elements can be read 16 bytes at a time.
template <typename T> static bool rows_aligned(const void *rows, int64_t n)
{
    return lw_aligned16(rows) && n % (int64_t)(16 / sizeof(T)) == 0;
}

static bool rows_taken(lw_device *dev, const char *op, int64_t rows, int64_t n)
{
    if (rows <= 0 || n <= 0) {
        return false;
    }
    if (n > INT32_MAX - 64 * ROW_THREADS) { // so that indices stay in range in the last turn of a loop
        lw_cuda_fail(dev, "cuda: %s does not take rows of %lld elements", op, (long long)n);
        return false;
    }
    return lw_cuda_rows_fit(dev, op, rows);
}

void lw_cuda_xent(lw_device *dev, const lw_xent *x)
{
    if (!rows_taken(dev, "xent", x->rows, x->vocab)) {
        return;
    }
    LW_FOR_TYPE(dev, "xent", x->type, T, {
        if (rows_aligned<T>(x->logits, x->vocab) && rows_aligned<T>(x->teacher, x->vocab)) {
            LW_LAUNCH((xent_rows<T, 16 / sizeof(T)>), (unsigned)x->rows, ROW_THREADS, 0, lw_cuda_of(dev)->stream, *x);
        } else {
            LW_LAUNCH((xent_rows<T, 1>), (unsigned)x->rows, ROW_THREADS, 0, lw_cuda_of(dev)->stream, *x);
        }
        (void)lw_cuda_launched(dev, "xent");
    });
}

void lw_cuda_argmax(lw_device *dev, int64_t rows, int64_t n, const void *logits, lw_dtype type, int32_t *out)
{
    if (!rows_taken(dev, "argmax", rows, n)) {
        return;
    }
    LW_FOR_TYPE(dev, "argmax", type, T, {
        const T *in = static_cast<const T *>(logits);
        if (rows_aligned<T>(logits, n)) {
            LW_LAUNCH((argmax_rows<T, 16 / sizeof(T)>), (unsigned)rows, ROW_THREADS, 0, lw_cuda_of(dev)->stream, (int)n,
                      in, out);
        } else {
            LW_LAUNCH((argmax_rows<T, 1>), (unsigned)rows, ROW_THREADS, 0, lw_cuda_of(dev)->stream, (int)n, in, out);
        }
        (void)lw_cuda_launched(dev, "argmax");
    });
}
