// lifetime.c: how communicators begin and end.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm_internal.h"
#include "guard.h"

// How messages name this rank before MPI knows it: "rank 3 on node07", "rank ? on node07".
static void name_self(char *out, size_t size)
{
    char host[LW_HOST_BYTES] = "unknown";
    char rank[16] = "?";
    int known = lw_comm_launch_rank();
    if (known >= 0) {
        snprintf(rank, sizeof rank, "%d", known);
    }
    gethostname(host, sizeof host - 1);
    snprintf(out, size, "rank %s on %s", rank, host);
}

static lw_status guard_start(double timeout_s, lw_error *err, lw_guard **out)
{
    char self[LW_HOST_BYTES + 32];
    char text[512];
    name_self(self, sizeof self);
    snprintf(text, sizeof text,
             "%s: MPI did not start within %.1f s (waiting for the other ranks): one of them never began, or the nodes "
             "do not reach each other; try `mpirun hostname` over the same nodes, or raise LWMPI_START_TIMEOUT_S if "
             "the start may take longer",
             self, timeout_s);
    return lw_guard_begin(timeout_s, text, err, out);
}

static lw_status start_mpi(lw_error *err, bool *started)
{
    int initialized = 0;
    int finalized = 0;
    MPI_Initialized(&initialized);
    MPI_Finalized(&finalized);
    if (finalized) {
        return lw_fail(err, LW_ERR_COMM, "MPI has been ended in this process and cannot start again");
    }
    *started = false;
    if (initialized) {
        return LW_OK;
    }
    LW_TRY(lw_comm_check_launch(0, err));
    lw_comm_prepare_environment();
    int provided = MPI_THREAD_SINGLE;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS) {
        return lw_fail(err, LW_ERR_COMM, "MPI could not start; try `mpirun -np 1 hostname` to test the installation");
    }
    *started = true;
    // Without this an MPI error ends the process inside the library, and the checks of its return codes are dead code.
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
    return LW_OK;
}

static lw_status duplicate(lw_comm *comm, MPI_Comm from, MPI_Comm *out, lw_error *err)
{
    LW_TRY(lw_comm_check(comm, MPI_Comm_dup(from, out), "MPI_Comm_dup", err));
    return lw_comm_check(comm, MPI_Comm_set_errhandler(*out, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler", err);
}

static lw_status set_up(lw_comm *comm, MPI_Comm from, lw_error *err)
{
    LW_TRY(lw_comm_check(comm, MPI_Comm_rank(from, &comm->rank), "MPI_Comm_rank", err));
    LW_TRY(lw_comm_check(comm, MPI_Comm_size(from, &comm->size), "MPI_Comm_size", err));
    if (from == MPI_COMM_WORLD) {
        LW_TRY(lw_comm_check_launch(comm->size, err));
    }
    comm->hosts = calloc((size_t)comm->size, sizeof *comm->hosts);
    comm->peers = calloc((size_t)comm->size, sizeof *comm->peers);
    comm->records = calloc((size_t)comm->size, sizeof *comm->records);
    if (comm->hosts != NULL && gethostname(comm->hosts[comm->rank], LW_HOST_BYTES - 1) != 0) {
        snprintf(comm->hosts[comm->rank], LW_HOST_BYTES, "unknown");
    }
    if (comm->hosts == NULL || comm->peers == NULL || comm->records == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the tables of %d ranks", comm->size);
    }
    LW_TRY(duplicate(comm, from, &comm->world, err));
    LW_TRY(duplicate(comm, from, &comm->watch, err));
    LW_TRY(lw_comm_find_topology(comm, err));
    // With more ranks than cores, a rank that keeps testing takes time from one that computes.
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    comm->yield_s = comm->local_size > cores ? 0.2e-3 : 5e-3;
    return LW_OK;
}

static lw_comm *new_comm(double timeout_s)
{
    lw_comm *comm = calloc(1, sizeof *comm);
    if (comm != NULL) {
        comm->world = MPI_COMM_NULL;
        comm->watch = MPI_COMM_NULL;
        lw_comm_set_timeout(comm, timeout_s);
        lw_comm_doing(comm, "start");
    }
    return comm;
}

static void tear_down(lw_comm *comm)
{
    if (comm->world != MPI_COMM_NULL) {
        MPI_Comm_free(&comm->world);
    }
    if (comm->watch != MPI_COMM_NULL) {
        MPI_Comm_free(&comm->watch);
    }
    if (comm->owns_mpi && MPI_Finalize() != MPI_SUCCESS) { // the launcher may report that as a crash
        lw_comm_print("rank %d on %s: MPI_Finalize failed, after all work was done", comm->rank, lw_comm_host(comm));
    }
    free(comm->hosts);
    free(comm->numbers);
    free(comm->peers);
    free(comm->records);
    free(comm);
}

lw_status lw_comm_create(const lw_comm_options *options, lw_error *err, lw_comm **out)
{
    lw_guard *guard = NULL;
    lw_comm *comm = new_comm(lw_comm_start_timeout_s(options->timeout_s));
    if (comm == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the communicator");
    }
    lw_status status = guard_start(comm->timeout_s, err, &guard);
    if (status == LW_OK) {
        status = start_mpi(err, &comm->owns_mpi);
    }
    if (status == LW_OK) {
        status = set_up(comm, MPI_COMM_WORLD, err);
    }
    if (status == LW_ERR_MEMORY && comm->size > 1) {
        lw_comm_abort(comm, status, err); // only this rank failed, and the others will wait for it
    }
    if (status != LW_OK) {
        tear_down(comm);
    } else {
        *out = comm;
    }
    lw_guard_end(&guard);
    return status;
}

// Fills `numbers`: messages about a part of the ranks name them as those about `from` do.
static lw_status number(const lw_comm *from, lw_comm *comm, lw_error *err)
{
    MPI_Group part = MPI_GROUP_NULL;
    MPI_Group whole = MPI_GROUP_NULL;
    int *ranks = calloc((size_t)comm->size, sizeof *ranks);
    comm->numbers = calloc((size_t)comm->size, sizeof *comm->numbers);
    lw_status status = LW_OK;
    if (ranks == NULL || comm->numbers == NULL) {
        status = lw_fail(err, LW_ERR_MEMORY, "no memory for the tables of %d ranks", comm->size);
        goto done;
    }
    for (int r = 0; r < comm->size; r++) {
        ranks[r] = r;
    }
    LW_TRY_GOTO(lw_comm_check(comm, MPI_Comm_group(comm->world, &part), "MPI_Comm_group", err));
    LW_TRY_GOTO(lw_comm_check(comm, MPI_Comm_group(from->world, &whole), "MPI_Comm_group", err));
    int code = MPI_Group_translate_ranks(part, comm->size, ranks, whole, comm->numbers);
    LW_TRY_GOTO(lw_comm_check(comm, code, "MPI_Group_translate_ranks", err));
    for (int r = 0; r < comm->size; r++) {
        comm->numbers[r] = lw_comm_number(from, comm->numbers[r]);
    }
done:
    if (part != MPI_GROUP_NULL) {
        MPI_Group_free(&part);
    }
    if (whole != MPI_GROUP_NULL) {
        MPI_Group_free(&whole);
    }
    free(ranks);
    return status;
}

// All ranks of `from` have just agreed, so that a deadline which names no ranks is enough.
static lw_status split(lw_comm *from, int colour, lw_comm *comm, lw_error *err, bool *member)
{
    MPI_Comm part = MPI_COMM_NULL;
    LW_TRY(lw_comm_check(from, MPI_Comm_split(from->world, colour, from->rank, &part), "MPI_Comm_split", err));
    *member = part != MPI_COMM_NULL;
    lw_status status = LW_OK;
    if (*member) {
        status = set_up(comm, part, err);
        MPI_Comm_free(&part);
        if (status == LW_OK) {
            status = number(from, comm, err);
        }
    }
    return status;
}

// A communicator of the ranks that bring the same colour; *out is NULL for ranks that bring MPI_UNDEFINED.
static lw_status divide(lw_comm *from, int colour, lw_error *err, lw_comm **out)
{
    char text[512];
    lw_guard *guard = NULL;
    bool member = false;
    lw_comm *comm = new_comm(from->timeout_s);
    snprintf(text, sizeof text,
             "rank %d on %s: waited more than %.1f s (comm.timeout_s) in phase \"%s\" (splitting the ranks): the "
             "network is stuck, or a rank has just died",
             lw_comm_number(from, from->rank), lw_comm_host(from), from->timeout_s, from->doing);
    *out = NULL;
    lw_status status = comm == NULL
                           ? lw_fail(err, LW_ERR_MEMORY, "no memory for the communicator")
                           : lw_guard_begin(2.0 * from->timeout_s, text, err, &guard); // covers the agreement too
    status = lw_comm_agree(from, status, err);
    if (status == LW_OK) {
        status = split(from, colour, comm, err, &member);
        if (status != LW_OK) {
            lw_comm_abort(from, status, err); // only this rank failed, and the others will wait for it
        }
    }
    if (status == LW_OK && member) {
        *out = comm;
    } else if (comm != NULL) {
        tear_down(comm);
    }
    lw_guard_end(&guard);
    return status;
}

lw_status lw_comm_first(lw_comm *parent, int ranks, lw_error *err, lw_comm **out)
{
    LW_TRY(divide(parent, parent->rank < ranks ? 0 : MPI_UNDEFINED, err, out));
    if (*out != NULL) {
        (*out)->parent = parent;
    }
    return LW_OK;
}

lw_status lw_comm_group(lw_comm *all, int colour, lw_error *err, lw_comm **out)
{
    if (all->of != NULL || all->group_count == LW_COMM_GROUPS) {
        return lw_fail(err, LW_ERR_INTERNAL, "a group of a group, or more than %d groups", LW_COMM_GROUPS);
    }
    LW_TRY(divide(all, colour, err, out));
    (*out)->of = all;
    memcpy((*out)->doing, all->doing, sizeof all->doing);
    all->groups[all->group_count++] = *out;
    return LW_OK;
}

// Removes a group that is being destroyed from the list of its communicator.
static void leave(lw_comm *comm)
{
    lw_comm *all = comm->of;
    int kept = 0;
    for (int i = 0; all != NULL && i < all->group_count; i++) {
        if (all->groups[i] != comm) {
            all->groups[kept++] = all->groups[i];
        }
    }
    if (all != NULL) {
        all->group_count = kept;
    }
}

void lw_comm_destroy(lw_comm **comm)
{
    lw_comm *c = *comm;
    if (c == NULL) {
        return;
    }
    char text[512];
    lw_guard *guard = NULL;
    lw_error ignored;
    lw_comm_detach_device(c);
    // MPI_Finalize waits for all ranks without naming one that is missing; this wait does.
    lw_comm_doing(c, "end");
    lw_status status = lw_comm_barrier(c, &ignored);
    (void)status;
    snprintf(text, sizeof text,
             "rank %d on %s: MPI did not end within %.1f s (comm.timeout_s), after all work was done", c->rank,
             lw_comm_host(c), c->timeout_s);
    status = lw_guard_begin(c->timeout_s, text, &ignored, &guard);
    (void)status; // without the guard only the time limit of the launcher ends the wait
    leave(c);
    tear_down(c);
    lw_guard_end(&guard);
    *comm = NULL;
}
