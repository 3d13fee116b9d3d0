# cmake --install BUILD --prefix PREFIX
install(TARGETS lwmpi RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
install(DIRECTORY configs/ DESTINATION "${CMAKE_INSTALL_DATADIR}/lwmpi/configs"
        PATTERN make EXCLUDE PATTERN __pycache__ EXCLUDE)
file(GLOB LW_SLURM CONFIGURE_DEPENDS slurm/*.sbatch slurm/*.sh)
if(LW_SLURM)
  install(PROGRAMS ${LW_SLURM} DESTINATION "${CMAKE_INSTALL_DATADIR}/lwmpi/slurm")
endif()
install(FILES README.md INSTALL LICENSE CHANGELOG.md DESTINATION "${CMAKE_INSTALL_DOCDIR}")

# The manual page is the program's own --help. Cross builds without an emulator go without it.
if(NOT CMAKE_CROSSCOMPILING OR CMAKE_CROSSCOMPILING_EMULATOR)
  set(LW_MAN "${CMAKE_BINARY_DIR}/lwmpi.1")
  add_custom_command(OUTPUT "${LW_MAN}"
    COMMAND "${CMAKE_COMMAND}" -E env ASAN_OPTIONS=detect_leaks=0 $<TARGET_FILE:lwmpi> --man > "${LW_MAN}"
    DEPENDS lwmpi
    COMMENT "Writing lwmpi.1"
    VERBATIM)
  add_custom_target(man ALL DEPENDS "${LW_MAN}")
  install(FILES "${LW_MAN}" DESTINATION "${CMAKE_INSTALL_MANDIR}/man1")
endif()
