// nccl.h: the data plane between GPUs. A build without CUDA links absent_nccl.c instead.
#ifndef LW_NCCL_H
#define LW_NCCL_H

#include "comm.h"

typedef struct lw_nccl lw_nccl;

// A NCCL communicator of the ranks of `comm`, each with its GPU `dev` (borrowed): the unique id goes by MPI. Refuses two
// ranks on one GPU with a table of rank, host and GPU. Non-blocking: every wait polls for asynchronous errors until
// comm.timeout_s. LW_ERR_COMM, LW_ERR_CONFIG. Collective.
lw_status lw_nccl_create(lw_comm *comm, lw_device *dev, lw_error *err, lw_nccl **out);

// Sums `buffer` (n) in device memory over all ranks, in place, in the order of the device's stream; returns when it is
// done or has failed. Collective.
lw_status lw_nccl_all_reduce(lw_nccl *nccl, float *buffer, int64_t n, lw_error *err);

// After a failure: a bounded abort instead of an orderly end. Local.
void lw_nccl_destroy(lw_nccl **nccl);

void lw_nccl_version(char *out, size_t size); // "2.28.3" or "not in this build"

#endif
