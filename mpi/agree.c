// agree.c: all ranks leave a part of the work with the same status, and each cause of a failure is printed once.
#include <string.h>

#include "comm_internal.h"

// The statuses above these are failures; a stop on request needs no explanation.
static bool is_failure(int status)
{
    return status > LW_INTERRUPTED;
}

static bool same_cause(const lw_agree_record *a, const lw_agree_record *b)
{
    return a->status == b->status && strcmp(a->text, b->text) == 0;
}

// Prints why this rank failed, unless a lower rank prints the same.
static void print_failure(const lw_comm *comm)
{
    const lw_agree_record *mine = &comm->records[comm->rank];
    int others = 0;
    for (int r = 0; r < comm->size; r++) {
        if (r != comm->rank && same_cause(mine, &comm->records[r])) {
            if (r < comm->rank) {
                return;
            }
            others++;
        }
    }
    const char *text = mine->text[0] != '\0' ? mine->text : lw_status_name((lw_status)mine->status);
    if (others + 1 == comm->size) {
        lw_comm_print("%s", text); // all ranks failed alike, so the message names none
    } else if (others > 0) {
        lw_comm_print("rank %d on %s and %d more: %s", lw_comm_number(comm, comm->rank), lw_comm_host(comm), others,
                      text);
    } else {
        lw_comm_print("rank %d on %s: %s", lw_comm_number(comm, comm->rank), lw_comm_host(comm), text);
    }
}

static lw_status all_gather_records(lw_comm *comm, lw_status mine, const lw_error *err, lw_error *comm_err)
{
    lw_agree_record *own = &comm->records[comm->rank];
    memset(own, 0, sizeof *own);
    own->status = (int)mine;
    if (is_failure(own->status)) {
        memcpy(own->text, err->text, sizeof own->text);
        own->text[sizeof own->text - 1] = '\0';
    }
    lw_comm_enter(comm);
    MPI_Request request;
    int code = MPI_Iallgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, comm->records, (int)sizeof *own, MPI_BYTE,
                              comm->world, &request);
    LW_TRY(lw_comm_check(comm, code, "agreement", comm_err));
    return lw_comm_wait(comm, 1, &request, "agreement", comm_err);
}

lw_status lw_comm_agree(lw_comm *comm, lw_status mine, lw_error *err)
{
    lw_error comm_err = {{0}};
    double worst = (double)mine;
    comm->pending_error = is_failure((int)mine) ? err : NULL; // printed should there be no agreement
    LW_TRY(lw_comm_max_f64(comm, &worst, 1, &comm_err));
    if (worst == (double)LW_OK) {
        return LW_OK;
    }
    LW_TRY(all_gather_records(comm, mine, err, &comm_err));
    int first = 0;
    for (int r = 1; r < comm->size; r++) {
        if (comm->records[r].status > comm->records[first].status) {
            first = r;
        }
    }
    if (is_failure((int)mine)) {
        print_failure(comm);
    }
    comm->pending_error = NULL;
    // A rank that leaves may take the job with it, so all wait until everyone has printed its message.
    LW_TRY(lw_comm_barrier(comm, &comm_err));
    err->text[0] = '\0'; // it has been printed
    return (lw_status)comm->records[first].status;
}
