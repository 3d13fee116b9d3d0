// heartbeat.h: how work that may take long reports that it advances, while other ranks wait for it.
//
// A report is made at every bit of progress (a layer, a token, a block of a file), by the thread that does the work. It
// never comes from something that runs by itself, as a timer does, so that work that hangs falls silent.
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
