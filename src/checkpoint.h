// checkpoint.h: the trainable state on disk.
//
//   RUN/checkpoints/step-000120/state.safetensors   param/NAME, adam_m/NAME, adam_v/NAME: F32, named views of the
//                                                   flat buffers, so unsharded and independent of the rank count
//   RUN/checkpoints/step-000120/manifest.json       what it is, with size and XXH64 of every file
//   RUN/latest                                      the name of the newest one ("step-000120"), for people
//
// Order of a write: step-N.tmp/, files, fsync of each, manifest, fsync, rename, fsync of checkpoints/, `latest`
// replaced atomically, then retention. A kill at any moment leaves the previous checkpoints as they were; what it
// leaves half-made (*.tmp) is removed by the next write. Reading trusts the manifests and not `latest`, and trusts
// nothing that it has not verified.
// All functions are Local: rank 0 writes; whoever loads broadcasts.
#ifndef LW_CHECKPOINT_H
#define LW_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "safetensors.h"
#include "status.h"

// One named tensor inside a flat buffer.
typedef struct lw_flat_view {
    const char *name; // without the "param/" of the file; unique
    int rank;
    int64_t dims[LW_MAX_DIMS];
    int64_t offset; // of its first element in the flat buffer, in elements
} lw_flat_view;

// The flat buffers of the trainable part, in host memory; the pointers are borrowed. Elements that no view covers
// (padding) are neither written nor read.
typedef struct lw_flat_state {
    const lw_flat_view *views; // (view_count)
    int64_t view_count;
    int64_t elements; // of each buffer
    float *param;     // (elements)
    float *adam_m;    // (elements); both moments NULL: parameters alone, for loading to evaluate
    float *adam_v;    // (elements)
} lw_flat_state;

enum { LW_CHECKPOINT_MAX_MODELS = 16 };

typedef struct lw_checkpoint_model {
    char name[64];           // `models[i].name`
    uint64_t weights_hash;   // of the frozen weights
    uint64_t tokenizer_hash; // of tokenizer.json
} lw_checkpoint_model;

// What a manifest says beside the list of files. Order and randomness are functions of (seed, step), so these and the
// buffers are all that exact resume needs.
typedef struct lw_checkpoint_info {
    int64_t step;           // steps done, skipped ones included
    int64_t samples;        // seen so far
    int64_t epoch;          // that `samples` falls into, from 0
    int64_t skipped;        // steps skipped for non-finite numbers; optimizer updates = step - skipped
    int64_t skipped_in_row; // at the end of `step`
    double train_s;         // wall time of training so far, over all resumes
    uint64_t config_hash;
    uint64_t data_hash; // fingerprint of the training data
    int model_count;
    lw_checkpoint_model models[LW_CHECKPOINT_MAX_MODELS];
    char lwmpi_version[32];
    char created[32]; // UTC, "2025-01-31T12:00:00Z"; set by lw_checkpoint_write
} lw_checkpoint_info;

// Gets one sentence about something that was passed over or could not be cleaned up; no trailing newline.
typedef void (*lw_checkpoint_warn)(void *context, const char *message);

// Writes the state as RUN/checkpoints/step-N, N = info->step, over one of the same step if there is one (after a
// resume that lost its tail), and keeps the newest `keep` (>= 1). Checkpoints of later steps are removed too: they
// belong to a tail that this run has left behind. state->adam_m and adam_v are required.
// LW_ERR_IO names the file; the checkpoints from before are then untouched. A clean-up that fails is a warning.
lw_status lw_checkpoint_write(const char *run_dir, const lw_checkpoint_info *info, const lw_flat_state *state, int keep,
                              lw_checkpoint_warn warn, void *warn_context, lw_error *err);

// Bytes that one checkpoint of this state takes on disk at most.
lw_status lw_checkpoint_bytes(const lw_flat_state *state, lw_error *err, int64_t *out);

// Loads the newest checkpoint of the run that verifies (manifest, sizes, hashes) into the buffers of `state`; says of
// every newer one why it was passed over. *found: false when there is none, and then nothing else was written.
// *path_out: the directory it came from (the caller frees), NULL when not found; may be NULL.
// A checkpoint that verifies but holds other tensors than `state` fails with LW_ERR_CONFIG naming the first difference
// (the configuration was changed): starting anew beside it would overwrite it.
lw_status lw_checkpoint_load_newest(const char *run_dir, const lw_flat_state *state, lw_checkpoint_warn warn,
                                    void *warn_context, lw_error *err, bool *found, lw_checkpoint_info *info_out,
                                    char **path_out);

// Verifies and loads one checkpoint directory (RUN/checkpoints/step-000120). On failure the buffers are untouched.
lw_status lw_checkpoint_load(const char *checkpoint_dir, const lw_flat_state *state, lw_error *err,
                             lw_checkpoint_info *info_out);

// Verifies manifest, sizes and hashes of one checkpoint directory. LW_ERR_FORMAT or LW_ERR_IO says what is wrong.
lw_status lw_checkpoint_verify(const char *checkpoint_dir, lw_error *err, lw_checkpoint_info *info_out);

// Turns what a person may mean by --checkpoint DIR (a checkpoint or a run directory) into a checkpoint directory: the
// newest that verifies for a run. The caller frees *out. LW_ERR_CONFIG when there is none.
lw_status lw_checkpoint_resolve(const char *path, lw_checkpoint_warn warn, void *warn_context, lw_error *err,
                                char **out);

// May training go on from `found` with what it has now? LW_ERR_CONFIG names the first of models, tokenizers and data
// that differs. The configuration hash is left to the caller: some keys may change.
lw_status lw_checkpoint_same_inputs(const lw_checkpoint_info *found, const lw_checkpoint_info *now, lw_error *err);

#endif
