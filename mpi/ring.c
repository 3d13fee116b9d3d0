// ring.c: a ring all-reduce (Patarasuk & Yuan 2009). The MPI library's own would do, but the order of its sums
// may differ between versions (and its non-blocking form is slower); here the order is a function of n and the rank
// count alone: every element is summed along the ring once, on one path, and its sum is then copied.
#include <stdlib.h>

#include "comm_internal.h"

enum {
    TAG_RING = 12,
    BLOCK_ELEMENTS = 1 << 18, // per rank and pass: what is summed is still in the cache that it was received into
};

// Part `index` of `size` nearly equal ones.
static int64_t part_start(int64_t n, int size, int index)
{
    return n / size * index + (index < n % size ? index : n % size);
}

static lw_status exchange(lw_comm *comm, const float *send, int64_t send_n, float *receive, int64_t receive_n,
                          lw_error *err)
{
    int next = (comm->rank + 1) % comm->size;
    int previous = (comm->rank + comm->size - 1) % comm->size;
    MPI_Request requests[2];
    int code = MPI_Irecv(receive, (int)receive_n, MPI_FLOAT, previous, TAG_RING, comm->world, &requests[0]);
    LW_TRY(lw_comm_check(comm, code, "all-reduce", err));
    code = MPI_Isend(send, (int)send_n, MPI_FLOAT, next, TAG_RING, comm->world, &requests[1]);
    LW_TRY(lw_comm_check(comm, code, "all-reduce", err));
    return lw_comm_wait(comm, 2, requests, "all-reduce", err);
}

static lw_status reduce_block(lw_comm *comm, float *values, int64_t n, lw_error *err)
{
    int size = comm->size;
    float *received = comm->work;
    // Reduce-scatter: after size - 1 passes, rank r holds the whole sum of part r + 1.
    for (int pass = 0; pass < size - 1; pass++) {
        int give = (comm->rank - pass + size) % size;
        int take = (comm->rank - pass - 1 + 2 * size) % size;
        int64_t give_at = part_start(n, size, give);
        int64_t take_at = part_start(n, size, take);
        int64_t take_n = part_start(n, size, take + 1) - take_at;
        LW_TRY(exchange(comm, values + give_at, part_start(n, size, give + 1) - give_at, received, take_n, err));
        float *sum = values + take_at;
        for (int64_t i = 0; i < take_n; i++) {
            sum[i] += received[i];
        }
    }
    // All-gather: the sums travel once around.
    for (int pass = 0; pass < size - 1; pass++) {
        int give = (comm->rank + 1 - pass + size) % size;
        int take = (comm->rank - pass + size) % size;
        int64_t give_at = part_start(n, size, give);
        int64_t take_at = part_start(n, size, take);
        LW_TRY(exchange(comm, values + give_at, part_start(n, size, give + 1) - give_at, values + take_at,
                        part_start(n, size, take + 1) - take_at, err));
    }
    return LW_OK;
}

lw_status lw_comm_ring_prepare(lw_comm *comm, lw_error *err)
{
    if (comm->work == NULL) {
        comm->work = malloc(BLOCK_ELEMENTS * sizeof *comm->work);
    }
    return comm->work != NULL ? LW_OK : lw_fail(err, LW_ERR_MEMORY, "no memory for the all-reduce");
}

lw_status lw_comm_ring_sum(lw_comm *comm, float *values, int64_t n, lw_error *err)
{
    lw_comm_enter(comm);
    if (comm->size == 1) {
        return LW_OK;
    }
    int64_t block = (int64_t)BLOCK_ELEMENTS * comm->size;
    for (int64_t at = 0; at < n; at += block) {
        LW_TRY(reduce_block(comm, values + at, n - at < block ? n - at : block, err));
    }
    return LW_OK;
}
