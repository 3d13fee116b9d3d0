// child.c: starts a program, collects what it prints and ends it at a deadline.
#include "core/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// In the new process: only what is safe after fork. Exit code 127 is the shell's for "not found".
_Noreturn static void become(char *const argv[], int output_fd)
{
    (void)setpgid(0, 0);
    int empty = open("/dev/null", O_RDONLY);
    if (empty >= 0) {
        (void)dup2(empty, STDIN_FILENO);
        if (empty > STDERR_FILENO) {
            close(empty);
        }
    }
    (void)dup2(output_fd, STDOUT_FILENO);
    (void)dup2(output_fd, STDERR_FILENO);
    execvp(argv[0], argv);
    _exit(127);
}

// Reads until the end of the pipe; false when the deadline came first.
static bool read_all(int fd, double deadline_s, char *output, size_t size)
{
    size_t used = 0;
    char buffer[1024];
    for (;;) {
        double left_s = deadline_s - now_s();
        if (left_s <= 0.0) {
            return false;
        }
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        int ready = poll(&wait, 1, (int)(left_s * 1000.0) + 1);
        if (ready < 0 && errno != EINTR) {
            return true;
        }
        if (ready <= 0) {
            continue;
        }
        ssize_t got = read(fd, buffer, sizeof buffer);
        if (got <= 0) {
            return true;
        }
        size_t keep = (size_t)got < size - 1 - used ? (size_t)got : size - 1 - used;
        memcpy(output + used, buffer, keep);
        used += keep;
        output[used] = '\0';
    }
}

// The pipe may end before the program does.
static bool wait_until(pid_t pid, double deadline_s, int *wait_status)
{
    for (;;) {
        pid_t ended = waitpid(pid, wait_status, WNOHANG);
        if (ended == pid || (ended < 0 && errno != EINTR)) {
            return true;
        }
        if (now_s() >= deadline_s) {
            return false;
        }
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
}

lw_status lw_child_run(char *const argv[], double timeout_s, lw_error *err, char *output, size_t size, int *exit_code)
{
    int ends[2];
    output[0] = '\0';
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return lw_fail_errno(err, LW_ERR_IO, errno, "cannot make a pipe for %s", argv[0]);
    }
    pid_t pid = fork();
    if (pid == 0) {
        become(argv, ends[1]);
    }
    int fork_errno = errno;
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return lw_fail_errno(err, LW_ERR_IO, fork_errno, "cannot start %s", argv[0]);
    }
    double deadline_s = now_s() + timeout_s;
    int wait_status = 0;
    bool ended = read_all(ends[0], deadline_s, output, size) && wait_until(pid, deadline_s, &wait_status);
    close(ends[0]);
    if (!ended) {
        (void)kill(-pid, SIGKILL);
        (void)waitpid(pid, &wait_status, 0);
        return lw_fail(err, LW_ERR_TIMEOUT, "%s did not end within %.0f s and was stopped", argv[0], timeout_s);
    }
    *exit_code = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
    return LW_OK;
}
