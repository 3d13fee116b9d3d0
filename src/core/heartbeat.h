// heartbeat.h: a sign of life from work that may take long while others wait for it.
//
// Told at every bit of progress (a layer, a token, a block of a file), by the thread that works and by nothing that
// goes on by itself, as a timer does: work that hangs falls silent.
#ifndef LW_BEAT_H
#define LW_BEAT_H

#include <stddef.h>

typedef struct lw_beat { // all zero: nobody listens
    void (*tell)(void *context);
    void *context;
} lw_beat;

// beat may be NULL.
static inline void lw_beat_tell(const lw_beat *beat)
{
    if (beat != NULL && beat->tell != NULL) {
        beat->tell(beat->context);
    }
}

#endif
