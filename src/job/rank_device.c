// rank_device.c: chooses CPU or GPU for the job, and a GPU for each rank.
#include "job/rank_device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/device_cuda.h"

const char *lw_rank_device_kind_here(const lw_config *config)
{
    if (config->device == LW_DEVICE_CUDA) {
        return "cuda";
    }
    return config->device == LW_DEVICE_CPU || lw_cuda_device_count() == 0 ? "cpu" : "cuda";
}

// --- CPU or GPU

static lw_status need_gpu(const lw_config *config, int with, int ranks, lw_error *err)
{
    char why[1024];
    lw_cuda_why_not(why, sizeof why);
    if (config->device == LW_DEVICE_CUDA) {
        return lw_fail(err, lw_cuda_built() ? LW_ERR_DEVICE : LW_ERR_UNSUPPORTED, "%s", why);
    }
    return lw_fail(
        err, LW_ERR_CONFIG,
        "device = \"auto\": no GPU here, while %d of %d ranks have one: ask for nodes that are alike, or set "
        "device = \"cpu\" (%s)",
        with, ranks, why);
}

lw_status lw_rank_device_kind(const lw_config *config, lw_comm *comm, lw_error *err, const char **out)
{
    lw_comm_doing(comm, "choosing devices");
    bool mine = config->device != LW_DEVICE_CPU && lw_cuda_device_count() > 0;
    int64_t with = mine;
    LW_TRY(lw_comm_sum_i64(comm, &with, 1, err));
    bool cuda = config->device == LW_DEVICE_CUDA || with > 0;
    lw_status status = cuda && !mine ? need_gpu(config, (int)with, lw_comm_size(comm), err) : LW_OK;
    LW_TRY(lw_comm_agree(comm, status, err));
    *out = cuda ? "cuda" : "cpu";
    return LW_OK;
}

// --- which GPU

typedef struct lw_rank_gpu { // the GPU of one rank
    char host[64];
    char name[96];
    char uuid[48];
    int local_rank, index, visible;
} lw_rank_gpu;

static lw_status find_gpu(lw_comm *comm, lw_error *err, lw_rank_gpu *out)
{
    lw_cuda_info info;
    lw_rank_gpu s = {.local_rank = lw_comm_local_rank(comm), .visible = lw_cuda_device_count()};
    s.index = s.local_rank % s.visible;
    LW_TRY(lw_cuda_info_of(s.index, err, &info));
    snprintf(s.host, sizeof s.host, "%s", lw_comm_host(comm));
    snprintf(s.name, sizeof s.name, "%s", info.name);
    snprintf(s.uuid, sizeof s.uuid, "%s", info.uuid);
    *out = s;
    return LW_OK;
}

static bool same_gpu(const lw_rank_gpu *a, const lw_rank_gpu *b)
{
    return strcmp(a->host, b->host) == 0 && strcmp(a->uuid, b->uuid) == 0;
}

static bool find_shared(const lw_rank_gpu *all, int ranks, int *first, int *second)
{
    for (int r = 1; r < ranks; r++) {
        for (int q = 0; q < r; q++) {
            if (same_gpu(&all[q], &all[r])) {
                *first = q;
                *second = r;
                return true;
            }
        }
    }
    return false;
}

static void print_table(const lw_rank_gpu *all, int ranks)
{
    enum { MOST = 64 };
    fprintf(stderr, "%-6s %-24s %-10s %-10s %-42s %s\n", "rank", "host", "local rank", "GPU", "UUID", "name");
    for (int r = 0; r < ranks && r < MOST; r++) {
        char gpu[32];
        snprintf(gpu, sizeof gpu, "%d of %d", all[r].index, all[r].visible);
        fprintf(stderr, "%-6d %-24s %-10d %-10s %-42s %s\n", r, all[r].host, all[r].local_rank, gpu, all[r].uuid,
                all[r].name);
    }
    if (ranks > MOST) {
        fprintf(stderr, "... and %d ranks more\n", ranks - MOST);
    }
}

static lw_status refuse_shared(const lw_config *config, lw_comm *comm, const lw_rank_gpu *all, lw_error *err)
{
    int first;
    int second;
    int ranks = lw_comm_size(comm);
    if (config->comm.backend == LW_COMM_MPI || !find_shared(all, ranks, &first, &second)) {
        return LW_OK;
    }
    if (lw_comm_rank(comm) == 0) {
        print_table(all, ranks);
    }
    return lw_fail(err, LW_ERR_CONFIG,
                   "ranks %d and %d on %s would share one GPU (%s), of %d that rank %d sees: start no more ranks on a "
                   "node than it has GPUs, ask for more (sbatch --gpus-per-node, srun --gpus-per-task=1), check "
                   "CUDA_VISIBLE_DEVICES, or, for tests, set comm.backend = \"mpi\", which shares them",
                   first, second, all[second].host, all[second].name, all[second].visible, second);
}

// Every rank learns the GPUs of all, so that all come to the same verdict.
static lw_status choose_index(const lw_config *config, lw_comm *comm, lw_error *err, int *out)
{
    lw_rank_gpu mine;
    memset(&mine, 0, sizeof mine);
    int ranks = lw_comm_size(comm);
    lw_rank_gpu *all = calloc((size_t)ranks, sizeof *all);
    lw_status status = all == NULL ? lw_fail(err, LW_ERR_MEMORY, "no memory for the GPUs of %d ranks", ranks)
                                   : find_gpu(comm, err, &mine);
    LW_TRY_GOTO(lw_comm_agree(comm, status, err));
    LW_TRY_GOTO(lw_comm_all_gather(comm, &mine, sizeof mine, err, all));
    LW_TRY_GOTO(lw_comm_agree(comm, refuse_shared(config, comm, all, err), err));
    *out = mine.index;
done:
    free(all);
    return status;
}

lw_status lw_rank_device_choose(const lw_config *config, lw_comm *comm, lw_error *err, lw_rank_device *out)
{
    lw_rank_device device = {0};
    LW_TRY(lw_rank_device_kind(config, comm, err, &device.kind));
    if (strcmp(device.kind, "cuda") == 0) {
        LW_TRY(choose_index(config, comm, err, &device.index));
    }
    *out = device;
    return LW_OK;
}
