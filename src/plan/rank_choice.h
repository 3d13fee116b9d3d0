// rank_choice.h: how many of a job's ranks train. Collective.
#ifndef LW_RANK_CHOICE_H
#define LW_RANK_CHOICE_H

#include "job/job.h"

// The key `gpus` asks for all ranks, for the first N, or ("auto") for as many as rank 0 recommends, before a model is
// loaded or a GPU is touched; rank 0 then logs the plan. On success job->comm holds the ranks that train. It is `world`
// itself if these are all ranks, and NULL on a rank that only waits. The caller destroys a communicator other than
// `world`. Returns LW_ERR_CONFIG if `gpus` is more than there are ranks, or if the job fits no count.
lw_status lw_rank_choice(lw_job *job, lw_comm *world, lw_error *err);

// Chooses how these ranks divide the LLMs if grid.model is "auto": the fastest way that fits, by a plan. Sets
// job->grid.model and is called before lw_job_open. Does nothing if job->grid.model is set. Collective over job->comm.
lw_status lw_grid_choice(lw_job *job, lw_error *err);

#endif
