// comm_nccl.c: sums over the GPUs of a job by NCCL. The unique id and the heartbeats go through MPI.
#include <cuda_runtime.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm_internal.h"
#include "core/clock.h"
#include "kernels/cuda/device_cuda.h"
#include "load_nccl.h"

#if NCCL_VERSION_CODE < 21800
#error "NCCL 2.18 or newer is needed (see INSTALL)"
#endif

#define ABORT_S 3.0     // for ncclCommAbort, which may hang when the network or a peer does
#define FINALIZE_S 10.0 // for an orderly end, with no operation running
#define ANSWER_S 1.5    // for the answers of the other ranks

struct lw_nccl {
    lw_nccl_functions call;
    lw_comm *comm;
    lw_device *dev;
    ncclComm_t handle;
    cudaEvent_t before; // on the stream, in front of the all-reduce
    bool arrived;       // `before` is done: this rank now waits for the others and no longer for its own GPU
    atomic_bool aborted;
};

void lw_nccl_version(char *out, size_t size)
{
    lw_error err;
    lw_nccl_functions call;
    int v = 0;
    if (lw_nccl_load(&err, &call) != LW_OK || call.GetVersion(&v) != ncclSuccess) {
        snprintf(out, size, "not found here (built for %d.%d.%d)", NCCL_MAJOR, NCCL_MINOR, NCCL_PATCH);
        return;
    }
    snprintf(out, size, "%d.%d.%d", v / 10000, v / 100 % 100, v % 100);
}

// --- failures

static void *run_abort(void *context)
{
    lw_nccl *n = context;
    n->call.CommAbort(n->handle);
    atomic_store(&n->aborted, true);
    return NULL;
}

void lw_nccl_abort(lw_nccl *n)
{
    pthread_t thread;
    if (n->handle == NULL || pthread_create(&thread, NULL, run_abort, n) != 0) {
        return; // the process is about to end, and its GPU work with it
    }
    pthread_detach(thread);
    double start_s = lw_now_s();
    while (!atomic_load(&n->aborted) && lw_now_s() - start_s < ABORT_S) {
        lw_comm_sleep(1e-3);
    }
}

// A rank on which NCCL fails ends the job, as the others would notice at their deadline at the earliest.
static _Noreturn void end_job(lw_nccl *n, const char *what, ncclResult_t code)
{
    lw_comm *comm = n->comm;
    char silent[512];
    char detail[256];
    lw_error err = {{0}};
    const char *last = n->call.GetLastError(n->handle);
    snprintf(detail, sizeof detail, "%s", last != NULL ? last : "");
    detail[strcspn(detail, "\n")] = '\0';
    int count = lw_comm_silent_ranks(comm, ANSWER_S, silent, sizeof silent);
    lw_fail(&err, LW_ERR_COMM, "%s failed in phase \"%s\": %s%s%s%s%s; NCCL_DEBUG=INFO in the environment tells more",
            what, comm->doing, n->call.GetErrorString(code), detail[0] != '\0' ? ": " : "", detail,
            count > 0 ? "; no sign of life from " : "", count > 0 ? silent : "");
    lw_comm_abort(comm, LW_ERR_COMM, &err);
}

// The state of the communicator; ncclInProgress while an earlier call is not complete.
static ncclResult_t ask(const lw_nccl *n)
{
    ncclResult_t state = ncclSuccess;
    ncclResult_t asked = n->call.CommGetAsyncError(n->handle, &state);
    return asked != ncclSuccess ? asked : state;
}

// Calls of a non-blocking communicator return before they are complete, and the next one must wait for that.
static void settle(lw_nccl *n, const char *what, ncclResult_t code)
{
    double start_s = lw_now_s();
    while (code == ncclInProgress) {
        lw_comm_idle(n->comm, lw_now_s() - start_s, what);
        code = ask(n);
    }
    if (code != ncclSuccess) {
        end_job(n, what, code);
    }
    lw_comm_end_watch(n->comm);
}

// --- begin

static lw_status prepare(lw_comm *comm, lw_device *dev, lw_error *err, ncclUniqueId *id, lw_nccl **out)
{
    lw_nccl *n = calloc(1, sizeof *n);
    if (n == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the NCCL communicator");
    }
    n->comm = comm;
    n->dev = dev;
    *out = n;
    LW_TRY(lw_nccl_load(err, &n->call));
    cudaError_t cuda = cudaEventCreateWithFlags(&n->before, cudaEventDisableTiming);
    if (cuda != cudaSuccess) {
        n->before = NULL;
        return lw_fail(err, LW_ERR_DEVICE, "cudaEventCreateWithFlags: %s", cudaGetErrorString(cuda));
    }
    ncclResult_t code = comm->rank == 0 ? n->call.GetUniqueId(id) : ncclSuccess;
    if (code != ncclSuccess) {
        return lw_fail(err, LW_ERR_COMM,
                       "NCCL cannot start (ncclGetUniqueId: %s): %s; NCCL_SOCKET_IFNAME names the network interface to "
                       "use, comm.backend = \"mpi\" goes without NCCL",
                       n->call.GetErrorString(code), n->call.GetLastError(NULL));
    }
    return LW_OK;
}

static void discard(lw_nccl *n)
{
    if (n != NULL && n->before != NULL) {
        cudaEventDestroy(n->before);
    }
    free(n);
}

lw_status lw_nccl_create(lw_comm *comm, lw_device *dev, lw_error *err, lw_nccl **out)
{
    ncclUniqueId id = {{0}};
    lw_nccl *n = NULL;
    lw_status status = lw_comm_agree(comm, prepare(comm, dev, err, &id, &n), err);
    if (status == LW_OK) {
        status = lw_comm_broadcast(comm, 0, &id, sizeof id, err);
    }
    if (status != LW_OK) {
        discard(n);
        return status;
    }
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    *out = n; // a missed deadline aborts it
    lw_comm_enter(comm);
    settle(n, "NCCL start", n->call.CommInitRankConfig(&n->handle, comm->size, id, comm->rank, &config));
    return LW_OK;
}

// --- all-reduce

static lw_status poll_reduce(void *context, double waited_s, lw_error *err)
{
    (void)err;
    lw_nccl *n = context;
    ncclResult_t state = ask(n);
    if (state != ncclSuccess && state != ncclInProgress) {
        end_job(n, "NCCL all-reduce", state);
    }
    if (!n->arrived) {
        n->arrived = cudaEventQuery(n->before) == cudaSuccess;
        if (!n->arrived) {
            (void)cudaGetLastError(); // clears "not ready"; a real error surfaces at the end of the wait
        }
    }
    // While its own GPU is at work this rank does not wait for others, and so sends no notice that it does.
    if (n->arrived && waited_s > n->comm->yield_s) {
        lw_comm_watch(n->comm, waited_s);
    }
    return LW_OK;
}

static _Noreturn void missed_deadline(lw_nccl *n, double waited_s)
{
    if (n->arrived) {
        lw_comm_missed_deadline(n->comm, waited_s, "NCCL all-reduce");
    }
    lw_comm_device_overdue(n->comm, waited_s);
}

lw_status lw_nccl_all_reduce(lw_nccl *n, float *buffer, int64_t elements, lw_error *err)
{
    cudaStream_t stream = lw_cuda_stream(n->dev);
    double start_s = lw_now_s();
    lw_comm_enter(n->comm);
    n->arrived = false;
    cudaError_t cuda = cudaEventRecord(n->before, stream);
    if (cuda != cudaSuccess) {
        return lw_fail(err, LW_ERR_DEVICE, "cudaEventRecord in front of the all-reduce: %s", cudaGetErrorString(cuda));
    }
    ncclResult_t code = n->call.AllReduce(buffer, buffer, (size_t)elements, ncclFloat32, ncclSum, n->handle, stream);
    settle(n, "NCCL all-reduce", code);
    lw_status status = lw_cuda_sync_until(n->dev, n->comm->timeout_s, "the all-reduce of NCCL", poll_reduce, n, err);
    if (status == LW_ERR_TIMEOUT) {
        missed_deadline(n, lw_now_s() - start_s);
    }
    lw_comm_end_watch(n->comm);
    return status;
}

// --- end

// Whether all ranks have ended the communicator in order.
static bool finalize(lw_nccl *n)
{
    double start_s = lw_now_s();
    ncclResult_t code = n->call.CommFinalize(n->handle);
    while (code == ncclInProgress && lw_now_s() - start_s < FINALIZE_S) {
        lw_comm_sleep(1e-3);
        code = ask(n);
    }
    return code == ncclSuccess;
}

void lw_nccl_destroy(lw_nccl **nccl)
{
    lw_nccl *n = *nccl;
    *nccl = NULL;
    if (finalize(n)) {
        n->call.CommDestroy(n->handle);
    } else {
        lw_nccl_abort(n);
        if (!atomic_load(&n->aborted)) {
            return; // the thread that hangs in ncclCommAbort still reads n
        }
    }
    discard(n);
}
