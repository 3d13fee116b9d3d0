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
