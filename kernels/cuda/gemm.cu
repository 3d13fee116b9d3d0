// gemm.cu: products, by cuBLASLt.
//
// A row-major matrix is the transpose of the column-major one at the same address, so C = op(A) op(B) goes to cuBLASLt
// as C^T = op(B)^T op(A)^T: its first operand is our B, and its rows are our columns. F32 operands are multiplied in
// F32: CUBLAS_COMPUTE_32F does not fall back to TF32.
//
// The algorithm of a shape is the heuristic's first and stays: another one would round differently.
#include <stdlib.h>
#include <string.h>

#include "cublas.cuh"

// Packed batches differ in their rows, so the shapes of a job are many; a set is searched, the oldest of it replaced.
#define PLAN_SETS 512
#define PLAN_WAYS 8

typedef struct gemm_key {
    int64_t m, n, k, lda, ldb, ldc;
    uint64_t form; // what else an algorithm depends on, see form_of
} gemm_key;

struct lw_gemm_plan {
    gemm_key key;
    uint64_t used; // lw_cublas.clock; 0: empty
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t first, second, out;
    cublasLtMatmulAlgo_t algorithm;
    bool adds_bias;
};

lw_status lw_gemm_plans_open(lw_cublas *b, lw_error *err)
{
    b->plans = static_cast<lw_gemm_plan *>(calloc(PLAN_SETS * PLAN_WAYS, sizeof *b->plans));
    return b->plans != NULL ? LW_OK : lw_fail(err, LW_ERR_MEMORY, "cuda: no host memory for the shapes of products");
}

static void clear_plan(const lw_cublas_functions *call, lw_gemm_plan *p)
{
    if (p->product != NULL) {
        (void)call->MatmulDescDestroy(p->product);
    }
    cublasLtMatrixLayout_t layouts[] = {p->first, p->second, p->out};
    for (int i = 0; i < 3; i++) {
        if (layouts[i] != NULL) {
            (void)call->MatrixLayoutDestroy(layouts[i]);
        }
    }
    memset(p, 0, sizeof *p);
}

void lw_gemm_plans_close(lw_cublas *b)
{
    for (int i = 0; b->plans != NULL && i < PLAN_SETS * PLAN_WAYS; i++) {
        clear_plan(&b->call, &b->plans[i]);
    }
    free(b->plans);
    b->plans = NULL;
}

// --- one plan

// The largest power of two, up to 256, that divides an address.
static uint32_t alignment_of(const void *p)
{
    const uintptr_t bits = reinterpret_cast<uintptr_t>(p) | 256;
    return (uint32_t)(bits & (~bits + 1));
}

static const void *c_in_of(const lw_gemm *g)
{
    return g->c_in == NULL || g->beta == 0.0f ? g->c : g->c_in;
}

// cuBLASLt adds an F32 bias, to alpha A B + beta C_in, where the result is F32; elsewhere a kernel of ours does.
static bool wants_bias(const lw_gemm *g)
{
    return g->bias != NULL && g->c_type == LW_F32 && lw_aligned16(g->bias);
}

static uint64_t form_of(const lw_gemm *g)
{
    // For the bias there is no preference to set: the heuristic looks at the pointer itself.
    const void *pointers[] = {g->a, g->b, c_in_of(g), g->c, wants_bias(g) ? g->bias : NULL};
    uint64_t form = (g->trans_a ? 1u : 0u) | (g->trans_b ? 2u : 0u) | (wants_bias(g) ? 4u : 0u) |
                    (g->ab_type == LW_BF16 ? 8u : 0u) | (g->c_type == LW_BF16 ? 16u : 0u);
    for (int i = 0; i < 5; i++) {
        form |= (uint64_t)alignment_of(pointers[i]) << (16 + 9 * i);
    }
    return form;
}

static cudaDataType_t data_type(lw_dtype type)
{
    return type == LW_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

// A stored matrix as cuBLASLt sees it: rows and columns exchanged.
static cublasStatus_t make_layout(const lw_cublas_functions *call, lw_dtype type, int64_t rows, int64_t columns,
                                  int64_t stride, cublasLtMatrixLayout_t *out)
{
    return call->MatrixLayoutCreate(out, data_type(type), (uint64_t)columns, (uint64_t)rows, stride);
}

static cublasStatus_t describe(const lw_cublas_functions *call, const lw_gemm *g, lw_gemm_plan *p)
{
    const cublasOperation_t first = g->trans_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t second = g->trans_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasLtEpilogue_t epilogue = p->adds_bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    cublasStatus_t code = call->MatmulDescCreate(&p->product, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (code == CUBLAS_STATUS_SUCCESS) {
        code = call->MatmulDescSetAttribute(p->product, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first);
    }
    if (code == CUBLAS_STATUS_SUCCESS) {
        code = call->MatmulDescSetAttribute(p->product, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second);
    }
    if (code == CUBLAS_STATUS_SUCCESS) {
        code = call->MatmulDescSetAttribute(p->product, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
    }
    if (code == CUBLAS_STATUS_SUCCESS && p->adds_bias) {
        code = call->MatmulDescSetAttribute(p->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &g->bias, sizeof g->bias);
    }
    if (code == CUBLAS_STATUS_SUCCESS) {
        code = make_layout(call, g->ab_type, g->trans_b ? g->n : g->k, g->trans_b ? g->k : g->n, g->ldb, &p->first);
    }
    if (code == CUBLAS_STATUS_SUCCESS) {
        code = make_layout(call, g->ab_type, g->trans_a ? g->k : g->m, g->trans_a ? g->m : g->k, g->lda, &p->second);
    }
    if (code == CUBLAS_STATUS_SUCCESS) {
        code = make_layout(call, g->c_type, g->m, g->n, g->ldc, &p->out);
    }
    return code;
}

// What an algorithm may count on. Parts of a sum over k may only be added in F32.
static cublasStatus_t set_preference(const lw_cublas *b, const lw_gemm *g, cublasLtMatmulPreference_t preference)
{
    const struct {
        cublasLtMatmulPreferenceAttributes_t attribute;
        uint32_t value;
    } settings[] = {
        {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(g->b)},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(g->a)},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(c_in_of(g))},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(g->c)},
    };
    const uint64_t work_bytes = b->work_bytes;
    cublasStatus_t code = b->call.MatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                               &work_bytes, sizeof work_bytes);
    for (size_t i = 0; i < sizeof settings / sizeof settings[0] && code == CUBLAS_STATUS_SUCCESS; i++) {
        code = b->call.MatmulPreferenceSetAttribute(preference, settings[i].attribute, &settings[i].value,
                                                    sizeof settings[i].value);
    }
    return code;
}

static cublasStatus_t choose(const lw_cublas *b, const lw_gemm *g, lw_gemm_plan *p)
{
    cublasLtMatmulPreference_t preference = NULL;
    cublasLtMatmulHeuristicResult_t found;
    int count = 0;
    memset(&found, 0, sizeof found);
    cublasStatus_t code = b->call.MatmulPreferenceCreate(&preference);
    if (code == CUBLAS_STATUS_SUCCESS) {
        code = set_preference(b, g, preference);
    }
    if (code == CUBLAS_STATUS_SUCCESS) {
        code = b->call.MatmulAlgoGetHeuristic(b->handle, p->product, p->first, p->second, p->out, p->out, preference, 1,
                                              &found, &count);
    }
    if (code == CUBLAS_STATUS_SUCCESS) {
        code = count < 1 ? CUBLAS_STATUS_NOT_SUPPORTED : found.state;
    }
    if (preference != NULL) {
        (void)b->call.MatmulPreferenceDestroy(preference);
    }
    p->algorithm = found.algo;
    return code;
}

static cublasStatus_t make_plan(const lw_cublas *b, const lw_gemm *g, bool adds_bias, lw_gemm_plan *p)
{
    p->adds_bias = adds_bias;
    cublasStatus_t code = describe(&b->call, g, p);
    return code == CUBLAS_STATUS_SUCCESS ? choose(b, g, p) : code;
}

// --- the plan of a product

static uint64_t hash_of(const gemm_key *key)
{
    const int64_t words[] = {key->m, key->n, key->k, key->lda, key->ldb, key->ldc, (int64_t)key->form};
    uint64_t hash = 0;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        hash = (hash ^ (uint64_t)words[i]) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 29;
    }
    return hash;
}

// The place of `key` in its set: where it is, or the one to replace.
static lw_gemm_plan *place_of(lw_cublas *b, const gemm_key *key)
{
    lw_gemm_plan *set = b->plans + hash_of(key) % PLAN_SETS * PLAN_WAYS;
    lw_gemm_plan *oldest = set;
    for (int i = 0; i < PLAN_WAYS; i++) {
        if (set[i].used != 0 && memcmp(&set[i].key, key, sizeof *key) == 0) {
            return &set[i];
        }
        oldest = set[i].used < oldest->used ? &set[i] : oldest;
    }
    clear_plan(&b->call, oldest);
    return oldest;
}

static cublasStatus_t plan_of(lw_cublas *b, const lw_gemm *g, lw_gemm_plan **out)
{
    const gemm_key key = {g->m, g->n, g->k, g->lda, g->ldb, g->ldc, form_of(g)};
    lw_gemm_plan *p = place_of(b, &key);
    b->clock++;
    if (p->used == 0) {
        const bool bias = wants_bias(g);
        cublasStatus_t code = make_plan(b, g, bias, p);
        if (code != CUBLAS_STATUS_SUCCESS && bias) { // not every algorithm adds one
            clear_plan(&b->call, p);
            code = make_plan(b, g, false, p);
        }
        if (code != CUBLAS_STATUS_SUCCESS) {
            clear_plan(&b->call, p);
            return code;
        }
        p->key = key;
    }
    p->used = b->clock;
    *out = p;
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t multiply(lw_cuda *c, const lw_gemm *g, bool *bias_added)
{
    lw_cublas *b = c->blas;
    lw_gemm_plan *p = NULL;
    cublasStatus_t code = plan_of(b, g, &p);
    if (code == CUBLAS_STATUS_SUCCESS && p->adds_bias) {
        code = b->call.MatmulDescSetAttribute(p->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &g->bias, sizeof g->bias);
    }
    if (code == CUBLAS_STATUS_SUCCESS) {
        *bias_added = p->adds_bias;
        code = b->call.Matmul(b->handle, p->product, &g->alpha, g->b, p->first, g->a, p->second, &g->beta, c_in_of(g),
                              p->out, g->c, p->out, &p->algorithm, b->work, b->work_bytes, c->stream);
    }
    return code;
}

// --- what cuBLASLt leaves

// C = beta C_in + bias
template <typename T>
__global__ void __launch_bounds__(256)
    gemm_rest(int64_t m, int64_t n, int64_t stride, bool vector, float beta, const T *c_in, const float *bias, T *c)
{
    const int64_t column = ((int64_t)blockIdx.x * 256 + threadIdx.x) * 4;
    float add[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    if (bias != NULL) {
        lw_load4_part(bias + column, n - column, vector, add);
    }
    for (int64_t row = blockIdx.y; row < m; row += gridDim.y) {
        const int64_t at = row * stride + column;
        float x[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        if (beta != 0.0f) {
            lw_load4_part(c_in + at, n - column, vector, x);
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            x[i] = fmaf(beta, x[i], add[i]);
        }
        lw_store4_part(c + at, n - column, vector, x);
    }
}

static void finish(lw_device *dev, const lw_gemm *g, float beta, const void *c_in)
{
    const bool vector = g->n % 4 == 0 && g->ldc % 4 == 0 && lw_aligned16(c_in) && lw_aligned16(g->c) &&
                        (g->bias == NULL || lw_aligned16(g->bias));
    const dim3 grid((unsigned)((g->n + 1023) / 1024), (unsigned)(g->m < 65535 ? g->m : 65535));
    LW_FOR_TYPE(dev, "gemm", g->c_type, T, {
        LW_LAUNCH((gemm_rest<T>), grid, 256, 0, lw_cuda_of(dev)->stream, g->m, g->n, g->ldc, vector, beta,
                  static_cast<const T *>(c_in), g->bias, static_cast<T *>(g->c));
    });
    (void)lw_cuda_launched(dev, "gemm");
}

static bool takes(lw_device *dev, const lw_gemm *g)
{
    const int64_t sizes[] = {g->m, g->n, g->k, g->lda, g->ldb, g->ldc};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (sizes[i] < 0 || sizes[i] > INT32_MAX) {
            lw_cuda_fail(dev, "cuda: gemm of %lld x %lld x %lld: a size is beyond the 32-bit sizes of cuBLAS",
                         (long long)g->m, (long long)g->n, (long long)g->k);
            return false;
        }
    }
    const lw_dtype types[] = {g->ab_type, g->c_type};
    for (int i = 0; i < 2; i++) {
        if (types[i] != LW_F32 && types[i] != LW_BF16) {
            lw_cuda_fail(dev, "cuda: gemm does not take %s", lw_dtype_name(types[i]));
            return false;
        }
    }
    return true;
}

void lw_cuda_gemm(lw_device *dev, const lw_gemm *g)
{
    if (g->m <= 0 || g->n <= 0 || !takes(dev, g)) {
        return;
    }
    if (g->k == 0) {
        finish(dev, g, g->beta, c_in_of(g));
        return;
    }
    bool bias_added = false;
    const cublasStatus_t code = multiply(lw_cuda_of(dev), g, &bias_added);
    if (code != CUBLAS_STATUS_SUCCESS) {
        lw_cuda_fail(dev, "cuda: gemm of %lld x %lld x %lld (%c%c, %s to %s, strides %lld, %lld, %lld): cuBLASLt: %s",
                     (long long)g->m, (long long)g->n, (long long)g->k, g->trans_a ? 'T' : 'N', g->trans_b ? 'T' : 'N',
                     lw_dtype_name(g->ab_type), lw_dtype_name(g->c_type), (long long)g->lda, (long long)g->ldb,
                     (long long)g->ldc, lw_cuda_of(dev)->blas->call.GetStatusString(code));
        return;
    }
    lw_cuda_pace(lw_cuda_of(dev));
    if (g->bias != NULL && !bias_added) {
        finish(dev, g, 1.0f, g->c);
    }
}
