// calls_file.c: stands in for the file operations of the C library.
#include "inject.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

// The real function of that name, looked up once.
#define REAL(name, ...)                                                     \
    static __typeof__(name) *real;                                          \
    if (real == NULL) {                                                     \
        real = (__typeof__(name) *)(__UINTPTR_TYPE__)lw_inject_next(#name); \
    }                                                                       \
    return real(__VA_ARGS__)

#define FAILS_PATH(call, path) (lw_inject(LW_CALL_##call, path, false) == LW_FAIL)
#define FAILS_FD(call, fd) (lw_inject_fd(LW_CALL_##call, fd) == LW_FAIL)

static lw_inject_class opening(int flags)
{
    return (flags & (O_CREAT | O_WRONLY | O_RDWR)) != 0 ? LW_CALL_create : LW_CALL_open;
}

// --- opening and closing

#define OPEN(name)                                                                     \
    int name(const char *path, int flags, ...)                                         \
    {                                                                                  \
        va_list args;                                                                  \
        va_start(args, flags);                                                         \
        mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(args, mode_t) : 0; \
        va_end(args);                                                                  \
        if (lw_inject(opening(flags), path, false) == LW_FAIL) {                       \
            return -1;                                                                 \
        }                                                                              \
        REAL(name, path, flags, mode);                                                 \
    }
OPEN(open)
OPEN(open64)

int openat(int dir, const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(args, mode_t) : 0;
    va_end(args);
    lw_verdict verdict = path[0] == '/' ? lw_inject(opening(flags), path, false) : lw_inject_fd(opening(flags), dir);
    if (verdict == LW_FAIL) {
        return -1;
    }
    REAL(openat, dir, path, flags, mode);
}

#define FOPEN(name)                                                                          \
    FILE *name(const char *path, const char *mode)                                           \
    {                                                                                        \
        lw_inject_class call = strpbrk(mode, "wa+") != NULL ? LW_CALL_create : LW_CALL_open; \
        if (lw_inject(call, path, false) == LW_FAIL) {                                       \
            return NULL;                                                                     \
        }                                                                                    \
        REAL(name, path, mode);                                                              \
    }
FOPEN(fopen)
FOPEN(fopen64)

// A failing close closes: that is what systems do.
int close(int fd)
{
    int (*next)(int) = (int (*)(int))(__UINTPTR_TYPE__)lw_inject_next("close");
    if (FAILS_FD(close, fd)) {
        int errnum = errno;
        next(fd);
        errno = errnum;
        return -1;
    }
    return next(fd);
}

int fclose(FILE *file)
{
    int (*next)(FILE *) = (int (*)(FILE *))(__UINTPTR_TYPE__)lw_inject_next("fclose");
    if (FAILS_FD(close, fileno(file))) {
        int errnum = errno;
        next(file);
        errno = errnum;
        return EOF;
    }
    return next(file);
}

// --- reading and writing

#define TRANSFER(name, call, decide, buffer_type, ...)   \
    switch (decide) {                                    \
    case LW_FAIL: return -1;                             \
    case LW_END: return 0;                               \
    case LW_SHORT: bytes = bytes > 1 ? 1 : bytes; break; \
    case LW_GO:                                          \
    case LW_NEVER: break;                                \
    }                                                    \
    REAL(name, __VA_ARGS__)

ssize_t read(int fd, void *buffer, size_t bytes)
{
    TRANSFER(read, read, lw_inject_fd(LW_CALL_read, fd), void, fd, buffer, bytes);
}

ssize_t pread(int fd, void *buffer, size_t bytes, off_t at)
{
    TRANSFER(pread, read, lw_inject_fd(LW_CALL_read, fd), void, fd, buffer, bytes, at);
}

ssize_t write(int fd, const void *buffer, size_t bytes)
{
    TRANSFER(write, write, lw_inject_fd(LW_CALL_write, fd), const void, fd, buffer, bytes);
}

ssize_t pwrite(int fd, const void *buffer, size_t bytes, off_t at)
{
    TRANSFER(pwrite, write, lw_inject_fd(LW_CALL_write, fd), const void, fd, buffer, bytes, at);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    if (FAILS_FD(write, fd)) {
        return -1;
    }
    REAL(writev, fd, parts, count);
}

ssize_t getdelim(char **line, size_t *capacity, int delimiter, FILE *file);
ssize_t __getdelim(char **line, size_t *capacity, int delimiter, FILE *file);
#define GETDELIM(name)                                                     \
    ssize_t name(char **line, size_t *capacity, int delimiter, FILE *file) \
    {                                                                      \
        if (FAILS_FD(read, fileno(file))) {                                \
            return -1;                                                     \
        }                                                                  \
        REAL(name, line, capacity, delimiter, file);                       \
    }
GETDELIM(getdelim)
GETDELIM(__getdelim)

size_t fread(void *buffer, size_t size, size_t count, FILE *file)
{
    if (FAILS_FD(read, fileno(file))) {
        return 0;
    }
    REAL(fread, buffer, size, count, file);
}

size_t fwrite(const void *buffer, size_t size, size_t count, FILE *file)
{
    if (FAILS_FD(write, fileno(file))) {
        return 0;
    }
    REAL(fwrite, buffer, size, count, file);
}

int fsync(int fd)
{
    if (FAILS_FD(fsync, fd)) {
        return -1;
    }
    REAL(fsync, fd);
}

int fdatasync(int fd)
{
    if (FAILS_FD(fsync, fd)) {
        return -1;
    }
    REAL(fdatasync, fd);
}

#define TRUNCATE(name)                \
    int name(int fd, off_t bytes)     \
    {                                 \
        if (FAILS_FD(truncate, fd)) { \
            return -1;                \
        }                             \
        REAL(name, fd, bytes);        \
    }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

int fallocate(int fd, int mode, off_t at, off_t bytes)
{
    if (FAILS_FD(truncate, fd)) {
        return -1;
    }
    REAL(fallocate, fd, mode, at, bytes);
}

int posix_fallocate(int fd, off_t at, off_t bytes)
{
    if (FAILS_FD(truncate, fd)) {
        return errno; // this one returns its error
    }
    REAL(posix_fallocate, fd, at, bytes);
}

#define MMAP(name)                                                                      \
    void *name(void *at, size_t bytes, int protection, int flags, int fd, off_t offset) \
    {                                                                                   \
        if ((flags & MAP_ANONYMOUS) == 0 && FAILS_FD(map, fd)) {                        \
            return MAP_FAILED;                                                          \
        }                                                                               \
        REAL(name, at, bytes, protection, flags, fd, offset);                           \
    }
MMAP(mmap)
MMAP(mmap64)

// --- names

int rename(const char *from, const char *to)
{
    if (FAILS_PATH(rename, to)) {
        return -1;
    }
    REAL(rename, from, to);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    if (to[0] == '/' ? FAILS_PATH(rename, to) : FAILS_FD(rename, to_dir)) {
        return -1;
    }
    REAL(renameat, from_dir, from, to_dir, to);
}

int mkdir(const char *path, mode_t mode)
{
    if (FAILS_PATH(mkdir, path)) {
        return -1;
    }
    REAL(mkdir, path, mode);
}

int unlink(const char *path)
{
    if (FAILS_PATH(unlink, path)) {
        return -1;
    }
    REAL(unlink, path);
}

int remove(const char *path)
{
    if (FAILS_PATH(unlink, path)) {
        return -1;
    }
    REAL(remove, path);
}

int rmdir(const char *path)
{
    if (FAILS_PATH(unlink, path)) {
        return -1;
    }
    REAL(rmdir, path);
}

int unlinkat(int dir, const char *path, int flags)
{
    if (path[0] == '/' ? FAILS_PATH(unlink, path) : FAILS_FD(unlink, dir)) {
        return -1;
    }
    REAL(unlinkat, dir, path, flags);
}

// --- asking

DIR *opendir(const char *path)
{
    if (FAILS_PATH(list, path)) {
        return NULL;
    }
    REAL(opendir, path);
}

#define READDIR(name, type)                  \
    type *name(DIR *stream)                  \
    {                                        \
        if (FAILS_FD(list, dirfd(stream))) { \
            return NULL;                     \
        }                                    \
        REAL(name, stream);                  \
    }
READDIR(readdir, struct dirent)
READDIR(readdir64, struct dirent64)

#define NFTW(name, function)                                             \
    int name(const char *path, function visit, int open_dirs, int flags) \
    {                                                                    \
        if (FAILS_PATH(list, path)) {                                    \
            return -1;                                                   \
        }                                                                \
        REAL(name, path, visit, open_dirs, flags);                       \
    }
NFTW(nftw, __nftw_func_t)
NFTW(nftw64, __nftw64_func_t)

#define STAT(name, type)                  \
    int name(const char *path, type *out) \
    {                                     \
        if (FAILS_PATH(stat, path)) {     \
            return -1;                    \
        }                                 \
        REAL(name, path, out);            \
    }
STAT(stat, struct stat)
STAT(stat64, struct stat64)
STAT(lstat, struct stat)
STAT(lstat64, struct stat64)
STAT(statvfs, struct statvfs)
STAT(statvfs64, struct statvfs64)

#define FSTAT(name, type)         \
    int name(int fd, type *out)   \
    {                             \
        if (FAILS_FD(stat, fd)) { \
            return -1;            \
        }                         \
        REAL(name, fd, out);      \
    }
FSTAT(fstat, struct stat)
FSTAT(fstat64, struct stat64)

int access(const char *path, int mode)
{
    if (FAILS_PATH(stat, path)) {
        return -1;
    }
    REAL(access, path, mode);
}

int flock(int fd, int operation)
{
    if (FAILS_FD(lock, fd)) {
        return -1;
    }
    REAL(flock, fd, operation);
}
