// rank_device.h: which device each rank of a job computes on.
#ifndef LW_RANK_DEVICE_H
#define LW_RANK_DEVICE_H

#include "config/config.h"
#include "mpi/comm.h"

typedef struct lw_rank_device {
    const char *kind; // "cpu" or "cuda", the same on all ranks
    int index;        // which of the GPUs that this rank sees
} lw_rank_device;

// Resolves `device`. "auto" means CUDA if every rank has a GPU, and the CPU if none has one; a mixture is refused, and
// the message names the ranks. With CUDA, a rank takes the GPU whose number is its own on the node; if it sees a single
// GPU, it takes that one (srun --gpus-per-task). Two ranks on one GPU are refused with a table of all ranks, unless
// comm.backend = "mpi". No GPU is opened, and no context is made on one. Returns LW_ERR_CONFIG or LW_ERR_DEVICE; all
// ranks return the same status, and the failure has been reported. Collective.
lw_status lw_rank_device_choose(const lw_config *config, lw_comm *comm, lw_error *err, lw_rank_device *out);

// Resolves `device` to "cpu" or "cuda" alone. Collective.
lw_status lw_rank_device_kind(const lw_config *config, lw_comm *comm, lw_error *err, const char **out);
// The same from what this process alone sees, for a plan. Local.
const char *lw_rank_device_kind_here(const lw_config *config);

#endif
