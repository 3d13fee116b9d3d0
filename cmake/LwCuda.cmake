# The CUDA backend: kernels/cuda/*.cu and mpi/*_nccl.c in a library of their own, chosen when a program is linked.
# AUTO takes it when nvcc, cuBLAS and NCCL are there.
string(TOUPPER "${LWMPI_CUDA}" LW_CUDA_WISH)
if(NOT LW_CUDA_WISH MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "LWMPI_CUDA=${LWMPI_CUDA}: must be AUTO, ON or OFF.")
endif()

file(GLOB LW_CUDA_KERNELS CONFIGURE_DEPENDS kernels/cuda/*.cu)
file(GLOB LW_CUDA_NCCL CONFIGURE_DEPENDS mpi/*_nccl.c)
list(FILTER LW_CUDA_NCCL EXCLUDE REGEX "/absent_nccl\\.c$")

set(LWMPI_HAVE_CUDA OFF)
message(STATUS "lwmpi: CUDA backend: ${LWMPI_HAVE_CUDA}")

# lw_cuda_library(TARGET): the CUDA backend as a static library.
function(lw_cuda_library target)
  message(FATAL_ERROR "lwmpi: the CUDA backend cannot be built yet")
endfunction()

# lw_no_cuda_library(TARGET): what stands in its place in a build without it.
function(lw_no_cuda_library target)
  add_library(${target} STATIC kernels/cuda/absent.c mpi/absent_nccl.c)
  lw_compile_options(${target})
endfunction()
