// transfer.cu: between host and device, and on it.
//
// Uploads go through a ring of pinned memory: the host fills a piece while earlier ones are under way, and waits only
// when the ring is full. Weights therefore arrive at the rate at which the host can read their file. Small downloads
// wait in pinned memory for the next sync, which hands them over; large ones go straight to their place.
#include <stdlib.h>
#include <string.h>

#include "cuda_internal.cuh"

extern "C" {
#include "device/host_copy.h"
}

#define PIECE_BYTES ((size_t)16 << 20)
#define RING_BYTES (4 * PIECE_BYTES)
#define RING_ALIGN ((size_t)256)
#define MOST_FLIGHTS 64
#define DOWN_BYTES ((size_t)1 << 20)
#define MOST_DOWNLOADS 64

// A part of the ring that the device still reads.
typedef struct flight {
    size_t bytes; // of the ring, with what was skipped at its end
    cudaEvent_t done;
} flight;

typedef struct download {
    void *out;
    size_t at, bytes; // where it lies in `down`
} download;

struct lw_cuda_staging {
    unsigned char *ring; // (RING_BYTES) pinned
    size_t head, used;   // next byte to fill, bytes in flight
    flight flights[MOST_FLIGHTS];
    int first_flight, flight_count;
    unsigned char *stage; // (PIECE_BYTES) on the device: elements of a file's type, to be cast
    unsigned char *down;  // (DOWN_BYTES) pinned
    size_t down_used;
    download downloads[MOST_DOWNLOADS];
    int download_count;
};

lw_status lw_cuda_staging_open(lw_cuda *c, lw_error *err)
{
    lw_cuda_staging *s = static_cast<lw_cuda_staging *>(calloc(1, sizeof *s));
    if (s == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "cuda: no host memory for transfers");
    }
    c->staging = s;
    const char *pinned =
        "cannot allocate 65 MiB of pinned host memory (is there a memory limit on the job or container?)";
    LW_TRY(lw_cuda_status(err, cudaMallocHost(reinterpret_cast<void **>(&s->ring), RING_BYTES), pinned));
    LW_TRY(lw_cuda_status(err, cudaMallocHost(reinterpret_cast<void **>(&s->down), DOWN_BYTES), pinned));
    LW_TRY(lw_cuda_take(c, PIECE_BYTES, err, reinterpret_cast<void **>(&s->stage)));
    for (int i = 0; i < MOST_FLIGHTS; i++) {
        LW_TRY(lw_cuda_status(err, cudaEventCreateWithFlags(&s->flights[i].done, cudaEventDisableTiming),
                              "cannot create an event"));
    }
    return LW_OK;
}

void lw_cuda_staging_close(lw_cuda *c)
{
    lw_cuda_staging *s = c->staging;
    if (s == NULL) {
        return;
    }
    for (int i = 0; i < MOST_FLIGHTS; i++) {
        if (s->flights[i].done != NULL) {
            (void)cudaEventDestroy(s->flights[i].done);
        }
    }
    (void)cudaFree(s->stage);
    (void)cudaFreeHost(s->down);
    (void)cudaFreeHost(s->ring);
    free(s);
    c->staging = NULL;
}

// A transfer cannot be recorded: the host memory of a later time is not the one of now.
static bool may_transfer(lw_device *dev, const char *op)
{
    if (lw_cuda_of(dev)->capturing) {
        lw_cuda_fail(dev, "cuda: %s inside a part of the step that is recorded (replay)", op);
        return false;
    }
    return true;
}

// --- uploads

// Waits until the oldest part in flight is through.
static bool land(lw_device *dev)
{
    lw_cuda_staging *s = lw_cuda_of(dev)->staging;
    flight *oldest = &s->flights[s->first_flight];
    if (!lw_cuda_wait_event(dev, "upload", oldest->done)) {
        return false;
    }
    s->used -= oldest->bytes;
    s->first_flight = (s->first_flight + 1) % MOST_FLIGHTS;
    s->flight_count--;
    return true;
}

// A place for at most PIECE_BYTES in the ring, in one piece; NULL after a failure.
static unsigned char *reserve(lw_device *dev, size_t bytes, size_t *taken)
{
    lw_cuda_staging *s = lw_cuda_of(dev)->staging;
    const size_t rounded = (bytes + RING_ALIGN - 1) / RING_ALIGN * RING_ALIGN;
    const size_t skipped = s->head + rounded > RING_BYTES ? RING_BYTES - s->head : 0;
    while (s->used + skipped + rounded > RING_BYTES || s->flight_count == MOST_FLIGHTS) {
        if (!land(dev)) {
            return NULL;
        }
    }
    unsigned char *place = s->ring + (skipped > 0 ? 0 : s->head);
    *taken = skipped + rounded;
    s->head = (s->head + *taken) % RING_BYTES;
    return place;
}

// One piece, by way of the ring.
static bool send(lw_device *dev, const void *host_source, size_t bytes, void *out)
{
    lw_cuda *c = lw_cuda_of(dev);
    lw_cuda_staging *s = c->staging;
    size_t taken = 0;
    unsigned char *place = reserve(dev, bytes, &taken);
    if (place == NULL) {
        return false;
    }
    lw_host_copy(host_source, bytes, place);
    flight *next = &s->flights[(s->first_flight + s->flight_count) % MOST_FLIGHTS];
    const bool sent =
        lw_cuda_check(dev, "upload", cudaMemcpyAsync(out, place, bytes, cudaMemcpyHostToDevice, c->stream));
    if (!lw_cuda_check(dev, "upload", cudaEventRecord(next->done, c->stream))) {
        return false;
    }
    next->bytes = taken;
    s->used += taken;
    s->flight_count++;
    return sent;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

void lw_cuda_upload(lw_device *dev, const void *host_source, size_t bytes, void *out)
{
    const unsigned char *from = static_cast<const unsigned char *>(host_source);
    unsigned char *to = static_cast<unsigned char *>(out);
    if (bytes == 0 || !may_transfer(dev, "upload")) {
        return;
    }
    for (size_t at = 0; at < bytes; at += PIECE_BYTES) {
        if (!send(dev, from + at, least(PIECE_BYTES, bytes - at), to + at)) {
            return;
        }
    }
}

void lw_cuda_upload_as(lw_device *dev, int64_t n, const void *host_source, lw_dtype in_type, void *out,
                       lw_dtype out_type)
{
    lw_cuda_staging *s = lw_cuda_of(dev)->staging;
    const size_t in_bytes = lw_dtype_bytes(in_type), out_bytes = lw_dtype_bytes(out_type);
    if (n <= 0 || !may_transfer(dev, "upload_as")) {
        return;
    }
    const size_t total = (size_t)n * in_bytes;
    for (size_t at = 0; at < total; at += PIECE_BYTES) {
        const unsigned char *from = static_cast<const unsigned char *>(host_source) + at;
        unsigned char *to = static_cast<unsigned char *>(out) + at / in_bytes * out_bytes;
        const size_t bytes = least(PIECE_BYTES, total - at);
        if (!send(dev, from, bytes, in_type == out_type ? to : s->stage)) {
            return;
        }
        if (in_type != out_type) {
            lw_cuda_cast(dev, (int64_t)(bytes / in_bytes), s->stage, in_type, to, out_type);
        }
    }
}

// --- downloads

void lw_cuda_deliver(lw_cuda *c, bool valid)
{
    lw_cuda_staging *s = c->staging;
    for (int i = 0; valid && i < s->download_count; i++) {
        const download *d = &s->downloads[i];
        memcpy(d->out, s->down + d->at, d->bytes);
    }
    s->download_count = 0;
    s->down_used = 0;
}

// Hands over what waits, so that what comes later is written later.
static bool empty_downloads(lw_device *dev)
{
    lw_cuda *c = lw_cuda_of(dev);
    if (c->staging->download_count > 0) {
        const bool done = lw_cuda_wait(dev, "download");
        lw_cuda_deliver(c, done);
        return done;
    }
    return true;
}

void lw_cuda_download(lw_device *dev, const void *source, size_t bytes, void *host_out)
{
    lw_cuda *c = lw_cuda_of(dev);
    lw_cuda_staging *s = c->staging;
    if (bytes == 0 || !may_transfer(dev, "download")) {
        return;
    }
    const bool fits = s->download_count < MOST_DOWNLOADS && s->down_used + bytes <= DOWN_BYTES;
    if (!fits && !empty_downloads(dev)) {
        return;
    }
    const bool direct = bytes > DOWN_BYTES;
    if (direct && !lw_cuda_wait(dev, "download")) { // a copy to memory that is not pinned would, without a deadline
        return;
    }
    void *to = direct ? host_out : s->down + s->down_used;
    if (!lw_cuda_check(dev, "download", cudaMemcpyAsync(to, source, bytes, cudaMemcpyDeviceToHost, c->stream)) ||
        direct) {
        return;
    }
    const download waiting = {host_out, s->down_used, bytes};
    s->downloads[s->download_count++] = waiting;
    s->down_used = least((s->down_used + bytes + 15) / 16 * 16, DOWN_BYTES);
}

// --- on the device

void lw_cuda_copy(lw_device *dev, const void *source, size_t bytes, void *out)
{
    if (bytes > 0) {
        (void)lw_cuda_check(dev, "copy",
                            cudaMemcpyAsync(out, source, bytes, cudaMemcpyDeviceToDevice, lw_cuda_of(dev)->stream));
        lw_cuda_pace(lw_cuda_of(dev));
    }
}

void lw_cuda_zero(lw_device *dev, size_t bytes, void *out)
{
    if (bytes > 0) {
        (void)lw_cuda_check(dev, "zero", cudaMemsetAsync(out, 0, bytes, lw_cuda_of(dev)->stream));
        lw_cuda_pace(lw_cuda_of(dev));
    }
}
