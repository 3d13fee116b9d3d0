// run_dir.h: the directory of one run: its lock, configuration, log, metrics and results.
//
//   lock           held (flock) while a job runs on the directory; names its host and process, and is empty after an
//                  orderly end
//   config.cfg     the resolved configuration
//   log.txt        one line per message, "2025-01-31T12:00:00Z text"
//   metrics.jsonl  one JSON object per logged step
//   summary.json, eval.json, predictions.jsonl
// Every line is written at once and with one write, so that a crash loses none that was logged.
// Only rank 0 has one; the other ranks pass NULL to the functions that accept it. All functions are Local.
// Implemented by run_dir.c, lock.c and metrics.c.
#ifndef LW_RUN_DIR_H
#define LW_RUN_DIR_H

#include <jansson.h>
#include <stdint.h>

#include "core/status.h"
#include "run/progress.h"

typedef struct lw_run_dir lw_run_dir;

// Makes the directory and its parents where missing, takes the lock, opens the log for appending.
// LW_ERR_CONFIG when the directory cannot be made or written (run.dir is the remedy) or when another job holds the
// lock (its host and pid are named). The lock vanishes with the process that holds it, however it ends: the kernel, and
// on NFS the server, gives it back. On a file system without locks only the text of the lock file is there to go by:
// when it names a live process of this host the start is refused, when it names another host there is a warning. lw_log
// writes to stderr through `progress` (borrowed, may be NULL).
lw_status lw_run_dir_open(const char *path, lw_progress *progress, lw_error *err, lw_run_dir **out);
void lw_run_dir_close(lw_run_dir **run); // gives the lock back
// Closes it after a start that failed, and removes the directory if lw_run_dir_open made it and it holds nothing but
// lock and log.
void lw_run_dir_abandon(lw_run_dir **run);

const char *lw_run_dir_path(const lw_run_dir *run);

// Writes a message (no newline needed; inner newlines start lines of their own) to log.txt and to stderr. NULL:
// nothing. A log that cannot be written is reported once on stderr and does not end the run.
__attribute__((format(printf, 2, 3))) void lw_log(lw_run_dir *run, const char *format, ...);
// Writes it to log.txt alone.
__attribute__((format(printf, 2, 3))) void lw_log_file(lw_run_dir *run, const char *format, ...);
// lw_log with "warning: " in front, as a callback (lw_checkpoint_warn): context is the lw_run_dir.
void lw_log_warning(void *run, const char *message);
// The same on stderr alone, for commands without a run directory.
void lw_print_warning(void *nothing, const char *message);

// Shows progress on the terminal and, every `plain_every_s`, as a plain line in log.txt. NULL: nothing.
void lw_run_dir_progress(lw_run_dir *run, const lw_progress_state *state);

// Replaces config.cfg atomically.
lw_status lw_run_dir_write_config(lw_run_dir *run, const char *text, lw_error *err);

// Prepares metrics.jsonl for continuing after `step`: drops the lines of later steps (0: all), which a crash after the
// last checkpoint left, and a torn last line, so that the file has each step once. Called once, before
// lw_run_dir_metrics.
lw_status lw_run_dir_resume_metrics(lw_run_dir *run, int64_t step, lw_error *err);
// The last row of metrics.jsonl as an object; NULL where there is none. The caller drops the reference.
lw_status lw_run_dir_last_metrics(const lw_run_dir *run, lw_error *err, json_t **out);

// Appends one line. Numbers round-trip; a non-finite number becomes null. LW_ERR_IO leaves no torn line.
// The list is {key, kind, value}, for rows that allocate nothing; see LW_METRIC_*.
typedef struct lw_metric {
    const char *key;
    enum { LW_METRIC_F64, LW_METRIC_I64, LW_METRIC_TEXT } kind;
    double f64;
    int64_t i64;
    const char *text;
} lw_metric;

#define LW_METRIC_NUMBER(name, value) ((lw_metric){.key = (name), .kind = LW_METRIC_F64, .f64 = (value)})
#define LW_METRIC_COUNT(name, value) ((lw_metric){.key = (name), .kind = LW_METRIC_I64, .i64 = (value)})
#define LW_METRIC_STRING(name, value) ((lw_metric){.key = (name), .kind = LW_METRIC_TEXT, .text = (value)})

lw_status lw_run_dir_metrics(lw_run_dir *run, const lw_metric *metrics, int count, lw_error *err);
// Adds values to the row of `step` if it is the last row and lacks the first of the values; the file is replaced
// atomically.
lw_status lw_run_dir_extend_metrics(lw_run_dir *run, int64_t step, const lw_metric *metrics, int count, lw_error *err);

// Replaces RUN/NAME ("summary.json") atomically with the value, indented; the value is borrowed.
lw_status lw_run_dir_write_json(lw_run_dir *run, const char *name, const json_t *value, lw_error *err);

#endif
