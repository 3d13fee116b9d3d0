#include "io/files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "core/utf8.h"

enum { MAX_SUFFIX_TRIES = 100, HASH_BUFFER_BYTES = 1 << 20 };

// One system call moves at most 0x7ffff000 bytes on Linux; smaller pieces keep signals responsive.
static const size_t write_piece_bytes = (size_t)64 << 20;

static lw_status out_of_memory(lw_error *err)
{
    return lw_fail(err, LW_ERR_MEMORY, "out of memory");
}

// --- paths

lw_status lw_path_join(const char *dir, const char *name, lw_error *err, char **out)
{
    size_t dir_bytes = name[0] == '/' ? 0 : strlen(dir);
    while (dir_bytes > 1 && dir[dir_bytes - 1] == '/') {
        dir_bytes--;
    }
    bool slash = dir_bytes > 0 && dir[dir_bytes - 1] != '/';
    size_t name_bytes = strlen(name);
    size_t bytes = 0;
    char *path = NULL;
    if (__builtin_add_overflow(dir_bytes, name_bytes, &bytes) || __builtin_add_overflow(bytes, 2, &bytes) ||
        (path = malloc(bytes)) == NULL) {
        return out_of_memory(err);
    }
    memcpy(path, dir, dir_bytes);
    if (slash) {
        path[dir_bytes] = '/';
    }
    memcpy(path + dir_bytes + (slash ? 1 : 0), name, name_bytes + 1);
    *out = path;
    return LW_OK;
}

lw_status lw_path_parent(const char *path, lw_error *err, char **out)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/') {
        end--;
    }
    while (end > 0 && path[end - 1] != '/') {
        end--;
    }
    while (end > 1 && path[end - 1] == '/') {
        end--;
    }
    char *parent = end == 0 ? strdup(".") : strndup(path, end);
    if (parent == NULL) {
        return out_of_memory(err);
    }
    *out = parent;
    return LW_OK;
}

bool lw_path_is_plain_name(const char *name)
{
    return name[0] != '\0' && strchr(name, '/') == NULL && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
           strlen(name) <= NAME_MAX && lw_is_printable(name);
}

bool lw_path_is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

bool lw_path_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static lw_status make_dir(const char *path, lw_error *err)
{
    if (mkdir(path, LW_DIR_MODE) == 0) {
        return LW_OK;
    }
    int errnum = errno;
    if (lw_path_is_dir(path)) { // there already, or made by another rank meanwhile
        return LW_OK;
    }
    return lw_fail_errno(err, LW_ERR_IO, errnum, "%s: cannot make the directory", path);
}

lw_status lw_mkdir_p(const char *path, lw_error *err)
{
    if (path[0] == '\0') {
        return lw_fail(err, LW_ERR_IO, "cannot make a directory without a name");
    }
    char *prefix = strdup(path);
    if (prefix == NULL) {
        return out_of_memory(err);
    }
    lw_status status = LW_OK;
    for (char *p = prefix + 1; *p != '\0' && status == LW_OK; p++) {
        if (*p == '/') {
            *p = '\0';
            status = make_dir(prefix, err);
            *p = '/';
        }
    }
    free(prefix);
    return status == LW_OK ? make_dir(path, err) : status;
}

// --- reading

// access: O_RDONLY or O_RDWR. O_NONBLOCK: opening a pipe must not wait for its writer.
static lw_status open_regular(const char *path, int access, lw_error *err, int *out_fd, int64_t *out_bytes)
{
    int fd = open(path, access | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return lw_fail_errno(err, LW_ERR_IO, errno, "%s: cannot open for %s", path,
                             access == O_RDONLY ? "reading" : "writing");
    }
    struct stat st;
    if (fstat(fd, &st) != 0) {
        int errnum = errno;
        close(fd);
        return lw_fail_errno(err, LW_ERR_IO, errnum, "%s: cannot stat", path);
    }
    if (!S_ISREG(st.st_mode)) {
        close(fd);
        return lw_fail(err, LW_ERR_IO, "%s: is %s, expected a regular file", path,
                       S_ISDIR(st.st_mode) ? "a directory" : "a pipe, socket or device");
    }
    *out_fd = fd;
    *out_bytes = st.st_size;
    return LW_OK;
}

// Reads until `bytes` bytes or the end of the file.
static lw_status read_up_to(int fd, const char *path, char *buffer, size_t bytes, lw_error *err, size_t *out_got)
{
    size_t got = 0;
    while (got < bytes) {
        size_t want = bytes - got < write_piece_bytes ? bytes - got : write_piece_bytes;
        ssize_t n = read(fd, buffer + got, want);
        if (n == 0) {
            break;
        }
        if (n > 0) {
            got += (size_t)n;
        } else if (errno != EINTR) {
            return lw_fail_errno(err, LW_ERR_IO, errno, "%s: cannot read", path);
        }
    }
    *out_got = got;
    return LW_OK;
}

// Of the open file, so that it cannot be exchanged after the look.
static lw_status check_owner(int fd, const char *path, lw_error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return lw_fail_errno(err, LW_ERR_IO, errno, "%s: cannot stat", path);
    }
    if ((st.st_uid != geteuid() && st.st_uid != 0) || (st.st_mode & S_IWOTH) != 0) {
        return lw_fail(err, LW_ERR_IO, "%s: belongs to another user or can be written by everybody: not used", path);
    }
    return LW_OK;
}

lw_status lw_open_own_file(const char *path, bool writable, lw_error *err, int *out_fd, int64_t *out_bytes)
{
    int fd = -1;
    int64_t bytes = 0;
    LW_TRY(open_regular(path, writable ? O_RDWR : O_RDONLY, err, &fd, &bytes));
    lw_status status = check_owner(fd, path, err);
    if (status != LW_OK) {
        close(fd);
        return status;
    }
    *out_fd = fd;
    *out_bytes = bytes;
    return LW_OK;
}

static lw_status read_whole(const char *path, size_t max_bytes, bool own, lw_error *err, char **out, size_t *out_bytes)
{
    int fd = -1;
    int64_t file_bytes = 0;
    LW_TRY(open_regular(path, O_RDONLY, err, &fd, &file_bytes));
    lw_status status = own ? check_owner(fd, path, err) : LW_OK;
    size_t size = (size_t)file_bytes;
    size_t got = 0;
    char *text = NULL;
    if (status != LW_OK) {
        // said already
    } else if (size > max_bytes) {
        status = lw_fail(err, LW_ERR_FORMAT, "%s: %zu bytes, more than the %zu allowed for such a file", path, size,
                         max_bytes);
    } else if (size == SIZE_MAX || (text = malloc(size + 1)) == NULL) {
        status = lw_fail(err, LW_ERR_MEMORY, "%s: out of memory reading %zu bytes", path, size);
    } else {
        status = read_up_to(fd, path, text, size, err, &got);
    }
    close(fd);
    if (status != LW_OK) {
        free(text);
        return status;
    }
    text[got] = '\0';
    *out = text;
    *out_bytes = got;
    return LW_OK;
}

lw_status lw_read_file(const char *path, size_t max_bytes, lw_error *err, char **out, size_t *out_bytes)
{
    return read_whole(path, max_bytes, false, err, out, out_bytes);
}

lw_status lw_read_own_file(const char *path, size_t max_bytes, lw_error *err, char **out, size_t *out_bytes)
{
    return read_whole(path, max_bytes, true, err, out, out_bytes);
}

static lw_status hash_fd(int fd, const char *path, XXH64_state_t *state, char *buffer, const lw_beat *beat,
                         lw_error *err, int64_t *out_bytes)
{
    int64_t total = 0;
    size_t got = HASH_BUFFER_BYTES;
    while (got == HASH_BUFFER_BYTES) {
        LW_TRY(read_up_to(fd, path, buffer, HASH_BUFFER_BYTES, err, &got));
        XXH64_update(state, buffer, got);
        total += (int64_t)got;
        lw_beat_tell(beat);
    }
    *out_bytes = total;
    return LW_OK;
}

lw_status lw_file_xxh64(const char *path, const lw_beat *beat, lw_error *err, uint64_t *out_hash, int64_t *out_bytes)
{
    int fd = -1;
    int64_t file_bytes = 0;
    LW_TRY(open_regular(path, O_RDONLY, err, &fd, &file_bytes));
    char *buffer = malloc(HASH_BUFFER_BYTES);
    XXH64_state_t *state = XXH64_createState();
    lw_status status = LW_OK;
    if (buffer == NULL || state == NULL) {
        status = out_of_memory(err);
    } else {
        XXH64_reset(state, 0);
        status = hash_fd(fd, path, state, buffer, beat, err, out_bytes);
    }
    if (status == LW_OK && *out_bytes != file_bytes) {
        status = lw_fail(err, LW_ERR_IO, "%s: only %lld of its %lld bytes could be read", path, (long long)*out_bytes,
                         (long long)file_bytes);
    }
    if (status == LW_OK) {
        *out_hash = XXH64_digest(state);
    }
    XXH64_freeState(state);
    free(buffer);
    close(fd);
    return status;
}

// --- durability

lw_status lw_fsync_dir(const char *path, lw_error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return lw_fail_errno(err, LW_ERR_IO, errno, "%s: cannot open the directory", path);
    }
    int errnum = fsync(fd) == 0 ? 0 : errno;
    close(fd);
    // Some network file systems cannot sync a directory and say EINVAL; then there is nothing more to do.
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

// --- atomic replacement

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

// Opens a file that was not there. Unlike mkstemp this leaves the mode to the umask, so that a group can read.
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
    if (lw_path_is_dir(path)) { // otherwise found out only at the rename
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
