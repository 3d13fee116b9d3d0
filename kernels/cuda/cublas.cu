// cublas.cu: finds and opens cuBLASLt.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "cublas.cuh"

// What Hopper's kernels want; older GPUs need 4 MiB.
#define WORK_BYTES ((size_t)32 << 20)

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

#ifdef LW_SOFTGPU
static lw_status load(lw_error *err, lw_cublas_functions *out)
{
    (void)err;
#define LW_CUBLAS_TAKE(name) out->name = cublasLt##name;
    LW_CUBLAS_FUNCTIONS(LW_CUBLAS_TAKE)
#undef LW_CUBLAS_TAKE
    return LW_OK;
}
#else
// The folder of the library that was there at the build (LW_CUBLAS_DIR) stands in where the loader does not find one.
static void *open_library(lw_error *err)
{
    static const char name[] = "libcublasLt.so." TEXT(CUBLAS_VER_MAJOR);
    char path[1024];
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL && LW_CUBLAS_DIR[0] != '\0') {
        (void)snprintf(path, sizeof path, "%s/%s", LW_CUBLAS_DIR, name);
        library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    }
    if (library == NULL) {
        const char *why = dlerror();
        lw_fail(err, LW_ERR_DEVICE,
                "cuda: %s, which lwmpi computes products with, cannot be loaded (%s): install cuBLAS " TEXT(
                    CUBLAS_VER_MAJOR) " or put the lib64 folder of the CUDA toolkit in LD_LIBRARY_PATH",
                name, why != NULL ? why : "no reason given");
    }
    return library;
}

static lw_status load(lw_error *err, lw_cublas_functions *out)
{
    void *library = open_library(err); // stays: handles and streams of the process may use it to its end
    if (library == NULL) {
        return LW_ERR_DEVICE;
    }
#define LW_CUBLAS_TAKE(name)                                                                               \
    out->name = reinterpret_cast<decltype(out->name)>(dlsym(library, "cublasLt" #name));                   \
    if (out->name == NULL) {                                                                               \
        return lw_fail(err, LW_ERR_DEVICE,                                                                 \
                       "cuda: the cuBLASLt found here has no cublasLt" #name                               \
                       ": install cuBLAS " TEXT(CUBLAS_VER_MAJOR) "." TEXT(CUBLAS_VER_MINOR) " or newer"); \
    }
    LW_CUBLAS_FUNCTIONS(LW_CUBLAS_TAKE)
#undef LW_CUBLAS_TAKE
    return LW_OK;
}
#endif

lw_status lw_cublas_open(lw_cuda *c, lw_error *err)
{
    lw_cublas *b = static_cast<lw_cublas *>(calloc(1, sizeof *b));
    if (b == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "cuda: no host memory for cuBLAS");
    }
    c->blas = b;
    LW_TRY(load(err, &b->call));
    cublasStatus_t code = b->call.Create(&b->handle);
    if (code != CUBLAS_STATUS_SUCCESS) {
        return lw_fail(err, LW_ERR_DEVICE, "cuda: cuBLASLt cannot be started on %s: %s", c->info.name,
                       b->call.GetStatusString(code));
    }
    LW_TRY(lw_cuda_take(c, WORK_BYTES, err, &b->work));
    b->work_bytes = WORK_BYTES;
    return lw_gemm_plans_open(b, err);
}

void lw_cublas_close(lw_cuda *c)
{
    lw_cublas *b = c->blas;
    if (b == NULL) {
        return;
    }
    lw_gemm_plans_close(b);
    (void)cudaFree(b->work);
    if (b->handle != NULL) {
        (void)b->call.Destroy(b->handle);
    }
    free(b);
    c->blas = NULL;
}

void lw_cublas_version(char *out, size_t size)
{
    (void)snprintf(out, size, "%d.%d.%d", CUBLAS_VER_MAJOR, CUBLAS_VER_MINOR, CUBLAS_VER_PATCH);
}

void lw_cublas_version_of(const lw_device *dev, char *out, size_t size)
{
    if (lw_cuda_index(dev) < 0) {
        lw_cublas_version(out, size);
        return;
    }
    const size_t version = reinterpret_cast<const lw_cuda *>(dev)->blas->call.GetVersion();
    (void)snprintf(out, size, "%zu.%zu.%zu", version / 10000, version / 100 % 100, version % 100);
}
