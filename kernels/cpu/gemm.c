// gemm.c: products, by OpenBLAS.
//
// C is cut into a grid of blocks, one per thread, and every block is one single-threaded call of OpenBLAS: the
// threads are OpenMP's in all operators, so that two pools never compete for the cores, and the cut (hence the result)
// depends on the shape and the thread count alone.
#include <cblas.h>
#include <limits.h>

#include "cpu.h"
#include "simd.h"

// Multiplications below which a product stays on one thread.
#define GEMM_GRAIN 262144

static bool sizes_fit(const lw_gemm *g)
{
    const int64_t sizes[] = {g->m, g->n, g->k, g->lda, g->ldb, g->ldc};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (sizes[i] < 0 || sizes[i] > INT_MAX) {
            return false;
        }
    }
    return true;
}

// C rows [r0, r1), columns [c0, c1): C_in scaled by beta (not read when 0), plus the bias.
static void prepare_block(const lw_gemm *g, int64_t r0, int64_t r1, int64_t c0, int64_t c1)
{
    for (int64_t r = r0; r < r1; r++) {
        float *c = (float *)g->c + r * g->ldc;
        const float *in = g->c_in == NULL ? c : (const float *)g->c_in + r * g->ldc;
        for (int64_t j = c0; j < c1; j++) {
            float old = g->beta == 0.0f ? 0.0f : g->beta * in[j];
            c[j] = g->bias == NULL ? old : old + g->bias[j];
        }
    }
}

static void product_block(const lw_gemm *g, int64_t r0, int64_t r1, int64_t c0, int64_t c1)
{
    if (r0 >= r1 || c0 >= c1) {
        return;
    }
    float beta = g->beta;
    if (g->bias != NULL || g->c_in != NULL || g->k == 0) {
        // The bias goes in first: OpenBLAS clears C in a pass of its own when beta is 0, so this costs no more.
        prepare_block(g, r0, r1, c0, c1);
        beta = 1.0f;
    }
    if (g->k == 0) {
        return;
    }
    const float *a = (const float *)g->a + (g->trans_a ? r0 : r0 * g->lda);
    const float *b = (const float *)g->b + (g->trans_b ? c0 * g->ldb : c0);
    float *c = (float *)g->c + r0 * g->ldc + c0;
    int m = (int)(r1 - r0), n = (int)(c1 - c0), k = (int)g->k;
    if (m == 1) { // a step of generation: no packing of B, which would cost as much as the product
        int step = g->trans_a ? (int)g->lda : 1;
        if (g->trans_b) {
            cblas_sgemv(CblasRowMajor, CblasNoTrans, n, k, g->alpha, b, (int)g->ldb, a, step, beta, c, 1);
        } else {
            cblas_sgemv(CblasRowMajor, CblasTrans, k, n, g->alpha, b, (int)g->ldb, a, step, beta, c, 1);
        }
        return;
    }
    cblas_sgemm(CblasRowMajor, g->trans_a ? CblasTrans : CblasNoTrans, g->trans_b ? CblasTrans : CblasNoTrans, m, n, k,
                g->alpha, a, (int)g->lda, b, (int)g->ldb, beta, c, (int)g->ldc);
}

// The rows of blocks of the grid: the divisor of `threads` whose blocks have the shortest edges, since the packing of
// a block's operands grows with its edges.
static int grid_rows(int64_t m, int64_t n, int threads)
{
    int best = 1;
    double best_edges = -1.0;
    for (int rows = 1; rows <= threads; rows++) {
        if (threads % rows != 0 || (rows > m && rows > 1)) {
            continue;
        }
        double edges = (double)m / rows + (double)n / (threads / rows); // NOLINT: whole grid columns
        if (best_edges < 0.0 || edges < best_edges) {
            best = rows;
            best_edges = edges;
        }
    }
    return best;
}

// Block boundaries in steps of 16, the height of OpenBLAS's panels.
static int64_t cut(int64_t size, int parts, int part)
{
    int64_t panels = (size + 15) / 16;
    return lw_min_i64(size, panels * part / parts * 16);
}

void LW_CPU(gemm)(lw_device *dev, const lw_gemm *g)
{
    if (g->m <= 0 || g->n <= 0) {
        return;
    }
    if (!lw_cpu_is_f32(dev, "gemm", g->ab_type) || !lw_cpu_is_f32(dev, "gemm", g->c_type)) {
        return;
    }
    if (!sizes_fit(g)) {
        lw_cpu_fail(dev, "cpu: gemm of %lld x %lld x %lld: a size is beyond the 32-bit sizes of OpenBLAS",
                    (long long)g->m, (long long)g->n, (long long)g->k);
        return;
    }
    int threads = ((const lw_cpu *)dev)->threads;
    if (threads == 1 || (double)g->m * (double)g->n * (double)g->k < GEMM_GRAIN) {
        product_block(g, 0, g->m, 0, g->n);
        return;
    }
    int rows = grid_rows(g->m, g->n, threads);
    int columns = threads / rows;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int block = 0; block < threads; block++) {
        int r = block / columns, c = block % columns;
        product_block(g, cut(g->m, rows, r), cut(g->m, rows, r + 1), cut(g->n, columns, c), cut(g->n, columns, c + 1));
    }
}
