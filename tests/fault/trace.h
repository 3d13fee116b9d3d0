// trace.h: the calls of a run as the injection library wrote them down, and which of them to make go wrong.
#ifndef LW_TEST_TRACE_H
#define LW_TEST_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "inject/inject.h"

typedef struct traced_call {
    lw_inject_class call;
    long n;        // within its class, from 1
    uint32_t site; // where in the program
    char path[160];
    bool first, middle, last; // of its site
} traced_call;

typedef struct trace {
    traced_call *calls;
    long count;
    long per_class[LW_CALL_CLASSES];
    long sites[LW_CALL_CLASSES];
} trace;

// Reads NOTES/trace.RANK and removes it. False when there is none.
bool trace_read(const char *notes, int rank, trace *out);
// The call's site was reached in that run too.
bool trace_has_site(const trace *t, const traced_call *c);
void trace_free(trace *t);
const char *trace_class_name(lw_inject_class call);

#endif
