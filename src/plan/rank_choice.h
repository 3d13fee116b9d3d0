// rank_choice.h: how many of a job's ranks train. Collective.
#ifndef LW_RANK_CHOICE_H
#define LW_RANK_CHOICE_H

#include "job/job.h"

// By `gpus`: all ranks, the first N, or as many of the first as rank 0 finds the job worth, before a model is loaded or
// a GPU touched; it logs the plan then. On success job->comm holds the ranks that train, `world` itself where that is
// all of them; it is NULL on a rank that only waits. The caller destroys a communicator other than `world`.
// LW_ERR_CONFIG where `gpus` is more than there are ranks, or where the job fits no count.
lw_status lw_rank_choice(lw_job *job, lw_comm *world, lw_error *err);

// Chooses how these ranks divide the LLMs where grid.model is "auto": as a plan finds it fastest among what fits. Sets
// job->grid.model, before lw_job_open. Nothing where it is known already. Collective over job->comm.
lw_status lw_grid_choice(lw_job *job, lw_error *err);

#endif
