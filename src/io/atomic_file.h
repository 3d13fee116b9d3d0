// atomic_file.h: replaces files as a whole: a reader of the path sees the old file or the complete new one, also after
// a crash. Failures are LW_ERR_IO with path and reason, and LW_ERR_MEMORY. All functions are Local.
#ifndef LW_ATOMIC_FILE_H
#define LW_ATOMIC_FILE_H

#include <stddef.h>

#include "core/status.h"

// The bytes go to a new file "PATH.tmp.SUFFIX" in the same directory; the suffix is unique, so that two writers never
// share a file. The commit is fsync, rename, fsync of the directory. After a kill a "*.tmp.*" may stay and may be
// deleted.
typedef struct lw_atomic_file lw_atomic_file;

lw_status lw_atomic_open(const char *path, lw_error *err, lw_atomic_file **out);
lw_status lw_atomic_write(lw_atomic_file *file, const void *data, size_t bytes, lw_error *err);
// Closes and frees *file in any case and sets it NULL. On failure the temporary is removed and `path` is as it was
// (or new but perhaps not durable, when only the last step, the fsync of the directory, failed).
lw_status lw_atomic_commit(lw_atomic_file **file, lw_error *err);
// Gives up: removes the temporary, frees, sets NULL. It does nothing for NULL, so every clean-up may call it.
void lw_atomic_abort(lw_atomic_file **file);

// Open, write and commit in one.
lw_status lw_write_file_atomic(const char *path, const void *data, size_t bytes, lw_error *err);

// Renames a file or directory over `to` and makes the rename durable (fsync of the directory that holds `to`).
// The contents must have been fsynced before.
lw_status lw_rename_durable(const char *from, const char *to, lw_error *err);

// Makes the entries of a directory durable.
// For tests.
lw_status lw_fsync_dir(const char *path, lw_error *err);

#endif
