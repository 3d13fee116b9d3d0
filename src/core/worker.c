// worker.c: starts and joins a thread that leaves signals to the main one.
#include "core/worker.h"

#include <signal.h>

static void release(lw_worker *w)
{
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->mutex);
}

lw_status lw_worker_start(lw_worker *w, void *(*run)(void *context), void *context, const char *what, lw_error *err)
{
    sigset_t all;
    sigset_t before;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int errnum = pthread_create(&w->thread, NULL, run, context);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (errnum != 0) {
        release(w);
        return lw_fail_errno(err, LW_ERR_MEMORY, errnum, "no thread %s", what);
    }
    return LW_OK;
}

void lw_worker_join(lw_worker *w)
{
    pthread_join(w->thread, NULL);
    release(w);
}

struct timespec lw_worker_until(double seconds)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    time_t whole = (time_t)seconds;
    t.tv_sec += whole;
    t.tv_nsec += (long)((seconds - (double)whole) * 1e9);
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    return t;
}
