// files.h: paths, directories, and files read with a cap on their size.
//
// Failures are LW_ERR_IO with path and reason, LW_ERR_MEMORY, and LW_ERR_FORMAT for a file above its size cap.
// Only regular files are read: a directory, pipe or device is refused. All functions are Local.
// Files and directories are made with the modes below less the umask: they are never writable by everybody.
#ifndef LW_FILES_H
#define LW_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/heartbeat.h"
#include "core/status.h"

enum { LW_FILE_MODE = 0664, LW_DIR_MODE = 0775 };

// --- paths

// "dir/name" (one slash; `name` alone when dir is "" or name is absolute). The caller frees *out.
lw_status lw_path_join(const char *dir, const char *name, lw_error *err, char **out);
// Everything before the last component: "a/b" -> "a", "b" -> ".", "/b" -> "/", "a/b/" -> "a". The caller frees *out.
lw_status lw_path_parent(const char *path, lw_error *err, char **out);

// Whether a file may use `name` for another file in its directory: no slash, not "", "." or "..", at most NAME_MAX
// bytes, and printable as it is. Then no path leaves the directory, and no message controls a terminal.
bool lw_path_is_plain_name(const char *name);

bool lw_path_is_file(const char *path); // after following links
bool lw_path_is_dir(const char *path);

// Makes a directory and its missing parents (LW_DIR_MODE); success when it is there already.
lw_status lw_mkdir_p(const char *path, lw_error *err);

// --- reading

// Reads a whole regular file of at most max_bytes. *out gets a NUL after the last byte, which *out_bytes does not
// count. The caller frees *out. A file that grows meanwhile is read to its size at opening.
lw_status lw_read_file(const char *path, size_t max_bytes, lw_error *err, char **out, size_t *out_bytes);

// The same for files that this user made earlier to save work (caches, records): a file that belongs to a user other
// than this one or root, or that everybody may write, is not read (LW_ERR_IO).
lw_status lw_read_own_file(const char *path, size_t max_bytes, lw_error *err, char **out, size_t *out_bytes);

// Opens such a file for reading, or for reading and writing. The caller closes *out_fd.
lw_status lw_open_own_file(const char *path, bool writable, lw_error *err, int *out_fd, int64_t *out_bytes);

// XXH64 (core/hash.h, seed 0) and size of a regular file; reports each block to `heartbeat` (or NULL).
lw_status lw_file_xxh64(const char *path, const lw_heartbeat *heartbeat, lw_error *err, uint64_t *out_hash,
                        int64_t *out_bytes);

// --- appending

// Appends `bytes` of text to the file open as fd, all or nothing; dir/name names it in messages. LW_ERR_IO.
lw_status lw_append_line(int fd, const char *dir, const char *name, const char *line, size_t bytes, lw_error *err);

#endif
