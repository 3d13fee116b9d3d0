# cmake -DBUILD_DIR= -DPROGRAM= -DMPIRUN= -DNAME= -DDATA_FOLDER= -P MakeBundle.cmake      (the target `bundle`)
#
# NAME/bin/lwmpi, mpirun, orted    mpirun and orted are scripts that set the paths and start the real ones in libexec/
# NAME/lib                         shared libraries; Open MPI's and PMIx's plugins at their places relative to a prefix
# NAME/share                       what `cmake --install` puts there, Open MPI's messages, and the mark of a bundle
set(stage "${BUILD_DIR}/bundle/${NAME}")
file(REMOVE_RECURSE "${stage}")
execute_process(COMMAND "${CMAKE_COMMAND}" --install "${BUILD_DIR}" --prefix "${stage}"
                OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
file(COPY_FILE "${PROGRAM}" "${stage}/bin/lwmpi") # in place of the one that looks where it was built

# --- Open MPI: where it is, by its own word
cmake_path(GET MPIRUN PARENT_PATH bin)
find_program(OMPI_INFO ompi_info HINTS "${bin}" NO_DEFAULT_PATH)
find_program(ORTERUN orterun HINTS "${bin}" NO_DEFAULT_PATH)
find_program(ORTED orted HINTS "${bin}" NO_DEFAULT_PATH)
if(NOT OMPI_INFO OR NOT ORTERUN OR NOT ORTED)
  message(FATAL_ERROR "bundle: ${MPIRUN} is not Open MPI 3 or 4 (ompi_info, orterun and orted beside it are needed)")
endif()
foreach(what IN ITEMS prefix pkglibdir pkgdatadir)
  execute_process(COMMAND "${OMPI_INFO}" --parsable --path ${what} OUTPUT_VARIABLE line COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCH "path:${what}:([^\n]*)" line "${line}")
  set(${what} "${CMAKE_MATCH_1}")
endforeach()
file(RELATIVE_PATH plugin_folder "${prefix}" "${pkglibdir}")
file(RELATIVE_PATH text_folder "${prefix}" "${pkgdatadir}")
if(plugin_folder MATCHES "^\\.\\." OR text_folder MATCHES "^\\.\\.")
  message(FATAL_ERROR "bundle: this Open MPI is spread over several prefixes (${prefix}, ${pkglibdir}, ${pkgdatadir})")
endif()

# Plugins of network hardware need the libraries that belong to that hardware's driver; checkpointing, OpenSHMEM and
# monitoring are not ours. MPI carries only control messages and small host values: TCP and shared memory do.
file(GLOB plugins "${pkglibdir}/mca_*.so")
list(FILTER plugins EXCLUDE REGEX
     "_(ucx|ofi|psm2?|openib|usnic|verbs|cm|ugni|portals4|monitoring|ddt|lustre|cuda|knem)\\.so$")
list(FILTER plugins EXCLUDE REGEX "/mca_(spml|scoll|sshmem|memheap|atomic|crs|crcp|snapc|sstore|filem)_")
file(COPY ${plugins} DESTINATION "${stage}/${plugin_folder}")
file(GLOB texts "${pkgdatadir}/help-*.txt")
file(COPY ${texts} DESTINATION "${stage}/${text_folder}")

# --- the libraries that all these need, except the system's (whose versions belong to its kernel and loader) and CUDA's
set(system "/(ld-linux[^/]*|lib(c|m|dl|rt|pthread|util|resolv|nsl|anl|cuda|cudart|cublas|cublasLt|nccl|nvidia-ml))\\.so")
file(GET_RUNTIME_DEPENDENCIES EXECUTABLES "${PROGRAM}" "${ORTERUN}" "${ORTED}" MODULES ${plugins}
     RESOLVED_DEPENDENCIES_VAR libraries UNRESOLVED_DEPENDENCIES_VAR missing POST_EXCLUDE_REGEXES "${system}"
     PRE_EXCLUDE_REGEXES "^lib(cuda|cudart|cublas|cublasLt|nccl)\\.so")
if(missing)
  message(FATAL_ERROR "bundle: libraries not found: ${missing}")
endif()
foreach(library IN LISTS libraries)
  file(REAL_PATH "${library}" real)
  cmake_path(GET library FILENAME name)
  file(COPY_FILE "${real}" "${stage}/lib/${name}")
  if(name MATCHES "^libpmix\\.so")
    # PMIx finds its plugins relative to a prefix as well: .../lib/libpmix.so, .../lib/pmix/*.so
    cmake_path(GET real PARENT_PATH folder)
    file(GLOB pmix_plugins "${folder}/pmix/*.so")
    file(COPY ${pmix_plugins} DESTINATION "${stage}/lib/pmix")
    file(GLOB pmix_texts "${folder}/../share/pmix/help-*.txt")
    file(COPY ${pmix_texts} DESTINATION "${stage}/share/pmix")
  endif()
endforeach()

# --- the launchers: no program but the shell is needed, so that an empty PATH does
file(MAKE_DIRECTORY "${stage}/libexec")
foreach(program IN ITEMS mpirun orted)
  set(real "${ORTERUN}")
  if(program STREQUAL "orted")
    set(real "${ORTED}")
  endif()
  file(REAL_PATH "${real}" real)
  file(COPY_FILE "${real}" "${stage}/libexec/${program}")
  file(WRITE "${stage}/bin/${program}" "#!/bin/sh
# Starts this folder's Open MPI, wherever the folder is.
case $0 in */*) here=\${0%/*} ;; *) here=$(command -v -- \"$0\") && here=\${here%/*} ;; esac
root=$(CDPATH= cd -- \"$here/..\" && pwd -P) || exit 1
export OPAL_PREFIX=\"$root\" PMIX_LIBDIR=\"$root/lib\" PMIX_DATADIR=\"$root/share\" HWLOC_PLUGINS_PATH=\"$root\"
export PATH=\"$root/bin\${PATH:+:$PATH}\" LD_LIBRARY_PATH=\"$root/lib\${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}\"
exec \"$root/libexec/${program}\" \"$@\"
")
  file(CHMOD "${stage}/bin/${program}" PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE
       WORLD_READ WORLD_EXECUTE)
endforeach()
# The program looks for this mark, and then tells its Open MPI where it is (mpi/topology.c).
file(WRITE "${stage}/${DATA_FOLDER}/bundle" "${NAME}\n")

# A search path of its own would come before the program's, and lead out of the bundle.
file(GLOB objects "${stage}/lib/*.so*" "${stage}/lib/pmix/*.so" "${stage}/${plugin_folder}/*.so")
foreach(object IN LISTS objects)
  file(RPATH_REMOVE FILE "${object}")
endforeach()

# Debug information and symbol tables are most of the program's size.
find_program(STRIP strip)
if(STRIP)
  execute_process(COMMAND "${STRIP}" --strip-unneeded ${objects} "${stage}/bin/lwmpi" COMMAND_ERROR_IS_FATAL ANY)
endif()
execute_process(COMMAND "${CMAKE_COMMAND}" -E tar czf "${BUILD_DIR}/${NAME}.tar.gz" --format=gnutar "${NAME}"
                WORKING_DIRECTORY "${BUILD_DIR}/bundle" COMMAND_ERROR_IS_FATAL ANY)
