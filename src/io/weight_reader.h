// weight_reader.h: reads large mapped files once, ahead of their use, and hashes them on the way. Local.
//
// A thread of its own brings the bytes into memory and hashes them, a few chunks ahead of the caller, who passes them
// to the device: disk, hash and transfer overlap. Chunks that the caller has used are released, so that a rank's
// memory stays small whatever the size of the files. The ranks of a node map the same files: the first that reads a
// page brings it into the kernel's cache, and the others find it there. As all read in the same order, they advance
// side by side.
#ifndef LW_WEIGHT_READER_H
#define LW_WEIGHT_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

enum { LW_WEIGHT_CHUNK_BYTES = 16 << 20 }; // a multiple of every element's size

typedef struct lw_weight_span { // a range of a mapped file
    const void *data;
    size_t bytes;
} lw_weight_span;

typedef struct lw_weight_chunk { // data[0 .. bytes) are the bytes of span `span` from `offset` on
    int64_t span;
    size_t offset, bytes;
    const void *data;
} lw_weight_chunk;

typedef struct lw_weight_reader lw_weight_reader;

// Begins to read the spans, in order. LW_ERR_MEMORY.
lw_status lw_weight_reader_start(const lw_weight_span *spans, int64_t count, lw_error *err, lw_weight_reader **out);
// Waits for the next chunk and releases the one before. False when there are no more.
bool lw_weight_reader_next(lw_weight_reader *reader, lw_weight_chunk *out);
// XXH3 (64 bits) of all spans in order, once lw_weight_reader_next has returned false.
uint64_t lw_weight_reader_hash(const lw_weight_reader *reader);
void lw_weight_reader_stop(lw_weight_reader **reader); // at any time

#endif
