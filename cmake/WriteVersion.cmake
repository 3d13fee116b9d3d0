# cmake -DGIT= -DSOURCE_DIR= -DVERSION= -DCOMPILER= -DBUILD_TYPE= -DOUT= -P WriteVersion.cmake
# Writes OUT when its content changes. Outside a git checkout the commit is empty.
set(commit "")
if(GIT AND EXISTS "${SOURCE_DIR}/.git")
  execute_process(COMMAND "${GIT}" -C "${SOURCE_DIR}" describe --always --dirty --abbrev=12 --exclude=*
                  OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE rc)
  if(NOT rc EQUAL 0)
    set(commit "")
  endif()
endif()
file(CONFIGURE OUTPUT "${OUT}" @ONLY CONTENT [[
#define LW_VERSION "@VERSION@"
#define LW_COMMIT "@commit@"
#define LW_COMPILER "@COMPILER@"
#define LW_BUILD_TYPE "@BUILD_TYPE@"
]])
