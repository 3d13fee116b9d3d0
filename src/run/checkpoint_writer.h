// checkpoint_writer.h: checkpoints written by a thread, from a copy, while the step loop goes on.
//
// The owner of the writer fills the state's buffers, starts a write, and leaves the buffers alone until the writer is
// idle again. A write that fails is a warning and is tried once more; when that fails too the writer has failed for
// good: every poll returns the failure, no further work is taken, and earlier checkpoints are unchanged.
// All functions are called from one thread, which also receives the warnings. Local.
#ifndef LW_CHECKPOINT_WRITER_H
#define LW_CHECKPOINT_WRITER_H

#include "run/checkpoint.h"

typedef struct lw_checkpoint_writer lw_checkpoint_writer;

typedef struct lw_checkpoint_writer_options {
    const char *run_dir; // borrowed
    lw_flat_state state; // its buffers are the copy that is written
    lw_checkpoint_retention retention;
    double retry_pause_s; // between a write that failed and the second try
} lw_checkpoint_writer_options;

// Starts the thread. LW_ERR_MEMORY.
lw_status lw_checkpoint_writer_create(const lw_checkpoint_writer_options *options, lw_error *err,
                                      lw_checkpoint_writer **out);
// Waits until what has been started is on the disk, or has failed, and ends the thread. NULL is fine.
void lw_checkpoint_writer_destroy(lw_checkpoint_writer **writer);

// Begins to write the state with the manifest `info`, or a trial of that (lw_checkpoint_trial). Does nothing unless the
// writer is idle and has not failed. Returns at once, allocates nothing.
void lw_checkpoint_writer_start(lw_checkpoint_writer *writer, const lw_checkpoint_info *info);
void lw_checkpoint_writer_start_trial(lw_checkpoint_writer *writer);

// Waits at most so many seconds for the writer to be idle; 0 does not wait. Returns whether it is idle.
bool lw_checkpoint_writer_wait(lw_checkpoint_writer *writer, double seconds);

typedef struct lw_checkpoint_written {
    bool trial;
    int64_t step; // of a checkpoint
    int64_t bytes;
    int64_t free_bytes; // on trial
    double write_s;     // both tries
} lw_checkpoint_written;

// Takes what has happened since the last call. Warnings go to `warn`. *finished: a write has ended well since, and *out
// is set. Returns LW_OK or, from then on at every call, the failure of a second try with its text.
lw_status lw_checkpoint_writer_poll(lw_checkpoint_writer *writer, lw_checkpoint_warn warn, void *context, lw_error *err,
                                    bool *finished, lw_checkpoint_written *out);

#endif
