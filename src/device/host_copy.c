// host_copy.c: copies by several threads.
#include "device/host_copy.h"

#include <omp.h>
#include <string.h>

#define PIECE_BYTES ((size_t)1 << 20)
#define MOST_THREADS 8 // saturate one socket's memory, and keep enough page faults and reads under way

void lw_host_copy(const void *source, size_t bytes, void *out)
{
    const size_t pieces = (bytes + PIECE_BYTES - 1) / PIECE_BYTES;
    int threads = omp_get_num_procs();
    threads = threads < MOST_THREADS ? threads : MOST_THREADS;
    threads = (size_t)threads < pieces ? threads : (int)pieces;
    if (threads <= 1) {
        if (bytes > 0) {
            memcpy(out, source, bytes);
        }
        return;
    }
#pragma omp parallel for schedule(static, 1) num_threads(threads)
    for (size_t i = 0; i < pieces; i++) {
        const size_t at = i * PIECE_BYTES, left = bytes - at;
        memcpy((unsigned char *)out + at, (const unsigned char *)source + at, left < PIECE_BYTES ? left : PIECE_BYTES);
    }
}
