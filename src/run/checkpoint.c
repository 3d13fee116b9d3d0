// checkpoint.c: writes a checkpoint, and finds and loads the newest that verifies.
#include "run/checkpoint.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/files.h"
#include "run/checkpoint_internal.h"

enum { BUFFERS = 3, TENSOR_NAME_BYTES = 256 };

static const char *const buffer_names[BUFFERS] = {"param", "adam_m", "adam_v"};

static float *buffer_of(const lw_flat_state *state, int b)
{
    float *const buffers[BUFFERS] = {state->param, state->adam_m, state->adam_v};
    return buffers[b];
}

static lw_status tensor_name(int b, const lw_flat_view *view, char out[TENSOR_NAME_BYTES], lw_error *err)
{
    int n = snprintf(out, TENSOR_NAME_BYTES, "%s/%s", buffer_names[b], view->name);
    if (n < 0 || n >= TENSOR_NAME_BYTES) {
        return lw_fail(err, LW_ERR_INTERNAL, "the tensor name \"%.64s...\" is too long for a checkpoint", view->name);
    }
    return LW_OK;
}

// The views come from the program and not from a file, so an error here is a defect of the program.
static lw_status check_views(const lw_flat_state *state, lw_error *err)
{
    for (int64_t i = 0; i < state->view_count; i++) {
        const lw_flat_view *view = &state->views[i];
        int64_t elements = 1;
        bool fits = view->rank >= 0 && view->rank <= LW_MAX_DIMS && view->offset >= 0;
        for (int d = 0; fits && d < view->rank; d++) {
            fits = view->dims[d] >= 0 && !__builtin_mul_overflow(elements, view->dims[d], &elements);
        }
        if (!fits || view->offset > state->elements || elements > state->elements - view->offset) {
            return lw_fail(err, LW_ERR_INTERNAL, "the view \"%s\" is not inside the flat buffer of %lld elements",
                           view->name, (long long)state->elements);
        }
    }
    return LW_OK;
}

// --- writing

typedef struct source_list {
    lw_tensor_source *list;
    char (*names)[TENSOR_NAME_BYTES];
    int64_t count;
} source_list;

static void free_sources(source_list *sources)
{
    free(sources->list);
    free(sources->names);
}

static lw_status make_sources(const lw_flat_state *state, lw_error *err, source_list *out)
{
    out->count = BUFFERS * state->view_count;
    size_t room = out->count > 0 ? (size_t)out->count : 1;
    out->list = calloc(room, sizeof *out->list);
    out->names = calloc(room, sizeof *out->names);
    if (out->list == NULL || out->names == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the tensor list of a checkpoint");
    }
    int64_t n = 0;
    for (int b = 0; b < BUFFERS; b++) {
        for (int64_t i = 0; i < state->view_count; i++, n++) {
            const lw_flat_view *view = &state->views[i];
            LW_TRY(tensor_name(b, view, out->names[n], err));
            out->list[n] = (lw_tensor_source){
                .name = out->names[n], .dtype = LW_F32, .rank = view->rank, .data = buffer_of(state, b) + view->offset};
            memcpy(out->list[n].dims, view->dims, sizeof view->dims);
        }
    }
    return LW_OK;
}

static lw_status write_state(const char *path, const lw_checkpoint_info *info, const lw_flat_state *state,
                             lw_error *err)
{
    char step[24];
    snprintf(step, sizeof step, "%lld", (long long)info->step);
    const char *const metadata[] = {"format", "lwmpi checkpoint", "step", step, NULL};
    source_list sources = {0};
    lw_status status = make_sources(state, err, &sources);
    if (status == LW_OK) {
        status = lw_safetensors_write(path, sources.list, sources.count, metadata, err);
    }
    free_sources(&sources);
    return status;
}

// Makes and fills the directory; when it returns, all of it is on the disk.
static lw_status fill(const char *dir, const lw_checkpoint_info *info, const lw_flat_state *state, lw_error *err)
{
    if (mkdir(dir, LW_DIR_MODE) != 0) {
        return lw_fail_errno(err, LW_ERR_IO, errno, "%s cannot be made", dir);
    }
    char *path = NULL;
    LW_TRY(lw_path_join(dir, LW_CHECKPOINT_STATE, err, &path));
    lw_checkpoint_file file = {.name = LW_CHECKPOINT_STATE};
    lw_status status = write_state(path, info, state, err);
    if (status == LW_OK) {
        status = lw_file_xxh64(path, NULL, err, &file.xxh64, &file.bytes);
    }
    if (status == LW_OK) {
        status = lw_manifest_write(dir, info, &file, 1, err);
    }
    free(path);
    return status;
}

static lw_status write_in(const char *checkpoints, const lw_checkpoint_info *info, const lw_flat_state *state,
                          const char *name, lw_error *err)
{
    char tmp_name[48];
    char *tmp = NULL;
    snprintf(tmp_name, sizeof tmp_name, "%s.tmp", name);
    LW_TRY(lw_path_join(checkpoints, tmp_name, err, &tmp));
    lw_status status = lw_checkpoint_make_folder(checkpoints, err);
    if (status == LW_OK) {
        status = lw_checkpoint_tidy(checkpoints, err);
    }
    if (status == LW_OK) {
        status = fill(tmp, info, state, err);
        if (status == LW_OK) {
            status = lw_checkpoint_install(checkpoints, tmp_name, name, err);
        }
        if (status != LW_OK) {
            lw_error ignored; // the first failure is the one to report
            lw_remove_tree(tmp, &ignored);
        }
    }
    free(tmp);
    return status;
}

lw_status lw_checkpoint_write(const char *run_dir, const lw_checkpoint_info *info, const lw_flat_state *state,
                              const lw_checkpoint_retention *retention, lw_checkpoint_warn warn, void *warn_context,
                              lw_error *err)
{
    if (info->step < 0 || info->model_count < 0 || info->model_count > LW_CHECKPOINT_MAX_MODELS ||
        state->adam_m == NULL || state->adam_v == NULL || retention->keep < 1) {
        return lw_fail(err, LW_ERR_INTERNAL, "a checkpoint needs a step, both moments and at most %d models",
                       LW_CHECKPOINT_MAX_MODELS);
    }
    LW_TRY(check_views(state, err));
    char name[40];
    lw_checkpoint_name(info->step, name);
    char *checkpoints = NULL;
    LW_TRY(lw_path_join(run_dir, "checkpoints", err, &checkpoints));
    lw_status status = write_in(checkpoints, info, state, name, err);
    free(checkpoints);
    if (status != LW_OK) {
        return lw_fail_in(err, status, "checkpoint of step %lld not written, earlier ones are untouched",
                          (long long)info->step);
    }
    lw_checkpoint_retain(run_dir, info->step, retention, warn, warn_context);
    return LW_OK;
}

lw_status lw_checkpoint_bytes(const lw_flat_state *state, lw_error *err, int64_t *out)
{
    enum { MANIFEST_BYTES = 8192, ENTRY_BYTES = 64, NUMBER_BYTES = 21 };
    LW_TRY(check_views(state, err));
    int64_t total = MANIFEST_BYTES;
    for (int64_t i = 0; i < state->view_count; i++) {
        const lw_flat_view *view = &state->views[i];
        int64_t elements = 1;
        for (int d = 0; d < view->rank; d++) {
            elements *= view->dims[d];
        }
        total += BUFFERS * ((int64_t)sizeof(float) * elements + (int64_t)strlen(view->name) + ENTRY_BYTES +
                            NUMBER_BYTES * (view->rank + 2));
    }
    *out = total;
    return LW_OK;
}

// --- loading

// The file is verified, so when it does not fit this run, the configuration has changed.
static lw_status other_shapes(const char *dir, lw_error *err)
{
    return lw_fail_in(
        err, LW_ERR_CONFIG,
        "the checkpoint %s does not fit this configuration (encoder, wire or models were changed: restore "
        "them or choose another run.dir)",
        dir);
}

static lw_status check_count(const lw_safetensors *file, const lw_flat_state *state, lw_error *err)
{
    int64_t expected = BUFFERS * state->view_count;
    int64_t found = lw_safetensors_count(file);
    if (found != expected) {
        return lw_fail(err, LW_ERR_FORMAT, "it holds %lld tensors, this run has %lld", (long long)found,
                       (long long)expected);
    }
    return LW_OK;
}

// One pass over the tensors. The first pass checks them all, so that the second, which copies, cannot fail half-way.
static lw_status visit(const lw_safetensors *file, const lw_flat_state *state, bool copy, lw_error *err)
{
    for (int b = 0; b < BUFFERS; b++) {
        float *buffer = buffer_of(state, b);
        for (int64_t i = 0; i < state->view_count; i++) {
            const lw_flat_view *view = &state->views[i];
            const lw_tensor_view *tensor = NULL;
            char name[TENSOR_NAME_BYTES];
            LW_TRY(tensor_name(b, view, name, err));
            LW_TRY(lw_safetensors_require(file, name, view->rank, view->dims, err, &tensor));
            if (!tensor->known || tensor->dtype != LW_F32) {
                return lw_fail(err, LW_ERR_FORMAT, "tensor \"%s\" is %s, not F32", name, tensor->dtype_name);
            }
            if (copy && buffer != NULL && tensor->bytes > 0) {
                memcpy(buffer + view->offset, tensor->data, tensor->bytes);
                lw_heartbeat_report(&state->heartbeat);
            }
        }
    }
    return LW_OK;
}

// Loads the tensors of a checkpoint whose files have been verified.
static lw_status load_verified(const char *dir, const lw_flat_state *state, lw_error *err)
{
    char *path = NULL;
    lw_safetensors *file = NULL;
    LW_TRY(lw_path_join(dir, LW_CHECKPOINT_STATE, err, &path));
    lw_status status = lw_safetensors_open(path, err, &file);
    free(path);
    LW_TRY(status);
    status = check_count(file, state, err);
    if (status == LW_OK) {
        status = visit(file, state, false, err);
    }
    if (status == LW_ERR_FORMAT) {
        status = other_shapes(dir, err);
    }
    if (status == LW_OK) {
        status = visit(file, state, true, err);
    }
    lw_safetensors_close(&file);
    return status;
}

lw_status lw_checkpoint_load(const char *checkpoint_dir, const lw_flat_state *state, lw_error *err,
                             lw_checkpoint_info *info_out)
{
    lw_checkpoint_info info;
    LW_TRY(check_views(state, err));
    LW_TRY(lw_manifest_read(checkpoint_dir, LW_MANIFEST_HASHES, &state->heartbeat, err, &info));
    LW_TRY(load_verified(checkpoint_dir, state, err));
    *info_out = info;
    return LW_OK;
}

lw_status lw_checkpoint_verify(const char *checkpoint_dir, lw_error *err, lw_checkpoint_info *info_out)
{
    return lw_manifest_read(checkpoint_dir, LW_MANIFEST_HASHES, NULL, err, info_out);
}

lw_status lw_checkpoint_describe(const char *checkpoint_dir, lw_error *err, lw_checkpoint_info *info_out)
{
    return lw_manifest_read(checkpoint_dir, LW_MANIFEST_ALONE, NULL, err, info_out);
}

// Verifies one of a run's checkpoints and loads it; with `state` NULL it only verifies.
static lw_status try_one(const char *dir, const lw_checkpoint_entry *entry, const lw_flat_state *state,
                         const lw_checkpoint_reader *reader, lw_error *err, lw_checkpoint_info *info)
{
    LW_TRY(lw_manifest_read(dir, LW_MANIFEST_HASHES, state != NULL ? &state->heartbeat : NULL, err, info));
    if (info->step != entry->step) {
        return lw_fail(err, LW_ERR_FORMAT, "its manifest is of step %lld", (long long)info->step);
    }
    if (reader->accept != NULL) {
        LW_TRY(reader->accept(reader->context, dir, info, err));
    }
    return state != NULL ? load_verified(dir, state, err) : LW_OK;
}

// Finds the newest checkpoint that can be used; *path_out is NULL when there is none. *passed: how many could not be.
static lw_status find_newest(const char *run_dir, const lw_flat_state *state, const lw_checkpoint_reader *reader,
                             lw_error *err, int64_t *passed, lw_checkpoint_info *info_out, char **path_out)
{
    char *checkpoints = NULL;
    lw_checkpoint_entry *entries = NULL;
    int64_t count = 0;
    int64_t bad = 0;
    char *found = NULL;
    LW_TRY(lw_path_join(run_dir, "checkpoints", err, &checkpoints));
    lw_status status = lw_checkpoint_list(checkpoints, err, &entries, &count);
    for (int64_t i = 0; status == LW_OK && found == NULL && i < count; i++) {
        char *dir = NULL;
        lw_checkpoint_info info;
        status = lw_path_join(checkpoints, entries[i].name, err, &dir);
        if (status == LW_OK) {
            status = try_one(dir, &entries[i], state, reader, err, &info);
            if (status == LW_OK) {
                *info_out = info;
                found = dir;
                dir = NULL;
            } else if (status != LW_ERR_CONFIG && status != LW_ERR_MEMORY && status != LW_ERR_INTERNAL) {
                (void)lw_fail_in(err, status, "checkpoint %s passed over", entries[i].name);
                if (reader->warn != NULL) {
                    reader->warn(reader->context, err->text);
                }
                bad++;
                status = LW_OK;
            }
        }
        free(dir);
    }
    free(entries);
    free(checkpoints);
    if (status == LW_OK) {
        *passed = bad;
        *path_out = found;
    }
    return status;
}

lw_status lw_checkpoint_load_newest(const char *run_dir, const lw_flat_state *state, const lw_checkpoint_reader *reader,
                                    lw_error *err, bool *found, lw_checkpoint_info *info_out, char **path_out)
{
    char *path = NULL;
    int64_t passed = 0;
    LW_TRY(check_views(state, err));
    LW_TRY(find_newest(run_dir, state, reader, err, &passed, info_out, &path));
    if (path == NULL && passed > 0) {
        return lw_fail(
            err, LW_ERR_CONFIG,
            "%s/checkpoints: none of the %lld checkpoints can be used (see above); to start anew give another "
            "run.dir, or move that folder away",
            run_dir, (long long)passed);
    }
    *found = path != NULL;
    if (path_out != NULL) {
        *path_out = path;
    } else {
        free(path);
    }
    return LW_OK;
}

lw_status lw_checkpoint_count(const char *run_dir, lw_error *err, int64_t *out)
{
    char *checkpoints = NULL;
    lw_checkpoint_entry *entries = NULL;
    LW_TRY(lw_path_join(run_dir, "checkpoints", err, &checkpoints));
    lw_status status = lw_checkpoint_list(checkpoints, err, &entries, out);
    free(entries);
    free(checkpoints);
    return status;
}

// The checkpoint that RUN/latest or RUN/best names.
static lw_status resolve_mark(const char *path, lw_error *err, char **out)
{
    char name[40];
    char below[64];
    char *run_dir = NULL;
    const char *slash = strrchr(path, '/');
    LW_TRY(lw_path_parent(path, err, &run_dir));
    lw_checkpoint_read_mark(run_dir, slash != NULL ? slash + 1 : path, name);
    snprintf(below, sizeof below, "checkpoints/%s", name);
    lw_status status =
        name[0] != '\0'
            ? lw_path_join(run_dir, below, err, out)
            : lw_fail(err, LW_ERR_CONFIG, "%s does not name a checkpoint: give a checkpoint or a run directory", path);
    free(run_dir);
    return status;
}

lw_status lw_checkpoint_resolve(const char *path, lw_checkpoint_warn warn, void *warn_context, lw_error *err,
                                char **out)
{
    const lw_checkpoint_reader reader = {.warn = warn, .context = warn_context};
    char *manifest = NULL;
    char *checkpoints = NULL;
    char *newest = NULL;
    int64_t passed = 0;
    lw_checkpoint_info info;
    if (lw_path_is_file(path)) {
        return resolve_mark(path, err, out);
    }
    lw_status status = lw_path_join(path, LW_CHECKPOINT_MANIFEST, err, &manifest);
    if (status == LW_OK) {
        status = lw_path_join(path, "checkpoints", err, &checkpoints);
    }
    if (status == LW_OK && lw_path_is_file(manifest)) {
        status = lw_path_join("", path, err, &newest); // a copy
    } else if (status == LW_OK && !lw_path_is_dir(checkpoints)) {
        status = lw_fail(err, LW_ERR_CONFIG,
                         "%s is neither a checkpoint (no " LW_CHECKPOINT_MANIFEST ") nor a run directory (no "
                         "checkpoints/): name a directory RUN/checkpoints/step-NNNNNN or a run directory",
                         path);
    } else if (status == LW_OK) {
        status = find_newest(path, NULL, &reader, err, &passed, &info, &newest);
        if (status == LW_OK && newest == NULL) {
            status = lw_fail(err, LW_ERR_CONFIG, "%s has no checkpoint that verifies: train first", path);
        }
    }
    free(manifest);
    free(checkpoints);
    if (status == LW_OK) {
        *out = newest;
    }
    return status;
}
