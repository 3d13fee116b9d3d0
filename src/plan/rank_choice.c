#include "plan/rank_choice.h"

#include <stdlib.h>
#include <string.h>

#include "mpi/threads.h"
#include "plan/plan.h"

static void log_line(void *run, const char *line)
{
    lw_log(run, "%s", line);
}

// 1, 2, 4 ... and all of them.
static void list_counts(int ranks, lw_plan_options *out)
{
    for (int64_t n = 1; n < ranks && out->count < LW_PLAN_COUNTS - 1; n *= 2) {
        out->counts[out->count++] = n;
    }
    out->counts[out->count++] = ranks;
}

static lw_status decide(lw_job *job, const lw_plan_options *options, int ranks, lw_error *err, int *out)
{
    lw_plan *plan = calloc(1, sizeof *plan);
    if (plan == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for a plan");
    }
    lw_status status = lw_plan_make(job->config, options, err, plan);
    if (status == LW_OK) {
        lw_plan_print(plan, log_line, job->run);
        *out = (int)plan->decision.gpus;
        if (*out == 0) {
            status = lw_fail(err, LW_ERR_CONFIG, "gpus = \"auto\": %s", plan->decision.reason);
        } else {
            lw_log(job->run, "gpus = \"auto\": %d of %d ranks train, %d wait%s", *out, ranks, ranks - *out,
                   ranks - *out == 1 ? "s" : "");
        }
        lw_plan_free(plan);
    }
    free(plan);
    return status;
}

static lw_status choose_auto(lw_job *job, lw_comm *world, lw_error *err, int *out)
{
    int ranks = lw_comm_size(world);
    int threads = 1;
    lw_plan_options options = {.caches = true};
    LW_TRY(lw_threads_auto(world, err, &threads));
    // Ranks on other nodes bring their own cores: those of one node are shared by its ranks alone.
    options.cores = (int64_t)threads * ranks;
    LW_TRY(lw_rank_device_kind(job->config, world, err, &options.device));
    if (strcmp(options.device, "cuda") == 0) { // nodes are as they were filled: one rank a GPU
        double per_node = lw_comm_local_size(world);
        LW_TRY(lw_comm_max_f64(world, &per_node, 1, err));
        options.per_node = (int64_t)per_node;
    }
    list_counts(ranks, &options);
    lw_comm_phase(world, "deciding on the number of ranks");
    lw_status status = lw_comm_rank(world) == 0 ? decide(job, &options, ranks, err, out) : LW_OK;
    LW_TRY(lw_comm_agree(world, status, err));
    return lw_comm_broadcast(world, 0, out, sizeof *out, err);
}

// Under mpirun the number of ranks is the user's; that it is not the allocation's may be an oversight.
static void warn_of_tasks(lw_job *job, int ranks)
{
    const char *text = getenv("SLURM_NTASKS");
    long tasks = text != NULL ? strtol(text, NULL, 10) : 0;
    if (tasks > 0 && tasks != ranks) {
        lw_log(job->run,
               "warning: %d rank%s in a Slurm job of %ld tasks (SLURM_NTASKS): mpirun -np %ld or srun would use "
               "them all",
               ranks, ranks == 1 ? "" : "s", tasks, tasks);
    }
}

lw_status lw_rank_choice(lw_job *job, lw_comm *world, lw_error *err)
{
    int ranks = lw_comm_size(world);
    int chosen = ranks;
    lw_status status = LW_OK;
    warn_of_tasks(job, ranks);
    if (job->config->gpus == 0) {
        LW_TRY(choose_auto(job, world, err, &chosen));
    } else if (job->config->gpus > ranks) {
        status = lw_fail(err, LW_ERR_CONFIG,
                         "gpus = %lld, but the job has %d rank%s: start that many (mpirun -np, srun "
                         "-n), or lower gpus",
                         (long long)job->config->gpus, ranks, ranks == 1 ? "" : "s");
    } else if (job->config->gpus > 0) {
        chosen = (int)job->config->gpus;
    }
    LW_TRY(lw_comm_agree(world, status, err));
    if (chosen == ranks) {
        job->comm = world;
        return LW_OK;
    }
    return lw_comm_first(world, chosen, err, &job->comm);
}
