// Who is missing? A rank that has waited for half its deadline tells all others, by a note, where it waits; one that
// gets a note while it waits answers with its own. When the deadline passes, the ranks that sent none are those that
// did not come: dead, stopped, or busy elsewhere.
#include <stdio.h>

#include "clock.h"
#include "comm_impl.h"

enum { TAG_NOTE = 21 };

static void send_notes(lw_comm *comm)
{
    comm->noted = true;
    for (int r = 0; r < comm->size; r++) {
        MPI_Request request;
        // Eight bytes are sent eagerly: the buffer is free and the request complete when the call returns, in every
        // MPI library in use; should one differ, the table entry that is sent here stays valid as long as comm.
        if (r != comm->rank &&
            MPI_Isend(&comm->heard[comm->rank], 1, MPI_INT64_T, r, TAG_NOTE, comm->watch, &request) == MPI_SUCCESS) {
            MPI_Request_free(&request);
        }
    }
}

void lw_comm_watch(lw_comm *comm, double waited_s)
{
    comm->heard[comm->rank] = comm->sequence + 1;
    bool answer = waited_s > comm->timeout_s / 2;
    for (;;) {
        int flag = 0;
        MPI_Status from;
        int64_t note = 0;
        if (MPI_Iprobe(MPI_ANY_SOURCE, TAG_NOTE, comm->watch, &flag, &from) != MPI_SUCCESS || !flag ||
            MPI_Recv(&note, 1, MPI_INT64_T, from.MPI_SOURCE, TAG_NOTE, comm->watch, MPI_STATUS_IGNORE) != MPI_SUCCESS) {
            break;
        }
        comm->heard[from.MPI_SOURCE] = note;
        answer = answer || note > 0;
    }
    if (answer && !comm->noted) {
        send_notes(comm);
    }
}

void lw_comm_watch_end(lw_comm *comm)
{
    if (comm->noted) {
        comm->heard[comm->rank] = 0;
        send_notes(comm);
        comm->noted = false;
    }
}

// A rank that waits one collective behind (it had a part that this one did not need to see) is waiting, not missing.
static bool is_waiting(const lw_comm *comm, int rank)
{
    return comm->heard[rank] >= comm->sequence;
}

// "rank 1 on node07, rank 3 on node08 and 2 more"
static int list_missing(const lw_comm *comm, char *out, size_t size)
{
    int missing = 0;
    size_t used = 0;
    out[0] = '\0';
    for (int r = 0; r < comm->size; r++) {
        if (r == comm->rank || is_waiting(comm, r)) {
            continue;
        }
        if (missing < 4 && used < size) {
            int n = snprintf(out + used, size - used, "%srank %d on %s", missing > 0 ? ", " : "", r, comm->hosts[r]);
            used += n > 0 ? (size_t)n : 0;
        }
        missing++;
    }
    if (missing > 4 && used < size) {
        snprintf(out + used, size - used, " and %d more", missing - 4);
    }
    return missing;
}

// The lowest of those that wait speaks and ends the job; the rest are gone before they would say the same again.
static void let_lower_speak(const lw_comm *comm)
{
    for (int r = 0; r < comm->rank; r++) {
        if (is_waiting(comm, r)) {
            lw_comm_sleep(1.5);
            return;
        }
    }
}

int lw_comm_silent_ranks(lw_comm *comm, double wait_s, char *out, size_t size)
{
    double start_s = lw_now_s();
    int silent;
    comm->noted = false; // an earlier note may have been read by a rank that is gone now
    do {
        lw_comm_watch(comm, comm->timeout_s);
        silent = list_missing(comm, out, size);
        lw_comm_sleep(1e-3);
    } while (silent > 0 && lw_now_s() - start_s < wait_s);
    let_lower_speak(comm);
    return silent;
}

void lw_comm_told_to_end(lw_comm *comm, double waited_s, const char *what)
{
    static const double answer_s = 0.3; // a launcher that ends a job may leave a second between SIGTERM and SIGKILL
    double start_s = lw_now_s();
    char silent[512];
    int count;
    if (comm->told_to_end) {
        return;
    }
    comm->told_to_end = true;
    comm->noted = false;
    do {
        lw_comm_watch(comm, comm->timeout_s);
        count = list_missing(comm, silent, sizeof silent);
        lw_comm_sleep(1e-3);
    } while (count > 0 && lw_now_s() - start_s < answer_s);
    if (count > 0) {
        lw_comm_say("rank %d on %s: SIGTERM after %.1f s of waiting in phase \"%s\" (%s) for %s, without a sign of life: "
                    "it died, or is busy",
                    comm->rank, lw_comm_host(comm), waited_s, comm->phase, what, silent);
    }
}

void lw_comm_missed_deadline(lw_comm *comm, double waited_s, const char *what)
{
    char missing[512];
    int count = list_missing(comm, missing, sizeof missing); // now: a launcher that ends the job wakes stopped ranks
    let_lower_speak(comm);
    lw_comm_tell_untold(comm);
    if (count > 0) {
        lw_comm_say("rank %d on %s: waited %.1f s (comm.timeout_s) in phase \"%s\" (%s) for %s: it died, hangs or is "
                    "stopped; look at that node and its log, or raise comm.timeout_s if the phase may take longer",
                    comm->rank, lw_comm_host(comm), waited_s, comm->phase, what, missing);
    } else {
        lw_comm_say("rank %d on %s: waited %.1f s (comm.timeout_s) in phase \"%s\" (%s) although every rank is there: "
                    "the network is stuck or the ranks do not call the same operation",
                    comm->rank, lw_comm_host(comm), waited_s, comm->phase, what);
    }
    lw_comm_abandon_device(comm);
    lw_comm_kill(lw_status_exit_code(LW_ERR_TIMEOUT));
}
