// data_plane.c: how device buffers are summed over the ranks.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm_internal.h"

static bool is_device(const lw_device *dev, const char *kind)
{
    return strcmp(dev->ops->name, kind) == 0;
}

// --- attaching one

// The checks and allocations that need no other rank.
static lw_status prepare(lw_comm *comm, bool nccl, lw_comm_backend backend, int64_t max_elements, lw_error *err)
{
    if (backend == LW_COMM_NCCL && !nccl) {
        return lw_fail(err, LW_ERR_CONFIG,
                       "comm.backend = \"nccl\" moves data between GPUs, but the device is \"%s\"; set comm.backend = "
                       "\"auto\", or device = \"cuda\"",
                       comm->dev->ops->name);
    }
    if (nccl || comm->size == 1) {
        return LW_OK;
    }
    LW_TRY(lw_comm_ring_prepare(comm, err));
    if (is_device(comm->dev, "cpu")) {
        return LW_OK;
    }
    comm->staging = (uint64_t)max_elements <= SIZE_MAX / sizeof *comm->staging
                        ? malloc((size_t)max_elements * sizeof *comm->staging)
                        : NULL;
    comm->staging_elements = comm->staging != NULL ? max_elements : 0;
    if (comm->staging == NULL && max_elements > 0) {
        return lw_fail(err, LW_ERR_MEMORY, "no host memory to pass %lld floats from the device to the ranks",
                       (long long)max_elements);
    }
    return LW_OK;
}

// The job is about to end: connections of NCCL are torn down without the other ranks, so that none hangs in them.
static void abandon(lw_comm *comm)
{
    if (comm->nccl != NULL) {
        lw_nccl_abort(comm->nccl);
    }
}

lw_status lw_comm_attach_device(lw_comm *comm, lw_device *dev, lw_comm_backend backend, int64_t max_elements,
                                lw_error *err)
{
    bool nccl = is_device(dev, "cuda") && backend != LW_COMM_MPI;
    comm->dev = dev;
    comm->abandon = abandon;
    lw_status status = lw_comm_agree(comm, prepare(comm, nccl, backend, max_elements, err), err);
    if (status == LW_OK && nccl && (comm->size > 1 || backend == LW_COMM_NCCL)) {
        status = lw_nccl_create(comm, dev, err, &comm->nccl);
    }
    if (status != LW_OK) {
        lw_comm_detach_device(comm);
    }
    return status;
}

void lw_comm_detach_device(lw_comm *comm)
{
    if (comm->nccl != NULL) {
        lw_nccl_destroy(&comm->nccl);
    }
    free(comm->staging);
    free(comm->work);
    comm->staging = NULL;
    comm->staging_elements = 0;
    comm->work = NULL;
    comm->dev = NULL;
    comm->abandon = NULL;
}

void lw_comm_data_plane(const lw_comm *comm, char *out, size_t size)
{
    char version[64];
    if (comm->nccl != NULL) {
        lw_nccl_version(version, sizeof version);
        snprintf(out, size, "NCCL %s", version);
    } else if (comm->size == 1 || comm->dev == NULL) {
        snprintf(out, size, "none (%s)", comm->size == 1 ? "one rank" : "no device");
    } else {
        snprintf(out, size, "MPI (ring in host memory%s)",
                 comm->staging != NULL ? ", copied from the device and back" : "");
    }
}

// --- sums

static lw_status sum_staged(lw_comm *comm, float *buffer, int64_t n, lw_error *err)
{
    lw_device *dev = comm->dev;
    size_t bytes = (size_t)n * sizeof *buffer;
    dev->ops->download(dev, buffer, bytes, comm->staging);
    LW_TRY(dev->ops->sync(dev, err));
    LW_TRY(lw_comm_ring_sum(comm, comm->staging, n, err));
    dev->ops->upload(dev, comm->staging, bytes, buffer);
    return LW_OK;
}

lw_status lw_comm_all_reduce(lw_comm *comm, float *buffer, int64_t n, lw_error *err)
{
    lw_device *dev = comm->dev;
    if (dev == NULL) {
        return lw_fail(err, LW_ERR_INTERNAL, "an all-reduce without an attached device");
    }
    if (n == 0 || (comm->size == 1 && comm->nccl == NULL)) {
        return LW_OK;
    }
    if (comm->nccl != NULL) {
        return lw_nccl_all_reduce(comm->nccl, buffer, n, err);
    }
    if (comm->staging == NULL) {
        LW_TRY(dev->ops->sync(dev, err)); // work that is enqueued may still write the buffer
        return lw_comm_ring_sum(comm, buffer, n, err);
    }
    if (n > comm->staging_elements) {
        return lw_fail(err, LW_ERR_INTERNAL, "an all-reduce of %lld floats; %lld were announced", (long long)n,
                       (long long)comm->staging_elements);
    }
    return sum_staged(comm, buffer, n, err);
}
