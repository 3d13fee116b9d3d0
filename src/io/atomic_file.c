// atomic_file.c: files replaced as a whole, and renames that survive a crash.
#include "io/atomic_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "io/files.h"

enum { MAX_SUFFIX_TRIES = 100 };

// One system call moves at most 0x7ffff000 bytes on Linux; smaller pieces keep signals responsive.
static const size_t write_piece_bytes = (size_t)64 << 20;

static lw_status out_of_memory(lw_error *err)
{
    return lw_fail(err, LW_ERR_MEMORY, "out of memory");
}

lw_status lw_fsync_dir(const char *path, lw_error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return lw_fail_errno(err, LW_ERR_IO, errno, "%s: cannot open the directory", path);
    }
    int errnum = fsync(fd) == 0 ? 0 : errno;
    close(fd);
    // Some network file systems cannot sync a directory and return EINVAL; nothing more can be done then.
    if (errnum != 0 && errnum != EINVAL) {
        return lw_fail_errno(err, LW_ERR_IO, errnum, "%s: cannot sync the directory", path);
    }
    return LW_OK;
}

lw_status lw_rename_durable(const char *from, const char *to, lw_error *err)
{
    char *parent = NULL;
    LW_TRY(lw_path_parent(to, err, &parent));
    lw_status status = LW_OK;
    if (rename(from, to) != 0) {
        status = lw_fail_errno(err, LW_ERR_IO, errno, "%s: cannot rename to %s", from, to);
    } else {
        status = lw_fsync_dir(parent, err);
    }
    free(parent);
    return status;
}

struct lw_atomic_file {
    char *path;
    char *temporary;
    int fd;
};

static void atomic_free(lw_atomic_file **file)
{
    free((*file)->path);
    free((*file)->temporary);
    free(*file);
    *file = NULL;
}

// Opens a new file. Unlike mkstemp this leaves the mode to the umask, so that a group can read.
static int open_unique(const char *path, char *temporary, size_t temporary_bytes)
{
    struct timespec now = {0};
    for (unsigned int attempt = 0; attempt < MAX_SUFFIX_TRIES; attempt++) {
        clock_gettime(CLOCK_REALTIME, &now);
        unsigned int suffix = (unsigned int)now.tv_nsec * 2654435761u + (unsigned int)getpid() * 40503u + attempt;
        snprintf(temporary, temporary_bytes, "%s.tmp.%08x", path, suffix);
        int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, LW_FILE_MODE);
        if (fd >= 0 || errno != EEXIST) {
            return fd;
        }
    }
    return -1;
}

lw_status lw_atomic_open(const char *path, lw_error *err, lw_atomic_file **out)
{
    if (lw_path_is_dir(path)) { // the rename would find it out only after all is written
        return lw_fail(err, LW_ERR_IO, "%s: is a directory, cannot write a file of that name", path);
    }
    size_t temporary_bytes = strlen(path) + sizeof ".tmp.12345678";
    lw_atomic_file *file = calloc(1, sizeof *file);
    if (file == NULL) {
        return out_of_memory(err);
    }
    file->path = strdup(path);
    file->temporary = malloc(temporary_bytes);
    if (file->path == NULL || file->temporary == NULL) {
        atomic_free(&file);
        return out_of_memory(err);
    }
    file->fd = open_unique(path, file->temporary, temporary_bytes);
    if (file->fd < 0) {
        lw_status status = lw_fail_errno(err, LW_ERR_IO, errno, "%s: cannot open for writing", file->temporary);
        atomic_free(&file);
        return status;
    }
    *out = file;
    return LW_OK;
}

lw_status lw_atomic_write(lw_atomic_file *file, const void *data, size_t bytes, lw_error *err)
{
    const char *p = data;
    while (bytes > 0) {
        ssize_t n = write(file->fd, p, bytes < write_piece_bytes ? bytes : write_piece_bytes);
        if (n >= 0) {
            p += n;
            bytes -= (size_t)n;
        } else if (errno != EINTR) {
            return lw_fail_errno(err, LW_ERR_IO, errno, "%s: cannot write", file->temporary);
        }
    }
    return LW_OK;
}

void lw_atomic_abort(lw_atomic_file **file)
{
    if (*file == NULL) {
        return;
    }
    if ((*file)->fd >= 0) {
        close((*file)->fd);
    }
    unlink((*file)->temporary);
    atomic_free(file);
}

lw_status lw_atomic_commit(lw_atomic_file **file, lw_error *err)
{
    lw_atomic_file *f = *file;
    int errnum = fsync(f->fd) == 0 ? 0 : errno;
    if (close(f->fd) != 0 && errnum == 0) { // NFS and quotas report a failed write here
        errnum = errno;
    }
    f->fd = -1;
    if (errnum != 0) {
        lw_status status = lw_fail_errno(err, LW_ERR_IO, errnum, "%s: cannot sync", f->temporary);
        lw_atomic_abort(file);
        return status;
    }
    char *parent = NULL;
    lw_status status = lw_path_parent(f->path, err, &parent);
    if (status == LW_OK && rename(f->temporary, f->path) != 0) {
        status = lw_fail_errno(err, LW_ERR_IO, errno, "%s: cannot rename to %s", f->temporary, f->path);
    }
    if (status != LW_OK) {
        free(parent);
        lw_atomic_abort(file);
        return status;
    }
    status = lw_fsync_dir(parent, err); // the new file is in place already; only its durability is in doubt
    free(parent);
    atomic_free(file);
    return status;
}

lw_status lw_write_file_atomic(const char *path, const void *data, size_t bytes, lw_error *err)
{
    lw_atomic_file *file = NULL;
    LW_TRY(lw_atomic_open(path, err, &file));
    lw_status status = lw_atomic_write(file, data, bytes, err);
    if (status != LW_OK) {
        lw_atomic_abort(&file);
        return status;
    }
    return lw_atomic_commit(&file, err);
}
