// launch.cuh: what keeps the kernels free of <<< >>>, so that they compile with nvcc and, against the headers of
// tests/softgpu, as C++ for a machine without a GPU.
//
//   LW_LAUNCH((kernel<float>), grid, block, shared_bytes, stream, arguments...)
//   LW_DYNAMIC_SHARED(float, tile);        // inside a kernel: the shared_bytes of the launch
#ifndef LW_LAUNCH_CUH
#define LW_LAUNCH_CUH

#ifdef LW_SOFTGPU
#include <softgpu_launch.h>
#else
#include <cuda_runtime.h>
#define LW_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    kernel<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__)
#define LW_DYNAMIC_SHARED(type, name)                                         \
    extern __shared__ __align__(16) unsigned char lw_dynamic_shared_memory[]; \
    type *name = reinterpret_cast<type *>(lw_dynamic_shared_memory)
#endif

#endif
