// device_cuda.h: the CUDA backend as the rest of lwmpi sees it. A build without CUDA links absent.c instead: the same
// functions, which say that it is not there. All functions are Local.
#ifndef LW_DEVICE_CUDA_H
#define LW_DEVICE_CUDA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "device/device.h"

#ifdef __cplusplus
extern "C" {
#endif

bool lw_cuda_built(void);

// GPUs that this process sees; 0 also without a driver or with one that is too old (lw_cuda_why_not tells).
int lw_cuda_device_count(void);

// Why there is no GPU, in words a user can act on; "" when there is one.
void lw_cuda_why_not(char *out, size_t size);

typedef struct lw_cuda_info {
    char name[96];    // "NVIDIA H200"
    char uuid[48];    // "GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx": tells one GPU from another on a host
    int major, minor; // compute capability
    int multiprocessors;
    size_t block_bytes; // most shared memory of a block
    size_t memory_bytes;
} lw_cuda_info;

// Looks at a GPU, without a context on it. LW_ERR_DEVICE.
lw_status lw_cuda_info_of(int index, lw_error *err, lw_cuda_info *out);

// What all its users leave of a GPU, and what there is to share, in the driver's own count (some MiB less than
// memory_bytes). It takes a context on the GPU: half a GiB of it, where this process has none, or the GPU as a whole in
// the compute mode EXCLUSIVE_PROCESS. So it is for the device that this process has open, or for one that opens none;
// the GPU is the calling thread's current one from then on. LW_ERR_DEVICE also where another process has it to itself.
lw_status lw_cuda_memory_of(int index, lw_error *err, size_t *free_bytes, size_t *total_bytes);

// Opens GPU `index` for frozen weights and operands in frozen_type (LW_BF16, LW_F32): context, stream, cuBLAS, pinned
// staging, and a self-test of the kernels, which refuses a GPU that the binary holds no code for. LW_ERR_DEVICE,
// LW_ERR_MEMORY, LW_ERR_UNSUPPORTED (not in this build), LW_ERR_TIMEOUT.
lw_status lw_cuda_open(int index, lw_dtype frozen_type, lw_error *err, lw_device **out);

// Which GPU an open device is, as lw_cuda_info_of counts them; -1 for a device that is none.
int lw_cuda_index(const lw_device *dev);

// cudaStream_t of the device's work; NULL for another device.
void *lw_cuda_stream(lw_device *dev);

// Waits like `sync`, at most timeout_s, whatever dev->timeout_s: LW_ERR_TIMEOUT names `what`. poll, where not NULL, is
// called while waiting and may end the wait with a failure.
lw_status lw_cuda_sync_until(lw_device *dev, double timeout_s, const char *what,
                             lw_status (*poll)(void *context, double waited_s, lw_error *err), void *context,
                             lw_error *err);

// "13.0, driver 13.0"; "not in this build".
void lw_cuda_version(char *out, size_t size);
// "13.1.0": of the library that this lwmpi was built with, and of the one that `dev` computes with (the former where it
// is no GPU); "not in this build".
void lw_cublas_version(char *out, size_t size);
void lw_cublas_version_of(const lw_device *dev, char *out, size_t size);
// "sm_80, sm_90, PTX 9.0": what the kernels were compiled for.
void lw_cuda_architectures(char *out, size_t size);

#ifdef __cplusplus
}
#endif

#endif
