// device.cu: opens a GPU, its memory, and the errors of its work.
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cublas.cuh"

extern "C" {
#include "core/clock.h"
}

#define GIB 1073741824.0
#define OPEN_TIMEOUT_S 60.0 // for the self-test, some microseconds of work

// --- errors

void lw_cuda_fail(lw_device *dev, const char *format, ...)
{
    lw_cuda *c = lw_cuda_of(dev);
    if (c->failure[0] != '\0') {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(c->failure, sizeof c->failure, format, arguments);
    va_end(arguments);
}

bool lw_cuda_check(lw_device *dev, const char *op, cudaError_t code)
{
    if (code == cudaSuccess) {
        return true;
    }
    const lw_cuda *c = lw_cuda_of(dev);
    (void)cudaGetLastError();
    lw_cuda_fail(dev, "cuda: %s on %s (GPU %d): %s (%s)", op, c->info.name, c->index, cudaGetErrorString(code),
                 cudaGetErrorName(code));
    return false;
}

lw_status lw_cuda_status(lw_error *err, cudaError_t code, const char *what)
{
    if (code == cudaSuccess) {
        return LW_OK;
    }
    (void)cudaGetLastError();
    return lw_fail(err, code == cudaErrorMemoryAllocation ? LW_ERR_MEMORY : LW_ERR_DEVICE, "cuda: %s: %s (%s)", what,
                   cudaGetErrorString(code), cudaGetErrorName(code));
}

bool lw_cuda_rows_fit(lw_device *dev, const char *op, int64_t rows)
{
    if (rows > INT32_MAX) {
        lw_cuda_fail(dev, "cuda: %s of %lld rows: a launch holds %d", op, (long long)rows, INT32_MAX);
        return false;
    }
    return true;
}

// --- memory

static lw_status out_of_memory(const lw_cuda *c, size_t bytes, lw_error *err)
{
    size_t free_bytes = 0, total_bytes = 0;
    (void)cudaMemGetInfo(&free_bytes, &total_bytes);
    (void)cudaGetLastError();
    return lw_fail(
        err, LW_ERR_MEMORY,
        "cuda: %s (GPU %d) has no room for %.2f GiB: %.2f GiB are held by this rank, %.2f of %.2f GiB are free. A "
        "smaller batch.per_rank (or batch.global) needs less; nvidia-smi shows who else uses this GPU; "
        "lwmpi plan says what a job needs",
        c->info.name, c->index, (double)bytes / GIB, (double)c->base.allocated_bytes / GIB, (double)free_bytes / GIB,
        (double)total_bytes / GIB);
}

static lw_status remember_block(lw_cuda *c, void *memory, size_t bytes, lw_error *err)
{
    if (c->block_count == c->block_room) {
        const size_t room = 2 * c->block_room + 64;
        void *grown = realloc(c->blocks, room * sizeof *c->blocks);
        if (grown == NULL) {
            return lw_fail(err, LW_ERR_MEMORY, "cuda: no host memory for the list of device memory");
        }
        c->blocks = static_cast<lw_cuda_block *>(grown);
        c->block_room = room;
    }
    const lw_cuda_block block = {memory, bytes};
    c->blocks[c->block_count++] = block;
    return LW_OK;
}

lw_status lw_cuda_take(lw_cuda *c, size_t bytes, lw_error *err, void **out)
{
    void *memory = NULL;
    const cudaError_t code = cudaMalloc(&memory, bytes > 0 ? bytes : 1); // aligned to 256 bytes at least
    if (code == cudaErrorMemoryAllocation) {
        return out_of_memory(c, bytes, err);
    }
    LW_TRY(lw_cuda_status(err, code, "cannot allocate device memory"));
    *out = memory;
    return LW_OK;
}

lw_status lw_cuda_alloc(lw_device *dev, size_t bytes, lw_error *err, void **out)
{
    lw_cuda *c = lw_cuda_of(dev);
    void *memory = NULL;
    LW_TRY(lw_cuda_take(c, bytes, err, &memory));
    const lw_status status = remember_block(c, memory, bytes, err);
    if (status != LW_OK) {
        (void)cudaFree(memory);
        return status;
    }
    dev->allocated_bytes += bytes;
    dev->peak_bytes = dev->allocated_bytes > dev->peak_bytes ? dev->allocated_bytes : dev->peak_bytes;
    *out = memory;
    return LW_OK;
}

void lw_cuda_free(lw_device *dev, void *memory)
{
    lw_cuda *c = lw_cuda_of(dev);
    if (memory == NULL) {
        return;
    }
    for (size_t i = c->block_count; i > 0; i--) {
        if (c->blocks[i - 1].memory == memory) {
            dev->allocated_bytes -= c->blocks[i - 1].bytes;
            c->blocks[i - 1] = c->blocks[--c->block_count];
            if (lw_cuda_wait(dev, "free")) { // as cudaFree would, without a deadline
                (void)lw_cuda_check(dev, "free", cudaFree(memory));
            }
            return;
        }
    }
    lw_cuda_fail(dev, "cuda: free of memory that is not of this device");
}

// --- waiting
//
// Every wait asks the driver again and again: a call that blocks would not come back from a GPU that hangs.

// After the wait for the stream: hands downloads over, or returns the first failure, once.
static lw_status settle(lw_device *dev, lw_error *err)
{
    lw_cuda *c = lw_cuda_of(dev);
    const bool failed = c->failure[0] != '\0';
    lw_cuda_deliver(c, !failed);
    if (!failed) {
        return LW_OK;
    }
    const lw_status status = lw_fail(err, c->lost ? LW_ERR_TIMEOUT : LW_ERR_DEVICE, "%s", c->failure);
    if (!c->lost) {
        c->failure[0] = '\0';
    }
    return status;
}

// Most waits are shorter than a step, and the host has nothing else to do: it keeps its core as long as nobody wants
// it.
static void rest(double waited_s)
{
    if (waited_s < 20e-3) {
        (void)sched_yield();
    } else {
        const struct timespec pause = {0, waited_s < 0.5 ? 50000 : 1000000};
        (void)nanosleep(&pause, NULL);
    }
}

// *out: how `event` was reached; cudaErrorNotReady when the time is up (0: it never is). A failure is one of `poll`.
static lw_status await(cudaEvent_t event, double timeout_s,
                       lw_status (*poll)(void *context, double waited_s, lw_error *err), void *context, lw_error *err,
                       cudaError_t *out)
{
    const double start_s = lw_now_s();
    for (;;) {
        *out = cudaEventQuery(event);
        if (*out != cudaErrorNotReady) {
            return LW_OK;
        }
        (void)cudaGetLastError(); // "not ready" is kept as an error too, and the next launch's check would find it
        const double waited_s = lw_now_s() - start_s;
        if (poll != NULL) {
            LW_TRY(poll(context, waited_s, err));
        }
        if (timeout_s > 0.0 && waited_s > timeout_s) {
            return LW_OK;
        }
        rest(waited_s);
    }
}

static void lose(lw_cuda *c, double timeout_s)
{
    c->lost = true;
    lw_cuda_fail(
        &c->base,
        "cuda: %s (GPU %d) did not finish its work within %.1f s: the GPU hangs (dmesg and nvidia-smi -q tell of "
        "Xid errors), or that is too short for such work",
        c->info.name, c->index, timeout_s);
}

bool lw_cuda_wait_event(lw_device *dev, const char *op, cudaEvent_t event)
{
    lw_cuda *c = lw_cuda_of(dev);
    cudaError_t code = cudaSuccess;
    if (c->lost) {
        return false;
    }
    (void)await(event, dev->timeout_s, NULL, NULL, NULL, &code);
    if (code != cudaErrorNotReady) {
        return lw_cuda_check(dev, op, code);
    }
    if (dev->overdue != NULL) {
        dev->overdue(dev->overdue_context, dev->timeout_s);
    }
    lose(c, dev->timeout_s);
    return false;
}

bool lw_cuda_wait(lw_device *dev, const char *op)
{
    lw_cuda *c = lw_cuda_of(dev);
    return !c->lost && lw_cuda_check(dev, op, cudaEventRecord(c->reached, c->stream)) &&
           lw_cuda_wait_event(dev, op, c->reached);
}

// A failure of work that runs already has no operator's name.
static const char work[] = "work that was enqueued before (CUDA_LAUNCH_BLOCKING=1 in the environment finds out which)";

void lw_cuda_pace(lw_cuda *c)
{
    enum { LAUNCHES_A_MARK = 64 };
    if (c->capturing || ++c->launches % LAUNCHES_A_MARK != 0) {
        return;
    }
    const cudaEvent_t mark = c->marks[c->launches / LAUNCHES_A_MARK % LW_CUDA_MARKS];
    if (lw_cuda_wait_event(&c->base, work, mark)) { // at once where it was never recorded
        (void)lw_cuda_check(&c->base, work, cudaEventRecord(mark, c->stream));
    }
}

lw_status lw_cuda_sync(lw_device *dev, lw_error *err)
{
    (void)lw_cuda_wait(dev, work);
    return settle(dev, err);
}

lw_status lw_cuda_sync_until(lw_device *dev, double timeout_s, const char *what,
                             lw_status (*poll)(void *context, double waited_s, lw_error *err), void *context,
                             lw_error *err)
{
    lw_cuda *c = lw_cuda_of(dev);
    if (lw_cuda_stream(dev) == NULL) {
        return dev->ops->sync(dev, err);
    }
    if (!c->lost && lw_cuda_check(dev, what, cudaEventRecord(c->reached, c->stream))) {
        cudaError_t code = cudaSuccess;
        LW_TRY(await(c->reached, timeout_s, poll, context, err, &code));
        if (code == cudaErrorNotReady) {
            return lw_fail(err, LW_ERR_TIMEOUT, "cuda: %s is not done after %.1f s on %s (GPU %d)", what, timeout_s,
                           c->info.name, c->index);
        }
        (void)lw_cuda_check(dev, what, code);
    }
    return settle(dev, err);
}

void *lw_cuda_stream(lw_device *dev)
{
    return dev->ops->destroy == lw_cuda_destroy ? lw_cuda_of(dev)->stream : NULL;
}

int lw_cuda_index(const lw_device *dev)
{
    return dev->ops->destroy == lw_cuda_destroy ? reinterpret_cast<const lw_cuda *>(dev)->index : -1;
}

// --- opening and closing

static void describe(lw_cuda *c)
{
    char cuda[16], blas[48], text[512];
    lw_cuda_runtime_version(cuda, sizeof cuda);
    lw_cublas_version_of(&c->base, blas, sizeof blas);
    (void)snprintf(text, sizeof text, "cuda: %.40s, %.0f GiB, %s, CUDA %s, cuBLAS %s", c->info.name,
                   (double)c->info.memory_bytes / GIB, c->info.uuid, cuda, blas);
    (void)snprintf(c->base.description, sizeof c->base.description, "%.127s", text);
}

static lw_status open_gpu(lw_cuda *c, lw_error *err)
{
    LW_TRY(lw_cuda_status(
        err, cudaSetDevice(c->index),
        "cannot use the GPU (another process may have it to itself: see the compute mode in nvidia-smi)"));
    LW_TRY(lw_cuda_info_of(c->index, err, &c->info));
    if (c->info.major < 8) {
        return lw_fail(
            err, LW_ERR_UNSUPPORTED,
            "cuda: %s is sm_%d%d, which has no bf16 products: lwmpi needs sm_80 (Ampere) or newer; use device "
            "= \"cpu\"",
            c->info.name, c->info.major, c->info.minor);
    }
    LW_TRY(lw_cuda_status(err, cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking), "cannot create a stream"));
    LW_TRY(
        lw_cuda_status(err, cudaEventCreateWithFlags(&c->reached, cudaEventDisableTiming), "cannot create an event"));
    for (int i = 0; i < LW_CUDA_MARKS; i++) {
        LW_TRY(lw_cuda_status(err, cudaEventCreateWithFlags(&c->marks[i], cudaEventDisableTiming),
                              "cannot create an event"));
    }
    LW_TRY(lw_cuda_take(c, LW_CUDA_PARTIALS * sizeof(float), err, reinterpret_cast<void **>(&c->partial)));
    LW_TRY(lw_cuda_staging_open(c, err));
    LW_TRY(lw_cuda_self_test(c, err));
    LW_TRY(lw_cuda_records_open(c, err));
    LW_TRY(lw_cublas_open(c, err));
    describe(c);
    return LW_OK;
}

lw_status lw_cuda_open(int index, lw_dtype frozen_type, lw_error *err, lw_device **out)
{
    const int count = lw_cuda_device_count();
    if (count == 0) {
        char why[512];
        lw_cuda_why_not(why, sizeof why);
        return lw_fail(err, LW_ERR_DEVICE, "%s", why);
    }
    if (index < 0 || index >= count) {
        return lw_fail(err, LW_ERR_DEVICE, "cuda: GPU %d is asked for, and this process sees %d, from 0 on", index,
                       count);
    }
    lw_cuda *c = static_cast<lw_cuda *>(calloc(1, sizeof *c));
    if (c == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "cuda: cannot allocate the device");
    }
    c->base.ops = lw_cuda_ops();
    c->base.frozen_type = frozen_type;
    c->index = index;
    c->base.timeout_s = OPEN_TIMEOUT_S;
    const lw_status status = open_gpu(c, err);
    c->base.timeout_s = 0.0;
    if (status != LW_OK) {
        lw_cuda_destroy(&c->base);
        return status;
    }
    *out = &c->base;
    return LW_OK;
}

void lw_cuda_destroy(lw_device *dev)
{
    lw_cuda *c = lw_cuda_of(dev);
    if (c->stream != NULL) {
        (void)lw_cuda_wait(dev, work);
    }
    if (c->lost) {
        return; // every call that gives something back may wait for it: all is left to the end of the process
    }
    lw_cuda_records_close(c);
    lw_cublas_close(c);
    lw_cuda_staging_close(c);
    if (c->partial != NULL) { // without a context of its own, any call would make one on GPU 0
        (void)cudaFree(c->partial);
    }
    for (int i = 0; i < LW_CUDA_MARKS; i++) {
        if (c->marks[i] != NULL) {
            (void)cudaEventDestroy(c->marks[i]);
        }
    }
    if (c->reached != NULL) {
        (void)cudaEventDestroy(c->reached);
    }
    if (c->stream != NULL) {
        (void)cudaStreamDestroy(c->stream);
    }
    (void)cudaGetLastError();
    free(c->blocks);
    free(c);
}
