// comm_internal.h: what the files of mpi/ share. Not for callers of comm.h.
//
// Each file uses those above it only: rank.c; watch.c; wait.c; comm_mpi.c and ring.c; agree.c; topology.c;
// device_wait.c; comm_nccl.c; data_plane.c; lifetime.c.
#ifndef LW_COMM_INTERNAL_H
#define LW_COMM_INTERNAL_H

#include <mpi.h>

#include "comm.h"
#include "comm_nccl.h"

enum { LW_HOST_BYTES = 128, LW_DOING_BYTES = 128, LW_COMM_GROUPS = 4 };

// What a rank brings to an agreement. Fixed size, so that one all-gather moves all.
typedef struct lw_agree_record {
    int status;
    char text[sizeof(((lw_error *)0)->text)];
} lw_agree_record;

// What ranks send each other beside the collectives (watch.c).
typedef enum lw_notice_kind {
    LW_NOTICE_WAITING, // The sender waits in a collective.
    LW_NOTICE_ASKING,  // The sender waits in a collective and asks the receiver to answer.
    LW_NOTICE_WORKING, // The sender works on what comes before the next collective.
    LW_NOTICE_RESUMED, // The sender no longer waits: should it hang now, it must not pass for a rank that waits.
    LW_NOTICE_SIGNAL,  // The sender, which has no part in the work, was asked to stop; `sequence` is the lw_signal.
    LW_NOTICE_ENDING,  // The sender has printed which ranks are missing, and ends the job.
    LW_NOTICE_KINDS
} lw_notice_kind;

typedef struct lw_notice {
    int64_t kind, sequence;
} lw_notice;

typedef struct lw_peer { // the last notice from a rank
    double at_s;         // when it came; 0: never
    int64_t sequence;    // collectives that the rank had entered by then
    bool waits;          // the rank waits in one of them
    bool asks;           // it asked for an answer and has not got one
    bool unanswered;     // this rank has sent nothing to it since
} lw_peer;

struct lw_comm {
    MPI_Comm world;      // a duplicate of MPI_COMM_WORLD, for collectives and the point-to-point parts of them
    MPI_Comm watch;      // another duplicate, for the notices of watch.c
    lw_comm *parent;     // borrowed: the communicator that this one is a part of (lw_comm_first); NULL
    int reported_signal; // the worst that ranks without a part in the work have reported (rank 0), or this rank
    lw_comm *of;         // borrowed: the communicator that this one is a group of (lw_comm_group); NULL
    lw_comm *groups[LW_COMM_GROUPS]; // borrowed: this rank's groups of this communicator
    int group_count;
    int rank, size;
    int *numbers; // (size): how messages name the ranks: by their ranks in the whole job; NULL: by their own
    int local_rank, local_size;
    char (*hosts)[LW_HOST_BYTES]; // (size)
    lw_agree_record *records;     // (size): allocated at the start, so that agreeing on "out of memory" needs none
    double timeout_s;
    double yield_s;             // how long a wait gives up its core between tests before it starts to sleep
    char doing[LW_DOING_BYTES]; // what this rank is doing now (lw_comm_doing)
    int64_t sequence;           // collectives entered so far: the same on all ranks that are at the same place
    // The data plane, while a device is attached (data_plane.c):
    lw_device *dev;                 // borrowed
    void (*abandon)(lw_comm *comm); // gives the data plane up without the other ranks, in a few seconds; NULL
    lw_nccl *nccl;                  // NULL: MPI carries the data
    float *staging; // (staging_elements): a copy of the buffer in host memory, for devices with their own
    int64_t staging_elements;
    float *work;                        // what the ring receives into (ring.c)
    lw_peer *peers;                     // (size)
    lw_notice notices[LW_NOTICE_KINDS]; // being sent
    double sent_s;                      // when this rank last sent notices
    double read_s;                      // when this rank last read notices while it worked
    double progress_s;             // when another rank last sent that it works, or that it has entered a collective
    const lw_error *pending_error; // why this rank failed, until the ranks have agreed on it; NULL
    bool announced;                // this rank has sent that it waits in the current collective
    bool termination_reported;     // lw_comm_report_termination has printed its message
    bool another_ends_job;         // another rank has printed why, and ends the job
    bool owns_mpi;                 // MPI was started here, and so is ended here
};

// --- rank.c

// Writes "lwmpi: " text newline to stderr at once, so that lines of several ranks do not mix.
__attribute__((format(printf, 1, 2))) void lw_comm_print(const char *format, ...);
// Prints the error that this rank brought to an agreement which does not come about. Nothing where there is none.
void lw_comm_print_pending_error(lw_comm *comm);
void lw_comm_sleep(double seconds);
// Gives up the data plane, if one is attached, before the job is ended. Bounded: it waits for no other rank.
void lw_comm_abandon_device(lw_comm *comm);
// MPI_Abort, with a guarantee that it returns to nobody.
_Noreturn void lw_comm_kill(int exit_code);

// How messages name rank r.
int lw_comm_number(const lw_comm *comm, int r);
// Calls `visit` with every communicator that this rank has beside `comm`: the one that it is a group of, and its
// groups.
void lw_comm_each_other(lw_comm *comm, void (*visit)(lw_comm *other));

// --- watch.c

// Answers ranks that wait for this one in another communicator than the one in which it waits itself.
void lw_comm_answer_others(lw_comm *comm);

// Reads and sends notices; a rank that waits calls it now and then. waited_s: since the wait began.
void lw_comm_watch(lw_comm *comm, double waited_s);
// Takes back the notice that this rank waits, if it sent one; called after a wait that has ended well.
void lw_comm_end_watch(lw_comm *comm);
// Whether some rank has been silent for comm.timeout_s of this wait, or none has made progress for so long.
bool lw_comm_is_overdue(const lw_comm *comm, double waited_s);
// Ends the job, and prints for which ranks this one waited.
_Noreturn void lw_comm_missed_deadline(lw_comm *comm, double waited_s, const char *what);
// Prints once which ranks are missing, while there is time: when a launcher ends the job because a rank died, the
// others get SIGTERM in the middle of a wait.
void lw_comm_report_termination(lw_comm *comm, double waited_s, const char *what);
// Asks all ranks to answer, waits wait_s at most, and lists those that did not ("rank 1 on node07"). Returns their
// number. When a lower rank waits too, that one gets the time to print its message first.
int lw_comm_silent_ranks(lw_comm *comm, double wait_s, char *out, size_t size);
// Sends rank 0 the signal that this process got, if it got one. For ranks without a part in the work.
void lw_comm_report_signal(lw_comm *comm);

// --- wait.c

// Ends the job with the library's text when an MPI call returned an error: the other ranks wait in that call, and
// cannot learn of it otherwise. When it returns, it returns LW_OK.
lw_status lw_comm_check(lw_comm *comm, int code, const char *what, lw_error *err);
// Opens a collective: a new place in the common order.
void lw_comm_enter(lw_comm *comm);
// Waits for all requests, within the deadline; when it passes, names the ranks that are missing and ends the job.
// `what` is the operation, for messages.
lw_status lw_comm_wait(lw_comm *comm, int count, MPI_Request *requests, const char *what, lw_error *err);
// One turn of a wait, between two looks at what is waited for: gives up the core or sleeps, reads and sends notices;
// when the deadline has passed, names the ranks that are missing and ends the job.
void lw_comm_idle(lw_comm *comm, double waited_s, const char *what);

// --- ring.c

// Allocates comm->work. LW_ERR_MEMORY.
lw_status lw_comm_ring_prepare(lw_comm *comm, lw_error *err);
// Sums host floats over all ranks. Same bits on all ranks, and at every run with the same n and rank count.
lw_status lw_comm_ring_sum(lw_comm *comm, float *values, int64_t n, lw_error *err);

// --- topology.c

// Fills local_rank, local_size, hosts. Collective.
lw_status lw_comm_find_topology(lw_comm *comm, lw_error *err);
// LW_ERR_COMM when the launcher's variables say that this process is one of several that cannot see each other.
// world_size 0: before MPI_Init; then it fails only where no launcher offers a way to meet.
lw_status lw_comm_check_launch(int world_size, lw_error *err);
// Sets what the MPI library reads from the environment when it starts. Never overrides the user's values.
void lw_comm_prepare_environment(void);
// LWMPI_START_TIMEOUT_S, or the given deadline where it is not set.
double lw_comm_start_timeout_s(double otherwise_s);

// --- device_wait.c

// Ends the job because this rank's device has not finished its own work.
_Noreturn void lw_comm_device_overdue(lw_comm *comm, double waited_s);

#endif
