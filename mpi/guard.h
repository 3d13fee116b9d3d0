// guard.h: a deadline for a call that waits for other ranks inside the MPI library, where none of our code runs.
#ifndef LW_GUARD_H
#define LW_GUARD_H

#include "core/status.h"

typedef struct lw_guard lw_guard;

// Ends the process with `text` ("lwmpi: " in front) on stderr unless lw_guard_end is called within timeout_s.
// LW_ERR_MEMORY. Local.
lw_status lw_guard_begin(double timeout_s, const char *text, lw_error *err, lw_guard **out);
void lw_guard_end(lw_guard **guard);

#endif
