// comm_impl.h: what the files of mpi/ share. Not for callers of comm.h.
#ifndef LW_COMM_IMPL_H
#define LW_COMM_IMPL_H

#include <mpi.h>

#include "comm.h"
#include "comm_nccl.h"

enum { LW_HOST_BYTES = 128, LW_PHASE_BYTES = 128 };

// What a rank brings to an agreement. Fixed size, so that one all-gather moves all.
typedef struct lw_agree_record {
    int status;
    char text[sizeof(((lw_error *)0)->text)];
} lw_agree_record;

// What ranks tell each other beside the collectives (watch.c).
typedef enum lw_note_kind {
    LW_NOTE_WAITS,   // in a collective
    LW_NOTE_CALLS,   // likewise, and wants to hear from those that are there
    LW_NOTE_WORKS,   // on what comes before the next collective
    LW_NOTE_GOES_ON, // no longer waits: a rank that then hangs must not pass for one that waits
    LW_NOTE_SIGNAL,  // was asked to stop, and has no part in the work; its sequence is the lw_signal
    LW_NOTE_ENDS,    // has said who is missing, and ends the job
    LW_NOTE_KINDS
} lw_note_kind;

typedef struct lw_note {
    int64_t kind, sequence;
} lw_note;

typedef struct lw_sign { // the last from a rank
    double at_s;         // when it was heard; 0: never
    int64_t sequence;    // where that rank was
    bool waits;
    bool calls, unanswered; // it has not heard of this rank since
} lw_sign;

struct lw_comm {
    MPI_Comm world;  // a duplicate of MPI_COMM_WORLD for collectives and their point-to-point parts
    MPI_Comm watch;  // another one, for the notes of waiting ranks (watch.c)
    lw_comm *parent; // borrowed: what this is a part of (lw_comm_first); NULL
    int told_signal; // the worst that a rank without a part in the work has told (rank 0), or that this rank told
    int rank, size;
    int local_rank, local_size;
    char (*hosts)[LW_HOST_BYTES]; // (size)
    lw_agree_record *records;     // (size): allocated at the start, so that agreeing on "out of memory" needs none
    double timeout_s;
    double yield_s; // how long a wait gives up its core between tests before it starts to sleep
    char phase[LW_PHASE_BYTES];
    int64_t sequence; // collectives entered so far: the same on all ranks that are at the same place
    // The data plane, while a device is attached (data_plane.c):
    lw_device *dev; // borrowed
    lw_nccl *nccl;  // NULL: MPI carries the data
    float *staging; // (staging_elements): the buffer's copy in host memory, where the device has its own
    int64_t staging_elements;
    float *work;                  // what the ring receives into (ring.c)
    lw_sign *signs;               // (size)
    lw_note notes[LW_NOTE_KINDS]; // being sent
    double told_s;                // when this rank last sent notes
    double looked_s;              // and, while it worked, looked for some
    double progress_s;            // when another rank was last heard to work, or to be at another place
    const lw_error *untold;       // what this rank failed of, while it is not agreed; NULL
    bool noted;                   // this rank has told the others that it waits in the current collective
    bool told_to_end;             // lw_comm_told_to_end has spoken
    bool another_ends;            // another rank has said why, and ends the job
    bool owns_mpi;                // started here, so ended here
};

// Writes "lwmpi: " text newline to stderr at once, so that lines of several ranks do not mix.
__attribute__((format(printf, 1, 2))) void lw_comm_say(const char *format, ...);

// Ends the job with the library's text when an MPI call returned an error: the other ranks wait in that call, and
// cannot be told otherwise. So it returns LW_OK.
lw_status lw_comm_check(lw_comm *comm, int code, const char *what, lw_error *err);

// Waits for all requests, within the deadline; when it passes, names the ranks that are missing and ends the job.
// `what` is the operation, for messages.
lw_status lw_comm_wait(lw_comm *comm, int count, MPI_Request *requests, const char *what, lw_error *err);

// One turn of a wait between two looks at what is waited for: gives up the core or sleeps, reads and sends notes; when
// the deadline has passed, names the ranks that are missing and ends the job.
void lw_comm_idle(lw_comm *comm, double waited_s, const char *what);
void lw_comm_sleep(double seconds);

// Opens a collective: a new place in the common order.
void lw_comm_enter(lw_comm *comm);

// ring.c: allocates comm->work.
lw_status lw_comm_ring_prepare(lw_comm *comm, lw_error *err);

// Sums host floats over all ranks (ring.c). Same bits on all ranks, and at every run with the same n and rank count.
lw_status lw_comm_ring_sum(lw_comm *comm, float *values, int64_t n, lw_error *err);

// topology.c: fills local_rank, local_size, hosts. Collective.
lw_status lw_comm_find_topology(lw_comm *comm, lw_error *err);

// topology.c: LW_ERR_COMM when the launcher's variables say that this process is one of several that cannot see each
// other. world_size 0: before MPI_Init, then only where no launcher offers a way to meet.
lw_status lw_comm_check_launch(int world_size, lw_error *err);

// topology.c: settings of the MPI library that must be there before it starts. Never overrides the user's.
void lw_comm_prepare_environment(void);

// topology.c: LWMPI_START_TIMEOUT_S, or the given deadline where it is not set.
double lw_comm_start_timeout_s(double otherwise_s);

// watch.c: reads and sends notes; called now and then by a rank that waits. waited_s: since the wait began.
void lw_comm_watch(lw_comm *comm, double waited_s);
// Whether some rank has given no sign of life for comm.timeout_s of this wait, or none has got anywhere.
bool lw_comm_overdue(const lw_comm *comm, double waited_s);
// A rank without a part in the work tells rank 0 of a signal that it got; nothing where it has, or got none.
void lw_comm_tell_signal(lw_comm *comm);
// After a wait that has ended well: takes back the note, if one was sent.
void lw_comm_watch_end(lw_comm *comm);
// When a launcher ends the job because a rank died, the others get SIGTERM in the middle of a wait: says once who is
// missing, while there is time.
void lw_comm_told_to_end(lw_comm *comm, double waited_s, const char *what);
_Noreturn void lw_comm_missed_deadline(lw_comm *comm, double waited_s, const char *what);
// Asks all ranks whether they are there, waits for answers at most wait_s, and lists the ranks that gave none
// ("rank 1 on node07"). Returns their number. Where a lower rank is there, gives it time to speak first.
int lw_comm_silent_ranks(lw_comm *comm, double wait_s, char *out, size_t size);

// agree.c: says what this rank brought to an agreement that does not come about.
void lw_comm_tell_untold(lw_comm *comm);

// data_plane.c: gives the data plane up without farewell, before the job is ended; bounded.
void lw_comm_abandon_device(lw_comm *comm);
// data_plane.c: ends the job because this rank's device is not done with its own work.
_Noreturn void lw_comm_device_overdue(lw_comm *comm, double waited_s);

_Noreturn void lw_comm_kill(int exit_code); // MPI_Abort that is sure to return to nobody

#endif
