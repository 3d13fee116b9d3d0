// safetensors.h: reading (mmap) and atomic writing of the safetensors format.
//
// File: u64 little-endian header length, JSON header {name: {dtype, shape, data_offsets}}, data. Everything in the
// file is untrusted: lengths, offsets, shapes and their products are checked before use; the tensors must cover the
// data exactly, without overlap or gap. A malformed file is LW_ERR_FORMAT naming file and tensor, one that cannot be
// opened LW_ERR_IO.
// The size is checked when the file is opened. A file that another process truncates in place afterwards raises
// SIGBUS on access, as with every mapping; files replaced by rename (as lw_safetensors_write does) are safe.
// All functions are Local. An open file is read-only and may be used by several threads.
#ifndef LW_SAFETENSORS_H
#define LW_SAFETENSORS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "core/dtype.h"
#include "core/limits.h"
#include "core/status.h"

typedef struct lw_tensor_view {
    const char *name;    // owned by the file
    char dtype_name[16]; // as in the file: "F32", "BF16", "F16", "I32", "I64", "U8", "F8_E4M3", ...
    lw_dtype dtype;      // valid when `known`
    bool known;          // dtype_name is one of lw_dtype
    int64_t dims[LW_MAX_DIMS];
    int rank;
    int64_t elements;
    const void *data; // in the mapping; aligned as the file has it, so copy or use unaligned loads
    size_t bytes;
} lw_tensor_view;

typedef struct lw_safetensors lw_safetensors;

// Opens one file, or, for a directory, DIR/model.safetensors, or the shards that DIR/model.safetensors.index.json
// names. Each tensor must be in the shard that the index names for it; a shard's name is a plain name in DIR, which may
// be a link, as in download caches. A directory shows all tensors of its shards as one file; a name that occurs in two
// shards is refused.
lw_status lw_safetensors_open(const char *path, lw_error *err, lw_safetensors **out);
void lw_safetensors_close(lw_safetensors **file);

int64_t lw_safetensors_count(const lw_safetensors *file);
const lw_tensor_view *lw_safetensors_at(const lw_safetensors *file, int64_t i);          // in order of name
const lw_tensor_view *lw_safetensors_find(const lw_safetensors *file, const char *name); // NULL if absent
// Fails with LW_ERR_FORMAT naming file and tensor when it is absent or its shape is not dims[0..rank), and with
// LW_ERR_UNSUPPORTED when its dtype is not `known`. A negative dims[i] accepts any size.
lw_status lw_safetensors_require(const lw_safetensors *file, const char *name, int rank, const int64_t *dims,
                                 lw_error *err, const lw_tensor_view **out);
const char *lw_safetensors_path(const lw_safetensors *file);                      // as given to open, for messages
const char *lw_safetensors_metadata(const lw_safetensors *file, const char *key); // from __metadata__; NULL if absent
                                                                                  // (of shards: the first with it)

// The elements of an F32, BF16 or F16 view as f32, exactly (subnormals, infinities, payloads of NaN). out: elements.
lw_status lw_tensor_to_f32(const lw_tensor_view *view, lw_error *err, float *out);

// --- writing
typedef struct lw_tensor_source {
    const char *name;
    lw_dtype dtype;
    int rank;
    int64_t dims[LW_MAX_DIMS];
    const void *data; // host memory
    bool bytes;       // opaque bytes, "U8": dtype is ignored
} lw_tensor_source;

// Writes `path` through a temporary file beside it (io/atomic_file.h): write, fsync, rename, fsync of the
// directory. On failure `path` is as it was and no temporary file is left. metadata: key/value pairs, NULL-terminated,
// or NULL. The same arguments give the same bytes; data are aligned to the size of their elements. Names that are
// empty, repeated or not UTF-8, or impossible shapes, are LW_ERR_INTERNAL: the caller's mistake.
lw_status lw_safetensors_write(const char *path, const lw_tensor_source *tensors, int64_t count,
                               const char *const *metadata, lw_error *err);

// The same bytes to a stream, which may be a pipe. LW_ERR_IO when it cannot be written; `name` is for messages.
lw_status lw_safetensors_print(FILE *out, const char *name, const lw_tensor_source *tensors, int64_t count,
                               const char *const *metadata, lw_error *err);

#endif
