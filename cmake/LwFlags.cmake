# Flags of our own C. -O3 instead of CMake's -O2: the loops in kernels/cpu are written to be vectorised.
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O3 -g -DNDEBUG")
if(LWMPI_SANITIZE)
  # For every object and every link, also those of the tests.
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
  set(CMAKE_C_FLAGS_DEBUG "-O1 -g")
endif()

function(lw_compile_options target)
  target_compile_options(${target} PRIVATE
    "$<$<COMPILE_LANGUAGE:C>:-Wall;-Wextra;-Wconversion;-Wshadow;-Wvla;$<$<BOOL:${LWMPI_WERROR}>:-Werror>>")
endfunction()
