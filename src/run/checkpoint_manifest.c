// checkpoint_manifest.c: manifest.json of a checkpoint: written, read, and checked against the files that it names.
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/clock.h"
#include "core/hash.h"
#include "io/atomic_file.h"
#include "io/files.h"
#include "io/json.h"
#include "run/checkpoint_internal.h"

enum { FORMAT_VERSION = 1, HASH_DIGITS = 16, MAX_FILES = 1024 };

static const size_t max_manifest_bytes = (size_t)1 << 20;
static const char format_name[] = "lwmpi checkpoint";
static const char self_key[] =
    "manifest_xxh64"; // hash of the rest of the manifest, so that a flipped bit in it is found too

// --- hashes as text

static json_t *hash_text(uint64_t hash)
{
    char text[HASH_DIGITS + 1];
    snprintf(text, sizeof text, "%016" PRIx64, hash);
    return json_string(text);
}

static lw_status get_hash(const lw_json *at, const char *key, lw_error *err, uint64_t *out)
{
    const char *text = NULL;
    LW_TRY(lw_json_string(at, key, err, &text));
    if (strlen(text) != HASH_DIGITS || strspn(text, "0123456789abcdef") != HASH_DIGITS) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: \"%s%s\" is not a hash of %d hexadecimal digits", at->where, at->parent,
                       key, HASH_DIGITS);
    }
    *out = strtoull(text, NULL, 16);
    return LW_OK;
}

// Older manifests lack some hashes.
static lw_status get_hash_or_0(const lw_json *at, const char *key, lw_error *err, uint64_t *out)
{
    const char *text = NULL;
    *out = 0;
    LW_TRY(lw_json_string_or(at, key, NULL, err, &text));
    return text != NULL ? get_hash(at, key, err, out) : LW_OK;
}

// The hash of the manifest without its own hash.
static lw_status hash_of_rest(const json_t *manifest, lw_error *err, uint64_t *out)
{
    json_t *rest = json_copy((json_t *)(uintptr_t)manifest); // jansson's copy takes a non-const pointer and only reads
    bool whole = rest != NULL && json_object_size(rest) ==
                                     json_object_size(manifest); // jansson drops members when it runs out of memory
    char *text = NULL;
    json_object_del(rest, self_key);
    lw_status status = lw_json_print(whole ? rest : NULL, JSON_COMPACT | JSON_SORT_KEYS, err, &text);
    if (status == LW_OK) {
        *out = lw_xxh64(text, strlen(text), 0);
    }
    free(text);
    json_decref(rest);
    return status;
}

// --- writing

// This and the next function return NULL when out of memory: a partial manifest is never written.
static json_t *models_to_json(const lw_checkpoint_info *info)
{
    json_t *models = json_array();
    for (int i = 0; i < info->model_count; i++) {
        const lw_checkpoint_model *model = &info->models[i];
        json_t *entry = json_pack("{s:s, s:o, s:o}", "name", model->name, "weights_hash",
                                  hash_text(model->weights_hash), "tokenizer_hash", hash_text(model->tokenizer_hash));
        if (json_array_append_new(models, entry) != 0) {
            json_decref(models);
            return NULL;
        }
    }
    return models;
}

static json_t *files_to_json(const lw_checkpoint_file *files, int count)
{
    json_t *object = json_object();
    for (int i = 0; i < count; i++) {
        json_t *entry =
            json_pack("{s:I, s:o}", "bytes", (json_int_t)files[i].bytes, "xxh64", hash_text(files[i].xxh64));
        if (json_object_set_new(object, files[i].name, entry) != 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

static json_t *to_json(const lw_checkpoint_info *info, const lw_checkpoint_file *files, int count)
{
    char created[LW_UTC_BYTES];
    lw_utc_now(created);
    return json_pack("{s:s, s:i, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "format",
                     format_name, "version", FORMAT_VERSION, "lwmpi_version", info->lwmpi_version, "created", created,
                     "step", (json_int_t)info->step, "samples", (json_int_t)info->samples, "epoch",
                     (json_int_t)info->epoch, "skipped", (json_int_t)info->skipped, "skipped_in_row",
                     (json_int_t)info->skipped_in_row, "train_s", info->train_s, "eval_nll",
                     isfinite(info->eval_nll) ? json_real(info->eval_nll) : json_null(), "eval_hash",
                     hash_text(info->eval_hash), "config_hash", hash_text(info->config_hash), "wire_hash",
                     hash_text(info->wire_hash), "data_hash", hash_text(info->data_hash), "models",
                     models_to_json(info), "files", files_to_json(files, count));
}

static lw_status print_manifest(json_t *manifest, lw_error *err, char **out)
{
    uint64_t hash = 0;
    LW_TRY(hash_of_rest(manifest, err, &hash));
    json_t *self = hash_text(hash);
    return lw_json_print(json_object_set_new(manifest, self_key, self) == 0 ? manifest : NULL, JSON_INDENT(2), err,
                         out);
}

lw_status lw_manifest_write(const char *dir, const lw_checkpoint_info *info, const lw_checkpoint_file *files, int count,
                            lw_error *err)
{
    char *text = NULL;
    json_t *manifest = to_json(info, files, count);
    lw_status status = print_manifest(manifest, err, &text);
    json_decref(manifest);
    if (status != LW_OK) {
        return lw_fail_in(err, status, "%s/%s", dir, LW_CHECKPOINT_MANIFEST);
    }
    char *path = NULL;
    status = lw_path_join(dir, LW_CHECKPOINT_MANIFEST, err, &path);
    if (status == LW_OK) {
        status = lw_write_file_atomic(path, text, strlen(text), err);
    }
    free(path);
    free(text);
    return status;
}

// --- reading

static lw_status copy_text(const lw_json *at, const char *key, char *out, size_t size, lw_error *err)
{
    const char *text = NULL;
    LW_TRY(lw_json_string(at, key, err, &text));
    if (strlen(text) >= size) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: \"%s%s\" is longer than %zu bytes", at->where, at->parent, key,
                       size - 1);
    }
    if (!lw_is_printable(text)) { // it is listed on terminals
        return lw_fail(err, LW_ERR_FORMAT, "%s: \"%s%s\" holds control characters: \"%s\"", at->where, at->parent, key,
                       text);
    }
    memcpy(out, text, strlen(text) + 1);
    return LW_OK;
}

static lw_status read_models(const lw_json *at, lw_error *err, lw_checkpoint_info *info)
{
    const json_t *models = NULL;
    LW_TRY(lw_json_array(at, "models", err, &models));
    size_t count = json_array_size(models);
    if (count > LW_CHECKPOINT_MAX_MODELS) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: %zu models, at most %d are supported", at->where, count,
                       LW_CHECKPOINT_MAX_MODELS);
    }
    for (size_t i = 0; i < count; i++) {
        lw_json model;
        LW_TRY(lw_json_object_at(json_array_get(models, i), at->where, "models[].", err, &model));
        LW_TRY(copy_text(&model, "name", info->models[i].name, sizeof info->models[i].name, err));
        LW_TRY(get_hash(&model, "weights_hash", err, &info->models[i].weights_hash));
        LW_TRY(get_hash(&model, "tokenizer_hash", err, &info->models[i].tokenizer_hash));
    }
    info->model_count = (int)count;
    return LW_OK;
}

static lw_status read_info(const lw_json *at, lw_error *err, lw_checkpoint_info *info)
{
    LW_TRY(copy_text(at, "lwmpi_version", info->lwmpi_version, sizeof info->lwmpi_version, err));
    LW_TRY(copy_text(at, "created", info->created, sizeof info->created, err));
    LW_TRY(lw_json_int(at, "step", 0, INT64_MAX, err, &info->step));
    LW_TRY(lw_json_int(at, "samples", 0, INT64_MAX, err, &info->samples));
    LW_TRY(lw_json_int(at, "epoch", 0, INT64_MAX, err, &info->epoch));
    LW_TRY(lw_json_int(at, "skipped", 0, info->step, err, &info->skipped));
    LW_TRY(lw_json_int(at, "skipped_in_row", 0, info->skipped, err, &info->skipped_in_row));
    LW_TRY(lw_json_double(at, "train_s", 0.0, 1e12, err, &info->train_s));
    LW_TRY(lw_json_double_or(at, "eval_nll", -1e12, 1e12, (double)NAN, err, &info->eval_nll));
    LW_TRY(get_hash_or_0(at, "eval_hash", err, &info->eval_hash));
    LW_TRY(get_hash(at, "config_hash", err, &info->config_hash));
    LW_TRY(get_hash_or_0(at, "wire_hash", err, &info->wire_hash));
    LW_TRY(get_hash(at, "data_hash", err, &info->data_hash));
    return read_models(at, err, info);
}

static lw_status check_contents(const char *path, int64_t bytes, uint64_t hash, lw_manifest_depth depth,
                                const lw_heartbeat *heartbeat, lw_error *err)
{
    struct stat file;
    if (lstat(path, &file) != 0) {
        return lw_fail_errno(err, LW_ERR_IO, errno, "%s cannot be read", path);
    }
    if (!S_ISREG(file.st_mode)) {
        return lw_fail(err, LW_ERR_FORMAT, "%s is not a regular file", path);
    }
    if (file.st_size != bytes) {
        return lw_fail(err, LW_ERR_FORMAT, "%s has %lld bytes, its manifest says %lld", path, (long long)file.st_size,
                       (long long)bytes);
    }
    if (depth < LW_MANIFEST_HASHES) {
        return LW_OK;
    }
    uint64_t found_hash = 0;
    int64_t found_bytes = 0;
    LW_TRY(lw_file_xxh64(path, heartbeat, err, &found_hash, &found_bytes));
    if (found_hash != hash || found_bytes != bytes) {
        return lw_fail(err, LW_ERR_FORMAT, "%s is damaged: its hash is %016" PRIx64 ", its manifest says %016" PRIx64,
                       path, found_hash, hash);
    }
    return LW_OK;
}

// Checks one row of "files".
static lw_status check_file(const char *dir, const char *name, const lw_json *at, lw_manifest_depth depth,
                            const lw_heartbeat *heartbeat, lw_error *err, int64_t *total_bytes)
{
    int64_t bytes = 0;
    uint64_t hash = 0;
    LW_TRY(lw_json_int(at, "bytes", 0, INT64_MAX, err, &bytes));
    LW_TRY(get_hash(at, "xxh64", err, &hash));
    if (__builtin_add_overflow(*total_bytes, bytes, total_bytes)) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: the sizes of the files exceed 2^63 bytes", at->where);
    }
    if (depth == LW_MANIFEST_ALONE) {
        return LW_OK;
    }
    char *path = NULL;
    LW_TRY(lw_path_join(dir, name, err, &path));
    lw_status status = check_contents(path, bytes, hash, depth, heartbeat, err);
    free(path);
    return status;
}

static lw_status check_files(const char *dir, const lw_json *at, lw_manifest_depth depth, const lw_heartbeat *heartbeat,
                             lw_error *err, int64_t *total_bytes)
{
    const json_t *files = NULL;
    LW_TRY(lw_json_child(at, "files", err, &files));
    if (json_object_size(files) > MAX_FILES || json_object_get(files, LW_CHECKPOINT_STATE) == NULL) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: \"files\" does not name " LW_CHECKPOINT_STATE " and at most %d more",
                       at->where, MAX_FILES - 1);
    }
    const char *name = NULL;
    json_t *value = NULL;
    *total_bytes = 0;
    json_object_foreach((json_t *)(uintptr_t)files, name, value)
    { // the macro takes a non-const pointer and only reads
        if (!lw_path_is_plain_name(name)) {
            char shown[64];
            return lw_fail(err, LW_ERR_FORMAT, "%s: \"files\" names \"%s\", which is not in the checkpoint's directory",
                           at->where, lw_printable(name, shown, sizeof shown));
        }
        lw_json file;
        LW_TRY(lw_json_object_at(value, at->where, "files{}.", err, &file));
        LW_TRY(check_file(dir, name, &file, depth, heartbeat, err, total_bytes));
    }
    return LW_OK;
}

static lw_status check_manifest(const char *dir, const char *path, const json_t *manifest, lw_manifest_depth depth,
                                const lw_heartbeat *heartbeat, lw_error *err, lw_checkpoint_info *info)
{
    lw_json at;
    LW_TRY(lw_json_object_at(manifest, path, "", err, &at));
    const char *format = NULL;
    int64_t version = 0;
    uint64_t recorded = 0;
    uint64_t hash = 0;
    LW_TRY(lw_json_string(&at, "format", err, &format));
    if (strcmp(format, format_name) != 0) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: this is no manifest of an %s", path, format_name);
    }
    LW_TRY(lw_json_int(&at, "version", 1, INT32_MAX, err, &version));
    if (version != FORMAT_VERSION) {
        return lw_fail(err, LW_ERR_UNSUPPORTED, "%s: format version %lld, this lwmpi reads version %d", path,
                       (long long)version, FORMAT_VERSION);
    }
    LW_TRY(get_hash(&at, self_key, err, &recorded));
    lw_status status = hash_of_rest(manifest, err, &hash);
    if (status != LW_OK) {
        return lw_fail_in(err, status, "%s", path);
    }
    if (hash != recorded) {
        return lw_fail(err, LW_ERR_FORMAT, "%s is damaged: its hash is %016" PRIx64 ", it says %016" PRIx64, path, hash,
                       recorded);
    }
    LW_TRY(read_info(&at, err, info));
    return check_files(dir, &at, depth, heartbeat, err, &info->bytes);
}

lw_status lw_manifest_read(const char *dir, lw_manifest_depth depth, const lw_heartbeat *heartbeat, lw_error *err,
                           lw_checkpoint_info *info_out)
{
    char *path = NULL;
    json_t *manifest = NULL;
    lw_checkpoint_info info = {0};
    LW_TRY(lw_path_join(dir, LW_CHECKPOINT_MANIFEST, err, &path));
    lw_status status = lw_json_read_file(path, max_manifest_bytes, LW_JSON_REJECT_DUPLICATES, err, &manifest);
    lw_heartbeat_report(heartbeat);
    if (status == LW_OK) {
        status = check_manifest(dir, path, manifest, depth, heartbeat, err, &info);
    }
    if (status == LW_OK) {
        *info_out = info;
    }
    json_decref(manifest);
    free(path);
    return status;
}
