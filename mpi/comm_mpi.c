// comm_mpi.c: the collectives of the control plane.
#include <stdlib.h>
#include <string.h>

#include "comm.h"
#include "comm_internal.h"

enum {
    CHUNK_BYTES = 1 << 28,    // of one transfer: far below INT_MAX elements
    CHUNK_ELEMENTS = 1 << 25, // of one reduction of 8-byte values
    TAG_GATHER = 11,
};

// Fifty tests a second have no measurable cost, and end the wait soon enough for people.
lw_status lw_comm_rendezvous(lw_comm *comm, lw_status mine, bool last, lw_error *err)
{
    int worst = (int)mine;
    int done = 0;
    MPI_Request request;
    lw_comm_enter(comm);
    int code = MPI_Iallreduce(MPI_IN_PLACE, &worst, 1, MPI_INT, MPI_MAX, comm->world, &request);
    LW_TRY(lw_comm_check(comm, code, "rendezvous", err));
    while (!last && !done) {
        LW_TRY(lw_comm_check(comm, MPI_Test(&request, &done, MPI_STATUS_IGNORE), "rendezvous", err));
        if (!done) {
            lw_comm_report_signal(comm);
            lw_comm_sleep(20e-3);
        }
    }
    if (last) {
        LW_TRY(lw_comm_wait(comm, 1, &request, "rendezvous", err));
    }
    return (lw_status)worst;
}

// --- collectives

lw_status lw_comm_barrier(lw_comm *comm, lw_error *err)
{
    lw_comm_enter(comm);
    MPI_Request request;
    LW_TRY(lw_comm_check(comm, MPI_Ibarrier(comm->world, &request), "barrier", err));
    return lw_comm_wait(comm, 1, &request, "barrier", err);
}

lw_status lw_comm_broadcast(lw_comm *comm, int root, void *host_data, int64_t bytes, lw_error *err)
{
    lw_comm_enter(comm);
    char *data = host_data;
    for (int64_t at = 0; at < bytes; at += CHUNK_BYTES) {
        int part = (int)(bytes - at < CHUNK_BYTES ? bytes - at : CHUNK_BYTES);
        MPI_Request request;
        int code = MPI_Ibcast(data + at, part, MPI_BYTE, root, comm->world, &request);
        LW_TRY(lw_comm_check(comm, code, "broadcast", err));
        LW_TRY(lw_comm_wait(comm, 1, &request, "broadcast", err));
    }
    return LW_OK;
}

static lw_status reduce_in_place(lw_comm *comm, void *values, int64_t n, MPI_Datatype type, MPI_Op op, lw_error *err)
{
    lw_comm_enter(comm);
    char *data = values; // of 8-byte elements, f64 or i64
    for (int64_t at = 0; at < n; at += CHUNK_ELEMENTS) {
        int part = (int)(n - at < CHUNK_ELEMENTS ? n - at : CHUNK_ELEMENTS);
        MPI_Request request;
        int code = MPI_Iallreduce(MPI_IN_PLACE, data + at * 8, part, type, op, comm->world, &request);
        LW_TRY(lw_comm_check(comm, code, "reduction", err));
        LW_TRY(lw_comm_wait(comm, 1, &request, "reduction", err));
    }
    return LW_OK;
}

lw_status lw_comm_sum_f64(lw_comm *comm, double *host_values, int64_t n, lw_error *err)
{
    return reduce_in_place(comm, host_values, n, MPI_DOUBLE, MPI_SUM, err);
}

lw_status lw_comm_sum_i64(lw_comm *comm, int64_t *host_values, int64_t n, lw_error *err)
{
    return reduce_in_place(comm, host_values, n, MPI_INT64_T, MPI_SUM, err);
}

lw_status lw_comm_max_f64(lw_comm *comm, double *host_values, int64_t n, lw_error *err)
{
    return reduce_in_place(comm, host_values, n, MPI_DOUBLE, MPI_MAX, err);
}

// Moves `bytes` between this rank and `peer` in pieces; the collective has been entered.
static lw_status transfer(lw_comm *comm, bool send, int peer, char *data, int64_t bytes, lw_error *err)
{
    for (int64_t at = 0; at < bytes; at += CHUNK_BYTES) {
        int part = (int)(bytes - at < CHUNK_BYTES ? bytes - at : CHUNK_BYTES);
        MPI_Request request;
        int code = send ? MPI_Isend(data + at, part, MPI_BYTE, peer, TAG_GATHER, comm->world, &request)
                        : MPI_Irecv(data + at, part, MPI_BYTE, peer, TAG_GATHER, comm->world, &request);
        LW_TRY(lw_comm_check(comm, code, "gather", err));
        LW_TRY(lw_comm_wait(comm, 1, &request, "gather", err));
    }
    return LW_OK;
}

lw_status lw_comm_gather(lw_comm *comm, int root, const void *host_data, int64_t bytes, lw_error *err, void *host_out)
{
    lw_comm_enter(comm);
    if (comm->rank != root) {
        return transfer(comm, true, root, (char *)(uintptr_t)host_data, bytes, err); // MPI_Isend only reads
    }
    char *out = host_out;
    for (int r = 0; r < comm->size; r++) {
        if (r != root) {
            LW_TRY(transfer(comm, false, r, out + r * bytes, bytes, err));
        } else if (bytes > 0) {
            memcpy(out + r * bytes, host_data, (size_t)bytes);
        }
    }
    return LW_OK;
}

lw_status lw_comm_all_gather(lw_comm *comm, const void *host_data, int64_t bytes, lw_error *err, void *host_out)
{
    MPI_Request request;
    lw_comm_enter(comm);
    int code = MPI_Iallgather(host_data, (int)bytes, MPI_BYTE, host_out, (int)bytes, MPI_BYTE, comm->world, &request);
    LW_TRY(lw_comm_check(comm, code, "all-gather", err));
    return lw_comm_wait(comm, 1, &request, "all-gather", err);
}

lw_status lw_comm_gather_v(lw_comm *comm, int root, const void *host_data, int64_t bytes, lw_error *err,
                           void **host_out, int64_t *counts_out)
{
    // The root sends every rank the total, so that all leave together when it has no memory for it.
    bool is_root = comm->rank == root;
    LW_TRY(lw_comm_gather(comm, root, &bytes, sizeof bytes, err, counts_out));
    char *all = NULL;
    int64_t total = 0;
    if (is_root) {
        for (int r = 0; r < comm->size; r++) {
            total += counts_out[r];
        }
        all = malloc(total > 0 ? (size_t)total : 1);
    }
    int64_t room[2] = {is_root && all == NULL, total};
    lw_status status = lw_comm_broadcast(comm, root, room, sizeof room, err);
    if (status == LW_OK && room[0]) {
        status = lw_fail(err, LW_ERR_MEMORY, "rank %d on %s has no memory to gather %lld bytes from %d ranks",
                         lw_comm_number(comm, root), comm->hosts[root], (long long)room[1], comm->size);
    }
    if (status == LW_OK) {
        lw_comm_enter(comm);
        if (!is_root) {
            status = transfer(comm, true, root, (char *)(uintptr_t)host_data, bytes, err);
        }
        char *at = all;
        for (int r = 0; is_root && status == LW_OK && r < comm->size; r++) {
            if (r != root) {
                status = transfer(comm, false, r, at, counts_out[r], err);
            } else if (bytes > 0) {
                memcpy(at, host_data, (size_t)bytes);
            }
            at += counts_out[r];
        }
    }
    if (status != LW_OK) {
        free(all);
        return status;
    }
    *host_out = all;
    return LW_OK;
}

void lw_comm_version(char *out, size_t size)
{
    char text[MPI_MAX_LIBRARY_VERSION_STRING] = "MPI";
    int length = 0;
    MPI_Get_library_version(text, &length);
    // "Open MPI v4.1.4, package: ..." and "MPICH Version:\t4.0.2\n..." alike become a name and a number.
    text[strcspn(text, ",\n")] = '\0';
    size_t used = 0;
    for (const char *c = text; *c != '\0' && used + 1 < size; c++) {
        bool is_v = *c == 'v' && used > 0 && out[used - 1] == ' ' && c[1] >= '0' && c[1] <= '9';
        bool is_space = *c == '\t' || *c == ' ';
        if (is_v || (is_space && used > 0 && out[used - 1] == ' ')) {
            continue;
        }
        out[used++] = is_space ? ' ' : *c;
    }
    out[used] = '\0';
}
