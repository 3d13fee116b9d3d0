// simd.h: vectors of floats of the instruction set that is being compiled, and the exponential on them.
//
// lw_vf holds LW_VL floats: 16 (AVX-512), 8 (AVX2 + FMA) or 4 (anywhere, through the vector extensions of gcc and
// clang). NaN propagates through every function unless it says otherwise.
#ifndef LW_SIMD_H
#define LW_SIMD_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#define LW_VL 16
#elif defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#define LW_VL 8
#else
#define LW_VL 4
#endif

#define LW_INLINE static inline __attribute__((always_inline, unused))

typedef float lw_vf __attribute__((vector_size(4 * LW_VL)));
typedef int32_t lw_vi __attribute__((vector_size(4 * LW_VL)));
typedef uint32_t lw_vu __attribute__((vector_size(4 * LW_VL)));
typedef float lw_vf_unaligned __attribute__((vector_size(4 * LW_VL), aligned(4), may_alias));
typedef float lw_v4 __attribute__((vector_size(16)));
typedef float lw_v4_unaligned __attribute__((vector_size(16), aligned(4), may_alias));

LW_INLINE lw_vf lw_vload(const float *p)
{
    return *(const lw_vf_unaligned *)p;
}

LW_INLINE void lw_vstore(float *p, lw_vf a)
{
    *(lw_vf_unaligned *)p = a;
}

// a > b ? a : b in every lane, so b where one of them is NaN.
#if LW_VL == 16
LW_INLINE lw_vf lw_vset(float a)
{
    return (lw_vf)_mm512_set1_ps(a);
}
LW_INLINE lw_vf lw_vmax(lw_vf a, lw_vf b)
{
    return (lw_vf)_mm512_max_ps((__m512)a, (__m512)b);
}
LW_INLINE lw_vf lw_vmin(lw_vf a, lw_vf b)
{
    return (lw_vf)_mm512_min_ps((__m512)a, (__m512)b);
}
LW_INLINE lw_vf lw_vfma(lw_vf a, lw_vf b, lw_vf c)
{
    return (lw_vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
LW_INLINE lw_vf lw_vsqrt(lw_vf a)
{
    return (lw_vf)_mm512_sqrt_ps((__m512)a);
}
// Lanes 0 .. n-1 from memory, the others 0; 1 <= n <= LW_VL.
LW_INLINE lw_vf lw_vload_n(const float *p, int n)
{
    return (lw_vf)_mm512_maskz_loadu_ps((__mmask16)((1U << n) - 1U), p);
}
LW_INLINE void lw_vstore_n(float *p, lw_vf a, int n)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1U << n) - 1U), (__m512)a);
}
// Lanes 0 .. n-1 of a, the others of b.
LW_INLINE lw_vf lw_vfirst(lw_vf a, lw_vf b, int n)
{
    return (lw_vf)_mm512_mask_mov_ps((__m512)b, (__mmask16)((1U << n) - 1U), (__m512)a);
}
#elif LW_VL == 8
LW_INLINE lw_vf lw_vset(float a)
{
    return (lw_vf)_mm256_set1_ps(a);
}
LW_INLINE lw_vf lw_vmax(lw_vf a, lw_vf b)
{
    return (lw_vf)_mm256_max_ps((__m256)a, (__m256)b);
}
LW_INLINE lw_vf lw_vmin(lw_vf a, lw_vf b)
{
    return (lw_vf)_mm256_min_ps((__m256)a, (__m256)b);
}
LW_INLINE lw_vf lw_vfma(lw_vf a, lw_vf b, lw_vf c)
{
    return (lw_vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
LW_INLINE lw_vf lw_vsqrt(lw_vf a)
{
    return (lw_vf)_mm256_sqrt_ps((__m256)a);
}
LW_INLINE __m256i lw_vmask_n(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
LW_INLINE lw_vf lw_vload_n(const float *p, int n)
{
    return (lw_vf)_mm256_maskload_ps(p, lw_vmask_n(n));
}
LW_INLINE void lw_vstore_n(float *p, lw_vf a, int n)
{
    _mm256_maskstore_ps(p, lw_vmask_n(n), (__m256)a);
}
LW_INLINE lw_vf lw_vfirst(lw_vf a, lw_vf b, int n)
{
    return (lw_vf)_mm256_blendv_ps((__m256)b, (__m256)a, _mm256_castsi256_ps(lw_vmask_n(n)));
}
#else
LW_INLINE lw_vf lw_vset(float a)
{
    return (lw_vf){a, a, a, a};
}
LW_INLINE lw_vf lw_vselect(lw_vi mask, lw_vf a, lw_vf b)
{
    return (lw_vf)(((lw_vi)a & mask) | ((lw_vi)b & ~mask));
}
LW_INLINE lw_vf lw_vmax(lw_vf a, lw_vf b)
{
    return lw_vselect(a > b, a, b);
}
LW_INLINE lw_vf lw_vmin(lw_vf a, lw_vf b)
{
    return lw_vselect(a < b, a, b);
}
LW_INLINE lw_vf lw_vfma(lw_vf a, lw_vf b, lw_vf c)
{
    return a * b + c;
}
LW_INLINE lw_vf lw_vsqrt(lw_vf a)
{
    return (lw_vf){sqrtf(a[0]), sqrtf(a[1]), sqrtf(a[2]), sqrtf(a[3])};
}
LW_INLINE lw_vf lw_vload_n(const float *p, int n)
{
    lw_vf a = lw_vset(0.0f);
    for (int i = 0; i < n; i++) {
        a[i] = p[i];
    }
    return a;
}
LW_INLINE void lw_vstore_n(float *p, lw_vf a, int n)
{
    for (int i = 0; i < n; i++) {
        p[i] = a[i];
    }
}
LW_INLINE lw_vf lw_vfirst(lw_vf a, lw_vf b, int n)
{
    return lw_vselect((lw_vi){0, 1, 2, 3} < (lw_vi){n, n, n, n}, a, b);
}
#endif

// Horizontal reductions, each a fixed tree over the lanes. lw_vhmax ignores NaN or not: do not rely on either.
LW_INLINE float lw_v4sum(lw_v4 a)
{
    return (a[0] + a[2]) + (a[1] + a[3]);
}

LW_INLINE float lw_v4hmax(lw_v4 a)
{
    float b = a[0] > a[2] ? a[0] : a[2];
    float c = a[1] > a[3] ? a[1] : a[3];
    return b > c ? b : c;
}

#if LW_VL == 16
LW_INLINE float lw_vsum(lw_vf a)
{
    return _mm512_reduce_add_ps((__m512)a);
}
LW_INLINE float lw_vhmax(lw_vf a)
{
    return _mm512_reduce_max_ps((__m512)a);
}
#elif LW_VL == 8
LW_INLINE float lw_vsum(lw_vf a)
{
    return lw_v4sum((lw_v4)_mm256_castps256_ps128((__m256)a) + (lw_v4)_mm256_extractf128_ps((__m256)a, 1));
}
LW_INLINE float lw_vhmax(lw_vf a)
{
    return lw_v4hmax((lw_v4)_mm_max_ps(_mm256_castps256_ps128((__m256)a), _mm256_extractf128_ps((__m256)a, 1)));
}
#else
LW_INLINE float lw_vsum(lw_vf a)
{
    return lw_v4sum(a);
}
LW_INLINE float lw_vhmax(lw_vf a)
{
    return lw_v4hmax(a);
}
#endif

// exp(x) for -104 <= x <= 89, relative error below 1.2e-7, exp(0) = 1; subnormal results are rounded, not flushed.
// x = n ln 2 + r with |r| <= ln(2)/2 (Cody & Waite 1980, section 6); the polynomial has the least largest relative
// error on that range (Remez; 1.9e-9).
LW_INLINE lw_vf lw_vexp_bounded(lw_vf x)
{
    const lw_vf magic = lw_vset(12582912.0f); // 1.5 * 2^23: adding it rounds to an integer
    lw_vf shifted = lw_vfma(x, lw_vset(1.44269504088896341f), magic);
    lw_vf n = shifted - magic;
    lw_vf r = lw_vfma(n, lw_vset(-0.693359375f), x);
    r = lw_vfma(n, lw_vset(2.12194440e-4f), r);
    lw_vf p = lw_vset(0.00138368248f);
    p = lw_vfma(p, r, lw_vset(0.00837483257f));
    p = lw_vfma(p, r, lw_vset(0.0416682251f));
    p = lw_vfma(p, r, lw_vset(0.166664198f));
    p = lw_vfma(p, r, lw_vset(0.499999911f));
    p = lw_vfma(p, r, lw_vset(1.0f));
    p = lw_vfma(p, r, lw_vset(1.0f));
#if LW_VL == 16
    return (lw_vf)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
    // Two factors 2^n1 2^n2, each a normal number, where 2^n itself may not be one.
    lw_vi whole = (lw_vi)((lw_vu)shifted - (lw_vu)magic);
    lw_vi first = whole >> 1;
    lw_vi second = whole - first;
    return p * (lw_vf)((lw_vu)(first + 127) << 23) * (lw_vf)((lw_vu)(second + 127) << 23);
#endif
}

// exp(x) for x <= 89 (terms of a softmax); exp(-inf) = 0.
LW_INLINE lw_vf lw_vexp_low(lw_vf x)
{
    return lw_vexp_bounded(lw_vmax(lw_vset(-104.0f), x));
}

// exp(x) for every x; exp(-inf) = 0, exp(inf) = inf.
LW_INLINE lw_vf lw_vexp(lw_vf x)
{
    return lw_vexp_low(lw_vmin(lw_vset(89.0f), x));
}

// 1 / (1 + exp(-x)); below x = -87 it is rounded to 0 or to at most 1e-37.
LW_INLINE lw_vf lw_vsigmoid(lw_vf x)
{
    const lw_vf one = lw_vset(1.0f);
    lw_vf bounded = lw_vmin(lw_vset(87.0f), -x); // so that the sum below is finite
    lw_vf sum = one + lw_vexp_low(bounded);
#if LW_VL == 16
    // One Newton step on the 14-bit reciprocal: to a unit in the last place, at a third of the price of a division.
    lw_vf estimate = (lw_vf)_mm512_rcp14_ps((__m512)sum);
    return lw_vfma(estimate, lw_vfma(-sum, estimate, one), estimate);
#else
    return one / sum;
#endif
}

// Runs the block that follows for i = begin, begin + LW_VL, ... end with `lanes` set to the lanes in use: the constant
// LW_VL but for the last turn. Use with lw_load / lw_store, which are plain accesses where `lanes` is that constant.
#define LW_FOR_LANES(i, lanes, begin, end, ...)  \
    do {                                         \
        int64_t i = (begin);                     \
        for (; i + LW_VL <= (end); i += LW_VL) { \
            enum { lanes = LW_VL };              \
            __VA_ARGS__                          \
        }                                        \
        if (i < (end)) {                         \
            const int lanes = (int)((end)-i);    \
            __VA_ARGS__                          \
        }                                        \
    } while (0)

LW_INLINE lw_vf lw_load(const float *p, int lanes)
{
    return lanes == LW_VL ? lw_vload(p) : lw_vload_n(p, lanes);
}

LW_INLINE void lw_store(float *p, lw_vf a, int lanes)
{
    if (lanes == LW_VL) {
        lw_vstore(p, a);
    } else {
        lw_vstore_n(p, a, lanes);
    }
}

#endif
