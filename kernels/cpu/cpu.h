// cpu.h: what the files of the CPU device share.
//
// Every operator file is compiled once per instruction set: with LW_CPU_ISA=v4, v3 (and -march=x86-64-v4, v3) beside
// the plain one, so that one binary is fast on AVX-512 and AVX2 machines and runs anywhere. LW_CPU(rmsnorm) is the
// name of the operator in the copy that is being compiled; table.c collects the copy into one lw_device_ops.
// memory.c and open.c are compiled once.
#ifndef LW_CPU_H
#define LW_CPU_H

#include "core/numbers.h"
#include "device/device.h"

typedef struct lw_cpu {
    lw_device base;
    int threads;
    char failure[512]; // text of the first error since the last sync; empty when none
} lw_cpu;

#define LW_CPU_MAX_THREADS 1024

// Work (in elementary operations) below which a loop is not worth waking the other threads for.
#define LW_CPU_GRAIN 65536

static inline int lw_cpu_threads(const lw_device *dev, int64_t work)
{
    return work < LW_CPU_GRAIN ? 1 : ((const lw_cpu *)dev)->threads;
}

// Remembers the first error for sync. Not for use inside a parallel region.
__attribute__((format(printf, 2, 3))) void lw_cpu_fail(lw_device *dev, const char *format, ...);

// False, with an error remembered, when `type` is not F32.
bool lw_cpu_is_f32(lw_device *dev, const char *op, lw_dtype type);

// memory.c: the operators that are the same for every instruction set.
lw_status lw_cpu_alloc(lw_device *dev, size_t bytes, lw_error *err, void **out);
void lw_cpu_free(lw_device *dev, void *memory);
void lw_cpu_transfer(lw_device *dev, const void *source, size_t bytes, void *out);
void lw_cpu_zero(lw_device *dev, size_t bytes, void *out);
lw_status lw_cpu_sync(lw_device *dev, lw_error *err);
void lw_cpu_replay(lw_device *dev, uint64_t key, void (*enqueue)(void *context), void *context);
void lw_cpu_destroy(lw_device *dev);

#ifndef LW_CPU_ISA
#define LW_CPU_ISA base
#endif
#define LW_CPU_PASTE_(name, isa) lw_cpu_##name##_##isa
#define LW_CPU_PASTE(name, isa) LW_CPU_PASTE_(name, isa)
#define LW_CPU(name) LW_CPU_PASTE(name, LW_CPU_ISA)

extern const lw_device_ops lw_cpu_ops_base;
extern const lw_device_ops lw_cpu_ops_v3;
extern const lw_device_ops lw_cpu_ops_v4;

// The operators, see src/device/device.h.
void LW_CPU(gemm)(lw_device *dev, const lw_gemm *g);
void LW_CPU(rmsnorm)(lw_device *dev, int64_t rows, int64_t d, float eps, const float *x, const float *w, lw_dtype type,
                     void *y, float *rstd);
void LW_CPU(rmsnorm_backward)(lw_device *dev, int64_t rows, int64_t d, const float *x, const float *w,
                              const float *rstd, const float *dy, float *dx, lw_dtype type, void *dx_copy);
void LW_CPU(layernorm)(lw_device *dev, int64_t rows, int64_t d, float eps, const float *x, const float *g,
                       const float *b, float *y, float *mean, float *rstd);
void LW_CPU(layernorm_backward)(lw_device *dev, int64_t rows, int64_t d, const float *x, const float *g,
                                const float *mean, const float *rstd, const float *dy, float *dx, float *dg, float *db);
void LW_CPU(rmsscale)(lw_device *dev, int64_t rows, int64_t d, float eps, float scale, const float *gain,
                      const float *x, float *y, float *rstd);
void LW_CPU(rmsscale_backward)(lw_device *dev, int64_t rows, int64_t d, float scale, const float *gain, const float *x,
                               const float *rstd, const float *dy, float *dx, float *dgain);
void LW_CPU(gather)(lw_device *dev, int64_t n, int64_t d, const void *in, lw_dtype in_type, const int32_t *in_index,
                    const int32_t *out_index, bool accumulate, float *out);
void LW_CPU(copy_rows)(lw_device *dev, int64_t n, int64_t d, lw_dtype type, const void *in, int64_t in_stride,
                       const int32_t *out_index, void *out, int64_t out_stride);
void LW_CPU(scatter_add)(lw_device *dev, int64_t n, int64_t d, const float *in, const int32_t *index, int64_t out_rows,
                         float *out);
void LW_CPU(span_mean)(lw_device *dev, int64_t spans, int64_t d, const int32_t *start, const float *x, float *y);
void LW_CPU(span_mean_backward)(lw_device *dev, int64_t spans, int64_t d, const int32_t *start, const float *dy,
                                float *dx);
void LW_CPU(column_sum)(lw_device *dev, int64_t rows, int64_t n, const float *dy, float *db);
void LW_CPU(rope)(lw_device *dev, int64_t rows, int64_t heads, int64_t head_dim, int64_t stride, lw_dtype type,
                  const float *cos_sin, const int32_t *position, bool inverse, void *x);
size_t LW_CPU(attention_work_bytes)(lw_device *dev, const lw_attention *a);
void LW_CPU(attention)(lw_device *dev, const lw_attention *a, const void *q, const void *k, const void *v, void *o,
                       float *lse, void *work);
void LW_CPU(attention_backward)(lw_device *dev, const lw_attention *a, const void *q, const void *k, const void *v,
                                const void *o, const void *d_o, const float *lse, void *dq, void *dk, void *dv,
                                void *work);
void LW_CPU(swiglu)(lw_device *dev, int64_t rows, int64_t f, lw_dtype type, const void *gu, void *y);
void LW_CPU(swiglu_backward)(lw_device *dev, int64_t rows, int64_t f, lw_dtype type, const void *gu, const void *dy,
                             void *dgu);
void LW_CPU(gelu)(lw_device *dev, int64_t n, const float *x, float *y);
void LW_CPU(gelu_frozen)(lw_device *dev, int64_t n, bool erf, lw_dtype type, const void *x, void *y);
void LW_CPU(gelu_backward)(lw_device *dev, int64_t n, const float *x, const float *dy, float *dx);
void LW_CPU(axpy)(lw_device *dev, int64_t n, float alpha, const float *x, float *y);
void LW_CPU(cast)(lw_device *dev, int64_t n, const void *in, lw_dtype in_type, void *out, lw_dtype out_type);
void LW_CPU(random_normal)(lw_device *dev, int64_t n, uint64_t seed, uint64_t stream, float mean, float std,
                           lw_dtype type, void *out);
void LW_CPU(xent)(lw_device *dev, const lw_xent *x);
void LW_CPU(argmax)(lw_device *dev, int64_t rows, int64_t n, const void *logits, lw_dtype type, int32_t *out);
void LW_CPU(sqnorm)(lw_device *dev, int64_t n, const void *x, lw_dtype type, float *out);
void LW_CPU(dot)(lw_device *dev, int64_t n, const float *x, const float *y, float *out);
void LW_CPU(adamw)(lw_device *dev, const lw_adamw *o);

#endif
