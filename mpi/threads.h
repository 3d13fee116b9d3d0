// threads.h: how many CPU threads a rank may use. Collective.
#ifndef LW_THREADS_H
#define LW_THREADS_H

#include "comm.h"

// The processors that this rank is bound to, shared evenly with the ranks of its node that are bound to the same ones;
// at least 1.
lw_status lw_threads_auto(lw_comm *comm, lw_error *err, int *out);

#endif
