// columns.cu: sums down the columns of a matrix: the gradients of biases and gains.
//
// In two stages: a block sums 32 columns of a chunk of rows, then a thread adds up the chunks of a column in their
// order. The chunks are a function of the shape alone, so the result is the same at every run and on every GPU.
#include "cuda_internal.cuh"

#define COLUMNS 32    // of a block
#define LINES 8       // rows that a block reads at a time
#define CHUNK_ROWS 64 // at least
#define MOST_CHUNKS 64

typedef struct column_sums {
    int64_t rows, n, chunk_rows;
    const float *dy;
    const float *x, *mean, *rstd; // of the rows that dy is multiplied with, normalised; x NULL: dy alone is summed
} column_sums;

// Sums the threads of a column over the lines of the block, in their order.
__device__ __forceinline__ float sum_lines(float x, float (*shared)[COLUMNS + 1])
{
    shared[threadIdx.y][threadIdx.x] = x;
    __syncthreads();
    float sum = 0.0f;
#pragma unroll
    for (int line = 0; line < LINES; line++) {
        sum += shared[line][threadIdx.x];
    }
    __syncthreads();
    return sum;
}

// to_y (n) and, where there is an x, to_x (n): of chunk blockIdx.y, `step` apart. add: instead of overwriting.
__global__ void __launch_bounds__(COLUMNS *LINES)
    column_chunks_kernel(column_sums s, bool add, int64_t step, float *to_y, float *to_x)
{
    __shared__ float shared[LINES][COLUMNS + 1];
    const int64_t column = (int64_t)blockIdx.x * COLUMNS + threadIdx.x;
    const int64_t first = (int64_t)blockIdx.y * s.chunk_rows;
    const int64_t end = first + s.chunk_rows < s.rows ? first + s.chunk_rows : s.rows;
    float y = 0.0f, x = 0.0f;
    if (column < s.n && s.x == NULL) {
#pragma unroll 4
        for (int64_t r = first + threadIdx.y; r < end; r += LINES) {
            y += s.dy[r * s.n + column];
        }
    } else if (column < s.n) {
#pragma unroll 4
        for (int64_t r = first + threadIdx.y; r < end; r += LINES) {
            const float dy = s.dy[r * s.n + column];
            y += dy;
            x = fmaf(dy, (s.x[r * s.n + column] - s.mean[r]) * s.rstd[r], x);
        }
    }
    y = sum_lines(y, shared);
    if (to_x != NULL) {
        x = sum_lines(x, shared);
    }
    if (threadIdx.y != 0 || column >= s.n) {
        return;
    }
    const int64_t at = (int64_t)blockIdx.y * step + column;
    to_y[at] = add ? to_y[at] + y : y;
    if (to_x != NULL) {
        to_x[at] = add ? to_x[at] + x : x;
    }
}

// out (n) += the chunks; blockIdx.y chooses one of two.
__global__ void __launch_bounds__(256) column_total_kernel(int64_t n, int chunks, int64_t step, const float *part_y,
                                                           const float *part_x, float *to_y, float *to_x)
{
    const int64_t column = (int64_t)blockIdx.x * 256 + threadIdx.x;
    const float *part = blockIdx.y == 0 ? part_y : part_x;
    float *out = blockIdx.y == 0 ? to_y : to_x;
    if (column >= n) {
        return;
    }
    float sum = 0.0f;
#pragma unroll 8
    for (int chunk = 0; chunk < chunks; chunk++) {
        sum += part[chunk * step + column];
    }
    out[column] += sum;
}

// outputs: 1, or 2 with an x.
static int64_t chunks_of(int64_t rows, int64_t n, int outputs)
{
    const int64_t wanted = (rows + CHUNK_ROWS - 1) / CHUNK_ROWS, room = LW_CUDA_PARTIALS / (outputs * n);
    const int64_t most = room < MOST_CHUNKS ? room : MOST_CHUNKS;
    const int64_t chunks = wanted < most ? wanted : most;
    return chunks < 1 ? 1 : chunks;
}

// to_y += sums of dy, to_x += sums of dy xhat.
static void add_columns(lw_device *dev, const char *op, column_sums s, float *to_y, float *to_x)
{
    lw_cuda *c = lw_cuda_of(dev);
    const int outputs = s.x == NULL ? 1 : 2;
    const int64_t chunks = chunks_of(s.rows, s.n, outputs);
    const dim3 grid((unsigned)((s.n + COLUMNS - 1) / COLUMNS), (unsigned)chunks), block(COLUMNS, LINES);
    s.chunk_rows = (s.rows + chunks - 1) / chunks;
    if (chunks == 1) {
        LW_LAUNCH(column_chunks_kernel, grid, block, 0, c->stream, s, true, s.n, to_y, to_x);
        (void)lw_cuda_launched(dev, op);
        return;
    }
    float *part_y = c->partial, *part_x = outputs == 2 ? c->partial + s.n : NULL;
    LW_LAUNCH(column_chunks_kernel, grid, block, 0, c->stream, s, false, outputs * s.n, part_y, part_x);
    if (lw_cuda_launched(dev, op)) {
        LW_LAUNCH(column_total_kernel, dim3((unsigned)((s.n + 255) / 256), (unsigned)outputs), 256, 0, c->stream, s.n,
                  (int)chunks, outputs * s.n, part_y, part_x, to_y, to_x);
        (void)lw_cuda_launched(dev, op);
    }
}

void lw_cuda_column_sum(lw_device *dev, int64_t rows, int64_t n, const float *dy, float *db)
{
    const column_sums s = {rows, n, 0, dy, NULL, NULL, NULL};
    if (rows > 0 && n > 0) {
        add_columns(dev, "column_sum", s, db, NULL);
    }
}

void lw_cuda_layernorm_columns(lw_device *dev, const lw_layernorm_backward_args *a)
{
    const column_sums s = {a->rows, a->d, 0, a->dy, a->x, a->mean, a->rstd};
    add_columns(dev, "layernorm_backward", s, a->db, a->dg);
}
