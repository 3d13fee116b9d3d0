// micro.h: small dense products for attention.
//
// C (m,n) [+]= A (m,k) B (k,n): A by any two strides (so that it may be transposed), B and C row-major. m is at most
// LW_MICRO_ROWS, so C is one strip; its columns are taken in blocks of up to three vectors, and a block of C stays in
// registers while k runs. OpenBLAS packs both operands first, which at k of 24 to 128 costs a good part of the product.
#ifndef LW_MICRO_H
#define LW_MICRO_H

#include <stdbool.h>

#include "simd.h"

#if LW_VL == 16
#define LW_MICRO_ROWS 8 // 24 accumulators of 32 registers
#else
#define LW_MICRO_ROWS 4 // 12 of 16
#endif

typedef struct lw_micro {
    int64_t n, k;
    const float *a;
    int64_t a_row, a_column; // strides of A
    const float *b;
    int64_t ldb;
    float *c;
    int64_t ldc;
    bool accumulate;
} lw_micro;

// The block of C is in registers only if every index into it is a constant: these loops must be unrolled whole.
#if defined(__clang__)
#define LW_UNROLL _Pragma("clang loop unroll(full)")
#else
#define LW_UNROLL _Pragma("GCC unroll 8")
#endif

// One block: `rows` and `vectors` are constants where this is inlined. Columns [j, j + vectors * LW_VL), the last
// vector with `lanes` lanes. Rows from m up repeat row m - 1 and are not stored.
LW_INLINE void lw_micro_block(const lw_micro *g, int m, int64_t j, int rows, int vectors, int lanes)
{
    lw_vf sum[LW_MICRO_ROWS][3];
    const float *a[LW_MICRO_ROWS];
    LW_UNROLL
    for (int i = 0; i < rows; i++) {
        a[i] = g->a + (i < m ? i : m - 1) * g->a_row;
        LW_UNROLL
        for (int v = 0; v < vectors; v++) {
            sum[i][v] = lw_vset(0.0f);
        }
    }
    const float *b = g->b + j;
    const int64_t a_column = g->a_column, ldb = g->ldb;
    for (int64_t k = g->k, at = 0; k > 0; k--, at += a_column, b += ldb) {
        lw_vf row[3];
        LW_UNROLL
        for (int v = 0; v < vectors; v++) {
            row[v] = lw_load(b + v * LW_VL, v == vectors - 1 ? lanes : LW_VL);
        }
        LW_UNROLL
        for (int i = 0; i < rows; i++) {
            const lw_vf factor = lw_vset(a[i][at]);
            LW_UNROLL
            for (int v = 0; v < vectors; v++) {
                sum[i][v] = lw_vfma(factor, row[v], sum[i][v]);
            }
        }
    }
    const bool accumulate = g->accumulate;
    float *c = g->c + j;
    LW_UNROLL
    for (int i = 0; i < rows; i++) {
        LW_UNROLL
        for (int v = 0; v < vectors; v++) {
            const int used = v == vectors - 1 ? lanes : LW_VL;
            if (i < m) {
                lw_vf old = accumulate ? lw_load(c + i * g->ldc + v * LW_VL, used) : lw_vset(0.0f);
                lw_store(c + i * g->ldc + v * LW_VL, old + sum[i][v], used);
            }
        }
    }
}

#define LW_MICRO_CASE(rows, vectors)                       \
    do {                                                   \
        if (lanes == LW_VL) {                              \
            lw_micro_block(g, m, j, rows, vectors, LW_VL); \
        } else {                                           \
            lw_micro_block(g, m, j, rows, vectors, lanes); \
        }                                                  \
    } while (0)

#define LW_MICRO_STRIP(name, rows)                                               \
    static __attribute__((noinline, unused)) void name(const lw_micro *g, int m) \
    {                                                                            \
        for (int64_t j = 0; j < g->n;) {                                         \
            int64_t left = (g->n - j + LW_VL - 1) / LW_VL;                       \
            int vectors = left >= 3 && left != 4 ? 3 : left >= 2 ? 2 : 1;        \
            int64_t end = j + vectors * LW_VL;                                   \
            int lanes = end <= g->n ? LW_VL : (int)(g->n - (end - LW_VL));       \
            if (vectors == 3) {                                                  \
                LW_MICRO_CASE(rows, 3);                                          \
            } else if (vectors == 2) {                                           \
                LW_MICRO_CASE(rows, 2);                                          \
            } else {                                                             \
                LW_MICRO_CASE(rows, 1);                                          \
            }                                                                    \
            j = end;                                                             \
        }                                                                        \
    }

LW_MICRO_STRIP(lw_micro_one, 1)
LW_MICRO_STRIP(lw_micro_strip, LW_MICRO_ROWS)

// m rows, 1 <= m <= LW_MICRO_ROWS.
LW_INLINE void lw_micro_run(const lw_micro *g, int m)
{
    if (m == 1) {
        lw_micro_one(g, m);
    } else {
        lw_micro_strip(g, m);
    }
}

// out[c * ld + r] = scale * in[r * stride + c] for r < rows, c < columns.
LW_INLINE void lw_transpose(int64_t rows, int64_t columns, const float *in, int64_t stride, float scale, float *out,
                            int64_t ld)
{
    const lw_v4 factor = {scale, scale, scale, scale};
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4) {
        const float *p = in + r * stride;
        int64_t c = 0;
        for (; c + 4 <= columns; c += 4) {
            lw_v4 a = *(const lw_v4_unaligned *)(p + c) * factor;
            lw_v4 b = *(const lw_v4_unaligned *)(p + stride + c) * factor;
            lw_v4 d = *(const lw_v4_unaligned *)(p + 2 * stride + c) * factor;
            lw_v4 e = *(const lw_v4_unaligned *)(p + 3 * stride + c) * factor;
            lw_v4 ab0 = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab1 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
            lw_v4 de0 = __builtin_shufflevector(d, e, 0, 4, 1, 5), de1 = __builtin_shufflevector(d, e, 2, 6, 3, 7);
            float *q = out + c * ld + r;
            *(lw_v4_unaligned *)q = __builtin_shufflevector(ab0, de0, 0, 1, 4, 5);
            *(lw_v4_unaligned *)(q + ld) = __builtin_shufflevector(ab0, de0, 2, 3, 6, 7);
            *(lw_v4_unaligned *)(q + 2 * ld) = __builtin_shufflevector(ab1, de1, 0, 1, 4, 5);
            *(lw_v4_unaligned *)(q + 3 * ld) = __builtin_shufflevector(ab1, de1, 2, 3, 6, 7);
        }
        for (; c < columns; c++) {
            for (int i = 0; i < 4; i++) {
                out[c * ld + r + i] = scale * p[i * stride + c];
            }
        }
    }
    for (; r < rows; r++) {
        for (int64_t c = 0; c < columns; c++) {
            out[c * ld + r] = scale * in[r * stride + c];
        }
    }
}

#endif
