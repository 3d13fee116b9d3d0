// teacher_file.h: a teacher's states on disk: rows of hidden states for each sample of a data set, of one LLM. Local.
//
// The file is in native byte order, which its header marks. It begins with a page that holds the header. The chunks
// follow, each of which begins on a page of its own, so that ranks of several nodes can write different chunks at the
// same time. A chunk holds its head, the XXH64 of every sample's rows, and the rows of all its samples. The head is
// written last and holds the hash of these hashes, so a chunk that a kill cut short is not taken for a whole one. Rows
// are compared with their hash every time they are read. All offsets are computed from the index; no number in the file
// is an offset or a length. The same states give the same bytes, whichever ranks wrote them and in whatever order.
#ifndef LW_TEACHER_FILE_H
#define LW_TEACHER_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "device/device.h"

enum { LW_TEACHER_CHUNK_SAMPLES = 64 }; // at most
enum { LW_TEACHER_FILE_VERSION = 1 };   // changes whenever the same key may stand for different states

// Where everything lies in the file.
typedef struct lw_teacher_index {
    uint64_t key; // hash of everything that the states depend on
    uint64_t weights,
        tokens;    // hashes of the weights and of what the model reads; parts of the key, kept for inspection
    lw_dtype type; // of the states
    int64_t d;     // their width
    int64_t k;     // loss.k
    int64_t samples;
    int64_t *first_row;    // (samples + 1); sample i has rows first_row[i] .. first_row[i + 1]
    int64_t chunk_samples; // of each chunk but the last
    int64_t chunks;
    int64_t *chunk_at; // (chunks + 1) byte offsets in the file; the last is its size
    int64_t row_bytes;
    int64_t chunk_bytes; // of the rows of the largest chunk
} lw_teacher_index;

// Fills the rest from the fields key .. first_row. The index owns first_row, also after a failure. Chunks are small
// compared with the file, so that ranks share them evenly and a kill costs little. Returns LW_ERR_CONFIG when the file
// would exceed any file system, or LW_ERR_MEMORY.
lw_status lw_teacher_index_finish(lw_teacher_index *index, lw_error *err);
void lw_teacher_index_free(lw_teacher_index *index);
int64_t lw_teacher_index_rows(const lw_teacher_index *index);
int64_t lw_teacher_index_bytes(const lw_teacher_index *index); // of the file
// First sample of a chunk; the number of samples for chunk = chunks.
int64_t lw_teacher_index_first(const lw_teacher_index *index, int64_t chunk);

// Makes `path` a file of this index. A file of the same index is kept with what it holds; anything else is replaced by
// an empty one. Checks first that the disk has room. One process calls this before others open the file. Returns
// LW_ERR_IO.
lw_status lw_teacher_file_prepare(const char *path, const lw_teacher_index *index, lw_error *err);

typedef struct lw_teacher_file lw_teacher_file;

// index is borrowed. Returns LW_ERR_IO, or LW_ERR_FORMAT for a file of another index.
lw_status lw_teacher_file_open(const char *path, const lw_teacher_index *index, bool writable, lw_error *err,
                               lw_teacher_file **out);
void lw_teacher_file_close(lw_teacher_file **file);
// Locks the file until it is closed, and waits for another process that has locked it. On a file system without locks
// it does nothing. Returns LW_ERR_IO after `wait_s`, LW_REQUEUE or LW_INTERRUPTED at a signal.
lw_status lw_teacher_file_lock(lw_teacher_file *file, double wait_s, lw_error *err);

// Reads a chunk's hashes, which has to be done once before its samples are read. *whole: the head shows that the chunk
// was written completely.
lw_status lw_teacher_file_load(lw_teacher_file *file, int64_t chunk, lw_error *err, bool *whole);
// Reads a chunk's hashes and compares all its rows with them. *whole: all agree.
lw_status lw_teacher_file_check(lw_teacher_file *file, int64_t chunk, lw_error *err, bool *whole);
// Writes a chunk from the rows of its samples, one after another. It is durable after lw_teacher_file_sync.
lw_status lw_teacher_file_write(lw_teacher_file *file, int64_t chunk, const void *rows, lw_error *err);
lw_status lw_teacher_file_sync(lw_teacher_file *file, lw_error *err);
// Reads the rows of a sample. Returns LW_ERR_FORMAT when they are not what was written.
lw_status lw_teacher_file_read(const lw_teacher_file *file, int64_t sample, lw_error *err, void *out);

#endif
