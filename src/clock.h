// clock.h: the two clocks: one to measure with, one to tell people. Local.
#ifndef LW_CLOCK_H
#define LW_CLOCK_H

enum { LW_UTC_BYTES = 32 };

double lw_now_s(void);                   // monotonic, from an arbitrary start
void lw_utc_now(char out[LW_UTC_BYTES]); // "2025-01-31T12:00:00Z"

#endif
