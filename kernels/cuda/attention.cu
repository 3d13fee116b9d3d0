// attention.cu: multi-head attention, forward.
//
// Tiles of keys with a running maximum and sum (Dao et al. 2022, algorithm 1). Two kernels: one for tiles of queries,
// and one for the few queries of a step of generation, where the warps of a block share out the keys.
#include "attention.cuh"

// --- tiles of queries

#define FORWARD_WARPS 8
#define FORWARD_ROWS (FORWARD_WARPS * LW_HELD)
#define FORWARD_THREADS (FORWARD_WARPS * 32)

template <int D> static size_t forward_shared_bytes(void)
{
    typedef lw_tile<D> tile;
    return (size_t)((FORWARD_ROWS + 2 * tile::rows) * tile::stride + FORWARD_ROWS * tile::scores_stride) *
           sizeof(float);
}

// The scores of one held row against the tile -> exp(score - largest), in shared memory; a lane has columns lane and
// lane + 32, and its own part of the sum. Returns the factor by which what was summed before shrinks.
template <int J>
__device__ __forceinline__ float softmax_row(const float (&score)[J], int visible, float scale, float *largest,
                                             float *sum, float *weights)
{
    const int lane = (int)(threadIdx.x % 32);
    float s[J], tile_largest = -INFINITY;
#pragma unroll
    for (int j = 0; j < J; j++) {
        s[j] = lane + 32 * j < visible ? score[j] * scale : -INFINITY;
        tile_largest = fmaxf(tile_largest, s[j]);
    }
    const float now = fmaxf(*largest, lw_warp_max(tile_largest));
    const float base = now == -INFINITY ? 0.0f : now; // no key seen so far
    const float shrink = expf(*largest - base);
    float total = *sum * shrink;
#pragma unroll
    for (int j = 0; j < J; j++) {
        const float weight = expf(s[j] - base);
        weights[lane + 32 * j] = weight;
        total += weight;
    }
    *largest = now;
    *sum = total;
    return shrink;
}

template <int D, int J>
__device__ __forceinline__ void forward_tile(const float *held, const float *keys, const float *values, int n,
                                             const int (&visible)[LW_HELD], float scale, float (&largest)[LW_HELD],
                                             float (&sum)[LW_HELD], float *weights,
                                             float (&out)[LW_HELD][lw_columns<D>::count])
{
    float score[LW_HELD][J];
    lw_dots<D, J>(held, keys, score);
#pragma unroll
    for (int i = 0; i < LW_HELD; i++) {
        const float shrink =
            softmax_row<J>(score[i], visible[i], scale, &largest[i], &sum[i], weights + i * lw_tile<D>::scores_stride);
#pragma unroll
        for (int c = 0; c < lw_columns<D>::count; c++) {
            out[i][c] *= shrink;
        }
    }
    __syncwarp();
    lw_weighted_rows<D>(weights, values, n, out);
}

template <typename T, int D>
__global__ void __launch_bounds__(FORWARD_THREADS, lw_tile<D>::blocks)
    attention_tiles(lw_attention_call call, const T *q, const T *k, const T *v, T *o, float *lse)
{
    LW_DYNAMIC_SHARED(float, shared);
    const int stride = lw_tile<D>::stride, tile_rows = lw_tile<D>::rows;
    float *queries = shared, *keys = queries + FORWARD_ROWS * stride, *values = keys + tile_rows * stride;
    const int warp = (int)(threadIdx.x / 32), lane = (int)(threadIdx.x % 32);
    float *weights = values + tile_rows * stride + warp * LW_HELD * lw_tile<D>::scores_stride;

    lw_attention_block block = lw_attention_block_of(call);
    const int rows = block.nq * call.group;
    const int first = (call.tiles - 1 - block.tile) * FORWARD_ROWS; // the last queries see the most keys
    if (first >= rows) {
        return;
    }
    const int last = first + FORWARD_ROWS < rows ? first + FORWARD_ROWS - 1 : rows - 1;
    const int seen = lw_attention_visible(call, block, last / call.group);
    const int held = first + warp * LW_HELD;
    int visible[LW_HELD], warp_seen = 0;
    float largest[LW_HELD], sum[LW_HELD], out[LW_HELD][lw_columns<D>::count];
    lw_clear_columns<D>(out);
#pragma unroll
    for (int i = 0; i < LW_HELD; i++) {
        visible[i] = held + i < rows ? lw_attention_visible(call, block, (held + i) / call.group) : 0;
        warp_seen = visible[i] > warp_seen ? visible[i] : warp_seen;
        largest[i] = -INFINITY;
        sum[i] = 0.0f;
    }
    lw_load_tile<T, D, FORWARD_THREADS>(lw_query_rows(call, block, q, call.q_stride), first, last + 1 - first,
                                        FORWARD_ROWS, call.vector != 0, queries);
    const lw_head_rows<const T> key_rows = lw_key_rows(call, block, k, call.k_stride);
    const lw_head_rows<const T> value_rows = lw_key_rows(call, block, v, call.v_stride);
    for (int k0 = 0; k0 < seen; k0 += tile_rows) {
        const int n =
            lw_load_tiles<T, D, FORWARD_THREADS>(key_rows, value_rows, k0, seen, call.vector != 0, keys, values);
        const int mine = warp_seen - k0 < n ? warp_seen - k0 : n;
        if (mine <= 0) {
            continue;
        }
        int left[LW_HELD];
#pragma unroll
        for (int i = 0; i < LW_HELD; i++) {
            left[i] = visible[i] - k0;
        }
        const float *mine_queries = queries + warp * LW_HELD * stride;
        if (mine <= 32) {
            forward_tile<D, 1>(mine_queries, keys, values, mine, left, call.scale, largest, sum, weights, out);
        } else {
            forward_tile<D, lw_tile<D>::per_lane>(mine_queries, keys, values, mine, left, call.scale, largest, sum,
                                                  weights, out);
        }
    }
    const lw_head_rows<T> out_rows = lw_query_rows(call, block, o, call.o_stride);
#pragma unroll
    for (int i = 0; i < LW_HELD; i++) {
        if (held + i < rows) {
            const int query = (held + i) / call.group, head = (held + i) % call.group;
            const float total = lw_warp_sum(sum[i]);
            const float factor = visible[i] > 0 ? 1.0f / total : 0.0f;
            lw_store_columns<T, D>(out[i], factor, call.head_dim, call.vector != 0, out_rows.at(held + i));
            if (lse != NULL && lane == 0) {
                lse[(block.q0 + query) * call.q_heads + block.kv_head * call.group + head] =
                    visible[i] > 0 ? largest[i] + logf(total) : -INFINITY;
            }
        }
    }
}

// --- few queries

#define FEW_WARPS 8
#define FEW_THREADS (FEW_WARPS * 32)

template <int D, int ROWS> static size_t few_shared_bytes(void)
{
    return (size_t)(FEW_WARPS * ROWS * (D + 2)) * sizeof(float);
}

// What a lane has of ROWS rows: eight columns, of the keys that its part of the warp has read.
template <int ROWS> struct few_state {
    float largest[ROWS], sum[ROWS], out[ROWS][8];
};

// N keys of a part of the warp (D / 8 lanes, eight columns each): the first is key `j`, the next ones are `step` apart.
template <typename T, int D, int ROWS, int N>
__device__ __forceinline__ void few_keys(const lw_head_rows<const T> &k, const lw_head_rows<const T> &v, int j,
                                         int step, int seen, int column, bool vector, const float (&q)[ROWS][8],
                                         const int (&visible)[ROWS], few_state<ROWS> *state)
{
    float key[N][8], value[N][8];
#pragma unroll
    for (int u = 0; u < N; u++) {
        const int left = j + u * step < seen ? k.head_dim - column : 0;
        const int row = left > 0 ? j + u * step : 0, at = left > 0 ? column : 0;
        lw_load_eight(k.at(row) + at, left, vector, key[u]);
        lw_load_eight(v.at(row) + at, left, vector, value[u]);
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        float score[N], now = state->largest[r];
#pragma unroll
        for (int u = 0; u < N; u++) {
            float s = 0.0f;
#pragma unroll
            for (int e = 0; e < 8; e++) {
                s = fmaf(q[r][e], key[u][e], s);
            }
#pragma unroll
            for (int offset = D / 16; offset > 0; offset /= 2) {
                s += __shfl_xor_sync(0xffffffffu, s, offset);
            }
            score[u] = j + u * step < visible[r] ? s : -INFINITY;
            now = fmaxf(now, score[u]);
        }
        const float base = now == -INFINITY ? 0.0f : now;
        const float shrink = expf(state->largest[r] - base);
        state->largest[r] = now;
        state->sum[r] *= shrink;
#pragma unroll
        for (int e = 0; e < 8; e++) {
            state->out[r][e] *= shrink;
        }
#pragma unroll
        for (int u = 0; u < N; u++) {
            const float weight = expf(score[u] - base);
            state->sum[r] += weight;
#pragma unroll
            for (int e = 0; e < 8; e++) {
                state->out[r][e] = fmaf(weight, value[u][e], state->out[r][e]);
            }
        }
    }
}

// Joins the parts of a warp; afterwards every part holds the same.
template <int D, int ROWS> __device__ __forceinline__ void few_join_parts(few_state<ROWS> *state)
{
#pragma unroll
    for (int offset = D / 8; offset < 32; offset *= 2) {
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const float other = __shfl_xor_sync(0xffffffffu, state->largest[r], offset);
            const float now = fmaxf(state->largest[r], other);
            const float shrink = expf(state->largest[r] - (now == -INFINITY ? 0.0f : now));
            state->largest[r] = now;
            state->sum[r] *= shrink;
            state->sum[r] += __shfl_xor_sync(0xffffffffu, state->sum[r], offset);
#pragma unroll
            for (int e = 0; e < 8; e++) {
                const float mine = state->out[r][e] * shrink;
                state->out[r][e] = mine + __shfl_xor_sync(0xffffffffu, mine, offset);
            }
        }
    }
}

// Joins the warps through shared memory: `part` (FEW_WARPS, ROWS, D), `largest` and `sum` (FEW_WARPS, ROWS).
template <typename T, int D, int ROWS>
__device__ __forceinline__ void few_finish(const lw_attention_call &call, const lw_attention_block &block, int first,
                                           const float *part, const float *largest, const float *sum, T *o, float *lse)
{
    const lw_head_rows<T> out_rows = lw_query_rows(call, block, o, call.o_stride);
    for (int at = (int)threadIdx.x; at < ROWS * D; at += FEW_THREADS) {
        const int r = at / D, column = at % D, row = first + r;
        if (row >= block.nq * call.group || column >= call.head_dim) {
            continue;
        }
        float now = -INFINITY, total = 0.0f, out = 0.0f;
        for (int w = 0; w < FEW_WARPS; w++) {
            now = fmaxf(now, largest[w * ROWS + r]);
        }
        const float base = now == -INFINITY ? 0.0f : now;
        for (int w = 0; w < FEW_WARPS; w++) {
            const float shrink = expf(largest[w * ROWS + r] - base);
            total += sum[w * ROWS + r] * shrink;
            out += part[(w * ROWS + r) * D + column] * shrink;
        }
        const int query = row / call.group;
        const bool any = lw_attention_visible(call, block, query) > 0;
        lw_store(out_rows.at(row) + column, any ? out / total : 0.0f);
        if (lse != NULL && column == 0) {
            lse[(block.q0 + query) * call.q_heads + block.kv_head * call.group + row % call.group] =
                any ? now + logf(total) : -INFINITY;
        }
    }
}

template <typename T, int D, int ROWS>
__global__ void __launch_bounds__(FEW_THREADS, 1)
    attention_few(lw_attention_call call, const T *q, const T *k, const T *v, T *o, float *lse)
{
    const int lanes = D / 8, parts = 32 / lanes, keys = ROWS <= 4 ? 4 : 2; // keys of a part at a time
    LW_DYNAMIC_SHARED(float, shared);
    float *part = shared, *largest = part + FEW_WARPS * ROWS * D, *sum = largest + FEW_WARPS * ROWS;
    const int warp = (int)(threadIdx.x / 32), lane = (int)(threadIdx.x % 32), column = lane % lanes * 8;
    lw_attention_block block = lw_attention_block_of(call);
    const int rows = block.nq * call.group, first = block.tile * ROWS;
    if (first >= rows) {
        return;
    }
    const lw_head_rows<const T> query_rows = lw_query_rows(call, block, q, call.q_stride);
    const lw_head_rows<const T> key_rows = lw_key_rows(call, block, k, call.k_stride);
    const lw_head_rows<const T> value_rows = lw_key_rows(call, block, v, call.v_stride);
    float x[ROWS][8];
    int visible[ROWS], seen = 0;
    few_state<ROWS> state;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const bool there = first + r < rows;
        const int left = there ? query_rows.head_dim - column : 0;
        lw_load_eight(left > 0 ? query_rows.at(first + r) + column : q, left, call.vector != 0, x[r]);
        visible[r] = there ? lw_attention_visible(call, block, (first + r) / call.group) : 0;
        seen = visible[r] > seen ? visible[r] : seen;
        state.largest[r] = -INFINITY;
        state.sum[r] = 0.0f;
#pragma unroll
        for (int e = 0; e < 8; e++) {
            x[r][e] *= call.scale;
            state.out[r][e] = 0.0f;
        }
    }
    for (int j = warp * parts * keys; j < seen; j += FEW_WARPS * parts * keys) {
        few_keys<T, D, ROWS, keys>(key_rows, value_rows, j + lane / lanes, parts, seen, column, call.vector != 0, x,
                                   visible, &state);
    }
    few_join_parts<D, ROWS>(&state);
    if (lane < lanes) {
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            float4 *to = reinterpret_cast<float4 *>(part + (warp * ROWS + r) * D + column);
            to[0] = make_float4(state.out[r][0], state.out[r][1], state.out[r][2], state.out[r][3]);
            to[1] = make_float4(state.out[r][4], state.out[r][5], state.out[r][6], state.out[r][7]);
            if (lane == 0) {
                largest[warp * ROWS + r] = state.largest[r];
                sum[warp * ROWS + r] = state.sum[r];
            }
        }
    }
    __syncthreads();
    few_finish<T, D, ROWS>(call, block, first, part, largest, sum, o, lse);
}

// --- launching

template <typename T> struct forward_arguments {
    const T *q, *k, *v;
    T *o;
    float *lse;
};

template <typename T, int D>
static void launch_tiles(lw_device *dev, const lw_attention_call &call, const forward_arguments<T> &x)
{
    const size_t bytes = forward_shared_bytes<D>();
    if (lw_attention_allow(dev, "attention", reinterpret_cast<const void *>(attention_tiles<T, D>), bytes)) {
        LW_LAUNCH((attention_tiles<T, D>), lw_attention_blocks(&call), FORWARD_THREADS, bytes, lw_cuda_of(dev)->stream,
                  call, x.q, x.k, x.v, x.o, x.lse);
        (void)lw_cuda_launched(dev, "attention");
    }
}

template <typename T, int D, int ROWS>
static void launch_few(lw_device *dev, const lw_attention_call &call, const forward_arguments<T> &x)
{
    const size_t bytes = few_shared_bytes<D, ROWS>();
    if (lw_attention_allow(dev, "attention", reinterpret_cast<const void *>(attention_few<T, D, ROWS>), bytes)) {
        LW_LAUNCH((attention_few<T, D, ROWS>), lw_attention_blocks(&call), FEW_THREADS, bytes, lw_cuda_of(dev)->stream,
                  call, x.q, x.k, x.v, x.o, x.lse);
        (void)lw_cuda_launched(dev, "attention");
    }
}

template <typename T>
static void forward_tiles(lw_device *dev, const lw_attention_call &call, const forward_arguments<T> &x)
{
    const int d = call.head_dim;
    if (d <= 32) {
        launch_tiles<T, 32>(dev, call, x);
    } else if (d <= 64) {
        launch_tiles<T, 64>(dev, call, x);
    } else if (d <= 96) {
        launch_tiles<T, 96>(dev, call, x);
    } else if (d <= 128) {
        launch_tiles<T, 128>(dev, call, x);
    } else {
        launch_tiles<T, 256>(dev, call, x);
    }
}

template <typename T, int ROWS>
static void forward_few(lw_device *dev, const lw_attention_call &call, const forward_arguments<T> &x)
{
    const int d = call.head_dim;
    if (d <= 32) {
        launch_few<T, 32, ROWS>(dev, call, x);
    } else if (d <= 64) {
        launch_few<T, 64, ROWS>(dev, call, x);
    } else if (d <= 128) {
        launch_few<T, 128, ROWS>(dev, call, x);
    } else {
        launch_few<T, 256, ROWS>(dev, call, x);
    }
}

// The rows of a sequence and key head up to which the warps of a block share out the keys.
#define FEW_MOST 16

template <typename T> static void forward(lw_device *dev, const lw_attention *a, const forward_arguments<T> &x)
{
    const bool aligned = lw_aligned16(x.q) && lw_aligned16(x.k) && lw_aligned16(x.v) && lw_aligned16(x.o);
    const int64_t rows = a->kv_heads > 0 ? a->max_q * (a->q_heads / a->kv_heads) : 0;
    const int64_t per_block = rows <= 4 ? 4 : rows <= FEW_MOST ? 8 : FORWARD_ROWS;
    lw_attention_call call;
    if (!lw_attention_prepare(dev, "attention", a, aligned, rows, per_block, &call)) {
        return;
    }
    if (rows <= 4) {
        forward_few<T, 4>(dev, call, x);
    } else if (rows <= FEW_MOST) {
        forward_few<T, 8>(dev, call, x);
    } else {
        forward_tiles<T>(dev, call, x);
    }
}

// The work space is for the backward pass alone.
void lw_cuda_attention(lw_device *dev, const lw_attention *a)
{
    LW_FOR_TYPE(dev, "attention", a->type, T, {
        const forward_arguments<T> x = {static_cast<const T *>(a->q), static_cast<const T *>(a->k),
                                        static_cast<const T *>(a->v), static_cast<T *>(a->o), a->lse};
        forward<T>(dev, a, x);
    });
}
