// device.h: the operators that model code is written against.
//
// A device is one `static const lw_device_ops` table (kernels/cpu, kernels/cuda). Model code (decoder, encoder,
// adapter, loss, optimizer) calls the table and knows neither BLAS nor CUDA.
//
// Conventions
// - Every pointer below is device memory (host memory on the CPU device) unless it is called `host_...`.
// - Matrices are row-major; `(rows, n)` is a dense matrix, strides are in elements where they differ.
// - Work is enqueued in order; operators return nothing. An error surfaces at `sync`, once, with its text.
// - `type` is the element type of the operands it is documented for; the rest is f32. The CPU device takes LW_F32
//   only; the CUDA device LW_BF16 or LW_F32. Products accumulate in f32.
// - A size of zero is valid everywhere and writes nothing (a product with k == 0 scales or clears C).
// - Outputs are overwritten unless the name of the operation or the comment says "accumulates" (+=). Inputs and
//   outputs do not overlap unless "in place" is said.
// - Every operator gives the same bits for the same inputs on the same device and thread count.
// All operators are Local.
#ifndef LW_DEVICE_H
#define LW_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/dtype.h"
#include "core/heartbeat.h"
#include "core/status.h"

typedef struct lw_device lw_device;

// C (m,n) = alpha op(A) op(B) + beta C_in [+ bias (n) on every row].
// op(A) is (m,k): A is stored (m,k), or (k,m) when trans_a. op(B) is (k,n): B is stored (k,n), or (n,k) when
// trans_b (the layout of a Hugging Face linear weight (out,in), so a linear layer is y = x W^T: trans_b).
// C_in has the type and the row stride of C, and is C itself where `c_in` is NULL; a residual stream is added on the
// way: x' = y W^T + x. With beta == 0 it is not read. Types of A and B are equal.
typedef struct lw_gemm {
    bool trans_a, trans_b;
    int64_t m, n, k;
    float alpha, beta;
    const void *a;
    const void *b;
    const void *c_in; // NULL: c
    void *c;
    int64_t lda, ldb, ldc; // row strides
    lw_dtype ab_type, c_type;
    const float *bias; // (n) or NULL
} lw_gemm;

// Multi-head attention over packed sequences; grouped queries; optionally causal.
// Sequence s owns query rows [q_start[s], q_start[s+1]) and key rows [k_start[s], k_start[s] + k_len[s]).
// Causal: query i (from 0) of nq sees keys 0 .. k_len - nq + i, so the same operator serves training (nq = k_len),
// generation from a cache (nq = 1) and a chunk of a prompt. Query head h reads key head h / (q_heads / kv_heads).
// A query row that sees no key (k_len == 0) gives o = 0 and lse = -inf, and zero gradients.
typedef struct lw_attention {
    int64_t sequences, q_heads, kv_heads, head_dim;
    int64_t q_rows;                                 // q_start[sequences]
    int64_t max_q, max_k;                           // the longest of each, for work space and launch sizes
    const int32_t *q_start;                         // (sequences + 1)
    const int32_t *k_start;                         // (sequences)
    const int32_t *k_len;                           // (sequences)
    int64_t q_stride, k_stride, v_stride, o_stride; // between rows; the heads of a row lie side by side
    float scale;                                    // of the scores; 1/sqrt(head_dim) in every model so far
    bool causal;
    lw_dtype type; // of q, k, v, o and their gradients
    const void *q; // (q_rows, q_heads head_dim)
    const void *k; // (key rows, kv_heads head_dim)
    const void *v; // as k
    void *o;       // (q_rows, q_heads head_dim); written forward, read backward
    float *lse;    // (q_rows, q_heads): log-sum-exp of the scaled scores; NULL when no backward pass follows
    void *work;    // attention_work_bytes
} lw_attention;

// Cross-entropy and distillation on rows of logits, turned into their gradient in place.
//   nll[r]   = -log softmax(z_r)[target_r]
//   kl[r]    = KL(softmax(t_r / tau) || softmax(z_r / tau)); 0 without a teacher or where kl_weight[r] == 0
//              t_r is row teacher_row[r] of the teacher's logits, or row r
//   z_r     := weight[r] (softmax(z_r) - onehot(target_r))
//              + kl_weight[r] tau (softmax(z_r / tau) - softmax(t_r / tau))        when `gradient`
// which is the gradient of sum_r weight[r] nll[r] + kl_weight[r] tau^2 kl[r]  (Hinton et al. 2015, section 2.1).
typedef struct lw_xent {
    int64_t rows, vocab;
    void *logits;               // (rows, vocab) of `type`; in place when `gradient`, else read only
    lw_dtype type;              // of logits and teacher
    const int32_t *target;      // (rows)
    const float *weight;        // (rows); may be NULL without `gradient`
    const void *teacher;        // (.., vocab) logits or NULL
    const int32_t *teacher_row; // (rows) or NULL: the identity; not read where kl_weight[r] == 0
    const float *kl_weight;     // (rows) or NULL
    float tau;
    bool gradient;
    float *nll;      // (rows)
    float *kl;       // (rows) or NULL
    int32_t *argmax; // (rows) or NULL: index of the first largest logit before it is overwritten
} lw_xent;

typedef struct lw_adamw {
    int64_t n;
    float *param;      // (n) updated
    const float *grad; // (n)
    float *m, *v;      // (n) updated: first and second moments
    float lr, beta1, beta2, eps, weight_decay;
    int64_t step;             // from 1, for the bias correction
    float clip;               // global-norm clip; 0: none
    const float *grad_sqnorm; // device scalar: squared global norm; when not finite nothing is updated
} lw_adamw;

// Arguments of operators that have more than six; each is described with its operator below.

typedef struct lw_rmsnorm_args {
    int64_t rows, d;
    float eps;
    const float *x; // (rows, d)
    const float *w; // (d)
    lw_dtype type;  // of y
    void *y;        // (rows, d)
    float *rstd;    // (rows) or NULL
} lw_rmsnorm_args;

typedef struct lw_rmsnorm_backward_args {
    int64_t rows, d;
    const float *x;    // (rows, d)
    const float *w;    // (d)
    const float *rstd; // (rows), of the forward pass
    const float *dy;   // (rows, d)
    float *dx;         // (rows, d), accumulates
    lw_dtype type;     // of dx_copy
    void *dx_copy;     // (rows, d) or NULL
} lw_rmsnorm_backward_args;

typedef struct lw_layernorm_args {
    int64_t rows, d;
    float eps;
    const float *x;     // (rows, d)
    const float *g, *b; // (d) gain and bias
    float *y;           // (rows, d)
    float *mean, *rstd; // (rows)
} lw_layernorm_args;

typedef struct lw_layernorm_backward_args {
    int64_t rows, d;
    const float *x;           // (rows, d)
    const float *g;           // (d)
    const float *mean, *rstd; // (rows), of the forward pass
    const float *dy;          // (rows, d)
    float *dx;                // (rows, d) or NULL, accumulates
    float *dg, *db;           // (d), accumulate
} lw_layernorm_backward_args;

typedef struct lw_rmsscale_args {
    int64_t rows, d;
    float eps, scale;
    const float *gain; // device scalar
    const float *x;    // (rows, d)
    float *y;          // (rows, d)
    float *rstd;       // (rows)
} lw_rmsscale_args;

typedef struct lw_rmsscale_backward_args {
    int64_t rows, d;
    float scale;
    const float *gain; // device scalar
    const float *x;    // (rows, d)
    const float *rstd; // (rows), of the forward pass
    const float *dy;   // (rows, d)
    float *dx;         // (rows, d), overwritten
    float *dgain;      // device scalar, accumulates
} lw_rmsscale_backward_args;

typedef struct lw_gather_args {
    int64_t n, d;
    const void *in; // (.., d) of in_type
    lw_dtype in_type;
    const int32_t *in_index;  // (n) or NULL: the identity
    const int32_t *out_index; // (n) or NULL: the identity; its rows are distinct
    bool accumulate;
    float *out; // (.., d)
} lw_gather_args;

typedef struct lw_copy_rows_args {
    int64_t n, d;
    lw_dtype type;  // of in and out
    const void *in; // n rows of d elements
    int64_t in_stride;
    const int32_t *out_index; // (n)
    void *out;                // rows of d elements
    int64_t out_stride;
} lw_copy_rows_args;

typedef struct lw_rope_args {
    int64_t rows, heads, head_dim;
    int64_t stride;          // between the rows of x, whose heads lie side by side
    lw_dtype type;           // of x
    const float *cos_sin;    // (positions, head_dim / 2, 2)
    const int32_t *position; // (rows)
    bool inverse;            // rotate back, which is the backward pass
    void *x;                 // in place
} lw_rope_args;

typedef struct lw_random_normal_args {
    int64_t n;
    uint64_t seed, stream;
    float mean, std;
    lw_dtype type; // of out
    void *out;     // (n)
} lw_random_normal_args;

// --- memory, transfers, errors

// 256-byte aligned; release with `free`.
typedef lw_status lw_op_alloc(lw_device *dev, size_t bytes, lw_error *err, void **out);
typedef void lw_op_free(lw_device *dev, void *memory);

// The host memory may be used again on return.
typedef void lw_op_upload(lw_device *dev, const void *host_source, size_t bytes, void *out);
// host_out is valid after sync.
typedef void lw_op_download(lw_device *dev, const void *source, size_t bytes, void *host_out);
typedef void lw_op_copy(lw_device *dev, const void *source, size_t bytes, void *out);
typedef void lw_op_zero(lw_device *dev, size_t bytes, void *out);

// Waits for all enqueued work.
typedef lw_status lw_op_sync(lw_device *dev, lw_error *err);

// Enqueues what enqueue(context) enqueues. A device may record that under `key` and play the record, without calling,
// when the key comes again (CUDA graphs). Within, there is no transfer to or from the host, and everything that the
// work depends on (addresses, sizes, scalars) is the same whenever the key is.
typedef void lw_op_replay(lw_device *dev, uint64_t key, void (*enqueue)(void *context), void *context);

typedef void lw_op_destroy(lw_device *dev);

#define LW_DEVICE_FUNCTIONS(X) X(alloc) X(free) X(upload) X(download) X(copy) X(zero) X(sync) X(replay) X(destroy)

// --- products

typedef void lw_op_gemm(lw_device *dev, const lw_gemm *g);

// --- rows

// y = x * rstd * w, rstd = 1/sqrt(mean(x^2) + eps) per row (Zhang & Sennrich 2019).
typedef void lw_op_rmsnorm(lw_device *dev, const lw_rmsnorm_args *a);
// dx accumulates the gradient with respect to x: dx += rstd (w dy - x rstd^2 mean(w dy x)). dx_copy gets the new dx
// once more, as the operand of the next product.
typedef void lw_op_rmsnorm_backward(lw_device *dev, const lw_rmsnorm_backward_args *a);
// y = (x - mean) * rstd * g + b (Ba et al. 2016).
typedef void lw_op_layernorm(lw_device *dev, const lw_layernorm_args *a);
// dx, dg, db accumulate.
typedef void lw_op_layernorm_backward(lw_device *dev, const lw_layernorm_backward_args *a);
// y = scale * gain[0] * x / sqrt(mean(x^2) + eps) per row: rows of a fixed RMS.
typedef void lw_op_rmsscale(lw_device *dev, const lw_rmsscale_args *a);
// dx is overwritten; dgain[0] accumulates.
typedef void lw_op_rmsscale_backward(lw_device *dev, const lw_rmsscale_backward_args *a);
// out[out_index[i]] = in[in_index[i]] (or += when accumulate), i < n.
typedef void lw_op_gather(lw_device *dev, const lw_gather_args *a);
// out[out_index[i]] = in[i], i < n: keys and values into a cache.
typedef void lw_op_copy_rows(lw_device *dev, const lw_copy_rows_args *a);
// out[index[i]] += in[i], i < n, in order of i where rows repeat. in (n,d), out (out_rows,d).
typedef void lw_op_scatter_add(lw_device *dev, int64_t n, int64_t d, const float *in, const int32_t *index,
                               int64_t out_rows, float *out);
// y[s] = mean of rows start[s] .. start[s+1] of x; an empty span gives 0. start (spans + 1), y (spans,d).
typedef void lw_op_span_mean(lw_device *dev, int64_t spans, int64_t d, const int32_t *start, const float *x, float *y);
// dx[row] = dy[s] / length(s) for every row of span s; rows in no span are untouched.
typedef void lw_op_span_mean_backward(lw_device *dev, int64_t spans, int64_t d, const int32_t *start, const float *dy,
                                      float *dx);
// db[j] accumulates the sum of column j of dy (rows,n).
typedef void lw_op_column_sum(lw_device *dev, int64_t rows, int64_t n, const float *dy, float *db);

// --- attention

// Rotary embedding in place (Su et al. 2021; the half-split pairing of Hugging Face: element i pairs with
// i + head_dim/2).
typedef void lw_op_rope(lw_device *dev, const lw_rope_args *a);
// Bytes of work space of the two calls below. Pointers of `a` are not read.
typedef size_t lw_op_attention_work_bytes(lw_device *dev, const lw_attention *a);
typedef void lw_op_attention(lw_device *dev, const lw_attention *a);
// `a` is that of the forward pass, with lse. d_o has the stride of o; dq, dk, dv those of q, k, v. dk and dv are
// overwritten on the key rows of the sequences.
typedef void lw_op_attention_backward(lw_device *dev, const lw_attention *a, const void *d_o, void *dq, void *dk,
                                      void *dv);

// --- element by element

// y = silu(g) * u; gu (rows, 2f) = [g | u], y (rows,f); all of type (Shazeer 2020).
typedef void lw_op_swiglu(lw_device *dev, int64_t rows, int64_t f, lw_dtype type, const void *gu, void *y);
typedef void lw_op_swiglu_backward(lw_device *dev, int64_t rows, int64_t f, lw_dtype type, const void *gu,
                                   const void *dy, void *dgu);
// GELU, tanh form (Hendrycks & Gimpel 2016). dx = dy * gelu'(x); dx may be dy.
typedef void lw_op_gelu(lw_device *dev, int64_t n, const float *x, float *y);
typedef void lw_op_gelu_backward(lw_device *dev, int64_t n, const float *x, const float *dy, float *dx);
// The GELU of a frozen model, forward only: x Phi(x) when `erf_form` (Hugging Face's "gelu"), else the tanh form
// ("gelu_new"). x, y (n) of type; y may be x.
typedef void lw_op_gelu_frozen(lw_device *dev, int64_t n, bool erf_form, lw_dtype type, const void *x, void *y);
// y += alpha x
typedef void lw_op_axpy(lw_device *dev, int64_t n, float alpha, const float *x, float *y);
typedef void lw_op_cast(lw_device *dev, int64_t n, const void *in, lw_dtype in_type, void *out, lw_dtype out_type);
// As upload, for n elements that change their type on the way (F32, BF16, F16): weights. The source may lie at any
// byte.
typedef void lw_op_upload_as(lw_device *dev, int64_t n, const void *host_source, lw_dtype in_type, void *out,
                             lw_dtype out_type);
// out[i] = mean + std * lw_random_normal(seed, stream, i) (core/random.h), rounded to `type`.
typedef void lw_op_random_normal(lw_device *dev, const lw_random_normal_args *a);

// --- losses and optimizer

typedef void lw_op_xent(lw_device *dev, const lw_xent *x);
typedef void lw_op_argmax(lw_device *dev, int64_t rows, int64_t n, const void *logits, lw_dtype type, int32_t *out);
// out[0] = sum x^2
typedef void lw_op_sqnorm(lw_device *dev, int64_t n, const void *x, lw_dtype type, float *out);
// out[0] += sum x y
typedef void lw_op_dot(lw_device *dev, int64_t n, const float *x, const float *y, float *out);
// Loshchilov & Hutter 2019, algorithm 2.
typedef void lw_op_adamw(lw_device *dev, const lw_adamw *o);

// Every operator: the table below, and the declarations and the table of each backend are made from this list, so that
// an implementation that is missing is an error of the linker that names it. tests/ops demands a case for each.
// clang-format off
#define LW_OPERATORS(X)                                                                                \
    X(gemm)                                                                                            \
    X(rmsnorm) X(rmsnorm_backward) X(layernorm) X(layernorm_backward) X(rmsscale) X(rmsscale_backward) \
    X(gather) X(copy_rows) X(scatter_add) X(span_mean) X(span_mean_backward) X(column_sum)             \
    X(rope) X(attention_work_bytes) X(attention) X(attention_backward)                                 \
    X(swiglu) X(swiglu_backward) X(gelu) X(gelu_backward) X(gelu_frozen)                               \
    X(axpy) X(cast) X(upload_as) X(random_normal)                                                      \
    X(xent) X(argmax) X(sqnorm) X(dot) X(adamw)
// clang-format on

typedef struct lw_device_ops {
    const char *name; // "cpu", "cuda"
#define LW_DEVICE_FIELD(op) lw_op_##op *op;
    LW_DEVICE_FUNCTIONS(LW_DEVICE_FIELD)
    LW_OPERATORS(LW_DEVICE_FIELD)
#undef LW_DEVICE_FIELD
} lw_device_ops;

// attention_work_bytes of a GPU: one float per query row and head (rowsum(dO * O)). It depends on the descriptor alone,
// so that a plan needs no GPU.
static inline size_t lw_gpu_attention_work_bytes(const lw_attention *a)
{
    return (size_t)a->q_rows * (size_t)a->q_heads * sizeof(float);
}

// The head of every device; an implementation puts its own state behind it.
struct lw_device {
    const lw_device_ops *ops;
    lw_dtype frozen_type;   // of frozen weights and of the operands of their products: LW_F32 (cpu), LW_BF16 (cuda)
    char description[128];  // "cpu: 2 threads, OpenBLAS 0.3.21 ..." for logs
    size_t allocated_bytes; // now held by `alloc`
    size_t peak_bytes;
    lw_heartbeat
        heartbeat; // the heartbeat that model code gives as work on the device proceeds; set by the owner of the device
    // Longest wait for enqueued work, where a device can hang; 0: no bound. When it takes longer, `overdue` is called,
    // which may end the job; where it returns, or is NULL, the device is of no further use, and `sync` says so. Set by
    // the owner.
    double timeout_s;
    void (*overdue)(void *context, double waited_s);
    void *overdue_context;
};

#endif
