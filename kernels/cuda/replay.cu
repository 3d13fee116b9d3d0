// replay.cu: parts of a step as CUDA graphs.
//
// A step at a small batch is some thousand kernels of a few microseconds: launched one by one they would wait for the
// host. A part runs plainly the first time that its key comes, which also loads its kernels and chooses its
// algorithms; the second time it is recorded, and from then on played. So shapes that come once cost nothing.
#include <stdio.h>
#include <stdlib.h>

#include "cuda_internal.cuh"

#define MOST_RECORDS 64

typedef struct record {
    uint64_t key;
    uint64_t used;         // lw_cuda_records.clock; 0: empty
    cudaGraphExec_t graph; // NULL: not recorded so far
    bool refused;          // cannot be recorded
} record;

struct lw_cuda_records {
    record all[MOST_RECORDS];
    uint64_t clock;
    bool told; // that something cannot be recorded
};

lw_status lw_cuda_records_open(lw_cuda *c, lw_error *err)
{
    c->records = static_cast<lw_cuda_records *>(calloc(1, sizeof *c->records));
    return c->records != NULL ? LW_OK : lw_fail(err, LW_ERR_MEMORY, "cuda: no host memory for recorded steps");
}

static void clear_record(record *r)
{
    const record empty = {0, 0, NULL, false};
    if (r->graph != NULL) {
        (void)cudaGraphExecDestroy(r->graph); // what is under way still ends
    }
    *r = empty;
}

void lw_cuda_records_close(lw_cuda *c)
{
    for (int i = 0; c->records != NULL && i < MOST_RECORDS; i++) {
        clear_record(&c->records->all[i]);
    }
    free(c->records);
    c->records = NULL;
}

// The record of `key`, or in place of the one that was not used for longest an empty one.
static record *record_of(lw_cuda_records *records, uint64_t key)
{
    record *oldest = &records->all[0];
    records->clock++;
    for (int i = 0; i < MOST_RECORDS; i++) {
        record *r = &records->all[i];
        if (r->used != 0 && r->key == key) {
            return r;
        }
        oldest = r->used < oldest->used ? r : oldest;
    }
    clear_record(oldest);
    return oldest;
}

// What `enqueue` enqueues, as a graph. Nothing of it runs.
static cudaError_t capture(lw_cuda *c, void (*enqueue)(void *context), void *context, cudaGraph_t *out)
{
    cudaError_t code = cudaStreamBeginCapture(c->stream, cudaStreamCaptureModeThreadLocal);
    if (code != cudaSuccess) {
        return code;
    }
    c->capturing = true;
    enqueue(context);
    c->capturing = false;
    return cudaStreamEndCapture(c->stream, out);
}

// The graph of a part, or NULL where it cannot be recorded: why then stands in `why`, or an operator has failed and
// remembered why itself.
static cudaGraphExec_t make_graph(lw_cuda *c, void (*enqueue)(void *context), void *context, cudaError_t *why)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t out = NULL;
    *why = capture(c, enqueue, context, &graph);
    if (*why == cudaSuccess && c->failure[0] == '\0') {
        *why = cudaGraphInstantiate(&out, graph, 0);
    }
    if (*why != cudaSuccess) {
        (void)cudaGetLastError(); // it is no failure of the work
        out = NULL;
    }
    if (graph != NULL) {
        (void)cudaGraphDestroy(graph);
    }
    return out;
}

// Slower, but right: said once on standard error, since a step has no other place for it.
static void tell(lw_cuda *c, cudaError_t why)
{
    if (!c->records->told) {
        c->records->told = true;
        fprintf(
            stderr,
            "lwmpi: warning: %s: a part of the step cannot be recorded as a CUDA graph (%s); it is launched kernel by "
            "kernel, which is slower at small batches\n",
            c->base.description, cudaGetErrorString(why));
    }
}

void lw_cuda_replay(lw_device *dev, uint64_t key, void (*enqueue)(void *context), void *context)
{
    lw_cuda *c = lw_cuda_of(dev);
    if (c->capturing || c->failure[0] != '\0') { // a part of a part; or work that is lost already
        enqueue(context);
        return;
    }
    record *r = record_of(c->records, key);
    const bool first = r->used == 0;
    r->key = key;
    r->used = c->records->clock;
    if (first || r->refused) {
        enqueue(context);
        return;
    }
    if (r->graph == NULL) {
        cudaError_t why = cudaSuccess;
        r->graph = make_graph(c, enqueue, context, &why);
        if (r->graph == NULL) {
            r->refused = true;
            if (why != cudaSuccess) {
                c->failure[0] = '\0'; // of the recording, not of the work, which runs now
                tell(c, why);
            }
            enqueue(context);
            return;
        }
    }
    (void)lw_cuda_check(dev, "replay", cudaGraphLaunch(r->graph, c->stream));
}
