// lock.c: the lock of a run directory: flock on RUN/lock, which also names its holder.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "io/files.h"
#include "run/run_dir_internal.h"

enum { HOST_BYTES = 128, LOCK_TRIES = 8 };

// The text of the lock file, in one printable line.
static void read_holder(int fd, char *out, size_t size)
{
    ssize_t n = pread(fd, out, size - 1, 0);
    out[n > 0 ? n : 0] = '\0';
    out[strcspn(out, "\n")] = '\0';
    for (char *c = out; *c != '\0'; c++) {
        if ((unsigned char)*c < ' ' || (unsigned char)*c > '~') {
            *c = '?';
        }
    }
}

static void name_host(char host[HOST_BYTES])
{
    snprintf(host, HOST_BYTES, "unknown");
    gethostname(host, HOST_BYTES - 1);
    host[HOST_BYTES - 1] = '\0';
}

static lw_status write_holder(const lw_run_dir *run, lw_error *err)
{
    char host[HOST_BYTES];
    char utc[LW_UTC_BYTES];
    char holder[256];
    name_host(host);
    lw_utc_now(utc);
    int length = snprintf(holder, sizeof holder, "host %s, pid %ld, since %s\n", host, (long)getpid(), utc);
    if (ftruncate(run->lock_fd, 0) != 0 || pwrite(run->lock_fd, holder, (size_t)length, 0) != length) {
        return lw_fail_errno(err, LW_ERR_IO, errno, "%s/lock cannot be written", run->path);
    }
    return LW_OK;
}

// For file systems without locks: whether the lock file names a process of this host that still runs.
static bool holder_lives(const char *holder)
{
    char host[HOST_BYTES];
    char named[HOST_BYTES];
    long pid = 0;
    name_host(host);
    return sscanf(holder, "host %127[^,], pid %ld,", named, &pid) == 2 && strcmp(host, named) == 0 && pid > 0 &&
           pid != (long)getpid() && (kill((pid_t)pid, 0) == 0 || errno == EPERM);
}

static lw_status refuse(const lw_run_dir *run, const char *holder, lw_error *err)
{
    return lw_fail(err, LW_ERR_CONFIG, "another job is using it: %s (%s/lock); wait for it to end or stop it",
                   holder[0] != '\0' ? holder : "a process that has not written its name there", run->path);
}

// Whether the locked file still has that name: a job that failed at its start removes its lock file.
static bool is_current(int fd, const char *path)
{
    struct stat locked;
    struct stat named;
    return fstat(fd, &locked) == 0 && stat(path, &named) == 0 && locked.st_dev == named.st_dev &&
           locked.st_ino == named.st_ino;
}

// The lock is flock and not the existence of a file, as the kernel gives it back however the process ends.
static lw_status try_lock(lw_run_dir *run, const char *path, lw_error *err, bool *current)
{
    run->lock_fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, LW_FILE_MODE);
    if (run->lock_fd < 0) {
        return lw_fail_errno(err, LW_ERR_IO, errno, "%s cannot be written", path);
    }
    char holder[sizeof run->before];
    bool taken = flock(run->lock_fd, LOCK_EX | LOCK_NB) == 0;
    int cause = taken ? 0 : errno;
    read_holder(run->lock_fd, holder, sizeof holder);
    if (cause == EWOULDBLOCK) {
        return refuse(run, holder, err);
    }
    run->unlocked = cause == ENOSYS || cause == ENOLCK || cause == EOPNOTSUPP; // some clusters mount without locks
    if (!taken && !run->unlocked) {
        return lw_fail_errno(err, LW_ERR_IO, cause, "%s cannot be locked", path);
    }
    if (run->unlocked && holder_lives(holder)) {
        return refuse(run, holder, err);
    }
    *current = is_current(run->lock_fd, path);
    snprintf(run->before, sizeof run->before, "%s", holder);
    return LW_OK;
}

lw_status lw_run_dir_lock(lw_run_dir *run, lw_error *err)
{
    char *path = NULL;
    bool current = false;
    LW_TRY(lw_path_join(run->path, "lock", err, &path));
    lw_status status = LW_OK;
    for (int i = 0; status == LW_OK && !current && i < LOCK_TRIES; i++) {
        if (run->lock_fd >= 0) {
            close(run->lock_fd);
        }
        status = try_lock(run, path, err, &current);
    }
    free(path);
    if (status == LW_OK && !current) {
        status = lw_fail(err, LW_ERR_IO, "%s/lock vanishes while it is being locked", run->path);
    }
    if (status != LW_OK) {
        // The text in the file is the other job's, so it stays.
        if (run->lock_fd >= 0) {
            close(run->lock_fd);
        }
        run->lock_fd = -1;
        return status;
    }
    return write_holder(run, err);
}

bool lw_run_dir_unlock(lw_run_dir *run)
{
    if (run->lock_fd < 0) {
        return true;
    }
    // The file stays, for removing it would race with the next job.
    bool emptied = ftruncate(run->lock_fd, 0) == 0;
    close(run->lock_fd); // which gives the lock back
    run->lock_fd = -1;
    return emptied;
}
