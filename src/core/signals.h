// signals.h: TERM, INT and USR1 as requests to stop at the next step boundary.
//
// A handler sets a flag and does nothing else; the step loop asks, and so does all that may take long before it and
// after it. Commands install the handlers first of all, before MPI starts. A second INT ends the process at once (exit
// 130). SIGPIPE is ignored: a terminal or reader that went away makes writes fail and must not kill a training run.
// Local; the flags belong to the process.
#ifndef LW_SIGNALS_H
#define LW_SIGNALS_H

#include "core/status.h"

// In order of precedence: the maximum over the ranks is what the job does.
typedef enum lw_signal {
    LW_SIGNAL_NONE = 0,
    LW_SIGNAL_USR1 = 1, // from Slurm before the time limit: checkpoint, requeue
    LW_SIGNAL_TERM = 2, // preemption: the same
    LW_SIGNAL_INT = 3,  // Ctrl-C: checkpoint, stop
} lw_signal;

lw_status lw_signals_install(lw_error *err);
lw_signal lw_signal_pending(void); // the worst so far

const char *lw_signal_name(lw_signal signal);    // "SIGTERM"
lw_status lw_signal_to_status(lw_signal signal); // LW_OK, LW_REQUEUE or LW_INTERRUPTED
// `status`, or what a signal makes of LW_OK: for phases that end in agreement (lw_comm_agree), which is silent about
// it.
lw_status lw_signal_check(lw_status status);
void lw_signals_clear(void); // forgets what came; for tests

#endif
