// attention.cuh: what the kernels of the forward and of the backward pass of attention share.
//
// The query heads that share a key head are rows of one matrix: row r of a sequence is query r / group in head
// r % group of that group, so that a block that has read a tile of keys uses it for all of them, and a step of
// generation has more than one row. A warp holds four rows of one matrix and meets tiles of 64 rows of another one, two
// a lane, in shared memory (32 rows where they are long); sums stay in registers.
#ifndef LW_ATTENTION_CUH
#define LW_ATTENTION_CUH

#include "cuda_internal.cuh"

#define LW_HELD 4 // rows that a warp holds
#define LW_MAX_HEAD_DIM 256

// Tiles of rows of head_dim padded to D. Floats between two rows: rows stay aligned to 16 bytes, and the 16-byte reads
// of eight lanes at one column of eight rows fall into different banks. `blocks` of them fit on a multiprocessor.
template <int D> struct lw_tile {
    enum {
        rows = D <= 128 ? 64 : 32,
        per_lane = rows / 32,
        stride = D + 4,
        scores_stride = rows + 4,
        blocks = D <= 128 ? 2 : 1
    };
};

// What a kernel needs to know, by value; lw_attention's words, and without gaps between them.
struct lw_attention_call {
    const int32_t *q_start, *k_start, *k_len;
    int64_t q_stride, k_stride, v_stride, o_stride;
    int sequences, kv_heads, q_heads, head_dim;
    int group; // query heads per key head
    int tiles; // blocks per sequence and key head
    int causal;
    float scale;
    int64_t vector; // not 0 where rows may be read and written 16 bytes at a time
};

// The part of the work that a block does.
struct lw_attention_block {
    int tile, kv_head;
    int64_t q0, k0; // first query row and key row of the sequence
    int nq, nk;
};

// Tiles are numbered slowest, so that those with the most work can come first.
__device__ __forceinline__ lw_attention_block lw_attention_block_of(const lw_attention_call &c)
{
    const unsigned kv_heads = (unsigned)c.kv_heads;
    const unsigned pairs = (unsigned)c.sequences * kv_heads;
    const unsigned pair = blockIdx.x % pairs;
    const unsigned sequence = pair / kv_heads;
    lw_attention_block b;
    b.tile = (int)(blockIdx.x / pairs);
    b.kv_head = (int)(pair % kv_heads);
    b.q0 = c.q_start[sequence];
    b.k0 = c.k_start[sequence];
    b.nq = c.q_start[sequence + 1] - c.q_start[sequence];
    b.nk = c.k_len[sequence];
    return b;
}

// Keys that a query of the block's sequence sees.
__device__ __forceinline__ int lw_attention_visible(const lw_attention_call &c, const lw_attention_block &b, int query)
{
    const int seen = c.causal ? b.nk - b.nq + query + 1 : b.nk;
    return seen < 0 ? 0 : seen < b.nk ? seen : b.nk;
}

// Rows of heads in global memory: the rows of a group of query heads, or of one key head (group 1).
template <typename T> struct lw_head_rows {
    T *base;
    int64_t stride; // between the rows of the packed matrix
    int group, head_dim;

    __device__ __forceinline__ T *at(int row) const
    {
        if (group == 1) { // spares the division
            return base + (int64_t)row * stride;
        }
        const int query = row / group;
        return base + (int64_t)query * stride + (row - query * group) * head_dim;
    }
};

template <typename T>
__device__ __forceinline__ lw_head_rows<T> lw_query_rows(const lw_attention_call &c, const lw_attention_block &b,
                                                         T *matrix, int64_t stride)
{
    const int d = c.head_dim;
    lw_head_rows<T> rows = {matrix + b.q0 * stride + (int64_t)b.kv_head * c.group * d, stride, c.group, d};
    return rows;
}

template <typename T>
__device__ __forceinline__ lw_head_rows<T> lw_key_rows(const lw_attention_call &c, const lw_attention_block &b,
                                                       T *matrix, int64_t stride)
{
    const int d = c.head_dim;
    lw_head_rows<T> rows = {matrix + b.k0 * stride + (int64_t)b.kv_head * d, stride, 1, d};
    return rows;
}

// Eight elements, of which the first `left` are there; zeros after them.
template <typename T> __device__ __forceinline__ void lw_load_eight(const T *p, int left, bool vector, float (&x)[8])
{
#pragma unroll
    for (int i = 0; i < 8; i++) {
        x[i] = 0.0f;
    }
    if (vector) {
        if (left > 0) {
            lw_load8(p, x);
        }
        return;
    }
#pragma unroll
    for (int i = 0; i < 8; i++) {
        if (i < left) {
            x[i] = lw_load(p + i);
        }
    }
}

// Rows [first, first + n) to shared memory in f32; zeros in the columns after head_dim and in the rows up to `fill`. A
// thread has several loads under way before it uses the first.
template <typename T, int D, int THREADS>
__device__ __forceinline__ void lw_load_tile(const lw_head_rows<const T> &in, int first, int n, int fill, bool vector,
                                             float *tile)
{
    const int chunks = D / 8, batch = 4;
    for (int base = (int)threadIdx.x; base < fill * chunks; base += batch * THREADS) {
        float x[batch][8];
#pragma unroll
        for (int u = 0; u < batch; u++) {
            const int at = base + u * THREADS, row = at / chunks, column = at % chunks * 8;
            lw_load_eight(in.at(first + (row < n ? row : 0)) + column, row < n ? in.head_dim - column : 0, vector,
                          x[u]);
        }
#pragma unroll
        for (int u = 0; u < batch; u++) {
            const int at = base + u * THREADS, row = at / chunks, column = at % chunks * 8;
            if (row < fill) {
                float4 *out = reinterpret_cast<float4 *>(tile + row * lw_tile<D>::stride + column);
                out[0] = make_float4(x[u][0], x[u][1], x[u][2], x[u][3]);
                out[1] = make_float4(x[u][4], x[u][5], x[u][6], x[u][7]);
            }
        }
    }
}

// The next tile of rows [first, end) of two matrices, of keys and values or of queries and their gradient: waits until
// the tile before has been used, and returns the number of rows when all threads may read them.
template <typename T, int D, int THREADS>
__device__ __forceinline__ int lw_load_tiles(const lw_head_rows<const T> &a, const lw_head_rows<const T> &b, int first,
                                             int end, bool vector, float *tile_a, float *tile_b)
{
    const int most = lw_tile<D>::rows;
    const int n = end - first < most ? end - first : most, fill = n <= 32 ? 32 : most;
    __syncthreads();
    lw_load_tile<T, D, THREADS>(a, first, n, fill, vector, tile_a);
    lw_load_tile<T, D, THREADS>(b, first, n, fill, vector, tile_b);
    __syncthreads();
    return n;
}

// s[i][j] = the product of held row i with row lane + 32 j of the tile.
template <int D, int J>
__device__ __forceinline__ void lw_dots(const float *held, const float *tile, float (&s)[LW_HELD][J])
{
    const int stride = lw_tile<D>::stride;
    const float *row = tile + (int)(threadIdx.x % 32) * stride;
#pragma unroll
    for (int i = 0; i < LW_HELD; i++) {
#pragma unroll
        for (int j = 0; j < J; j++) {
            s[i][j] = 0.0f;
        }
    }
#pragma unroll 2
    for (int c = 0; c < D; c += 4) {
        float4 x[LW_HELD];
#pragma unroll
        for (int i = 0; i < LW_HELD; i++) {
            x[i] = *reinterpret_cast<const float4 *>(held + i * stride + c);
        }
#pragma unroll
        for (int j = 0; j < J; j++) {
            const float4 y = *reinterpret_cast<const float4 *>(row + j * 32 * stride + c);
#pragma unroll
            for (int i = 0; i < LW_HELD; i++) {
                s[i][j] = fmaf(x[i].x, y.x, s[i][j]);
                s[i][j] = fmaf(x[i].y, y.y, s[i][j]);
                s[i][j] = fmaf(x[i].z, y.z, s[i][j]);
                s[i][j] = fmaf(x[i].w, y.w, s[i][j]);
            }
        }
    }
}

// The columns that a lane sums: `width` neighbours at a time, so that a warp reads whole rows.
template <int D> struct lw_columns {
    enum { width = D % 128 == 0 ? 4 : D % 64 == 0 ? 2 : 1, count = D / 32, runs = D / 32 / width };

    static __device__ __forceinline__ int first(int run)
    {
        return (run * 32 + (int)(threadIdx.x % 32)) * width;
    }
};

// sum[i][] += the first n weights of held row i times the rows of the tile. Rows up to the next multiple of four are
// read: their weights are 0 and they hold finite numbers.
template <int D>
__device__ __forceinline__ void lw_weighted_rows(const float *weights, const float *tile, int n,
                                                 float (&sum)[LW_HELD][lw_columns<D>::count])
{
    typedef lw_columns<D> columns;
    const int stride = lw_tile<D>::stride;
    for (int k = 0; k < n; k += 4) {
        float w[LW_HELD][4];
#pragma unroll
        for (int i = 0; i < LW_HELD; i++) {
            lw_load4(weights + i * lw_tile<D>::scores_stride + k, w[i]);
        }
#pragma unroll
        for (int t = 0; t < 4; t++) {
#pragma unroll
            for (int run = 0; run < columns::runs; run++) {
                float x[columns::width];
                lw_load_vector<columns::width>(tile + (k + t) * stride + columns::first(run), x);
#pragma unroll
                for (int i = 0; i < LW_HELD; i++) {
#pragma unroll
                    for (int c = 0; c < columns::width; c++) {
                        float *s = &sum[i][run * columns::width + c];
                        *s = fmaf(w[i][t], x[c], *s);
                    }
                }
            }
        }
    }
}

// A lane's columns of a row of head_dim elements, from and to global memory; zeros where there are none.
template <typename T, int D>
__device__ __forceinline__ void lw_load_columns(const T *row, int head_dim, bool vector,
                                                float (&x)[lw_columns<D>::count])
{
    typedef lw_columns<D> columns;
#pragma unroll
    for (int run = 0; run < columns::runs; run++) {
        const int first = columns::first(run);
        float part[columns::width];
        if (vector && first < head_dim) {
            lw_load_vector<columns::width>(row + first, part);
        } else {
#pragma unroll
            for (int c = 0; c < columns::width; c++) {
                part[c] = first + c < head_dim ? lw_load(row + first + c) : 0.0f;
            }
        }
#pragma unroll
        for (int c = 0; c < columns::width; c++) {
            x[run * columns::width + c] = part[c];
        }
    }
}

template <typename T, int D>
__device__ __forceinline__ void lw_store_columns(const float (&x)[lw_columns<D>::count], float factor, int head_dim,
                                                 bool vector, T *row)
{
    typedef lw_columns<D> columns;
#pragma unroll
    for (int run = 0; run < columns::runs; run++) {
        const int first = columns::first(run);
        float part[columns::width];
#pragma unroll
        for (int c = 0; c < columns::width; c++) {
            part[c] = x[run * columns::width + c] * factor;
        }
        if (vector && first < head_dim) {
            lw_store_vector<columns::width>(row + first, part);
        } else {
#pragma unroll
            for (int c = 0; c < columns::width; c++) {
                if (first + c < head_dim) {
                    lw_store(row + first + c, part[c]);
                }
            }
        }
    }
}

template <int D> __device__ __forceinline__ void lw_clear_columns(float (&x)[LW_HELD][lw_columns<D>::count])
{
#pragma unroll
    for (int i = 0; i < LW_HELD; i++) {
#pragma unroll
        for (int c = 0; c < lw_columns<D>::count; c++) {
            x[i][c] = 0.0f;
        }
    }
}

// --- launching

static inline bool lw_attention_vector(const lw_attention *a)
{
    return a->head_dim % 8 == 0 && a->q_stride % 8 == 0 && a->k_stride % 8 == 0 && a->v_stride % 8 == 0 &&
           a->o_stride % 8 == 0;
}

// A call with a block for every `rows_per_block` of `rows` rows of every sequence and key head. False, with the error
// remembered, for what the kernels do not do; false when there is nothing to do.
static inline bool lw_attention_prepare(lw_device *dev, const char *op, const lw_attention *a, bool aligned,
                                        int64_t rows, int64_t rows_per_block, lw_attention_call *out)
{
    if (a->sequences <= 0 || a->kv_heads <= 0 || a->q_heads <= 0 || a->head_dim <= 0 || rows <= 0) {
        return false;
    }
    if (a->head_dim > LW_MAX_HEAD_DIM || a->q_heads % a->kv_heads != 0) {
        lw_cuda_fail(dev, "cuda: %s does not take %lld query heads, %lld key heads of size %lld (at most %d)", op,
                     (long long)a->q_heads, (long long)a->kv_heads, (long long)a->head_dim, LW_MAX_HEAD_DIM);
        return false;
    }
    const int64_t tiles = (rows + rows_per_block - 1) / rows_per_block;
    if (!lw_cuda_rows_fit(dev, op, tiles * a->sequences * a->kv_heads)) {
        return false;
    }
    out->q_start = a->q_start;
    out->k_start = a->k_start;
    out->k_len = a->k_len;
    out->q_stride = a->q_stride;
    out->k_stride = a->k_stride;
    out->v_stride = a->v_stride;
    out->o_stride = a->o_stride;
    out->sequences = (int)a->sequences;
    out->kv_heads = (int)a->kv_heads;
    out->q_heads = (int)a->q_heads;
    out->head_dim = (int)a->head_dim;
    out->group = (int)(a->q_heads / a->kv_heads);
    out->tiles = (int)tiles;
    out->causal = a->causal ? 1 : 0;
    out->scale = a->scale;
    out->vector = aligned && lw_attention_vector(a) ? 1 : 0;
    return true;
}

static inline unsigned lw_attention_blocks(const lw_attention_call *c)
{
    return (unsigned)c->tiles * (unsigned)c->sequences * (unsigned)c->kv_heads;
}

// More than 48 KB of dynamic shared memory must be asked for.
static inline bool lw_attention_allow(lw_device *dev, const char *op, const void *kernel, size_t shared_bytes)
{
    const lw_cuda_info *info = &lw_cuda_of(dev)->info;
    if (shared_bytes > info->block_bytes) {
        lw_cuda_fail(dev,
                     "cuda: %s needs %zu KiB of shared memory for heads of this width, and %s (sm_%d%d) has %zu: use a "
                     "GPU of sm_80 or of sm_90 and later, or device = \"cpu\"",
                     op, shared_bytes / 1024, info->name, info->major, info->minor, info->block_bytes / 1024);
        return false;
    }
    return shared_bytes <= 48 * 1024 ||
           lw_cuda_check(dev, op,
                         cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes));
}

#endif
