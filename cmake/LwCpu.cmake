# The CPU device: each operator file of kernels/cpu is compiled once for any machine and once more for each newer
# instruction set below, chosen at run time (kernels/cpu/cpu.h). What does not depend on it is compiled once.
include(CheckCCompilerFlag)

file(GLOB LW_CPU_OPERATORS CONFIGURE_DEPENDS kernels/cpu/*.c)
set(LW_CPU_ONCE "${CMAKE_CURRENT_SOURCE_DIR}/kernels/cpu/memory.c" "${CMAKE_CURRENT_SOURCE_DIR}/kernels/cpu/open.c")
list(REMOVE_ITEM LW_CPU_OPERATORS ${LW_CPU_ONCE})

# Nothing here reads errno or floating-point traps after a libm call, so loops over expf and sqrtf may be vectorised.
# NaN and infinity keep their meaning (no -ffast-math): non-finite losses must be seen.
set(LW_CPU_OPTIONS -fno-math-errno -fno-trapping-math)

# lw_cpu_library(TARGET) adds the device to a target.
function(lw_cpu_library target)
  target_sources(${target} PRIVATE ${LW_CPU_OPERATORS} ${LW_CPU_ONCE})
  set_source_files_properties(${LW_CPU_OPERATORS} PROPERTIES COMPILE_OPTIONS "${LW_CPU_OPTIONS}")
  if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
    return()
  endif()
  foreach(isa IN ITEMS v3 v4)
    check_c_compiler_flag(-march=x86-64-${isa} LW_CC_HAS_${isa})
    if(LW_CC_HAS_${isa})
      add_library(lwmpi_cpu_${isa} OBJECT ${LW_CPU_OPERATORS})
      target_include_directories(lwmpi_cpu_${isa} PRIVATE $<TARGET_PROPERTY:${target},INCLUDE_DIRECTORIES>)
      target_compile_definitions(lwmpi_cpu_${isa} PRIVATE $<TARGET_PROPERTY:${target},COMPILE_DEFINITIONS>
                                                          LW_CPU_ISA=${isa})
      target_compile_options(lwmpi_cpu_${isa} PRIVATE -march=x86-64-${isa})
      target_link_libraries(lwmpi_cpu_${isa} PRIVATE OpenMP::OpenMP_C lw::blas)
      lw_compile_options(lwmpi_cpu_${isa})
      target_sources(${target} PRIVATE $<TARGET_OBJECTS:lwmpi_cpu_${isa}>)
      string(TOUPPER "LWMPI_CPU_${isa}" definition)
      target_compile_definitions(${target} PUBLIC ${definition}=1)
    endif()
  endforeach()
endfunction()
