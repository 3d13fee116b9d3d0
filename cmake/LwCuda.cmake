# The CUDA backend. It needs its sources (kernels/cuda/*.cu) and a CUDA toolkit; AUTO takes it when both are there.
file(GLOB LW_KERNELS_CUDA CONFIGURE_DEPENDS kernels/cuda/*.cu)
set(LWMPI_HAVE_CUDA OFF)
string(TOUPPER "${LWMPI_CUDA}" LW_CUDA_WISH)
if(NOT LW_CUDA_WISH MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "LWMPI_CUDA=${LWMPI_CUDA}: must be AUTO, ON or OFF.")
endif()
if(LW_CUDA_WISH STREQUAL "ON" AND NOT LW_KERNELS_CUDA)
  message(FATAL_ERROR "lwmpi ${PROJECT_VERSION} has no CUDA backend yet: there is nothing in kernels/cuda to build. "
                      "Build the CPU program with: cmake --preset release && cmake --build --preset release")
endif()
message(STATUS "lwmpi: CUDA backend: ${LWMPI_HAVE_CUDA}")
