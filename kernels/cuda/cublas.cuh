// cublas.cuh: cuBLASLt, loaded when a GPU is opened. Linked, it would cost every start of the program about 100 ms
// (half a gigabyte of library to relocate), also where there is no GPU, and a machine without it could not start lwmpi
// at all.
#ifndef LW_CUBLAS_CUH
#define LW_CUBLAS_CUH

#include <cublasLt.h>

#include "cuda_internal.cuh"

// X(name without "cublasLt")
#define LW_CUBLAS_FUNCTIONS(X) \
    X(Create)                  \
    X(Destroy)                 \
    X(GetVersion)              \
    X(GetStatusString)         \
    X(Matmul)                  \
    X(MatmulAlgoGetHeuristic)  \
    X(MatmulDescCreate)        \
    X(MatmulDescDestroy)       \
    X(MatmulDescSetAttribute)  \
    X(MatrixLayoutCreate)      \
    X(MatrixLayoutDestroy)     \
    X(MatmulPreferenceCreate)  \
    X(MatmulPreferenceDestroy) \
    X(MatmulPreferenceSetAttribute)

typedef struct lw_cublas_functions {
#define LW_CUBLAS_MEMBER(name) decltype(&cublasLt##name) name;
    LW_CUBLAS_FUNCTIONS(LW_CUBLAS_MEMBER)
#undef LW_CUBLAS_MEMBER
} lw_cublas_functions;

typedef struct lw_gemm_plan lw_gemm_plan; // gemm.cu

struct lw_cublas {
    lw_cublas_functions call;
    cublasLtHandle_t handle;
    void *work; // (work_bytes) on the device
    size_t work_bytes;
    lw_gemm_plan *plans; // algorithms chosen so far
    uint64_t clock;      // counts products, for the age of plans
};

// gemm.cu
lw_status lw_gemm_plans_open(lw_cublas *b, lw_error *err);
void lw_gemm_plans_close(lw_cublas *b);

#endif
