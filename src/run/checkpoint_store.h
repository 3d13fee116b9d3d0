// checkpoint_store.h: the names of a run's checkpoints: directories below RUN/checkpoints, and the marks RUN/latest and
// RUN/best. All functions are Local.
#ifndef LW_CHECKPOINT_STORE_H
#define LW_CHECKPOINT_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

// Files of a checkpoint.
#define LW_CHECKPOINT_STATE "state.safetensors"
#define LW_CHECKPOINT_MANIFEST "manifest.json"

typedef struct lw_checkpoint_entry {
    int64_t step;
    bool old; // step-N.old: the checkpoint of step N from before it was written again
    char name[40];
} lw_checkpoint_entry;

void lw_checkpoint_name(int64_t step, char out[40]); // "step-000120"

// The finished checkpoints, newest first, and of one step the newer first; none when the directory is absent. The
// caller frees *out. LW_ERR_IO, LW_ERR_MEMORY.
lw_status lw_checkpoint_list(const char *checkpoints_dir, lw_error *err, lw_checkpoint_entry **out, int64_t *count);

// The name in RUN/MARK (`latest`, `best`); "" where the file is absent or holds no checkpoint's name.
void lw_checkpoint_read_mark(const char *run_dir, const char *mark, char out[40]);

#endif
