// rank_device.h: which device each rank of a job computes on.
#ifndef LW_RANK_DEVICE_H
#define LW_RANK_DEVICE_H

#include "config/config.h"
#include "mpi/comm.h"

typedef struct lw_rank_device {
    const char *kind; // "cpu" or "cuda", the same on all ranks
    int index;        // which of the GPUs that this rank sees
} lw_rank_device;

// Resolves `device`: "auto" is CUDA where every rank has a GPU and the CPU where none has; some with and some without
// is refused, naming them. With CUDA, a rank takes the GPU of its number on the node (one visible GPU is its own,
// whatever its number: srun --gpus-per-task). Two ranks on one GPU are refused with a table of all, unless comm.backend
// = "mpi". No GPU is opened, and no context made on one. LW_ERR_CONFIG, LW_ERR_DEVICE; all ranks return the same
// status, and a failure has been told. Collective.
lw_status lw_rank_device_choose(const lw_config *config, lw_comm *comm, lw_error *err, lw_rank_device *out);

// The first half of it: "cpu" or "cuda". Collective.
lw_status lw_rank_device_kind(const lw_config *config, lw_comm *comm, lw_error *err, const char **out);
// The same as this process alone sees it, for a plan. Local.
const char *lw_rank_device_kind_here(const lw_config *config);

#endif
