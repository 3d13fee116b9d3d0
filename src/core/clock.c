// clock.c: monotonic, CPU and calendar time.
#include "core/clock.h"

#include <time.h>

double lw_now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

double lw_thread_cpu_s(void)
{
    struct timespec spent;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
    return (double)spent.tv_sec + 1e-9 * (double)spent.tv_nsec;
}

void lw_utc_now(char out[LW_UTC_BYTES])
{
    time_t now = time(NULL);
    struct tm utc;
    out[0] = '\0';
    if (gmtime_r(&now, &utc) != NULL) {
        strftime(out, LW_UTC_BYTES, "%Y-%m-%dT%H:%M:%SZ", &utc);
    }
}
