// attention_backward.cu: multi-head attention, backward.
//
// The probabilities are formed again from the scores and their log-sum-exp, tile by tile (Dao et al. 2022,
// algorithm 4): with P = exp(S - lse), delta_i = sum_d dO_id O_id,
//   dV = P^T dO,  dP = dO V^T,  dS = scale P (dP - delta),  dQ = dS K,  dK = dS^T Q.
// One kernel has a tile of queries, writes dQ and leaves delta in the work space; the next one has a tile of keys, goes
// over all the queries that see it and writes dK and dV. So every sum has one order, and no atomics.
#include "attention.cuh"

// --- dQ

#define QUERY_WARPS 8
#define QUERY_ROWS (QUERY_WARPS * LW_HELD)
#define QUERY_THREADS (QUERY_WARPS * 32)

template <int D> static size_t query_shared_bytes(void)
{
    typedef lw_tile<D> tile;
    return (size_t)((2 * QUERY_ROWS + 2 * tile::rows) * tile::stride + QUERY_ROWS * tile::scores_stride) *
           sizeof(float);
}

// What a warp knows of its four query rows.
struct held_queries {
    int visible[LW_HELD]; // keys
    float lse[LW_HELD], delta[LW_HELD];
};

// dQ of the held rows += the part of a tile of keys.
template <int D, int J>
__device__ __forceinline__ void query_tile(const float *queries, const float *d_out, const float *keys,
                                           const float *values, int k0, int n, const held_queries &h, float scale,
                                           float *ds, float (&dq)[LW_HELD][lw_columns<D>::count])
{
    const int lane = (int)(threadIdx.x % 32);
    float score[LW_HELD][J], dp[LW_HELD][J];
    lw_dots<D, J>(queries, keys, score);
    lw_dots<D, J>(d_out, values, dp);
#pragma unroll
    for (int i = 0; i < LW_HELD; i++) {
#pragma unroll
        for (int j = 0; j < J; j++) {
            const float p = expf(fmaf(score[i][j], scale, -h.lse[i]));
            ds[i * lw_tile<D>::scores_stride + lane + 32 * j] =
                k0 + lane + 32 * j < h.visible[i] ? p * (dp[i][j] - h.delta[i]) * scale : 0.0f;
        }
    }
    __syncwarp();
    lw_weighted_rows<D>(ds, keys, n, dq);
}

template <typename T, int D>
__global__ void __launch_bounds__(QUERY_THREADS, lw_tile<D>::blocks)
    attention_backward_queries(lw_attention_call call, const T *q, const T *k, const T *v, const T *o, const T *d_o,
                               const float *lse, float *delta, T *dq)
{
    LW_DYNAMIC_SHARED(float, shared);
    const int stride = lw_tile<D>::stride, tile_rows = lw_tile<D>::rows;
    float *queries = shared, *d_out = queries + QUERY_ROWS * stride, *keys = d_out + QUERY_ROWS * stride;
    float *values = keys + tile_rows * stride;
    const int warp = (int)(threadIdx.x / 32), lane = (int)(threadIdx.x % 32);
    float *ds = values + tile_rows * stride + warp * LW_HELD * lw_tile<D>::scores_stride;

    const lw_attention_block block = lw_attention_block_of(call);
    const int rows = block.nq * call.group;
    const int first = (call.tiles - 1 - block.tile) * QUERY_ROWS; // the last queries see the most keys
    if (first >= rows) {
        return;
    }
    const int end = first + QUERY_ROWS < rows ? first + QUERY_ROWS : rows;
    const int seen = lw_attention_visible(call, block, (end - 1) / call.group);
    const int held = first + warp * LW_HELD;
    const lw_head_rows<const T> d_out_rows = lw_query_rows(call, block, d_o, call.o_stride);
    lw_load_tile<T, D, QUERY_THREADS>(lw_query_rows(call, block, q, call.q_stride), first, end - first, QUERY_ROWS,
                                      call.vector != 0, queries);
    lw_load_tile<T, D, QUERY_THREADS>(d_out_rows, first, end - first, QUERY_ROWS, call.vector != 0, d_out);

    held_queries h;
    int warp_seen = 0;
    float sum[LW_HELD][lw_columns<D>::count];
    lw_clear_columns<D>(sum);
    const lw_head_rows<const T> out_rows = lw_query_rows(call, block, o, call.o_stride);
#pragma unroll
    for (int i = 0; i < LW_HELD; i++) {
        h.visible[i] = 0;
        h.lse[i] = h.delta[i] = 0.0f;
        if (held + i < rows) {
            const int query = (held + i) / call.group, head = (held + i) % call.group;
            const int64_t at = (block.q0 + query) * call.q_heads + block.kv_head * call.group + head;
            float x[lw_columns<D>::count], y[lw_columns<D>::count], product = 0.0f;
            lw_load_columns<T, D>(out_rows.at(held + i), call.head_dim, call.vector != 0, x);
            lw_load_columns<T, D>(d_out_rows.at(held + i), call.head_dim, call.vector != 0, y);
#pragma unroll
            for (int c = 0; c < lw_columns<D>::count; c++) {
                product = fmaf(x[c], y[c], product);
            }
            h.visible[i] = lw_attention_visible(call, block, query);
            warp_seen = h.visible[i] > warp_seen ? h.visible[i] : warp_seen;
            h.lse[i] = lse[at];
            h.delta[i] = lw_warp_sum(product);
            if (lane == 0) {
                delta[at] = h.delta[i];
            }
        }
    }
    const lw_head_rows<const T> key_rows = lw_key_rows(call, block, k, call.k_stride);
    const lw_head_rows<const T> value_rows = lw_key_rows(call, block, v, call.v_stride);
    for (int k0 = 0; k0 < seen; k0 += tile_rows) {
        const int n =
            lw_load_tiles<T, D, QUERY_THREADS>(key_rows, value_rows, k0, seen, call.vector != 0, keys, values);
        const int mine = warp_seen - k0 < n ? warp_seen - k0 : n;
        if (mine <= 0) {
            continue;
        }
        const float *my_queries = queries + warp * LW_HELD * stride, *my_d_out = d_out + warp * LW_HELD * stride;
        if (mine <= 32) {
            query_tile<D, 1>(my_queries, my_d_out, keys, values, k0, mine, h, call.scale, ds, sum);
        } else {
            query_tile<D, lw_tile<D>::per_lane>(my_queries, my_d_out, keys, values, k0, mine, h, call.scale, ds, sum);
        }
    }
    const lw_head_rows<T> dq_rows = lw_query_rows(call, block, dq, call.q_stride);
#pragma unroll
    for (int i = 0; i < LW_HELD; i++) {
        if (held + i < rows) {
            lw_store_columns<T, D>(sum[i], 1.0f, call.head_dim, call.vector != 0, dq_rows.at(held + i));
        }
    }
}

// --- dK and dV: four warps of four keys each, for every 32 rows of a tile of queries: with two, warps 0-3 take the
// first 32 rows, warps 4-7 the others, and their sums are added at the end.

#define KEY_QUADS 4
#define KEY_ROWS (KEY_QUADS * LW_HELD)

template <int D> struct key_block {
    enum { threads = lw_tile<D>::per_lane * KEY_QUADS * 32 };
};

template <int D> static size_t key_shared_bytes(void)
{
    typedef lw_tile<D> tile;
    return (size_t)((2 * KEY_ROWS + 2 * tile::rows) * tile::stride + 2 * KEY_ROWS * tile::scores_stride) *
           sizeof(float);
}

// Sums of the second half of the warps are handed to the first half through `shared` (2, KEY_ROWS, D).
template <int D>
__device__ __forceinline__ void join_halves(float *shared, float (&dk)[LW_HELD][lw_columns<D>::count],
                                            float (&dv)[LW_HELD][lw_columns<D>::count])
{
    const int warp = (int)(threadIdx.x / 32), lane = (int)(threadIdx.x % 32);
    float *mine = shared + (warp % KEY_QUADS) * 2 * LW_HELD * D + lane;
    __syncthreads(); // the last tile has been used
    if (warp >= KEY_QUADS) {
#pragma unroll
        for (int i = 0; i < LW_HELD; i++) {
#pragma unroll
            for (int c = 0; c < lw_columns<D>::count; c++) {
                mine[(2 * i) * D + 32 * c] = dk[i][c];
                mine[(2 * i + 1) * D + 32 * c] = dv[i][c];
            }
        }
    }
    __syncthreads();
    if (warp < KEY_QUADS) {
#pragma unroll
        for (int i = 0; i < LW_HELD; i++) {
#pragma unroll
            for (int c = 0; c < lw_columns<D>::count; c++) {
                dk[i][c] += mine[(2 * i) * D + 32 * c];
                dv[i][c] += mine[(2 * i + 1) * D + 32 * c];
            }
        }
    }
}

template <typename T, int D>
__global__ void __launch_bounds__(key_block<D>::threads, lw_tile<D>::blocks)
    attention_backward_keys(lw_attention_call call, const T *q, const T *k, const T *v, const T *d_o, const float *lse,
                            const float *delta, T *dk, T *dv)
{
    LW_DYNAMIC_SHARED(float, shared);
    const int stride = lw_tile<D>::stride, tile_rows = lw_tile<D>::rows;
    const int threads = key_block<D>::threads;
    float *keys = shared, *values = keys + KEY_ROWS * stride, *queries = values + KEY_ROWS * stride;
    float *d_out = queries + tile_rows * stride;
    const int warp = (int)(threadIdx.x / 32), lane = (int)(threadIdx.x % 32);
    const int quad = warp % KEY_QUADS, from = warp / KEY_QUADS * 32; // first of the 32 rows of a tile that it takes
    float *p = d_out + tile_rows * stride + quad * LW_HELD * lw_tile<D>::scores_stride + from;
    float *ds = p + KEY_ROWS * lw_tile<D>::scores_stride;

    const lw_attention_block block = lw_attention_block_of(call);
    const int k0 = block.tile * KEY_ROWS;
    if (k0 >= block.nk) {
        return;
    }
    const int keys_here = block.nk - k0 < KEY_ROWS ? block.nk - k0 : KEY_ROWS, held = k0 + quad * LW_HELD;
    lw_load_tile<T, D, threads>(lw_key_rows(call, block, k, call.k_stride), k0, keys_here, KEY_ROWS, call.vector != 0,
                                keys);
    lw_load_tile<T, D, threads>(lw_key_rows(call, block, v, call.v_stride), k0, keys_here, KEY_ROWS, call.vector != 0,
                                values);
    float sum_k[LW_HELD][lw_columns<D>::count], sum_v[LW_HELD][lw_columns<D>::count];
    lw_clear_columns<D>(sum_k);
    lw_clear_columns<D>(sum_v);
    const lw_head_rows<const T> query_rows = lw_query_rows(call, block, q, call.q_stride);
    const lw_head_rows<const T> d_out_rows = lw_query_rows(call, block, d_o, call.o_stride);
    const int rows = block.nq * call.group;
    const int first_query = call.causal && k0 > block.nk - block.nq ? k0 - (block.nk - block.nq) : 0;
    for (int r0 = first_query * call.group; r0 < rows; r0 += tile_rows) {
        const int n = lw_load_tiles<T, D, threads>(query_rows, d_out_rows, r0, rows, call.vector != 0, queries, d_out);
        const int mine = n - from < 32 ? n - from : 32;
        if (mine <= 0 || held >= block.nk) {
            continue;
        }
        const int row = r0 + from + lane;
        float row_lse = 0.0f, row_delta = 0.0f;
        int visible = 0;
        if (row < rows) {
            const int query = row / call.group, head = row % call.group;
            const int64_t at = (block.q0 + query) * call.q_heads + block.kv_head * call.group + head;
            visible = lw_attention_visible(call, block, query);
            row_lse = lse[at];
            row_delta = delta[at];
        }
        float score[LW_HELD][1], dp[LW_HELD][1];
        lw_dots<D, 1>(keys + quad * LW_HELD * stride, queries + from * stride, score);
        lw_dots<D, 1>(values + quad * LW_HELD * stride, d_out + from * stride, dp);
#pragma unroll
        for (int i = 0; i < LW_HELD; i++) {
            const bool sees = held + i < visible;
            const float weight = expf(fmaf(score[i][0], call.scale, -row_lse));
            p[i * lw_tile<D>::scores_stride + lane] = sees ? weight : 0.0f;
            ds[i * lw_tile<D>::scores_stride + lane] = sees ? weight * (dp[i][0] - row_delta) * call.scale : 0.0f;
        }
        __syncwarp();
        lw_weighted_rows<D>(p, d_out + from * stride, mine, sum_v);
        lw_weighted_rows<D>(ds, queries + from * stride, mine, sum_k);
    }
    if (lw_tile<D>::per_lane == 2) {
        join_halves<D>(queries, sum_k, sum_v);
    }
    const lw_head_rows<T> dk_rows = lw_key_rows(call, block, dk, call.k_stride);
    const lw_head_rows<T> dv_rows = lw_key_rows(call, block, dv, call.v_stride);
#pragma unroll
    for (int i = 0; i < LW_HELD; i++) {
        if (warp < KEY_QUADS && held + i < block.nk) {
            lw_store_columns<T, D>(sum_k[i], 1.0f, call.head_dim, call.vector != 0, dk_rows.at(held + i));
            lw_store_columns<T, D>(sum_v[i], 1.0f, call.head_dim, call.vector != 0, dv_rows.at(held + i));
        }
    }
}

// --- launching

template <typename T> struct backward_arguments {
    const T *q, *k, *v, *o, *d_o;
    const float *lse;
    float *delta;
    T *dq, *dk, *dv;
};

template <typename T, int D>
static void launch_queries(lw_device *dev, const lw_attention_call &call, const backward_arguments<T> &x)
{
    const size_t bytes = query_shared_bytes<D>();
    const void *kernel = reinterpret_cast<const void *>(attention_backward_queries<T, D>);
    if (lw_attention_allow(dev, "attention_backward", kernel, bytes)) {
        LW_LAUNCH((attention_backward_queries<T, D>), lw_attention_blocks(&call), QUERY_THREADS, bytes,
                  lw_cuda_of(dev)->stream, call, x.q, x.k, x.v, x.o, x.d_o, x.lse, x.delta, x.dq);
        (void)lw_cuda_launched(dev, "attention_backward");
    }
}

template <typename T, int D>
static void launch_keys(lw_device *dev, const lw_attention_call &call, const backward_arguments<T> &x)
{
    const size_t bytes = key_shared_bytes<D>();
    const void *kernel = reinterpret_cast<const void *>(attention_backward_keys<T, D>);
    if (lw_attention_allow(dev, "attention_backward", kernel, bytes)) {
        LW_LAUNCH((attention_backward_keys<T, D>), lw_attention_blocks(&call), key_block<D>::threads, bytes,
                  lw_cuda_of(dev)->stream, call, x.q, x.k, x.v, x.d_o, x.lse, x.delta, x.dk, x.dv);
        (void)lw_cuda_launched(dev, "attention_backward");
    }
}

template <typename T, int D>
static void backward_of(lw_device *dev, const lw_attention *a, const backward_arguments<T> &x)
{
    const bool aligned = lw_aligned16(x.q) && lw_aligned16(x.k) && lw_aligned16(x.v) && lw_aligned16(x.o) &&
                         lw_aligned16(x.d_o) && lw_aligned16(x.dq) && lw_aligned16(x.dk) && lw_aligned16(x.dv);
    const int64_t rows = a->kv_heads > 0 ? a->max_q * (a->q_heads / a->kv_heads) : 0;
    lw_attention_call call;
    if (lw_attention_prepare(dev, "attention_backward", a, aligned, rows, QUERY_ROWS, &call)) {
        launch_queries<T, D>(dev, call, x);
    }
    // Also without a query: the keys have gradient 0 then.
    if (lw_attention_prepare(dev, "attention_backward", a, aligned, a->max_k, KEY_ROWS, &call)) {
        launch_keys<T, D>(dev, call, x);
    }
}

template <typename T> static void backward(lw_device *dev, const lw_attention *a, const backward_arguments<T> &x)
{
    const int64_t d = a->head_dim;
    if (d <= 32) {
        backward_of<T, 32>(dev, a, x);
    } else if (d <= 64) {
        backward_of<T, 64>(dev, a, x);
    } else if (d <= 96) {
        backward_of<T, 96>(dev, a, x);
    } else if (d <= 128) {
        backward_of<T, 128>(dev, a, x);
    } else {
        backward_of<T, 256>(dev, a, x);
    }
}

size_t lw_cuda_attention_work_bytes(lw_device *dev, const lw_attention *a)
{
    (void)dev;
    return lw_gpu_attention_work_bytes(a);
}

void lw_cuda_attention_backward(lw_device *dev, const lw_attention *a, const void *d_o, void *dq, void *dk, void *dv)
{
    LW_FOR_TYPE(dev, "attention_backward", a->type, T, {
        const backward_arguments<T> x = {static_cast<const T *>(a->q),  static_cast<const T *>(a->k),
                                         static_cast<const T *>(a->v),  static_cast<const T *>(a->o),
                                         static_cast<const T *>(d_o),   a->lse,
                                         static_cast<float *>(a->work), static_cast<T *>(dq),
                                         static_cast<T *>(dk),          static_cast<T *>(dv)};
        backward<T>(dev, a, x);
    });
}
