# Target `bundle`: lwmpi-VERSION-SYSTEM-PROCESSOR.tar.gz in the build folder, for machines where nothing can be installed:
# the program with its own mpirun and every shared library that is not the system's or CUDA's. It runs from wherever it
# is unpacked.
#
# The program is linked once more, to look for its libraries beside itself: DT_RPATH, not DT_RUNPATH, because only that
# one also counts for the libraries' own needs and for Open MPI's plugins.
add_executable(lwmpi_bundled EXCLUDE_FROM_ALL src/main.c)
target_link_libraries(lwmpi_bundled PRIVATE lwmpi_core)
lw_compile_options(lwmpi_bundled)
target_link_options(lwmpi_bundled PRIVATE LINKER:--disable-new-dtags)
set_target_properties(lwmpi_bundled PROPERTIES
  RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bundle"
  OUTPUT_NAME lwmpi
  SKIP_BUILD_RPATH OFF BUILD_WITH_INSTALL_RPATH ON INSTALL_RPATH_USE_LINK_PATH OFF INSTALL_RPATH "$ORIGIN/../lib")

string(TOLOWER "lwmpi-${PROJECT_VERSION}-${CMAKE_SYSTEM_NAME}-${CMAKE_SYSTEM_PROCESSOR}" LW_BUNDLE_NAME)
add_custom_target(bundle
  COMMAND "${CMAKE_COMMAND}" "-DBUILD_DIR=${CMAKE_BINARY_DIR}" "-DPROGRAM=$<TARGET_FILE:lwmpi_bundled>"
          "-DMPIRUN=${MPIEXEC_EXECUTABLE}" "-DNAME=${LW_BUNDLE_NAME}"
          "-DDATA_FOLDER=${CMAKE_INSTALL_DATADIR}/lwmpi" -P "${CMAKE_CURRENT_LIST_DIR}/MakeBundle.cmake"
  DEPENDS lwmpi lwmpi_bundled
  COMMENT "Making ${LW_BUNDLE_NAME}.tar.gz"
  VERBATIM)
if(TARGET man)
  add_dependencies(bundle man)
endif()

# Target `gpu_tests`, with CUDA: lwmpi-VERSION-SYSTEM-PROCESSOR-gpu-tests.tar.gz in the build folder: the test programs that
# tests/gpu/run.sh starts beside a bundle, whose libraries they take. One program holds them all: each alone would bring
# the kernels again, 30 MB.
if(LWMPI_HAVE_CUDA AND LWMPI_TESTS)
  file(GLOB sources CONFIGURE_DEPENDS tests/ops/*.c tests/support/*.c)
  list(FILTER sources EXCLUDE REGEX "/test_[^/]*$")
  add_executable(lwmpi_gpu_tests EXCLUDE_FROM_ALL tests/gpu/programs.c tests/ops/test_ops.c tests/ops/test_cuda.c
                 tests/parity/test_lora.c ${sources})
  set_source_files_properties(tests/ops/test_ops.c PROPERTIES COMPILE_DEFINITIONS "main=test_ops_ops")
  set_source_files_properties(tests/ops/test_cuda.c PROPERTIES COMPILE_DEFINITIONS "main=test_ops_cuda")
  set_source_files_properties(tests/parity/test_lora.c PROPERTIES COMPILE_DEFINITIONS "main=test_parity_lora")
  target_include_directories(lwmpi_gpu_tests PRIVATE tests/support)
  target_link_libraries(lwmpi_gpu_tests PRIVATE lwmpi_core)
  lw_compile_options(lwmpi_gpu_tests)
  target_compile_options(lwmpi_gpu_tests PRIVATE -UNDEBUG) # assert is a check in a test
  set_target_properties(lwmpi_gpu_tests PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")

  set(name "${LW_BUNDLE_NAME}-gpu-tests")
  set(program "${CMAKE_BINARY_DIR}/bundle/${name}/lwmpi_gpu_tests")
  if(CMAKE_STRIP)
    set(strip COMMAND "${CMAKE_STRIP}" --strip-unneeded "${program}")
  endif()
  add_custom_target(gpu_tests
    COMMAND "${CMAKE_COMMAND}" -E make_directory "${CMAKE_BINARY_DIR}/bundle/${name}"
    COMMAND "${CMAKE_COMMAND}" -E copy $<TARGET_FILE:lwmpi_gpu_tests> "${program}"
    ${strip}
    COMMAND "${CMAKE_COMMAND}" -E chdir "${CMAKE_BINARY_DIR}/bundle" "${CMAKE_COMMAND}" -E tar czf
            "${CMAKE_BINARY_DIR}/${name}.tar.gz" --format=gnutar "${name}"
    DEPENDS lwmpi_gpu_tests
    COMMENT "Making ${name}.tar.gz"
    VERBATIM)
endif()
