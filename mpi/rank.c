// rank.c: what a rank knows about itself, what it prints, and how it ends the job.
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "comm.h"
#include "comm_internal.h"

void lw_comm_print(const char *format, ...)
{
    char line[sizeof(lw_error) + 512] = "lwmpi: ";
    size_t used = strlen(line);
    va_list args;
    va_start(args, format);
    vsnprintf(line + used, sizeof line - used - 1, format, args);
    va_end(args);
    used = strlen(line);
    line[used++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, used);
    (void)written; // there is no other place to complain
}

void lw_comm_sleep(double seconds)
{
    time_t whole = (time_t)seconds;
    struct timespec pause = {.tv_sec = whole, .tv_nsec = (long)((seconds - (double)whole) * 1e9)};
    nanosleep(&pause, NULL);
}

int lw_comm_rank(const lw_comm *comm)
{
    return comm->rank;
}

int lw_comm_size(const lw_comm *comm)
{
    return comm->size;
}

int lw_comm_local_rank(const lw_comm *comm)
{
    return comm->local_rank;
}

int lw_comm_local_size(const lw_comm *comm)
{
    return comm->local_size;
}

const char *lw_comm_host(const lw_comm *comm)
{
    return comm->hosts != NULL ? comm->hosts[comm->rank] : "unknown host";
}

int lw_comm_number(const lw_comm *comm, int r)
{
    return comm->numbers != NULL ? comm->numbers[r] : r;
}

void lw_comm_each_other(lw_comm *comm, void (*visit)(lw_comm *other))
{
    lw_comm *all = comm->of != NULL ? comm->of : comm;
    if (all != comm) {
        visit(all);
    }
    for (int i = 0; i < all->group_count; i++) {
        if (all->groups[i] != comm) {
            visit(all->groups[i]);
        }
    }
}

void lw_comm_set_timeout(lw_comm *comm, double timeout_s)
{
    comm->timeout_s = timeout_s > 0 ? timeout_s : 300.0;
    for (int i = 0; i < comm->group_count; i++) {
        comm->groups[i]->timeout_s = comm->timeout_s;
    }
}

void lw_comm_doing(lw_comm *comm, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(comm->doing, sizeof comm->doing, format, args);
    va_end(args);
    for (int i = 0; i < comm->group_count; i++) {
        memcpy(comm->groups[i]->doing, comm->doing, sizeof comm->doing);
    }
}

void lw_comm_print_pending_error(lw_comm *comm)
{
    if (comm->pending_error != NULL) {
        lw_comm_print("rank %d on %s: %s", lw_comm_number(comm, comm->rank), lw_comm_host(comm),
                      comm->pending_error->text);
        comm->pending_error = NULL;
    }
}

void lw_comm_abandon_device(lw_comm *comm)
{
    if (comm->abandon != NULL) {
        comm->abandon(comm);
    }
}

void lw_comm_kill(int exit_code)
{
    int initialized = 0;
    int finalized = 0;
    MPI_Initialized(&initialized);
    MPI_Finalized(&finalized);
    if (initialized && !finalized) {
        // MPI_Abort asks the launcher, and may wait for one that does not answer.
        signal(SIGALRM, SIG_DFL);
        alarm(10);
        MPI_Abort(MPI_COMM_WORLD, exit_code);
    }
    _exit(exit_code);
}

void lw_comm_abort(lw_comm *comm, lw_status status, const lw_error *err)
{
    const char *text = err->text[0] != '\0' ? err->text : lw_status_name(status);
    if (comm != NULL) {
        lw_comm_print_pending_error(comm);
    }
    if (comm != NULL && comm->size > 1) {
        lw_comm_print("rank %d on %s: %s", lw_comm_number(comm, comm->rank), lw_comm_host(comm), text);
    } else {
        lw_comm_print("%s", text);
    }
    if (comm != NULL) {
        lw_comm_abandon_device(comm);
    }
    lw_comm_kill(lw_status_exit_code(status));
}
