// topology.c: which ranks share a node, and what the launcher and the environment say about this process.
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "comm_internal.h"
#include "io/install.h"

lw_status lw_comm_find_topology(lw_comm *comm, lw_error *err)
{
    MPI_Comm node = MPI_COMM_NULL;
    int code = MPI_Comm_split_type(comm->world, MPI_COMM_TYPE_SHARED, comm->rank, MPI_INFO_NULL, &node);
    LW_TRY(lw_comm_check(comm, code, "MPI_Comm_split_type", err));
    MPI_Comm_rank(node, &comm->local_rank);
    MPI_Comm_size(node, &comm->local_size);
    MPI_Comm_free(&node);

    lw_comm_enter(comm);
    MPI_Request request;
    code =
        MPI_Iallgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, comm->hosts, LW_HOST_BYTES, MPI_CHAR, comm->world, &request);
    LW_TRY(lw_comm_check(comm, code, "exchange of host names", err));
    return lw_comm_wait(comm, 1, &request, "exchange of host names", err);
}

// The value of a variable as a number; -1 where it is absent or is no number.
static long long env_number(const char *name)
{
    const char *text = getenv(name);
    if (text == NULL || text[0] == '\0') {
        return -1;
    }
    char *end = NULL;
    long long value = strtoll(text, &end, 10);
    return *end == '\0' ? value : -1;
}

double lw_comm_start_timeout_s(double otherwise_s)
{
    const char *text = getenv("LWMPI_START_TIMEOUT_S");
    char *end = NULL;
    double value = text != NULL ? strtod(text, &end) : 0.0;
    return text != NULL && *end == '\0' && value > 0.0 && value < 1e6 ? value : otherwise_s;
}

int lw_comm_launch_rank(void)
{
    // Open MPI, PMIx (Slurm, Open MPI 5), PMI (MPICH, Intel MPI), then Slurm alone.
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        long long rank = env_number(names[i]);
        if (rank >= 0 && rank <= INT_MAX) {
            return (int)rank;
        }
    }
    return -1;
}

int lw_launcher_rank(void)
{
    int rank = lw_comm_launch_rank();
    return rank > 0 ? rank : 0;
}

// Slurm's own steps (batch script, interactive shell, "extern") have ids from this one on: no user ran srun for them.
static const long long first_reserved_step = 0xfffffff0LL;

// A step that srun started through PMIx is one MPI world: when its size is not the number of tasks, the variables or
// the MPI library are of another job.
static lw_status check_step(int world_size, lw_error *err)
{
    const char *space = getenv("PMIX_NAMESPACE");
    long long tasks = env_number("SLURM_STEP_NUM_TASKS");
    if (space == NULL || strncmp(space, "slurm.", 6) != 0 || tasks < 1 || tasks == world_size) {
        return LW_OK;
    }
    return lw_fail(
        err, LW_ERR_COMM,
        "Slurm says that this step has %lld tasks (SLURM_STEP_NUM_TASKS), but MPI has %d ranks: unset "
        "SLURM_* variables that were copied from another job, or check that lwmpi was built with this cluster's MPI",
        tasks, world_size);
}

// SLURM_NTASKS holds the number of tasks in a step that srun started, in the batch script, and in the shell of salloc.
// A lone MPI rank among several tasks is wrong in all three: under srun each copy would do the whole job and overwrite
// the files of the others; in the batch script and the shell a launcher was forgotten.
// Under mpirun the user chooses the number of ranks, and the tasks of the allocation say nothing about it.
lw_status lw_comm_check_launch(int world_size, lw_error *err)
{
    if (world_size > 1) {
        return check_step(world_size, err);
    }
    if (getenv("OMPI_COMM_WORLD_SIZE") != NULL || getenv("HYDI_CONTROL_FD") != NULL || env_number("PMI_SIZE") == 1) {
        return LW_OK;
    }
    bool can_meet = getenv("PMIX_RANK") != NULL || getenv("PMI_RANK") != NULL || getenv("PMI_FD") != NULL;
    if (world_size == 0 && can_meet) {
        return LW_OK; // whether they do, MPI_Init shows
    }
    long long step = env_number("SLURM_STEP_ID") >= 0 ? env_number("SLURM_STEP_ID") : env_number("SLURM_STEPID");
    bool in_step = step >= 0 && step < first_reserved_step;
    long long tasks = in_step ? env_number("SLURM_STEP_NUM_TASKS") : -1;
    if (tasks < 0) {
        tasks = env_number("SLURM_NTASKS") >= 0 ? env_number("SLURM_NTASKS") : env_number("SLURM_NPROCS");
    }
    if (tasks <= 1) {
        return LW_OK;
    }
    if (in_step) {
        return lw_fail(err, LW_ERR_COMM,
                       "srun started %lld copies of lwmpi that cannot see each other (SLURM_NTASKS=%lld, but one MPI "
                       "rank): start it with `srun --mpi=pmix lwmpi ...` (`srun --mpi=list` shows what this cluster "
                       "offers) or with `mpirun -np %lld lwmpi ...`",
                       tasks, tasks, tasks);
    }
    return lw_fail(err, LW_ERR_COMM,
                   "this Slurm job has %lld tasks (SLURM_NTASKS), but lwmpi was started as one process without MPI "
                   "ranks: start it with `srun --mpi=pmix lwmpi ...` or `mpirun -np %lld lwmpi ...` (one rank on "
                   "purpose: `mpirun -np 1 lwmpi ...`)",
                   tasks, tasks);
}

// Open MPI and PMIx find their plugins by the folder they were installed in, unless these variables name another. The
// bundle's mpirun is a script that sets them (cmake/MakeBundle.cmake); a rank that srun started, or a lone one, has no
// such script.
static void use_bundled_mpi(void)
{
    static const char *const places[][2] = {
        {"OPAL_PREFIX", ""},
        {"PMIX_LIBDIR", "/lib"},
        {"PMIX_DATADIR", "/share"},
        {"HWLOC_PLUGINS_PATH", ""}, // the bundle has no plugins, and those of the system belong to another hwloc
    };
    char *root = lw_path_bundle();
    for (size_t i = 0; root != NULL && i < sizeof places / sizeof *places; i++) {
        char path[PATH_MAX];
        int length = snprintf(path, sizeof path, "%s%s", root, places[i][1]);
        if (length > 0 && (size_t)length < sizeof path) {
            setenv(places[i][0], path, 0);
        }
    }
    free(root);
}

void lw_comm_prepare_environment(void)
{
    use_bundled_mpi();
    bool launched = getenv("OMPI_COMM_WORLD_SIZE") != NULL || getenv("PMIX_RANK") != NULL;
    if (!launched) {
        // Open MPI would start a daemon beside a process without mpirun, to be ready for MPI_Comm_spawn.
        setenv("OMPI_MCA_ess_singleton_isolated", "1", 0);
        return;
    }
    // Open MPI moves large messages on a node with process_vm_readv. Containers may forbid it, and then Open MPI warns
    // at every message. Reading zero bytes from our parent, another process of the same user, shows whether it is
    // allowed.
    char byte = 0;
    struct iovec local = {.iov_base = &byte, .iov_len = 1};
    struct iovec remote = {.iov_base = NULL, .iov_len = 1};
    if (process_vm_readv(getppid(), &local, 1, &remote, 1, 0) < 0 && (errno == EPERM || errno == ENOSYS)) {
        setenv("OMPI_MCA_btl_vader_single_copy_mechanism", "none", 0);
    }
}
