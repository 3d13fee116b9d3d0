// heartbeat.h: a sign of life from work that may take long while others wait for it.
//
// Told at every bit of progress (a layer, a token, a block of a file), by the thread that works and by nothing that
// goes on by itself, as a timer does: work that hangs falls silent.
#ifndef LW_HEARTBEAT_H
#define LW_HEARTBEAT_H

#include <stddef.h>

typedef struct lw_heartbeat { // all zero: nobody listens
    void (*report)(void *context);
    void *context;
} lw_heartbeat;

// heartbeat may be NULL.
static inline void lw_heartbeat_report(const lw_heartbeat *heartbeat)
{
    if (heartbeat != NULL && heartbeat->report != NULL) {
        heartbeat->report(heartbeat->context);
    }
}

#endif
