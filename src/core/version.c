// version.c: versions of lwmpi and of the libraries that it is linked with.
#include "core/version.h"

#include <cblas.h>

#include "lw_version_generated.h"

const char *lw_version(void)
{
    return LW_VERSION;
}

const char *lw_commit(void)
{
    return LW_COMMIT;
}

const char *lw_compiler(void)
{
    return LW_COMPILER;
}

const char *lw_build_type(void)
{
    return LW_BUILD_TYPE;
}

const char *lw_blas_text(void)
{
#ifdef LW_HAVE_OPENBLAS
    return openblas_get_config();
#else
    return "unknown BLAS (with the cblas interface)";
#endif
}
