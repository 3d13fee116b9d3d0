# The small libraries that lwmpi reads files with, as imported targets lw::NAME. A missing one ends the configuration
# with its Debian package.
find_package(PkgConfig)
if(NOT PKG_CONFIG_FOUND)
  message(FATAL_ERROR "pkg-config is missing. Debian: apt install pkg-config.")
endif()

# lw_require(NAME MODULE DEBIAN_PACKAGE): target lw::NAME from pkg-config.
function(lw_require name module package)
  pkg_check_modules(LW_${name} IMPORTED_TARGET GLOBAL ${module})
  if(NOT LW_${name}_FOUND)
    message(FATAL_ERROR "Library ${module} not found. Debian: apt install ${package}. "
                        "Elsewhere: put the folder of its .pc file in PKG_CONFIG_PATH.")
  endif()
  add_library(lw::${name} ALIAS PkgConfig::LW_${name})
endfunction()

lw_require(config libconfig libconfig-dev)
lw_require(json jansson libjansson-dev)
lw_require(pcre2 libpcre2-8 libpcre2-dev)
lw_require(utf8proc libutf8proc libutf8proc-dev)
lw_require(xxhash libxxhash libxxhash-dev)
