// The texts of core/version.h for a build of the readers alone: the real ones look at BLAS and the commit.
#include "core/version.h"

const char *lw_version(void)
{
    return "fuzz";
}

const char *lw_commit(void)
{
    return "";
}

const char *lw_build_type(void)
{
    return "Fuzz";
}
