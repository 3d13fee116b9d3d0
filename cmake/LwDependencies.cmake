# Everything lwmpi links with, as imported targets. A missing library ends the configuration with its Debian package.

find_package(Threads REQUIRED)

find_package(MPI COMPONENTS C)
if(NOT MPI_C_FOUND)
  message(FATAL_ERROR "No MPI for C found. Debian: apt install libopenmpi-dev openmpi-bin. Cluster: load an MPI module, "
                      "or point at its compiler wrapper with -DMPI_C_COMPILER=/path/to/mpicc.")
endif()
find_package(OpenMP REQUIRED COMPONENTS C)

include(LwLibraries)

# OpenBLAS, or any other BLAS with a cblas.h (then thread control and version text of OpenBLAS are left out).
pkg_check_modules(LW_OPENBLAS IMPORTED_TARGET GLOBAL openblas)
if(LW_OPENBLAS_FOUND)
  add_library(lw::blas ALIAS PkgConfig::LW_OPENBLAS)
else()
  find_package(BLAS)
  find_path(LW_CBLAS_INCLUDE cblas.h PATH_SUFFIXES openblas cblas)
  if(NOT BLAS_FOUND OR NOT LW_CBLAS_INCLUDE)
    message(FATAL_ERROR "No BLAS with cblas.h found. Debian: apt install libopenblas-dev. Elsewhere: load a BLAS module, "
                        "or set BLA_VENDOR, BLAS_LIBRARIES and LW_CBLAS_INCLUDE.")
  endif()
  add_library(lw_blas INTERFACE)
  target_link_libraries(lw_blas INTERFACE BLAS::BLAS)
  target_include_directories(lw_blas SYSTEM INTERFACE "${LW_CBLAS_INCLUDE}")
  add_library(lw::blas ALIAS lw_blas)
endif()

include(CheckSymbolExists)
set(CMAKE_REQUIRED_LIBRARIES lw::blas)
if(LW_OPENBLAS_FOUND) # check_symbol_exists does not see through the alias
  set(CMAKE_REQUIRED_LIBRARIES PkgConfig::LW_OPENBLAS)
endif()
check_symbol_exists(openblas_get_config "cblas.h" LW_HAVE_OPENBLAS)
unset(CMAKE_REQUIRED_LIBRARIES)
