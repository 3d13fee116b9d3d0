// guard.c: a thread that sleeps until the guarded call returns or its time is up.
#include "guard.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "comm_internal.h"
#include "core/worker.h"

struct lw_guard {
    lw_worker worker;
    struct timespec until;
    bool over;
    char text[sizeof(lw_error)];
};

static void *watch_clock(void *context)
{
    lw_guard *g = context;
    int late = 0;
    pthread_mutex_lock(&g->worker.mutex);
    while (!g->over && late == 0) {
        late = pthread_cond_timedwait(&g->worker.changed, &g->worker.mutex, &g->until);
    }
    if (!g->over) {
        // MPI may not be called here: from another thread, and before it has started. The launcher ends the other ranks
        // when it sees that this one ended without MPI_Finalize.
        lw_comm_print("%s", g->text);
        _exit(lw_status_exit_code(LW_ERR_TIMEOUT));
    }
    pthread_mutex_unlock(&g->worker.mutex);
    return NULL;
}

lw_status lw_guard_begin(double timeout_s, const char *text, lw_error *err, lw_guard **out)
{
    lw_guard *g = calloc(1, sizeof *g);
    if (g == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for a deadline");
    }
    g->until = lw_worker_until(timeout_s);
    snprintf(g->text, sizeof g->text, "%s", text);
    lw_status status = lw_worker_start(&g->worker, watch_clock, g, "for a deadline", err);
    if (status != LW_OK) {
        free(g);
        return status;
    }
    *out = g;
    return LW_OK;
}

void lw_guard_end(lw_guard **guard)
{
    lw_guard *g = *guard;
    if (g == NULL) {
        return;
    }
    pthread_mutex_lock(&g->worker.mutex);
    g->over = true;
    pthread_cond_signal(&g->worker.changed);
    pthread_mutex_unlock(&g->worker.mutex);
    lw_worker_join(&g->worker);
    free(g);
    *guard = NULL;
}
