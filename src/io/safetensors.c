// safetensors.c: opening, the sharded index, and look-up. The header of each file is read in safetensors_header.c.
#include "io/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/files.h"
#include "io/json.h"
#include "io/safetensors_internal.h"

enum { MAX_INDEX_BYTES = 100000000, MAX_SHARDS = 10000 };

static lw_status map_file(lw_shard *s, lw_error *err)
{
    int fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return lw_fail_errno(err, LW_ERR_IO, errno, "%s: cannot open", s->path);
    }
    lw_status status = LW_OK;
    struct stat st;
    if (fstat(fd, &st) != 0) {
        status = lw_fail_errno(err, LW_ERR_IO, errno, "%s: cannot stat", s->path);
    } else if (!S_ISREG(st.st_mode)) {
        status = lw_fail(err, LW_ERR_IO, "%s: not a regular file", s->path);
    } else if (st.st_size < 8) {
        status = lw_fail(err, LW_ERR_FORMAT, "%s: %lld bytes are too few for a safetensors file; empty or truncated",
                         s->path, (long long)st.st_size);
    } else {
        void *base = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (base == MAP_FAILED) {
            status = lw_fail_errno(err, LW_ERR_IO, errno, "%s: cannot map", s->path);
        } else {
            s->base = base;
            s->bytes = (size_t)st.st_size;
        }
    }
    close(fd);
    return status;
}

// Takes path, which is freed with the file (also on failure).
static lw_status add_shard(lw_safetensors *file, char *path, lw_error *err)
{
    lw_shard *s = &file->shards[file->shard_count++];
    s->path = path;
    LW_TRY(map_file(s, err));
    return lw_safetensors_read_header(file, file->shard_count - 1, err);
}

// --- names

static int by_name(const void *a, const void *b)
{
    return strcmp(((const lw_tensor_entry *)a)->name, ((const lw_tensor_entry *)b)->name);
}

static lw_status sort_entries(lw_safetensors *file, lw_error *err)
{
    if (file->count > 0) {
        qsort(file->entries, (size_t)file->count, sizeof *file->entries, by_name);
    }
    for (int64_t i = 1; i < file->count; i++) {
        const lw_tensor_entry *e = &file->entries[i];
        if (strcmp(e[-1].name, e->name) == 0) {
            char label[LW_TENSOR_LABEL_BYTES];
            return lw_fail(err, LW_ERR_FORMAT, "tensor %s is in both %s and %s",
                           lw_printable(e->name, label, sizeof label), file->shards[e[-1].shard].path,
                           file->shards[e->shard].path);
        }
    }
    return LW_OK;
}

static int name_against_entry(const void *name, const void *e)
{
    return strcmp(name, ((const lw_tensor_entry *)e)->name);
}

static const lw_tensor_entry *find_entry(const lw_safetensors *file, const char *name)
{
    if (file->count == 0) {
        return NULL;
    }
    return bsearch(name, file->entries, (size_t)file->count, sizeof *file->entries, name_against_entry);
}

// --- a directory with an index

// Collects the distinct shard names of the index as the keys of an object, each with its number.
static lw_status list_shards(const char *index_path, json_t *map, lw_error *err, json_t *shards)
{
    const char *tensor = NULL;
    json_t *value = NULL;
    json_object_foreach(map, tensor, value)
    {
        char label[LW_TENSOR_LABEL_BYTES];
        char shown[LW_TENSOR_LABEL_BYTES];
        lw_printable(tensor, label, sizeof label);
        if (!json_is_string(value)) {
            return lw_fail(err, LW_ERR_FORMAT, "%s: weight_map: the file of tensor %s is not a string", index_path,
                           label);
        }
        const char *name = json_string_value(value);
        if (!lw_path_is_plain_name(name)) {
            return lw_fail(err, LW_ERR_FORMAT,
                           "%s: weight_map: the file \"%s\" of tensor %s is not a name in the directory", index_path,
                           lw_printable(name, shown, sizeof shown), label);
        }
        json_int_t number = (json_int_t)json_object_size(shards);
        if (json_object_get(shards, name) == NULL && json_object_set_new(shards, name, json_integer(number)) != 0) {
            return lw_fail(err, LW_ERR_MEMORY, "%s: out of memory", index_path);
        }
    }
    if (json_object_size(shards) == 0 || json_object_size(shards) > MAX_SHARDS) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: weight_map names %zu files, expected 1 to %d", index_path,
                       json_object_size(shards), MAX_SHARDS);
    }
    return LW_OK;
}

static lw_status open_shards(lw_safetensors *file, json_t *shards, lw_error *err)
{
    file->shards = calloc(json_object_size(shards), sizeof *file->shards);
    if (file->shards == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "%s: out of memory", file->path);
    }
    const char *name = NULL;
    json_t *number = NULL;
    json_object_foreach(shards, name, number)
    { // jansson iterates in order of insertion, which is that of the numbers
        char *path = NULL;
        LW_TRY(lw_path_join(file->path, name, err, &path));
        LW_TRY(add_shard(file, path, err));
    }
    return LW_OK;
}

// Checks that every tensor is in the shard that the index names for it.
static lw_status check_index(const lw_safetensors *file, const char *index_path, json_t *map, const json_t *shards,
                             lw_error *err)
{
    const char *tensor = NULL;
    json_t *value = NULL;
    json_object_foreach(map, tensor, value)
    {
        int64_t number = json_integer_value(json_object_get(shards, json_string_value(value)));
        const lw_tensor_entry *e = find_entry(file, tensor);
        if (e == NULL || e->shard != number) {
            char label[LW_TENSOR_LABEL_BYTES];
            return lw_fail(err, LW_ERR_FORMAT, "%s: weight_map: tensor %s is not in %s", index_path,
                           lw_printable(tensor, label, sizeof label), file->shards[number].path);
        }
    }
    return LW_OK;
}

static lw_status open_index(lw_safetensors *file, const char *index_path, lw_error *err)
{
    json_t *root = NULL;
    LW_TRY(lw_json_read_file(index_path, MAX_INDEX_BYTES, LW_JSON_REJECT_DUPLICATES, err, &root));
    lw_status status = LW_OK;
    json_t *shards = json_object();
    if (shards == NULL) {
        LW_TRY_GOTO(lw_fail(err, LW_ERR_MEMORY, "%s: out of memory", index_path));
    }
    const lw_json at = {.object = root, .where = index_path, .parent = ""};
    const json_t *checked = NULL;
    LW_TRY_GOTO(lw_json_child(&at, "weight_map", err, &checked));
    json_t *map = json_object_get(root, "weight_map"); // the same object as above; iterating needs a non-const pointer
    LW_TRY_GOTO(list_shards(index_path, map, err, shards));
    LW_TRY_GOTO(open_shards(file, shards, err));
    LW_TRY_GOTO(sort_entries(file, err));
    LW_TRY_GOTO(check_index(file, index_path, map, shards, err));
done:
    json_decref(shards);
    json_decref(root);
    return status;
}

// --- opening

static lw_status open_single(lw_safetensors *file, const char *path, lw_error *err)
{
    file->shards = calloc(1, sizeof *file->shards);
    char *copy = strdup(path);
    if (file->shards == NULL || copy == NULL) {
        free(copy);
        return lw_fail(err, LW_ERR_MEMORY, "%s: out of memory", path);
    }
    LW_TRY(add_shard(file, copy, err));
    return sort_entries(file, err);
}

static lw_status open_directory(lw_safetensors *file, lw_error *err)
{
    char *single = NULL;
    char *index_path = NULL;
    lw_status status = lw_path_join(file->path, "model.safetensors", err, &single);
    if (status == LW_OK) {
        status = lw_path_join(file->path, "model.safetensors.index.json", err, &index_path);
    }
    if (status == LW_OK) {
        if (access(single, F_OK) == 0) {
            status = open_single(file, single, err);
        } else if (access(index_path, F_OK) == 0) {
            status = open_index(file, index_path, err);
        } else {
            status = lw_fail(err, LW_ERR_IO,
                             "%s: holds neither model.safetensors nor model.safetensors.index.json; give a Hugging "
                             "Face model directory with safetensors weights (other formats are not read)",
                             file->path);
        }
    }
    free(single);
    free(index_path);
    return status;
}

lw_status lw_safetensors_open(const char *path, lw_error *err, lw_safetensors **out)
{
    lw_safetensors *file = calloc(1, sizeof *file);
    if (file == NULL || (file->path = strdup(path)) == NULL) {
        free(file);
        return lw_fail(err, LW_ERR_MEMORY, "%s: out of memory", path);
    }
    lw_status status = lw_path_is_dir(path) ? open_directory(file, err) : open_single(file, path, err);
    if (status != LW_OK) {
        lw_safetensors_close(&file);
        return status;
    }
    *out = file;
    return LW_OK;
}

void lw_safetensors_close(lw_safetensors **file)
{
    lw_safetensors *f = *file;
    if (f == NULL) {
        return;
    }
    for (int64_t i = 0; i < f->count; i++) {
        free(f->entries[i].name);
    }
    for (int64_t i = 0; i < f->shard_count; i++) {
        if (f->shards[i].base != NULL) {
            munmap(f->shards[i].base, f->shards[i].bytes);
        }
        json_decref(f->shards[i].metadata);
        free(f->shards[i].path);
    }
    free(f->entries);
    free(f->shards);
    free(f->path);
    free(f);
    *file = NULL;
}

// --- looking up

int64_t lw_safetensors_count(const lw_safetensors *file)
{
    return file->count;
}

const lw_tensor_view *lw_safetensors_at(const lw_safetensors *file, int64_t i)
{
    return &file->entries[i].view;
}

const lw_tensor_view *lw_safetensors_find(const lw_safetensors *file, const char *name)
{
    const lw_tensor_entry *e = find_entry(file, name);
    return e == NULL ? NULL : &e->view;
}

const char *lw_safetensors_path(const lw_safetensors *file)
{
    return file->path;
}

const char *lw_safetensors_metadata(const lw_safetensors *file, const char *key)
{
    for (int64_t i = 0; i < file->shard_count; i++) {
        const json_t *value = json_object_get(file->shards[i].metadata, key);
        if (value != NULL) {
            return json_string_value(value);
        }
    }
    return NULL;
}

// "(2, 3)"; a negative size shows as "any".
static const char *shape_text(int rank, const int64_t *dims, char *out, size_t out_bytes)
{
    size_t used = (size_t)snprintf(out, out_bytes, "(");
    for (int i = 0; i < rank && used < out_bytes; i++) {
        const char *comma = i > 0 ? ", " : "";
        int n = dims[i] < 0 ? snprintf(out + used, out_bytes - used, "%sany", comma)
                            : snprintf(out + used, out_bytes - used, "%s%" PRId64, comma, dims[i]);
        used += (size_t)n;
    }
    if (used < out_bytes) {
        snprintf(out + used, out_bytes - used, ")");
    }
    return out;
}

lw_status lw_safetensors_require(const lw_safetensors *file, const char *name, int rank, const int64_t *dims,
                                 lw_error *err, const lw_tensor_view **out)
{
    const lw_tensor_view *view = lw_safetensors_find(file, name);
    if (view == NULL) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: tensor %s is missing", file->path, name);
    }
    bool same = view->rank == rank;
    for (int i = 0; same && i < rank; i++) {
        same = dims[i] < 0 || view->dims[i] == dims[i];
    }
    if (!same) {
        char expected[LW_MAX_DIMS * 24];
        char got[LW_MAX_DIMS * 24];
        return lw_fail(err, LW_ERR_FORMAT, "%s: tensor %s has shape %s, expected %s", file->path, name,
                       shape_text(view->rank, view->dims, got, sizeof got),
                       shape_text(rank, dims, expected, sizeof expected));
    }
    if (!view->known) {
        return lw_fail(err, LW_ERR_UNSUPPORTED, "%s: tensor %s has dtype %s; supported are F32, BF16, F16 and I32",
                       file->path, name, view->dtype_name);
    }
    *out = view;
    return LW_OK;
}
