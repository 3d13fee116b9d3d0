// weight_reader.c: the thread that reads and hashes weights ahead of the caller.
#include "io/weight_reader.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#include "core/worker.h"

enum { AHEAD = 4 }; // chunks between the reading thread and the caller

struct lw_weight_reader {
    lw_worker worker;
    XXH3_state_t *hash; // used by the thread until it has ended
    lw_weight_chunk *chunks;
    int64_t count;
    uintptr_t page_bytes;
    // guarded by the mutex:
    int64_t read;  // chunks that the thread has read, including those released since
    int64_t taken; // chunks that the caller has asked for
    bool stop;
};

// madvise works on whole pages. Its errors are ignored, as they change nothing but the speed.
static void advise(const lw_weight_reader *r, const lw_weight_chunk *c, int advice)
{
    uintptr_t first = (uintptr_t)c->data & ~(r->page_bytes - 1);
    uintptr_t end = (uintptr_t)c->data + c->bytes;
    if (advice == MADV_DONTNEED) {
        end &= ~(r->page_bytes - 1); // the last page may also be the first one of the next chunk
    }
    if (end > first) {
        (void)madvise((void *)first, end - first, advice);
    }
}

// Waits until chunk i may be read; false when reading is to stop.
static bool wait_for_room(lw_weight_reader *r, int64_t i)
{
    pthread_mutex_lock(&r->worker.mutex);
    while (!r->stop && i >= r->taken + AHEAD) {
        pthread_cond_wait(&r->worker.changed, &r->worker.mutex);
    }
    bool go_on = !r->stop;
    pthread_mutex_unlock(&r->worker.mutex);
    return go_on;
}

static void *read_all(void *context)
{
    lw_weight_reader *r = context;
    for (int64_t i = 0; i < AHEAD && i < r->count; i++) {
        advise(r, &r->chunks[i], MADV_WILLNEED);
    }
    for (int64_t i = 0; i < r->count && wait_for_room(r, i); i++) {
        if (i + AHEAD < r->count) {
            advise(r, &r->chunks[i + AHEAD], MADV_WILLNEED);
        }
        XXH3_64bits_update(r->hash, r->chunks[i].data, r->chunks[i].bytes); // touches every page
        pthread_mutex_lock(&r->worker.mutex);
        r->read = i + 1;
        pthread_cond_signal(&r->worker.changed);
        pthread_mutex_unlock(&r->worker.mutex);
    }
    return NULL;
}

static int64_t cut(const lw_weight_span *spans, int64_t count, lw_weight_chunk *out)
{
    int64_t n = 0;
    for (int64_t s = 0; s < count; s++) {
        for (size_t at = 0; at < spans[s].bytes; at += LW_WEIGHT_CHUNK_BYTES) {
            size_t left = spans[s].bytes - at;
            if (out != NULL) {
                out[n] = (lw_weight_chunk){.span = s,
                                           .offset = at,
                                           .bytes = left < LW_WEIGHT_CHUNK_BYTES ? left : LW_WEIGHT_CHUNK_BYTES,
                                           .data = (const unsigned char *)spans[s].data + at};
            }
            n++;
        }
    }
    return n;
}

static void release(lw_weight_reader *r)
{
    XXH3_freeState(r->hash);
    free(r->chunks);
    free(r);
}

lw_status lw_weight_reader_start(const lw_weight_span *spans, int64_t count, lw_error *err, lw_weight_reader **out)
{
    lw_weight_reader *r = calloc(1, sizeof *r);
    if (r == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory to read weights");
    }
    r->count = cut(spans, count, NULL);
    r->chunks = calloc((size_t)r->count + 1, sizeof *r->chunks);
    r->hash = XXH3_createState();
    r->page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
    lw_status status = LW_OK;
    if (r->chunks == NULL || r->hash == NULL) {
        status = lw_fail(err, LW_ERR_MEMORY, "no memory to read weights");
    }
    if (status == LW_OK) {
        cut(spans, count, r->chunks);
        XXH3_64bits_reset(r->hash);
        status = lw_worker_start(&r->worker, read_all, r, "to read weights", err);
    }
    if (status != LW_OK) {
        release(r);
        return status;
    }
    *out = r;
    return LW_OK;
}

bool lw_weight_reader_next(lw_weight_reader *r, lw_weight_chunk *out)
{
    int64_t i = r->taken; // changed by this thread alone
    if (i > 0 && i <= r->count) {
        advise(r, &r->chunks[i - 1], MADV_DONTNEED);
    }
    bool more = i < r->count;
    pthread_mutex_lock(&r->worker.mutex);
    r->taken = more ? i + 1 : i;
    pthread_cond_signal(&r->worker.changed);
    while (more && r->read <= i) {
        pthread_cond_wait(&r->worker.changed, &r->worker.mutex);
    }
    pthread_mutex_unlock(&r->worker.mutex);
    if (more) {
        *out = r->chunks[i];
    }
    return more;
}

uint64_t lw_weight_reader_hash(const lw_weight_reader *r)
{
    return XXH3_64bits_digest(r->hash);
}

void lw_weight_reader_stop(lw_weight_reader **reader)
{
    lw_weight_reader *r = *reader;
    if (r == NULL) {
        return;
    }
    pthread_mutex_lock(&r->worker.mutex);
    r->stop = true;
    pthread_cond_signal(&r->worker.changed);
    pthread_mutex_unlock(&r->worker.mutex);
    lw_worker_join(&r->worker);
    release(r);
    *reader = NULL;
}
