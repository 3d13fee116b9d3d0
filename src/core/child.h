// child.h: runs another program and reads what it says.
#ifndef LW_CHILD_H
#define LW_CHILD_H

#include <stddef.h>

#include "core/status.h"

// Runs `argv` (found on PATH) with an empty stdin, and waits for it. `output` gets the beginning of its stdout and
// stderr, always terminated; the rest is read and dropped. exit_code is 128 + signal when it was killed.
// LW_ERR_IO when it cannot be started, LW_ERR_TIMEOUT when it did not end in timeout_s: it and its process group are
// killed then. Local.
lw_status lw_child_run(char *const argv[], double timeout_s, lw_error *err, char *output, size_t size, int *exit_code);

#endif
