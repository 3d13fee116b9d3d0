// comm_nccl.h: the data plane between GPUs. A build without CUDA links absent_nccl.c instead.
#ifndef LW_COMM_NCCL_H
#define LW_COMM_NCCL_H

#include "core/status.h"
#include "device/device.h"

typedef struct lw_comm lw_comm;
typedef struct lw_nccl lw_nccl;

// A NCCL communicator of the ranks of `comm`, each with a GPU of its own (job/rank_device.h refuses two ranks on one),
// `dev` (both borrowed): the unique id is broadcast through MPI. Every wait polls for asynchronous errors until
// comm.timeout_s. LW_ERR_COMM, LW_ERR_MEMORY, LW_ERR_UNSUPPORTED, agreed by all ranks. A failure after NCCL has begun
// to connect the ranks ends the job, as the other ranks could not be informed in time. Collective.
lw_status lw_nccl_create(lw_comm *comm, lw_device *dev, lw_error *err, lw_nccl **out);

// Sums `buffer` (n) in device memory over all ranks, in place, in the order of the device's stream; returns when it is
// done. LW_ERR_DEVICE when work that was enqueued on the device before has failed. A failure of NCCL, and a deadline
// that passes, end the job with a message that names the ranks that are missing. Collective.
lw_status lw_nccl_all_reduce(lw_nccl *nccl, float *buffer, int64_t n, lw_error *err);

// Ends the communicator in order, or aborts it when the other ranks do not follow within some seconds. Collective.
void lw_nccl_destroy(lw_nccl **nccl);

// Tears the connections down without the other ranks, in a few seconds at most. The object may not be used again and
// is not freed, as the job is about to end. Local.
void lw_nccl_abort(lw_nccl *nccl);

void lw_nccl_version(char *out, size_t size); // "2.28.3", "not found here ...", "not in this build"

#endif
