// files.c: paths, directories, capped and hashed reading, appending.
#include "io/files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "core/utf8.h"

enum { HASH_BUFFER_BYTES = 1 << 20 };

// One system call moves at most 0x7ffff000 bytes on Linux; smaller pieces keep signals responsive.
static const size_t read_piece_bytes = (size_t)64 << 20;

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
    if (lw_path_is_dir(path)) { // it was there, or another rank has made it meanwhile
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
        size_t want = bytes - got < read_piece_bytes ? bytes - got : read_piece_bytes;
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

// Looks at the open file and not at the path, which could name another file by the time it is read.
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
        // check_owner has filled err.
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

static lw_status hash_fd(int fd, const char *path, XXH64_state_t *state, char *buffer, const lw_heartbeat *heartbeat,
                         lw_error *err, int64_t *out_bytes)
{
    int64_t total = 0;
    size_t got = HASH_BUFFER_BYTES;
    while (got == HASH_BUFFER_BYTES) {
        LW_TRY(read_up_to(fd, path, buffer, HASH_BUFFER_BYTES, err, &got));
        XXH64_update(state, buffer, got);
        total += (int64_t)got;
        lw_heartbeat_report(heartbeat);
    }
    *out_bytes = total;
    return LW_OK;
}

lw_status lw_file_xxh64(const char *path, const lw_heartbeat *heartbeat, lw_error *err, uint64_t *out_hash,
                        int64_t *out_bytes)
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
        status = hash_fd(fd, path, state, buffer, heartbeat, err, out_bytes);
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

// --- appending

lw_status lw_append_line(int fd, const char *dir, const char *name, const char *line, size_t bytes, lw_error *err)
{
    off_t start = lseek(fd, 0, SEEK_END);
    size_t done = 0;
    while (done < bytes) {
        ssize_t n = write(fd, line + done, bytes - done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            int cause = n < 0 ? errno : ENOSPC;
            // A torn line must not stay in the file.
            if (done > 0 && start >= 0 && ftruncate(fd, start) != 0) {
                return lw_fail_errno(err, LW_ERR_IO, cause, "%s/%s: cannot append; its last line is torn", dir, name);
            }
            return lw_fail_errno(err, LW_ERR_IO, cause, "%s/%s: cannot append", dir, name);
        }
        done += (size_t)n;
    }
    return LW_OK;
}
