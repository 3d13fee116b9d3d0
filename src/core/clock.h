// clock.h: clocks: to measure with, to limit work, to tell people. Local.
#ifndef LW_CLOCK_H
#define LW_CLOCK_H

enum { LW_UTC_BYTES = 32 };

double lw_now_s(void);                   // monotonic, from an arbitrary start
double lw_thread_cpu_s(void);            // of the processor, spent by this thread
void lw_utc_now(char out[LW_UTC_BYTES]); // "2025-01-31T12:00:00Z"

#endif
