// checkpoint_internal.h: what the files of run/ that write and read checkpoints share.
#ifndef LW_CHECKPOINT_INTERNAL_H
#define LW_CHECKPOINT_INTERNAL_H

#include "run/checkpoint.h"
#include "run/checkpoint_store.h"

// --- checkpoint_manifest.c

typedef struct lw_checkpoint_file {
    const char *name; // in the checkpoint's directory
    int64_t bytes;
    uint64_t xxh64;
} lw_checkpoint_file;

// Writes DIR/manifest.json, fsynced.
lw_status lw_manifest_write(const char *dir, const lw_checkpoint_info *info, const lw_checkpoint_file *files, int count,
                            lw_error *err);
typedef enum lw_manifest_depth {
    LW_MANIFEST_ALONE, // the files that it names are not looked at
    LW_MANIFEST_SIZES, // their sizes are compared with the manifest
    LW_MANIFEST_HASHES // their sizes and their contents are compared
} lw_manifest_depth;

// Reads DIR/manifest.json and checks it and its files; reports every block that is read to `heartbeat` (or NULL).
lw_status lw_manifest_read(const char *dir, lw_manifest_depth depth, const lw_heartbeat *heartbeat, lw_error *err,
                           lw_checkpoint_info *info_out);

// --- checkpoint_store.c: the directories of a run's checkpoints

// Removes what a crash left unfinished, and puts back a checkpoint whose replacement was not completed.
lw_status lw_checkpoint_tidy(const char *checkpoints_dir, lw_error *err);
// Makes the folder where it is missing. Its parent must exist, so that a run directory that was removed does not
// reappear empty.
lw_status lw_checkpoint_make_folder(const char *checkpoints_dir, lw_error *err);
// Renames the finished DIR/TMP_NAME to DIR/NAME, durably. An older DIR/NAME is removed afterwards, not before.
lw_status lw_checkpoint_install(const char *checkpoints_dir, const char *tmp_name, const char *name, lw_error *err);
// Removes DIR/NAME in such a way that a half-removed one is never taken for a checkpoint.
lw_status lw_checkpoint_discard(const char *checkpoints_dir, const char *name, lw_error *err);
lw_status lw_remove_tree(const char *path, lw_error *err); // LW_OK when there is nothing

// --- checkpoint_retain.c

// Makes RUN/latest name the checkpoint of `step`, which is in place, and RUN/best the best one; then removes those that
// are not kept. A failure is a warning.
void lw_checkpoint_retain(const char *run_dir, int64_t step, const lw_checkpoint_retention *retention,
                          lw_checkpoint_warn warn, void *context);

#endif
