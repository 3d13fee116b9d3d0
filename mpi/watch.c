// watch.c: heartbeats, and which rank is missing.
//
// A rank that waits sends notices to all others, eight times within the deadline; a rank that works answers those that
// wait for it as long as its work advances (lw_comm_send_heartbeat). The deadline counts from the last notice of a
// rank: one that has been silent for so long is dead, stopped, or hangs. Where all ranks send notices and none makes
// progress, the cause is the network or a defect of the program.
#include <math.h>
#include <stdio.h>

#include "comm_internal.h"
#include "core/clock.h"

enum { TAG_NOTICE = 21 };

static const double max_heartbeat_s = 5.0;  // most seconds between notices, so that a long deadline does not delay them
static const double read_interval_s = 0.05; // least seconds between two looks for notices by a rank that works

static double heartbeat_interval_s(const lw_comm *comm)
{
    return fmin(comm->timeout_s / 8.0, max_heartbeat_s);
}

// --- notices

static void send(lw_comm *comm, int to, lw_notice_kind kind, int64_t sequence)
{
    MPI_Request request;
    lw_notice *notice = &comm->notices[kind];
    *notice = (lw_notice){.kind = kind, .sequence = sequence};
    // MPI libraries send so few bytes eagerly: the request is complete when the call returns. Should one differ, the
    // buffer stays valid as long as comm.
    if (MPI_Isend(notice, 2, MPI_INT64_T, to, TAG_NOTICE, comm->watch, &request) == MPI_SUCCESS) {
        MPI_Request_free(&request);
    }
}

static void send_notice(lw_comm *comm, int to, lw_notice_kind kind)
{
    send(comm, to, kind, comm->sequence);
}

static void send_to_all(lw_comm *comm, lw_notice_kind kind, double now_s)
{
    comm->sent_s = now_s;
    for (int r = 0; r < comm->size; r++) {
        if (r != comm->rank) {
            send_notice(comm, r, kind);
        }
    }
}

static void take_notice(lw_comm *comm, int from, const lw_notice *notice, double now_s)
{
    if (notice->kind == LW_NOTICE_SIGNAL) {
        comm->reported_signal =
            (int)notice->sequence > comm->reported_signal ? (int)notice->sequence : comm->reported_signal;
        return;
    }
    if (notice->kind == LW_NOTICE_ENDING) {
        comm->another_ends_job = true;
        return;
    }
    lw_peer *s = &comm->peers[from];
    bool waits = notice->kind == LW_NOTICE_WAITING || notice->kind == LW_NOTICE_ASKING;
    if (!waits || !s->waits || s->sequence != notice->sequence) {
        comm->progress_s = now_s;
    }
    s->at_s = now_s;
    s->waits = waits;
    s->sequence = notice->sequence;
    s->asks = s->asks || notice->kind == LW_NOTICE_ASKING;
    s->unanswered = waits;
}

static void read_notices(lw_comm *comm, double now_s)
{
    for (;;) {
        int flag = 0;
        MPI_Status from;
        lw_notice notice;
        if (MPI_Iprobe(MPI_ANY_SOURCE, TAG_NOTICE, comm->watch, &flag, &from) != MPI_SUCCESS || !flag ||
            MPI_Recv(&notice, 2, MPI_INT64_T, from.MPI_SOURCE, TAG_NOTICE, comm->watch, MPI_STATUS_IGNORE) !=
                MPI_SUCCESS) {
            return;
        }
        take_notice(comm, from.MPI_SOURCE, &notice, now_s);
    }
}

// Whether some rank asks for an answer, or waits and has not yet been sent that this rank waits too.
static bool is_asked(lw_comm *comm)
{
    bool asked = false;
    for (int r = 0; r < comm->size; r++) {
        lw_peer *s = &comm->peers[r];
        asked = asked || s->asks || (s->unanswered && !comm->announced);
        s->asks = false;
        s->unanswered = false;
    }
    return asked;
}

void lw_comm_watch(lw_comm *comm, double waited_s)
{
    double now_s = lw_now_s();
    read_notices(comm, now_s);
    bool due = waited_s > heartbeat_interval_s(comm) &&
               (!comm->announced || now_s - comm->sent_s > heartbeat_interval_s(comm));
    if (is_asked(comm) || due) {
        comm->announced = true;
        send_to_all(comm, LW_NOTICE_WAITING, now_s);
    }
}

void lw_comm_end_watch(lw_comm *comm)
{
    if (comm->announced) {
        send_to_all(comm, LW_NOTICE_RESUMED, lw_now_s());
        comm->announced = false;
    }
}

static void answer(lw_comm *comm)
{
    if (comm->size == 1) {
        return;
    }
    double now_s = lw_now_s();
    if (now_s - comm->read_s < read_interval_s) {
        return;
    }
    comm->read_s = now_s;
    read_notices(comm, now_s);
    bool due = now_s - comm->sent_s > heartbeat_interval_s(comm) / 2.0;
    for (int r = 0; r < comm->size; r++) {
        lw_peer *s = &comm->peers[r];
        if ((s->waits && due) || s->asks) {
            s->asks = false;
            comm->sent_s = now_s;
            send_notice(comm, r, LW_NOTICE_WORKING);
        }
    }
}

void lw_comm_send_heartbeat(lw_comm *comm)
{
    answer(comm);
    lw_comm_each_other(comm, answer);
}

void lw_comm_answer_others(lw_comm *comm)
{
    lw_comm_each_other(comm, answer);
}

void lw_comm_report_signal(lw_comm *comm)
{
    int signal = (int)lw_signal_pending();
    if (signal > comm->reported_signal && comm->rank != 0) {
        comm->reported_signal = signal;
        send(comm, 0, LW_NOTICE_SIGNAL, signal);
    }
}

lw_signal lw_comm_signal(lw_comm *comm)
{
    int mine = (int)lw_signal_pending();
    lw_comm *parent = comm->parent;
    if (parent == NULL || parent->rank != 0) {
        return (lw_signal)mine;
    }
    read_notices(parent, lw_now_s());
    return (lw_signal)(parent->reported_signal > mine ? parent->reported_signal : mine);
}

static void send_heartbeat(void *context)
{
    lw_comm_send_heartbeat(context);
}

lw_heartbeat lw_comm_heartbeat(lw_comm *comm)
{
    return (lw_heartbeat){.report = send_heartbeat, .context = comm};
}

// --- silent ranks

bool lw_comm_is_overdue(const lw_comm *comm, double waited_s)
{
    double now_s = lw_now_s();
    double start_s = now_s - waited_s;
    for (int r = 0; r < comm->size; r++) {
        if (r != comm->rank && now_s - fmax(comm->peers[r].at_s, start_s) > comm->timeout_s) {
            return true;
        }
    }
    return now_s - fmax(comm->progress_s, start_s) > comm->timeout_s;
}

// Lists the ranks without a notice since then: "rank 1 on node07, rank 3 on node08 and 2 more". Returns their number.
static int list_silent(const lw_comm *comm, double since_s, char *out, size_t size)
{
    int silent = 0;
    size_t used = 0;
    out[0] = '\0';
    for (int r = 0; r < comm->size; r++) {
        if (r == comm->rank || comm->peers[r].at_s >= since_s) {
            continue;
        }
        if (silent < 4 && used < size) {
            int n = snprintf(out + used, size - used, "%srank %d on %s", silent > 0 ? ", " : "",
                             lw_comm_number(comm, r), comm->hosts[r]);
            used += n > 0 ? (size_t)n : 0;
        }
        silent++;
    }
    if (silent > 4 && used < size) {
        snprintf(out + used, size - used, " and %d more", silent - 4);
    }
    return silent;
}

// The lowest of the waiting ranks prints the message and ends the job; the others give it time, so that they are gone
// before they would print the same.
static void let_lower_rank_print(const lw_comm *comm, double since_s)
{
    for (int r = 0; r < comm->rank; r++) {
        if (comm->peers[r].waits && comm->peers[r].at_s >= since_s) {
            lw_comm_sleep(1.5);
            return;
        }
    }
}

// Asks all ranks to answer, and waits wait_s for that.
static int ask_all(lw_comm *comm, double wait_s, char *out, size_t size)
{
    double start_s = lw_now_s();
    double now_s = start_s;
    int silent;
    comm->announced = true;
    send_to_all(comm, LW_NOTICE_ASKING, start_s);
    do {
        lw_comm_sleep(1e-3);
        now_s = lw_now_s();
        read_notices(comm, now_s);
        if (is_asked(comm)) {
            send_to_all(comm, LW_NOTICE_WAITING, now_s);
        }
        silent = list_silent(comm, start_s, out, size);
    } while (silent > 0 && now_s - start_s < wait_s);
    return silent;
}

int lw_comm_silent_ranks(lw_comm *comm, double wait_s, char *out, size_t size)
{
    double start_s = lw_now_s();
    int silent = ask_all(comm, wait_s, out, size);
    let_lower_rank_print(comm, start_s);
    return silent;
}

void lw_comm_report_termination(lw_comm *comm, double waited_s, const char *what)
{
    static const double answer_s = 0.3; // a launcher may leave one second between SIGTERM and SIGKILL
    char silent[512];
    if (comm->termination_reported) {
        return;
    }
    comm->termination_reported = true;
    if (ask_all(comm, answer_s, silent, sizeof silent) > 0 && !comm->another_ends_job) {
        lw_comm_print(
            "rank %d on %s: SIGTERM after %.1f s of waiting in phase \"%s\" (%s) for %s, without a sign of life: "
            "it died, or is busy",
            lw_comm_number(comm, comm->rank), lw_comm_host(comm), waited_s, comm->doing, what, silent);
    }
}

void lw_comm_missed_deadline(lw_comm *comm, double waited_s, const char *what)
{
    char missing[512];
    // A rank that fell silent a little later than another is missing too. The list is made before anything is printed,
    // as a launcher that ends the job wakes stopped ranks.
    double since_s = lw_now_s() - 0.75 * comm->timeout_s;
    int count = list_silent(comm, since_s, missing, sizeof missing);
    let_lower_rank_print(comm, since_s);
    lw_comm_print_pending_error(comm);
    if (count > 0) {
        lw_comm_print(
            "rank %d on %s: waited %.1f s in phase \"%s\" (%s) for %s: it died, hangs or is stopped, and gave "
            "no sign of life for %.1f s (comm.timeout_s); look at that node and its log, or raise "
            "comm.timeout_s if its work may stand still for so long",
            lw_comm_number(comm, comm->rank), lw_comm_host(comm), waited_s, comm->doing, what, missing,
            comm->timeout_s);
    } else {
        lw_comm_print(
            "rank %d on %s: waited %.1f s in phase \"%s\" (%s) although every rank is there, and nothing has "
            "moved for %.1f s (comm.timeout_s): the network is stuck or the ranks do not call the same operation",
            lw_comm_number(comm, comm->rank), lw_comm_host(comm), waited_s, comm->doing, what, comm->timeout_s);
    }
    send_to_all(comm, LW_NOTICE_ENDING, lw_now_s());
    lw_comm_abandon_device(comm);
    lw_comm_kill(lw_status_exit_code(LW_ERR_TIMEOUT));
}
