// version.h: what was built. All texts are static.
#ifndef LW_VERSION_H
#define LW_VERSION_H

const char *lw_version(void);    // "0.1.0"
const char *lw_commit(void);     // "1f2e3d4c5b6a" or "...-dirty"; "" when built outside a git checkout
const char *lw_compiler(void);   // "GNU 12.2.0"
const char *lw_build_type(void); // "RelWithDebInfo"
const char *lw_blas_text(void);  // "OpenBLAS 0.3.21 ..."; "unknown BLAS" for another one

#endif
