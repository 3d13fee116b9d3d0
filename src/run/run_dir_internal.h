// run_dir_internal.h: shared by run_dir.c and metrics.c.
#ifndef LW_RUN_DIR_INTERNAL_H
#define LW_RUN_DIR_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

#include "run/run_dir.h"

enum { LW_METRICS_LINE_BYTES = 16384 };

struct lw_run_dir {
    char *path;
    lw_progress *progress;           // borrowed
    int lock_fd, log_fd, metrics_fd; // -1: not open
    bool made;                       // by lw_run_dir_open
    bool unlocked;                   // the file system has no locks
    char before[256];                // what the lock file named: a job that did not end in order; "" for none
    bool log_failed;                 // the log could not be written, and that has been reported
    bool progress_logged;
    double progress_s;                // when a progress line last went to the log
    char line[LW_METRICS_LINE_BYTES]; // of metrics.jsonl, being made
};

// lock.c. Takes RUN/lock. LW_ERR_CONFIG where another job holds it.
lw_status lw_run_dir_lock(lw_run_dir *run, lw_error *err);
// Empties the lock file, as a sign that this job ended in order, and gives the lock back. False when the file could not
// be written.
bool lw_run_dir_unlock(lw_run_dir *run);

#endif
