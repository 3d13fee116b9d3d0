// teacher_file.h: a teacher's states on disk: rows of hidden states for each sample of a data set, of one LLM. Local.
//
// File, in native byte order, marked: a page with the header; then the chunks, each from a page of its own on, so that
// ranks of several nodes can write different ones at the same time. A chunk holds its head, the XXH64 of every sample's
// rows, and the rows of all its samples. The head, written last, holds the hash of these hashes: a chunk that a kill
// cut short is not taken for a whole one, and what is read is compared with its hash every time. Where everything lies
// is computed from the index alone; no number of the file is an offset or a length. The same states give the same
// bytes, whoever wrote them in whatever order.
#ifndef LW_TEACHER_FILE_H
#define LW_TEACHER_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "device/device.h"

enum { LW_TEACHER_CHUNK_SAMPLES = 64 }; // at most
enum { LW_TEACHER_FILE_VERSION = 1 };   // changes whenever the same key may mean other states

typedef struct lw_teacher_index {
    uint64_t key;             // of everything that the states depend on
    uint64_t weights, tokens; // of the model's files, and of what it read; parts of the key, for people
    lw_dtype type;            // of the states
    int64_t d;                // their width
    int64_t k;                // loss.k
    int64_t samples;
    int64_t *first_row;    // (samples + 1); sample i has rows first_row[i] .. first_row[i + 1]
    int64_t chunk_samples; // of each chunk but the last
    int64_t chunks;
    int64_t *chunk_at; // (chunks + 1) byte offsets in the file; the last is its size
    int64_t row_bytes;
    int64_t chunk_bytes; // of the rows of the largest chunk
} lw_teacher_index;

// Fills the rest from key .. first_row, which the index takes over, also after a failure. Chunks are small against the
// whole, so that ranks share them evenly, and a kill costs little. LW_ERR_CONFIG when the file would exceed any file
// system, LW_ERR_MEMORY.
lw_status lw_teacher_index_finish(lw_teacher_index *index, lw_error *err);
void lw_teacher_index_free(lw_teacher_index *index);
int64_t lw_teacher_index_rows(const lw_teacher_index *index);
int64_t lw_teacher_index_bytes(const lw_teacher_index *index); // of the file
// First sample of a chunk; of the number of chunks: the number of samples.
int64_t lw_teacher_index_first(const lw_teacher_index *index, int64_t chunk);

// Makes `path` a file of this index: one that is, with what it holds, stays; anything else is replaced by an empty
// one. Looks for room on the disk first. One process calls this, before others open the file. LW_ERR_IO.
lw_status lw_teacher_file_prepare(const char *path, const lw_teacher_index *index, lw_error *err);

typedef struct lw_teacher_file lw_teacher_file;

// index is borrowed. LW_ERR_IO, LW_ERR_FORMAT for a file of another index.
lw_status lw_teacher_file_open(const char *path, const lw_teacher_index *index, bool writable, lw_error *err,
                               lw_teacher_file **out);
void lw_teacher_file_close(lw_teacher_file **file);
// Keeps others that ask out until it is closed, and waits for one that does so; a file system without locks has none.
// LW_ERR_IO after `wait_s`, LW_REQUEUE or LW_INTERRUPTED at a signal.
lw_status lw_teacher_file_lock(lw_teacher_file *file, double wait_s, lw_error *err);

// Reads a chunk's hashes: needed once before its samples are read. *whole: the head says that it has been written.
lw_status lw_teacher_file_load(lw_teacher_file *file, int64_t chunk, lw_error *err, bool *whole);
// The same, and compares all its rows with them.
lw_status lw_teacher_file_check(lw_teacher_file *file, int64_t chunk, lw_error *err, bool *whole);
// Writes a chunk: the rows of its samples, one after another. Not durable before lw_teacher_file_sync.
lw_status lw_teacher_file_write(lw_teacher_file *file, int64_t chunk, const void *rows, lw_error *err);
lw_status lw_teacher_file_sync(lw_teacher_file *file, lw_error *err);
// The rows of a sample. LW_ERR_FORMAT when they are not what was written.
lw_status lw_teacher_file_read(const lw_teacher_file *file, int64_t sample, lw_error *err, void *out);

#endif
