#include "comm.h"

#include <limits.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "comm_impl.h"

enum {
    SPIN_TESTS = 200,         // tests before the clock is looked at: the whole wait of ranks in step
    CHUNK_BYTES = 1 << 28,    // of one transfer: far below INT_MAX elements
    CHUNK_ELEMENTS = 1 << 25, // of one reduction of 8-byte values
    TAG_GATHER = 11,
};

void lw_comm_say(const char *format, ...)
{
    char line[sizeof(lw_error) + 512] = "lwmpi: ";
    size_t used = strlen(line);
    va_list args;
    va_start(args, format);
    vsnprintf(line + used, sizeof line - used - 1, format, args);
    va_end(args);
    used = strlen(line);
    line[used++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, used);
    (void)written; // there is no other place to complain
}

lw_status lw_comm_check(const lw_comm *comm, int code, const char *what, lw_error *err)
{
    if (code == MPI_SUCCESS) {
        return LW_OK;
    }
    char text[MPI_MAX_ERROR_STRING] = "unknown error";
    int length = 0;
    MPI_Error_string(code, text, &length);
    return lw_fail(err, LW_ERR_COMM, "%s failed in phase \"%s\": %s", what, comm->phase, text);
}

void lw_comm_enter(lw_comm *comm)
{
    comm->sequence++;
    comm->noted = false;
}

static void sleep_s(double seconds)
{
    struct timespec pause = {.tv_sec = 0, .tv_nsec = (long)(seconds * 1e9)};
    nanosleep(&pause, NULL);
}

// Three gears: spin (ranks in step meet within microseconds), give up the core between tests (which costs nothing
// when it is free and lets another rank run when it is not), sleep (ranks that wait for a checkpoint burn nothing).
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
            return lw_comm_check(comm, code, what, err);
        }
        double waited_s = lw_now_s() - start_s;
        if (waited_s > comm->timeout_s) {
            lw_comm_missed_deadline(comm, waited_s, what);
        }
        if (waited_s < comm->yield_s) {
            sched_yield();
        } else {
            lw_comm_watch(comm, waited_s);
            sleep_s(fmin(fmax(waited_s / 50.0, 20e-6), 1e-3));
        }
    }
}

lw_status lw_comm_work(lw_comm *comm, int64_t n, lw_error *err)
{
    if (n <= comm->work_elements) {
        return LW_OK;
    }
    float *work = NULL;
    if ((uint64_t)n <= SIZE_MAX / sizeof *work) {
        work = malloc((size_t)n * sizeof *work);
    }
    if (work == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for %lld floats of communication buffer", (long long)n);
    }
    free(comm->work);
    comm->work = work;
    comm->work_elements = n;
    return LW_OK;
}

// --- start and end

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
    // Without this an MPI error ends the process inside the library and no check of ours would ever run.
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
    comm->heard = calloc((size_t)comm->size, sizeof *comm->heard);
    comm->records = calloc((size_t)comm->size, sizeof *comm->records);
    if (comm->hosts == NULL || comm->heard == NULL || comm->records == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the tables of %d ranks", comm->size);
    }
    LW_TRY(duplicate(comm, from, &comm->world, err));
    LW_TRY(duplicate(comm, from, &comm->watch, err));
    LW_TRY(lw_comm_find_topology(comm, err));
    // With more ranks than cores, a rank that keeps asking for its turn takes time from one that computes.
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    comm->yield_s = comm->local_size > cores ? 0.2e-3 : 5e-3;
    return LW_OK;
}

static void tear_down(lw_comm *comm)
{
    if (comm->world != MPI_COMM_NULL) {
        MPI_Comm_free(&comm->world);
    }
    if (comm->watch != MPI_COMM_NULL) {
        MPI_Comm_free(&comm->watch);
    }
    if (comm->owns_mpi) {
        MPI_Finalize();
    }
    free(comm->hosts);
    free(comm->heard);
    free(comm->records);
    free(comm->work);
    free(comm);
}

lw_status lw_comm_create(const lw_comm_options *options, lw_error *err, lw_comm **out)
{
    lw_comm *comm = calloc(1, sizeof *comm);
    if (comm == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the communicator");
    }
    comm->world = MPI_COMM_NULL;
    comm->watch = MPI_COMM_NULL;
    lw_comm_set_timeout(comm, options->timeout_s);
    lw_comm_phase(comm, "start");
    lw_status status = start_mpi(err, &comm->owns_mpi);
    if (status == LW_OK) {
        status = set_up(comm, MPI_COMM_WORLD, err);
    }
    if (status != LW_OK) {
        tear_down(comm);
        return status;
    }
    *out = comm;
    return LW_OK;
}

lw_status lw_comm_first(lw_comm *parent, int ranks, lw_error *err, lw_comm **out)
{
    MPI_Comm part = MPI_COMM_NULL;
    lw_comm *comm = calloc(1, sizeof *comm);
    lw_status status = comm == NULL ? lw_fail(err, LW_ERR_MEMORY, "no memory for the communicator") : LW_OK;
    status = lw_comm_agree(parent, status, err);
    if (status == LW_OK) {
        int colour = parent->rank < ranks ? 0 : MPI_UNDEFINED;
        int code = MPI_Comm_split(parent->world, colour, parent->rank, &part);
        status = lw_comm_check(parent, code, "MPI_Comm_split", err);
    }
    if (status != LW_OK || part == MPI_COMM_NULL) {
        free(comm);
        *out = NULL;
        return status;
    }
    comm->world = MPI_COMM_NULL;
    comm->watch = MPI_COMM_NULL;
    lw_comm_set_timeout(comm, parent->timeout_s);
    lw_comm_phase(comm, "start");
    status = set_up(comm, part, err);
    MPI_Comm_free(&part);
    if (status != LW_OK) {
        tear_down(comm);
        return status;
    }
    *out = comm;
    return LW_OK;
}

// Fifty looks a second cost nothing that could be measured, and end the wait soon enough for people.
lw_status lw_comm_rendezvous(lw_comm *comm, lw_status mine, lw_error *err)
{
    int worst = (int)mine;
    int done = 0;
    MPI_Request request;
    lw_comm_enter(comm);
    int code = MPI_Iallreduce(MPI_IN_PLACE, &worst, 1, MPI_INT, MPI_MAX, comm->world, &request);
    LW_TRY(lw_comm_check(comm, code, "rendezvous", err));
    for (;;) {
        LW_TRY(lw_comm_check(comm, MPI_Test(&request, &done, MPI_STATUS_IGNORE), "rendezvous", err));
        if (done) {
            return (lw_status)worst;
        }
        sleep_s(20e-3);
    }
}

void lw_comm_destroy(lw_comm **comm)
{
    if (*comm == NULL) {
        return;
    }
    // MPI_Finalize waits for all ranks without a deadline; this wait has one.
    lw_error ignored;
    lw_comm_phase(*comm, "end");
    lw_status status = lw_comm_barrier(*comm, &ignored);
    (void)status;
    tear_down(*comm);
    *comm = NULL;
}

int lw_comm_rank(const lw_comm *comm)
{
    return comm->rank;
}

int lw_comm_size(const lw_comm *comm)
{
    return comm->size;
}

int lw_comm_local_rank(const lw_comm *comm)
{
    return comm->local_rank;
}

int lw_comm_local_size(const lw_comm *comm)
{
    return comm->local_size;
}

const char *lw_comm_host(const lw_comm *comm)
{
    return comm->hosts[comm->rank];
}

void lw_comm_set_timeout(lw_comm *comm, double timeout_s)
{
    comm->timeout_s = timeout_s > 0 ? timeout_s : 300.0;
}

void lw_comm_phase(lw_comm *comm, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(comm->phase, sizeof comm->phase, format, args);
    va_end(args);
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

lw_status lw_comm_gather_v(lw_comm *comm, int root, const void *host_data, int64_t bytes, lw_error *err,
                           void **host_out, int64_t *counts_out)
{
    // Every rank learns the total from the root, so that all leave together when the root has no room for it.
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
        status = lw_fail(err, LW_ERR_MEMORY, "rank %d on %s has no memory to gather %lld bytes from %d ranks", root,
                         comm->hosts[root], (long long)room[1], comm->size);
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

lw_status lw_comm_all_reduce(lw_comm *comm, lw_device *dev, float *buffer, int64_t n, lw_error *err)
{
    LW_TRY(dev->ops->sync(dev, err)); // what is enqueued may still write the buffer
    if (comm->size == 1 || n == 0) {
        return LW_OK;
    }
    if (strcmp(dev->ops->name, "cpu") == 0) {
        return lw_comm_ring_sum(comm, buffer, n, err);
    }
    // The ring needs work space of its own, so the copy of the buffer cannot live in comm->work.
    size_t bytes = (size_t)n * sizeof *buffer;
    float *host = malloc(bytes);
    if (host == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory to pass %zu bytes from the device to the ranks", bytes);
    }
    dev->ops->download(dev, buffer, bytes, host);
    lw_status status = dev->ops->sync(dev, err);
    if (status == LW_OK) {
        status = lw_comm_ring_sum(comm, host, n, err);
    }
    if (status == LW_OK) {
        dev->ops->upload(dev, host, bytes, buffer);
    }
    free(host);
    return status;
}

// --- leaving at once

void lw_comm_kill(int exit_code)
{
    int initialized = 0;
    int finalized = 0;
    MPI_Initialized(&initialized);
    MPI_Finalized(&finalized);
    if (initialized && !finalized) {
        // MPI_Abort asks the launcher, and may wait for one that does not answer.
        signal(SIGALRM, SIG_DFL);
        alarm(10);
        MPI_Abort(MPI_COMM_WORLD, exit_code);
    }
    _exit(exit_code);
}

void lw_comm_abort(lw_comm *comm, lw_status status, const lw_error *err)
{
    const char *text = err->text[0] != '\0' ? err->text : lw_status_name(status);
    if (comm != NULL && comm->size > 1) {
        lw_comm_say("rank %d on %s: %s", comm->rank, lw_comm_host(comm), text);
    } else {
        lw_comm_say("%s", text);
    }
    lw_comm_kill(lw_status_exit_code(status));
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
