// absent_nccl.c: replaces the NCCL data plane in a build without CUDA.
#include <stdio.h>

#include "comm_nccl.h"

lw_status lw_nccl_create(lw_comm *comm, lw_device *dev, lw_error *err, lw_nccl **out)
{
    (void)comm;
    (void)dev;
    (void)out;
    return lw_fail(
        err, LW_ERR_UNSUPPORTED,
        "comm.backend = \"nccl\" is not compiled into this lwmpi; use comm.backend = \"auto\", or build with "
        "the preset cuda");
}

lw_status lw_nccl_all_reduce(lw_nccl *nccl, float *buffer, int64_t n, lw_error *err)
{
    (void)nccl;
    (void)buffer;
    (void)n;
    return lw_fail(err, LW_ERR_INTERNAL, "NCCL is not in this build");
}

void lw_nccl_destroy(lw_nccl **nccl)
{
    *nccl = NULL;
}

void lw_nccl_abort(lw_nccl *nccl)
{
    (void)nccl;
}

void lw_nccl_version(char *out, size_t size)
{
    snprintf(out, size, "not in this build");
}
