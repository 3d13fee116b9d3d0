// cuBLASLt on OpenBLAS: products in f32 of operands in f32, bf16 or f16, rounded when they are stored.
//
// Stricter than the library where that shows mistakes: an algorithm serves the problem it was chosen for and pointers
// as aligned as was promised then, and whatever its work space holds is destroyed.
#include <cblas.h>
#include <stdlib.h>
#include <string.h>

#include "cublasLt.h"
#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "softgpu.h"

struct softgpu_lt_handle {
    int device;
};
struct softgpu_lt_desc {
    cublasComputeType_t compute;
    bool trans_a = false, trans_b = false;
    uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    const void *bias = nullptr;
    int32_t bias_type = -1; // that of D
};
struct softgpu_lt_layout {
    cudaDataType_t type;
    int64_t rows, cols, ld;
};
struct softgpu_lt_preference {
    uint64_t workspace_bytes = 0;
    uint32_t alignment[4] = {256, 256, 256, 256}; // of A, B, C, D
};

using namespace softgpu;

static size_t type_bytes(cudaDataType_t type)
{
    return type == CUDA_R_32F ? 4 : 2;
}

static float load(cudaDataType_t type, const char *at)
{
    if (type == CUDA_R_32F) {
        float value;
        memcpy(&value, at, sizeof value);
        return value;
    }
    unsigned short bits;
    memcpy(&bits, at, sizeof bits);
    return type == CUDA_R_16BF ? __bfloat162float(__ushort_as_bfloat16(bits)) : __half2float(__ushort_as_half(bits));
}

static void store(cudaDataType_t type, float value, char *at)
{
    if (type == CUDA_R_32F) {
        memcpy(at, &value, sizeof value);
        return;
    }
    unsigned short bits = type == CUDA_R_16BF ? __bfloat16_as_ushort(__float2bfloat16_rn(value))
                                              : __half_as_ushort(__float2half_rn(value));
    memcpy(at, &bits, sizeof bits);
}

// Ten bits of fraction, to nearest even.
static float to_tf32(float x)
{
    unsigned int bits = __float_as_uint(x);
    return x != x ? x : __uint_as_float((bits + 0xfffU + ((bits >> 13) & 1U)) & ~0x1fffU);
}

namespace
{

struct Matrix {
    softgpu_lt_layout layout;
    const char *data;

    const char *at(int64_t row, int64_t col) const
    {
        return data + (size_t)(col * layout.ld + row) * type_bytes(layout.type);
    }
    size_t bytes() const
    {
        return (size_t)((layout.cols - 1) * layout.ld + layout.rows) * type_bytes(layout.type);
    }
    void check(const char *name) const
    {
        if (where_is(data).kind != Kind::device) {
            die("cublasLtMatmul: %s at %p is not device memory", name, (const void *)data);
        }
        check_range((std::string("cublasLtMatmul: ") + name).c_str(), data, bytes());
    }
    std::vector<float> dense(bool tf32) const
    {
        std::vector<float> out((size_t)(layout.rows * layout.cols));
        for (int64_t col = 0; col < layout.cols; col++) {
            for (int64_t row = 0; row < layout.rows; row++) {
                float value = load(layout.type, at(row, col));
                out[(size_t)(col * layout.rows + row)] = tf32 ? to_tf32(value) : value;
            }
        }
        return out;
    }
};

struct Product {
    softgpu_lt_desc desc;
    Matrix a, b, c, d;
    int64_t k;
    float alpha, beta;
    char *workspace;
    size_t workspace_bytes;
};

} // namespace

static void run_product(const Product &p)
{
    p.a.check("A");
    p.b.check("B");
    p.d.check("D");
    if (p.beta != 0.0f) {
        p.c.check("C");
    }
    int64_t m = p.d.layout.rows, n = p.d.layout.cols;
    bool tf32 = p.desc.compute == CUBLAS_COMPUTE_32F_FAST_TF32 && p.a.layout.type == CUDA_R_32F;
    std::vector<float> a = p.a.dense(tf32), b = p.b.dense(tf32), sum((size_t)(m * n));
    if (p.workspace_bytes > 0) {
        memset(p.workspace, 0xff, p.workspace_bytes);
    }
    cblas_sgemm(CblasColMajor, p.desc.trans_a ? CblasTrans : CblasNoTrans, p.desc.trans_b ? CblasTrans : CblasNoTrans,
                (int)m, (int)n, (int)p.k, 1.0f, a.data(), (int)p.a.layout.rows, b.data(), (int)p.b.layout.rows, 0.0f,
                sum.data(), (int)m);
    cudaDataType_t bias_type = p.desc.bias_type < 0 ? p.d.layout.type : (cudaDataType_t)p.desc.bias_type;
    const char *bias = static_cast<const char *>(p.desc.bias);
    for (int64_t col = 0; col < n; col++) {
        for (int64_t row = 0; row < m; row++) {
            float value = p.alpha * sum[(size_t)(col * m + row)];
            if (p.beta != 0.0f) {
                value += p.beta * load(p.c.layout.type, p.c.at(row, col));
            }
            if (p.desc.epilogue == CUBLASLT_EPILOGUE_BIAS) {
                value += load(bias_type, bias + (size_t)row * type_bytes(bias_type));
            }
            store(p.d.layout.type, value, const_cast<char *>(p.d.at(row, col)));
        }
    }
}

// The table of types in cuBLASLt's manual, as far as it is used here; sizes and strides.
static cublasStatus_t check_problem(const softgpu_lt_desc *desc, const softgpu_lt_layout *a, const softgpu_lt_layout *b,
                                    const softgpu_lt_layout *c, const softgpu_lt_layout *d, int64_t *k)
{
    if (desc == nullptr || a == nullptr || b == nullptr || c == nullptr || d == nullptr) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    for (const softgpu_lt_layout *one : {a, b, c, d}) {
        if (one->rows < 1 || one->cols < 1 || one->ld < one->rows) {
            return CUBLAS_STATUS_INVALID_VALUE;
        }
    }
    int64_t m = desc->trans_a ? a->cols : a->rows, n = desc->trans_b ? b->rows : b->cols;
    *k = desc->trans_a ? a->rows : a->cols;
    bool shapes =
        (desc->trans_b ? b->cols : b->rows) == *k && c->rows == m && c->cols == n && d->rows == m && d->cols == n;
    if (!shapes) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    bool types = a->type == b->type && c->type == d->type && (d->type == CUDA_R_32F || d->type == a->type);
    bool bias = desc->epilogue != CUBLASLT_EPILOGUE_BIAS ||
                ((desc->bias_type < 0 || desc->bias_type == (int)d->type) && setting("SOFTGPU_NO_EPILOGUE", 0) == 0);
    return types && bias ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

// What an algorithm remembers: the problem in one number, promised alignments, work space.
static uint64_t problem_key(const softgpu_lt_desc *desc, const softgpu_lt_layout *a, const softgpu_lt_layout *b,
                            const softgpu_lt_layout *c, const softgpu_lt_layout *d)
{
    uint64_t key = 0x50f7u + (uint64_t)desc->compute * 8 + (desc->trans_a ? 4 : 0) + (desc->trans_b ? 2 : 0) +
                   (desc->epilogue == CUBLASLT_EPILOGUE_BIAS ? 1 : 0);
    for (const softgpu_lt_layout *one : {a, b, c, d}) {
        for (uint64_t value : {(uint64_t)one->type, (uint64_t)one->rows, (uint64_t)one->cols, (uint64_t)one->ld}) {
            key = (key ^ value) * 0x9e3779b97f4a7c15U + (key >> 29);
        }
    }
    return key;
}

// The bias has no preference: what counts is the pointer that the description held.
static uint64_t bias_alignment(const softgpu_lt_desc *desc)
{
    uintptr_t bits = reinterpret_cast<uintptr_t>(desc->bias) | 256;
    return desc->epilogue == CUBLASLT_EPILOGUE_BIAS ? bits & (~bits + 1) : 1;
}

static void check_algo(const cublasLtMatmulAlgo_t *algo, uint64_t key, const void *const pointers[5],
                       size_t workspace_bytes)
{
    static const char *const names[] = {"A", "B", "C", "D", "the bias"};
    if (algo->data[0] != key) {
        die("cublasLtMatmul: the algorithm was chosen for another problem");
    }
    for (int i = 0; i < 5; i++) {
        if ((uintptr_t)pointers[i] % algo->data[1 + i] != 0) {
            die("cublasLtMatmul: %s at %p is not aligned to the %u bytes that were promised to the heuristic", names[i],
                pointers[i], (unsigned)algo->data[1 + i]);
        }
    }
    if (workspace_bytes < algo->data[6]) {
        die("cublasLtMatmul: %zu bytes of work space, the algorithm needs %zu", workspace_bytes, (size_t)algo->data[6]);
    }
}

template <typename T> static bool take(const void *value, size_t bytes, T *out)
{
    if (value == nullptr || bytes != sizeof *out) {
        return false;
    }
    memcpy(out, value, sizeof *out);
    return true;
}

extern "C" {

size_t cublasLtGetVersion(void)
{
    return CUBLAS_VER_MAJOR * 10000 + CUBLAS_VER_MINOR * 100 + CUBLAS_VER_PATCH;
}

const char *cublasLtGetStatusName(cublasStatus_t status)
{
    switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_ARCH_MISMATCH: return "CUBLAS_STATUS_ARCH_MISMATCH";
    case CUBLAS_STATUS_EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_INTERNAL_ERROR: return "CUBLAS_STATUS_INTERNAL_ERROR";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    }
    return "unknown cuBLAS status";
}

const char *cublasLtGetStatusString(cublasStatus_t status)
{
    return cublasLtGetStatusName(status);
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *out)
{
    Call call("cublasLtCreate");
    if (call.failed()) {
        return call.error() == cudaErrorMemoryAllocation ? CUBLAS_STATUS_ALLOC_FAILED : CUBLAS_STATUS_NOT_INITIALIZED;
    }
    *out = new softgpu_lt_handle{current_device()};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    delete handle;
    return handle != nullptr ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute,
                                        cudaDataType_t scale_type)
{
    if (scale_type != CUDA_R_32F) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    *out = new softgpu_lt_desc;
    (*out)->compute = compute;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc)
{
    delete desc;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t bytes)
{
    int32_t op = 0;
    bool good = false;
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
    case CUBLASLT_MATMUL_DESC_TRANSB:
        good = take(value, bytes, &op) && (op == CUBLAS_OP_N || op == CUBLAS_OP_T);
        (attribute == CUBLASLT_MATMUL_DESC_TRANSA ? desc->trans_a : desc->trans_b) = op == CUBLAS_OP_T;
        break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        good = take(value, bytes, &desc->epilogue) &&
               (desc->epilogue == CUBLASLT_EPILOGUE_DEFAULT || desc->epilogue == CUBLASLT_EPILOGUE_BIAS);
        break;
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: good = take(value, bytes, &desc->bias); break;
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: good = take(value, bytes, &desc->bias_type); break;
    }
    return good ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type, uint64_t rows, uint64_t cols,
                                          int64_t ld)
{
    *out = new softgpu_lt_layout{type, (int64_t)rows, (int64_t)cols, ld};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
    delete layout;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out)
{
    *out = new softgpu_lt_preference;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
    delete preference;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void *value,
                                                    size_t bytes)
{
    uint32_t mask = 0;
    bool good = false;
    switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: good = take(value, bytes, &preference->workspace_bytes); break;
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: good = take(value, bytes, &mask); break;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES: {
        uint32_t *alignment = &preference->alignment[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES];
        good = take(value, bytes, alignment) && *alignment > 0;
        break;
    }
    }
    return good ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

enum { WORKSPACE_WISH_BYTES = 1 << 16 };

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t *results, int *returned)
{
    *returned = 0;
    if (handle == nullptr || preference == nullptr || requested < 1) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    int64_t k = 0;
    cublasStatus_t status = check_problem(desc, a, b, c, d, &k);
    if (status != CUBLAS_STATUS_SUCCESS) {
        return status;
    }
    results[0] = {};
    results[0].state = CUBLAS_STATUS_SUCCESS;
    results[0].wavesCount = 1.0f;
    uint64_t workspace = preference->workspace_bytes < WORKSPACE_WISH_BYTES ? 0 : WORKSPACE_WISH_BYTES;
    results[0].workspaceSize = workspace;
    results[0].algo.data[0] = problem_key(desc, a, b, c, d);
    for (int i = 0; i < 4; i++) {
        results[0].algo.data[1 + i] = preference->alignment[i];
    }
    results[0].algo.data[5] = bias_alignment(desc);
    results[0].algo.data[6] = workspace;
    *returned = 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout,
                              const void *beta, const void *c, cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algo, void *workspace,
                              size_t workspace_bytes, cudaStream_t stream)
{
    Call call("cublasLtMatmul");
    if (call.failed()) {
        return CUBLAS_STATUS_EXECUTION_FAILED;
    }
    int64_t k = 0;
    if (handle == nullptr || alpha == nullptr || beta == nullptr || a == nullptr || b == nullptr || d == nullptr) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (handle->device != current_device()) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    cublasStatus_t status = check_problem(desc, a_layout, b_layout, c_layout, d_layout, &k);
    if (status != CUBLAS_STATUS_SUCCESS) {
        return status;
    }
    if (algo != nullptr) {
        const void *const pointers[5] = {a, b, c, d, desc->bias};
        check_algo(algo, problem_key(desc, a_layout, b_layout, c_layout, d_layout), pointers, workspace_bytes);
    }
    if (workspace_bytes > 0 && (uintptr_t)workspace % 256 != 0) {
        die("cublasLtMatmul: the work space at %p is not aligned to 256 bytes", workspace);
    }
    Product p = {*desc,
                 {*a_layout, static_cast<const char *>(a)},
                 {*b_layout, static_cast<const char *>(b)},
                 {*c_layout, static_cast<const char *>(c)},
                 {*d_layout, static_cast<const char *>(d)},
                 k,
                 0,
                 0,
                 static_cast<char *>(workspace),
                 algo != nullptr ? (size_t)algo->data[6] : 0};
    memcpy(&p.alpha, alpha, sizeof p.alpha);
    memcpy(&p.beta, beta, sizeof p.beta);
    if (p.desc.epilogue == CUBLASLT_EPILOGUE_BIAS && p.desc.bias == nullptr) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    return enqueue(stream, make_op("cublasLtMatmul", [p] { run_product(p); })) == cudaSuccess
               ? CUBLAS_STATUS_SUCCESS
               : CUBLAS_STATUS_INVALID_VALUE;
}

} // extern "C"
