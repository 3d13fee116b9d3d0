// wait.c: waits for requests of MPI, within the deadline.
#include <math.h>
#include <sched.h>

#include "comm_internal.h"
#include "core/clock.h"
#include "core/signals.h"

enum { SPIN_TESTS = 200 }; // tests before the first look at the clock: ranks in step meet within these

lw_status lw_comm_check(lw_comm *comm, int code, const char *what, lw_error *err)
{
    if (code == MPI_SUCCESS) {
        return LW_OK;
    }
    char text[MPI_MAX_ERROR_STRING] = "unknown error";
    int length = 0;
    MPI_Error_string(code, text, &length);
    lw_comm_abort(comm, lw_fail(err, LW_ERR_COMM, "%s failed in phase \"%s\": %s", what, comm->doing, text), err);
}

void lw_comm_enter(lw_comm *comm)
{
    comm->sequence++;
    comm->announced = false;
}

void lw_comm_idle(lw_comm *comm, double waited_s, const char *what)
{
    if (waited_s > comm->timeout_s && lw_comm_is_overdue(comm, waited_s)) {
        lw_comm_missed_deadline(comm, waited_s, what);
    }
    if (waited_s < comm->yield_s) {
        sched_yield();
    } else {
        if (waited_s > 0.5 && lw_signal_pending() == LW_SIGNAL_TERM) {
            lw_comm_report_termination(comm, waited_s, what);
        }
        lw_comm_watch(comm, waited_s);
        lw_comm_answer_others(comm);
        lw_comm_sleep(fmin(fmax(waited_s / 50.0, 20e-6), 1e-3));
    }
}

// A wait goes through three stages: it spins (ranks in step meet within microseconds), then gives up the core between
// tests (which costs nothing when the core is free and lets another rank run when it is not), then sleeps (ranks that
// wait for a checkpoint use no processor time).
lw_status lw_comm_wait(lw_comm *comm, int count, MPI_Request *requests, const char *what, lw_error *err)
{
    int done = 0;
    int code = MPI_SUCCESS;
    for (int i = 0; i < SPIN_TESTS; i++) {
        code = MPI_Testall(count, requests, &done, MPI_STATUSES_IGNORE);
        if (done || code != MPI_SUCCESS) {
            return lw_comm_check(comm, code, what, err);
        }
    }
    double start_s = lw_now_s();
    for (;;) {
        code = MPI_Testall(count, requests, &done, MPI_STATUSES_IGNORE);
        if (done || code != MPI_SUCCESS) {
            lw_comm_end_watch(comm);
            return lw_comm_check(comm, code, what, err);
        }
        lw_comm_idle(comm, lw_now_s() - start_s, what);
    }
}
