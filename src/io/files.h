// files.h: files and directories: paths, capped reading, atomic replacement, hashes.
//
// Failures are LW_ERR_IO with path and reason, LW_ERR_MEMORY, and LW_ERR_FORMAT for a file above its size cap.
// Only regular files are read: a directory, pipe or device is refused. All functions are Local.
// What is made has the modes below less the umask: never writable by everybody.
#ifndef LW_FILE_UTIL_H
#define LW_FILE_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/heartbeat.h"
#include "core/status.h"

enum { LW_FILE_MODE = 0664, LW_DIR_MODE = 0775 };

// "dir/name" (one slash; `name` alone when dir is "" or name is absolute). The caller frees *out.
lw_status lw_path_join(const char *dir, const char *name, lw_error *err, char **out);
// Everything before the last component: "a/b" -> "a", "b" -> ".", "/b" -> "/", "a/b/" -> "a". The caller frees *out.
lw_status lw_path_parent(const char *path, lw_error *err, char **out);

// A name that a file may give for one beside it: no slash, not "", "." or "..", at most NAME_MAX bytes, and printable
// as it is. With it no path leaves the directory, and no message obeys a terminal.
bool lw_path_is_plain_name(const char *name);

bool lw_path_is_file(const char *path); // after following links
bool lw_path_is_dir(const char *path);

// Makes a directory and its missing parents (LW_DIR_MODE); success when it is there already.
lw_status lw_mkdir_p(const char *path, lw_error *err);

// Reads a whole regular file of at most max_bytes. *out gets a NUL after the last byte, which *out_bytes does not
// count. The caller frees *out. A file that grows meanwhile is read to its size at opening.
lw_status lw_read_file(const char *path, size_t max_bytes, lw_error *err, char **out, size_t *out_bytes);

// The same for what this user made earlier to save work (caches, records): a file of another user than this one or
// root, or one that everybody may write, is not read (LW_ERR_IO).
lw_status lw_read_own_file(const char *path, size_t max_bytes, lw_error *err, char **out, size_t *out_bytes);

// Opens such a file for reading, or for reading and writing. The caller closes *out_fd.
lw_status lw_open_own_file(const char *path, bool writable, lw_error *err, int *out_fd, int64_t *out_bytes);

// Makes the entries of a directory durable.
lw_status lw_fsync_dir(const char *path, lw_error *err);

// Renames a file or directory over `to` and makes the rename durable (fsync of the directory that holds `to`).
// The contents must have been fsynced before.
lw_status lw_rename_durable(const char *from, const char *to, lw_error *err);

// --- atomic replacement: a reader of `path` sees the old file or the whole new one, also after a crash.
// The bytes go to a new file "PATH.tmp.SUFFIX" beside it (a unique suffix: two writers do not meet); commit is
// fsync, rename, fsync of the directory. After a kill a "*.tmp.*" may stay behind and may be deleted.
typedef struct lw_atomic_file lw_atomic_file;

lw_status lw_atomic_open(const char *path, lw_error *err, lw_atomic_file **out);
lw_status lw_atomic_write(lw_atomic_file *file, const void *data, size_t bytes, lw_error *err);
// Closes and frees *file in any case and sets it NULL. On failure the temporary is removed and `path` is as it was
// (or new but perhaps not durable, when only the last step, the fsync of the directory, failed).
lw_status lw_atomic_commit(lw_atomic_file **file, lw_error *err);
// Gives up: removes the temporary, frees, sets NULL. Nothing for NULL, so it is right in every clean-up.
void lw_atomic_abort(lw_atomic_file **file);

// The four above in one.
lw_status lw_write_file_atomic(const char *path, const void *data, size_t bytes, lw_error *err);

// XXH64 (core/hash.h, seed 0) and size of a regular file; tells `beat` (or NULL) of every block.
lw_status lw_file_xxh64(const char *path, const lw_beat *beat, lw_error *err, uint64_t *out_hash, int64_t *out_bytes);

#endif
