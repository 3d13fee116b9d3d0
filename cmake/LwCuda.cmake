# The CUDA backend: kernels/cuda/*.cu and mpi/*_nccl.c in a library of their own, chosen when a program is linked.
# AUTO takes it when nvcc, cuBLAS and NCCL are there. The language CUDA is enabled here alone, so that a machine without
# nvcc configures as if there were none.
string(TOUPPER "${LWMPI_CUDA}" LW_CUDA_WISH)
if(NOT LW_CUDA_WISH MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "LWMPI_CUDA=${LWMPI_CUDA}: must be AUTO, ON or OFF.")
endif()

file(GLOB LW_CUDA_KERNELS CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/kernels/cuda/*.cu")
file(GLOB LW_CUDA_NCCL CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/mpi/*_nccl.c")
list(FILTER LW_CUDA_NCCL EXCLUDE REGEX "/absent_nccl\\.c$")

# What is missing, in words; empty when the backend can be built.
set(LW_CUDA_MISSING "")

macro(lw_find_cuda)
  find_program(LW_NVCC nvcc HINTS "$ENV{CUDA_HOME}/bin" "$ENV{CUDA_PATH}/bin" /usr/local/cuda/bin /opt/cuda/bin)
  if(LW_NVCC AND NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    set(ENV{CUDACXX} "${LW_NVCC}")
  endif()
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    # A100, H100 and H200 in machine code; newer GPUs translate the PTX when the program first runs.
    set(CMAKE_CUDA_ARCHITECTURES "80-real;90" CACHE STRING "GPUs to compile for, as CMake names them")
    enable_language(CUDA)
    find_package(CUDAToolkit 12.0)
  elseif(LW_NVCC)
    string(APPEND LW_CUDA_MISSING "a C++ compiler that ${LW_NVCC} works with; ")
  else()
    string(APPEND LW_CUDA_MISSING "nvcc (CUDA toolkit 12 or newer: load its module, or set CUDACXX=/path/to/nvcc); ")
  endif()
  if(CMAKE_CUDA_COMPILER AND NOT TARGET CUDA::cublasLt)
    string(APPEND LW_CUDA_MISSING "cuBLAS of CUDA 12 or newer (-DCUDAToolkit_ROOT=/path/to/cuda); ")
  endif()
  find_path(LW_NCCL_INCLUDE nccl.h HINTS "${NCCL_ROOT}" "$ENV{NCCL_ROOT}" "$ENV{NCCL_HOME}" ${CUDAToolkit_INCLUDE_DIRS}
            PATH_SUFFIXES include)
  find_library(LW_NCCL_LIBRARY nccl HINTS "${NCCL_ROOT}" "$ENV{NCCL_ROOT}" "$ENV{NCCL_HOME}" "${CUDAToolkit_LIBRARY_DIR}"
               PATH_SUFFIXES lib lib64)
  if(NOT LW_NCCL_INCLUDE OR NOT LW_NCCL_LIBRARY)
    string(APPEND LW_CUDA_MISSING "NCCL (Debian with NVIDIA's repository: apt install libnccl-dev; else "
                                  "-DNCCL_ROOT=/path/to/nccl); ")
  endif()
  if(LWMPI_SANITIZE)
    string(APPEND LW_CUDA_MISSING "a build without LWMPI_SANITIZE: nvcc does not take those flags; ")
  endif()
endmacro()

set(LWMPI_HAVE_CUDA OFF)
if(NOT LW_CUDA_WISH STREQUAL "OFF" AND NOT (LWMPI_SANITIZE AND LW_CUDA_WISH STREQUAL "AUTO"))
  lw_find_cuda()
  string(REGEX REPLACE "; $" "" LW_CUDA_MISSING "${LW_CUDA_MISSING}")
  if(LW_CUDA_MISSING STREQUAL "")
    set(LWMPI_HAVE_CUDA ON)
  elseif(LW_CUDA_WISH STREQUAL "ON")
    message(FATAL_ERROR "LWMPI_CUDA=ON: the CUDA backend needs ${LW_CUDA_MISSING}. "
                        "Without it, -DLWMPI_CUDA=OFF builds lwmpi for CPUs.")
  endif()
endif()

# "sm_80, sm_90, PTX 9.0" of CMAKE_CUDA_ARCHITECTURES; a word like "native" as it is.
function(lw_cuda_architecture_words out)
  set(words "")
  foreach(one IN LISTS CMAKE_CUDA_ARCHITECTURES)
    if(one MATCHES "^([0-9]+)([0-9][a-z]?)(-real|-virtual)?$")
      if(NOT CMAKE_MATCH_3 STREQUAL "-virtual")
        list(APPEND words "sm_${CMAKE_MATCH_1}${CMAKE_MATCH_2}")
      endif()
      if(NOT CMAKE_MATCH_3 STREQUAL "-real")
        list(APPEND words "PTX ${CMAKE_MATCH_1}.${CMAKE_MATCH_2}")
      endif()
    else()
      list(APPEND words "${one}")
    endif()
  endforeach()
  list(JOIN words ", " words)
  set(${out} "${words}" PARENT_SCOPE)
endfunction()

if(LWMPI_HAVE_CUDA)
  lw_cuda_architecture_words(LW_CUDA_ARCHITECTURES)
  message(STATUS "lwmpi: CUDA backend: ON (CUDA ${CUDAToolkit_VERSION}, ${LW_CUDA_ARCHITECTURES})")
elseif(LW_CUDA_MISSING)
  message(STATUS "lwmpi: CUDA backend: OFF (missing: ${LW_CUDA_MISSING})")
else()
  message(STATUS "lwmpi: CUDA backend: OFF")
endif()

# lw_cuda_library(TARGET): the CUDA backend as a static library. cuBLASLt and NCCL are not linked but loaded when they are
# wanted (kernels/cuda/cublas.cuh, mpi/load_nccl.h); LW_CUBLAS_DIR and LW_NCCL_DIR are where they are looked for last.
function(lw_cuda_library target)
  add_library(${target} STATIC ${LW_CUDA_KERNELS} ${LW_CUDA_NCCL})
  get_target_property(cublas CUDA::cublasLt IMPORTED_LOCATION)
  get_filename_component(cublas_dir "${cublas}" DIRECTORY)
  get_filename_component(nccl_dir "${LW_NCCL_LIBRARY}" DIRECTORY)
  target_compile_definitions(${target} PRIVATE "LW_CUDA_ARCHITECTURES=\"${LW_CUDA_ARCHITECTURES}\""
                                               "LW_CUBLAS_DIR=\"${cublas_dir}\"" "LW_NCCL_DIR=\"${nccl_dir}\"")
  target_compile_features(${target} PRIVATE cuda_std_17)
  target_compile_options(${target} PRIVATE
    "$<$<COMPILE_LANGUAGE:CUDA>:-lineinfo;-Xcompiler=-Wall,-Wextra,-fno-exceptions,-fno-rtti>"
    "$<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${LWMPI_WERROR}>>:-Werror=all-warnings>")
  target_include_directories(${target} SYSTEM PRIVATE "${LW_NCCL_INCLUDE}" ${CUDAToolkit_INCLUDE_DIRS})
  target_link_libraries(${target} PRIVATE CUDA::cudart_static ${CMAKE_DL_LIBS})
  lw_compile_options(${target})
endfunction()

# lw_no_cuda_library(TARGET): what stands in its place in a build without it.
function(lw_no_cuda_library target)
  add_library(${target} STATIC "${CMAKE_SOURCE_DIR}/kernels/cuda/absent.c" "${CMAKE_SOURCE_DIR}/mpi/absent_nccl.c")
  lw_compile_options(${target})
endfunction()
