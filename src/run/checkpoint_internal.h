// checkpoint_internal.h: shared by checkpoint.c (write, load), checkpoint_manifest.c and checkpoint_store.c.
#ifndef LW_CHECKPOINT_INTERNAL_H
#define LW_CHECKPOINT_INTERNAL_H

#include "run/checkpoint.h"

#define LW_CHECKPOINT_STATE "state.safetensors"
#define LW_CHECKPOINT_MANIFEST "manifest.json"

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
    LW_MANIFEST_SIZES, // they are there, and as long as it says
    LW_MANIFEST_HASHES // they are read
} lw_manifest_depth;

// Reads DIR/manifest.json and checks it and its files; tells `beat` (or NULL) of every block that is read.
lw_status lw_manifest_read(const char *dir, lw_manifest_depth depth, const lw_beat *beat, lw_error *err,
                           lw_checkpoint_info *info_out);

// --- checkpoint_store.c: the directories of a run's checkpoints
typedef struct lw_checkpoint_entry {
    int64_t step;
    bool old; // step-N.old: N before it was written again
    char name[40];
} lw_checkpoint_entry;

void lw_checkpoint_name(int64_t step, char out[40]); // "step-000120"
bool lw_checkpoint_is_name(const char *name);        // of a finished checkpoint
// Newest first, of one step the newer first; none when the directory is absent. The caller frees *out.
lw_status lw_checkpoint_list(const char *checkpoints_dir, lw_error *err, lw_checkpoint_entry **out, int64_t *count);
// Removes what a crash left half-made, and puts back a checkpoint whose replacement did not come.
lw_status lw_checkpoint_tidy(const char *checkpoints_dir, lw_error *err);
// Makes the folder where it is missing; its parent must be there: a run directory that went away does not come back
// empty.
lw_status lw_checkpoint_make_folder(const char *checkpoints_dir, lw_error *err);
// Puts the finished DIR/TMP_NAME in place as DIR/NAME, durably. One that was there is gone afterwards, not before.
lw_status lw_checkpoint_install(const char *checkpoints_dir, const char *tmp_name, const char *name, lw_error *err);
// Removes DIR/NAME in such a way that a half-removed one is never taken for a checkpoint.
lw_status lw_checkpoint_discard(const char *checkpoints_dir, const char *name, lw_error *err);
lw_status lw_remove_tree(const char *path, lw_error *err); // LW_OK when there is nothing

// --- checkpoint_retain.c
// Makes RUN/latest name the checkpoint of `step`, which is in place, and RUN/best the best one; then removes what is
// not kept. What fails is a warning.
void lw_checkpoint_retain(const char *run_dir, int64_t step, const lw_checkpoint_retention *retention,
                          lw_checkpoint_warn warn, void *context);
// The name in RUN/NAME (`latest`, `best`); "" where the file is absent or holds no checkpoint's name.
void lw_checkpoint_read_mark(const char *run_dir, const char *mark, char out[40]);

#endif
