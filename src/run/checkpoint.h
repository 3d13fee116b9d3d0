// checkpoint.h: the trainable state on disk.
//
//   RUN/checkpoints/step-000120/state.safetensors   param/NAME, adam_m/NAME, adam_v/NAME: F32, named views of the
//                                                   flat buffers, so unsharded and independent of the rank count
//   RUN/checkpoints/step-000120/manifest.json       what it is, with size and XXH64 of every file
//   RUN/latest                                      the name of the newest one ("step-000120"), for people
//   RUN/best                                        the name of the one with the least held-out NLL, for people
//
// Order of a write: step-N.tmp/, files, fsync of each, manifest, fsync, rename, fsync of checkpoints/, `latest`
// replaced atomically, then retention. A kill at any moment leaves the previous checkpoints as they were; the next
// write removes what a kill left unfinished (*.tmp). Reading trusts the manifests and not `latest`, and trusts nothing
// that it has not verified. checkpoint_writer.h writes beside the step loop. Implemented by checkpoint.c (write, find,
// load), checkpoint_trial.c, checkpoint_retain.c (lw_checkpoint_known_free) and checkpoint_match.c
// (lw_checkpoint_same_*). All functions are Local: rank 0 writes; a rank that loads broadcasts.
#ifndef LW_CHECKPOINT_H
#define LW_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "core/heartbeat.h"
#include "core/status.h"
#include "device/params.h"
#include "io/safetensors.h"

enum { LW_CHECKPOINT_MAX_MODELS = LW_MAX_MODELS + 1 }; // frozen LLMs, and the encoder's

typedef struct lw_checkpoint_model {
    char name[LW_MODEL_NAME_MAX + 1]; // `models[i].name`
    uint64_t weights_hash;            // of the frozen weights
    uint64_t tokenizer_hash;          // of tokenizer.json
} lw_checkpoint_model;

// What a manifest holds beside the list of files. Order and randomness are functions of (seed, step), so an
// exact resume needs only these and the buffers.
typedef struct lw_checkpoint_info {
    int64_t step;           // steps done, skipped ones included
    int64_t samples;        // used so far
    int64_t epoch;          // the epoch that `samples` falls into, from 0
    int64_t skipped;        // steps skipped for non-finite numbers; optimizer updates = step - skipped
    int64_t skipped_in_row; // at the end of `step`
    double train_s;         // wall time of training so far, over all resumes
    double eval_nll;        // held-out NLL of an answer token through the wire, at `step`; NaN: not evaluated there
    uint64_t eval_hash;     // of what `eval_nll` is a figure of: only figures of the same are compared
    uint64_t config_hash;
    uint64_t wire_hash; // lw_config_wire_hash; 0: not known, of an older manifest
    uint64_t data_hash; // fingerprint of the training data
    int model_count;
    lw_checkpoint_model models[LW_CHECKPOINT_MAX_MODELS];
    char lwmpi_version[32];
    char created[32]; // UTC, "2025-01-31T12:00:00Z"; set by lw_checkpoint_write
    int64_t bytes;    // of all files that the manifest names; set by reading
} lw_checkpoint_info;

// Which checkpoints a process has verified, so that each is read once. All zero: none.
typedef struct lw_checkpoint_known {
    struct lw_checkpoint_verdict *list;
    int64_t count, capacity;
} lw_checkpoint_known;
void lw_checkpoint_known_free(lw_checkpoint_known *known);

// Which checkpoints stay when a new one is in place. One reason is enough.
typedef struct lw_checkpoint_retention {
    // The newest so many; at least 1. A checkpoint that does not verify, or that was taken while steps were being
    // skipped, does not count: it takes no other's place, and is removed when `keep` good ones are newer.
    int64_t keep;
    int64_t keep_every; // those whose step is a multiple of this; 0: none
    // The checkpoint with the least eval_nll among those that verify and have the newest one's eval_hash; RUN/best then
    // names it.
    bool keep_best;
    lw_checkpoint_known *known; // borrowed; NULL: verifies every time
} lw_checkpoint_retention;

// Receives one sentence about something that was passed over or could not be cleaned up; no trailing newline.
typedef void (*lw_checkpoint_warn)(void *context, const char *message);

// Writes the state as RUN/checkpoints/step-N, N = info->step, over one of the same step if there is one (after a
// resume that lost its tail), and removes what `retention` does not keep. Checkpoints of later steps are removed too:
// they belong to a tail that this run has left behind. state->adam_m and adam_v are required. RUN must be there.
// LW_ERR_IO names the file; earlier checkpoints are then untouched. A clean-up that fails is a warning.
lw_status lw_checkpoint_write(const char *run_dir, const lw_checkpoint_info *info, const lw_flat_state *state,
                              const lw_checkpoint_retention *retention, lw_checkpoint_warn warn, void *warn_context,
                              lw_error *err);

// Writes `bytes` bytes into RUN/checkpoints the way a checkpoint is written (real bytes, fsync, renames of a file over
// a file and of a directory, fsync of the folder) and removes them again: a disk that is full, over quota, read-only or
// without atomic renames is found before any work is done. *free_bytes: what the file system still offers this user.
// The text of LW_ERR_IO names the bytes that are needed.
lw_status lw_checkpoint_trial(const char *run_dir, int64_t bytes, lw_error *err, int64_t *free_bytes);

// Bytes that one checkpoint of this state takes on disk at most.
lw_status lw_checkpoint_bytes(const lw_flat_state *state, lw_error *err, int64_t *out);

// Called for each checkpoint that verifies, before it is loaded: LW_OK takes it; LW_ERR_CONFIG, LW_ERR_MEMORY and
// LW_ERR_INTERNAL end the search; any other status passes it over with err->text as the reason.
typedef lw_status (*lw_checkpoint_accept)(void *context, const char *checkpoint_dir, const lw_checkpoint_info *info,
                                          lw_error *err);

typedef struct lw_checkpoint_reader { // all may be NULL
    lw_checkpoint_accept accept;
    lw_checkpoint_warn warn; // called for every newer checkpoint, with the reason why it was passed over
    void *context;           // of both
} lw_checkpoint_reader;

// Loads the newest checkpoint of the run that verifies (manifest, sizes, hashes) and is accepted into the buffers of
// `state`. *found: false when the run has none, and then nothing else was written. *path_out: the directory it came
// from (the caller frees), NULL when not found; may be NULL.
// LW_ERR_CONFIG when there are checkpoints but none can be used, or when one verifies but holds other tensors than
// `state` (the configuration was changed; the first difference is named): a fresh start beside them would overwrite
// them.
lw_status lw_checkpoint_load_newest(const char *run_dir, const lw_flat_state *state, const lw_checkpoint_reader *reader,
                                    lw_error *err, bool *found, lw_checkpoint_info *info_out, char **path_out);

// Number of finished checkpoints of the run, good or not: with 0 there is nothing to continue.
lw_status lw_checkpoint_count(const char *run_dir, lw_error *err, int64_t *out);

// Verifies and loads one checkpoint directory (RUN/checkpoints/step-000120). On failure the buffers are untouched.
lw_status lw_checkpoint_load(const char *checkpoint_dir, const lw_flat_state *state, lw_error *err,
                             lw_checkpoint_info *info_out);

// Verifies manifest, sizes and hashes of one checkpoint directory. The text of LW_ERR_FORMAT or LW_ERR_IO
// names what is wrong.
lw_status lw_checkpoint_verify(const char *checkpoint_dir, lw_error *err, lw_checkpoint_info *info_out);

// Reads the manifest alone and does not look at the files.
lw_status lw_checkpoint_describe(const char *checkpoint_dir, lw_error *err, lw_checkpoint_info *info_out);

// Turns what a person may mean by --checkpoint DIR (a checkpoint, RUN/latest, RUN/best or a run directory) into a
// checkpoint directory: the newest that verifies for a run. The caller frees *out. LW_ERR_CONFIG when there is none.
lw_status lw_checkpoint_resolve(const char *path, lw_checkpoint_warn warn, void *warn_context, lw_error *err,
                                char **out);

// Whether training may continue from `found` with the inputs of `now`. LW_ERR_CONFIG names the first of models,
// tokenizers and data that differs. The configuration hash is left to the caller: some keys may change.
lw_status lw_checkpoint_same_inputs(const lw_checkpoint_info *found, const lw_checkpoint_info *now, lw_error *err);

// Whether the trained parameters may be used with `config`. They mean what they meant in training only with the same
// values of the keys that lw_config_wire_hash covers and, where `models` is given, with the same models. LW_ERR_CONFIG
// lists what differs; the keys are listed as far as the configuration of the checkpoint's run still exists. With
// run.accept_changes the list is a warning instead.
lw_status lw_checkpoint_same_use(const char *checkpoint_dir, const lw_checkpoint_info *found, const lw_config *config,
                                 const lw_checkpoint_info *models, lw_checkpoint_warn warn, lw_error *err);

#endif
