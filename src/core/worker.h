// worker.h: a thread beside the main one, with the mutex and the condition that the two talk by. Local.
//
// Signals stay with the main thread: handlers of the program and of the MPI library expect to interrupt it.
#ifndef LW_WORKER_H
#define LW_WORKER_H

#include <pthread.h>
#include <time.h>

#include "core/status.h"

typedef struct lw_worker {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed; // on CLOCK_MONOTONIC
} lw_worker;

// Runs run(context) on a thread of its own. `what` it is for, in the message: LW_ERR_MEMORY.
lw_status lw_worker_start(lw_worker *worker, void *(*run)(void *context), void *context, const char *what,
                          lw_error *err);
// Waits for its end.
void lw_worker_join(lw_worker *worker);

// For pthread_cond_timedwait on `changed`: now plus seconds.
struct timespec lw_worker_until(double seconds);

#endif
