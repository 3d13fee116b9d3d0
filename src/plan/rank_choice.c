// rank_choice.c: decides how many ranks train and how they divide the LLMs, from the configuration or a plan.
#include "plan/rank_choice.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mpi/threads.h"
#include "plan/plan.h"

static void log_line(void *run, const char *line)
{
    lw_log(run, "%s", line);
}

// Lists the counts 1, 2, 4 ... and `ranks`.
static void list_counts(int ranks, lw_plan_request *out)
{
    for (int64_t n = 1; n < ranks && out->count < LW_PLAN_COUNTS - 1; n *= 2) {
        out->counts[out->count++] = n;
    }
    out->counts[out->count++] = ranks;
}

// What a plan has decided; rank 0 sends it.
typedef struct choice {
    int ranks, model;
} choice;

static lw_status decide(lw_job *job, const lw_plan_request *request, int ranks, lw_error *err, choice *out)
{
    lw_plan *plan = calloc(1, sizeof *plan);
    if (plan == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for a plan");
    }
    lw_status status = lw_plan_make(job->config, request, err, plan);
    if (status == LW_OK) {
        lw_plan_print(plan, log_line, job->run);
        const lw_plan_option *best = lw_plan_find(plan, plan->decision.gpus);
        *out = (choice){.ranks = (int)plan->decision.gpus, .model = best != NULL ? best->grid.model : 0};
        if (out->ranks == 0) {
            status = lw_fail(err, LW_ERR_CONFIG, "gpus = \"auto\": %s", plan->decision.reason);
        } else {
            lw_log(job->run, "gpus = \"auto\": %d of %d ranks train, %d wait%s", out->ranks, ranks, ranks - out->ranks,
                   ranks - out->ranks == 1 ? "s" : "");
        }
        lw_plan_free(plan);
    }
    free(plan);
    return status;
}

// Finds what a plan has to know about these ranks. Collective.
static lw_status look_at_ranks(lw_job *job, lw_comm *comm, lw_error *err, lw_plan_request *out)
{
    int threads = 1;
    *out = (lw_plan_request){.caches = true, .heartbeat = lw_comm_heartbeat(comm)};
    LW_TRY(lw_threads_auto(comm, err, &threads));
    // Ranks on other nodes bring cores of their own; only the ranks of one node share its cores.
    out->cores = (int64_t)threads * lw_comm_size(comm);
    LW_TRY(lw_rank_device_kind(job->config, comm, err, &out->device));
    if (strcmp(out->device, "cuda") == 0) { // one rank drives one GPU, so a node has as many GPUs as ranks
        double per_node = lw_comm_local_size(comm);
        LW_TRY(lw_comm_max_f64(comm, &per_node, 1, err));
        out->per_node = (int64_t)per_node;
    }
    return LW_OK;
}

static lw_status choose_auto(lw_job *job, lw_comm *world, lw_error *err, int *out)
{
    int ranks = lw_comm_size(world);
    lw_plan_request request;
    choice chosen = {0};
    LW_TRY(look_at_ranks(job, world, err, &request));
    list_counts(ranks, &request);
    lw_comm_doing(world, "deciding on the number of ranks");
    lw_status status = lw_comm_rank(world) == 0 ? decide(job, &request, ranks, err, &chosen) : LW_OK;
    LW_TRY(lw_comm_agree(world, status, err));
    LW_TRY(lw_comm_broadcast(world, 0, &chosen, sizeof chosen, err));
    *out = chosen.ranks;
    job->grid.model = chosen.model;
    return LW_OK;
}

// --- the grid of all ranks

// Whether every rank has the memory for all LLMs. On a CPU most of a step is arithmetic, so dividing the LLMs among
// ranks gains nothing unless memory is short.
static bool fits_whole(const lw_job *job, int local_ranks)
{
    double bytes = 0.0;
    double memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    for (int64_t j = 0; j < job->config->model_count; j++) {
        lw_hf_config config;
        lw_error ignored; // opening the job will report what is wrong
        if (lw_hf_config_read(job->config->models[j].path, &ignored, &config) == LW_OK) {
            bytes += (double)lw_hf_config_counts(&config).total * sizeof(float);
        }
    }
    return bytes * local_ranks < 0.5 * memory;
}

// A GPU that is in no table has no plan: the job then runs as it would without a model axis, and says so.
static lw_status plan_grid(lw_job *job, const lw_plan_request *request, lw_error *err, int *model)
{
    lw_plan *plan = calloc(1, sizeof *plan);
    if (plan == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for a plan");
    }
    lw_status status = lw_plan_make(job->config, request, err, plan);
    if (status == LW_OK) {
        const lw_plan_option *best = lw_plan_find(plan, request->counts[0]);
        *model = best != NULL && best->why_not[0] == '\0' ? best->grid.model : 1;
        lw_plan_free(plan);
    }
    free(plan);
    if (status == LW_ERR_CONFIG) {
        static const char note[] = "note: grid.model = \"auto\" is 1, as there is no plan to choose by";
        if (job->run != NULL) {
            lw_log(job->run, "%s: %s", note, err->text);
        } else {
            fprintf(stderr, "lwmpi: %s: %s\n", note, err->text);
        }
        return LW_OK;
    }
    return status;
}

lw_status lw_grid_choice(lw_job *job, lw_error *err)
{
    int ranks = lw_comm_size(job->comm);
    lw_plan_request request;
    if (job->config->grid.model > 0 || job->grid.model > 0 || ranks == 1 || job->config->model_count == 1) {
        return LW_OK;
    }
    LW_TRY(look_at_ranks(job, job->comm, err, &request));
    request.counts[request.count++] = ranks;
    job->grid.model = 1;
    lw_status status = LW_OK;
    lw_comm_doing(job->comm, "choosing a grid");
    if (lw_comm_rank(job->comm) == 0 &&
        (strcmp(request.device, "cpu") != 0 || !fits_whole(job, lw_comm_local_size(job->comm)))) {
        status = plan_grid(job, &request, err, &job->grid.model);
    }
    LW_TRY(lw_comm_agree(job->comm, status, err));
    return lw_comm_broadcast(job->comm, 0, &job->grid.model, sizeof job->grid.model, err);
}

// Under mpirun the user chooses the number of ranks. Another number than that of the allocation may be an oversight.
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
