// wire_file.c: latents as a safetensors file, written and read back as untrusted input.
#include "wire/wire_file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/files.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "wire/quantise.h"

enum { MAX_TEXTS = 10000000 };

void lw_wire_set_free(lw_wire_set *set)
{
    for (int64_t i = 0; set->items != NULL && i < set->count; i++) {
        free(set->items[i].id);
        free(set->items[i].question);
    }
    free(set->items);
    free(set->z_start);
    free(set->data);
    *set = (lw_wire_set){0};
}

lw_status lw_wire_decode(const lw_wire_set *set, int64_t first, int64_t count, lw_error *err, float *out)
{
    int64_t row = set->z_start[first];
    int64_t row_bytes = lw_quantise_row_bytes(set->bits, set->d_z);
    return lw_quantise_decode(set->bits, set->z_start[first + count] - row, set->d_z, set->data + row * row_bytes, err,
                              out);
}

// --- writing

static lw_status items_text(const lw_wire_set *set, lw_error *err, char **out)
{
    json_t *items = json_array();
    bool made = items != NULL;
    for (int64_t i = 0; made && i < set->count; i++) {
        json_t *item = json_pack("{s:s, s:s*}", "id", set->items[i].id, "question", set->items[i].question);
        made = json_array_append_new(items, item) == 0;
    }
    lw_status status = lw_json_print(made ? items : NULL, JSON_COMPACT, err, out);
    json_decref(items);
    return status;
}

lw_status lw_wire_file_print(const lw_wire_set *set, FILE *out, const char *name, lw_error *err)
{
    char bits[8];
    char d_z[24];
    char encoder[17];
    char *items = NULL;
    bool packed = set->bits < 16;
    int64_t columns = packed ? lw_quantise_row_bytes(set->bits, set->d_z) : set->d_z;
    const lw_tensor_source tensors[] = {
        {.name = "latents",
         .dtype = set->bits == 32 ? LW_F32 : LW_F16,
         .bytes = packed,
         .rank = 2,
         .dims = {set->z_start[set->count], columns},
         .data = set->data},
        {.name = "z_start", .dtype = LW_I32, .rank = 1, .dims = {set->count + 1}, .data = set->z_start}};
    LW_TRY(items_text(set, err, &items));
    snprintf(bits, sizeof bits, "%d", (int)set->bits);
    snprintf(d_z, sizeof d_z, "%lld", (long long)set->d_z);
    snprintf(encoder, sizeof encoder, "%016" PRIx64, set->encoder);
    const char *const metadata[] = {"lwmpi_wire", "1",     "bits",     bits,
                                    "d_z",        d_z,     "compress", lw_compress_name(set->compress),
                                    "encoder",    encoder, "items",    items,
                                    NULL};
    lw_status status = lw_safetensors_print(out, name, tensors, 2, metadata, err);
    free(items);
    return status;
}

// --- reading

// What is being read; its name appears in messages.
typedef struct reader {
    const lw_safetensors *file;
    const char *name;
} reader;

static lw_status metadata(const reader *r, const char *key, lw_error *err, const char **out)
{
    *out = lw_safetensors_metadata(r->file, key);
    if (*out == NULL) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: not a wire file of lwmpi encode: its metadata has no \"%s\"", r->name,
                       key);
    }
    return LW_OK;
}

static lw_status whole_number(const reader *r, const char *key, int base, uint64_t most, lw_error *err, uint64_t *out)
{
    const char *text = NULL;
    char *end = NULL;
    LW_TRY(metadata(r, key, err, &text));
    errno = 0;
    unsigned long long value = strtoull(text, &end, base);
    bool plain = text[0] != '\0' && strspn(text, base == 16 ? "0123456789abcdef" : "0123456789") == strlen(text);
    if (!plain || errno != 0 || *end != '\0' || value > most) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: metadata \"%s\" is \"%.40s\", no number that fits", r->name, key, text);
    }
    *out = value;
    return LW_OK;
}

static lw_status read_kind(const reader *r, lw_error *err, lw_wire_set *set)
{
    uint64_t version = 0;
    uint64_t bits = 0;
    uint64_t d_z = 0;
    const char *compress = NULL;
    LW_TRY(whole_number(r, "lwmpi_wire", 10, 1000, err, &version));
    if (version != 1) {
        return lw_fail(err, LW_ERR_UNSUPPORTED, "%s: wire files of version %d are not known, only 1", r->name,
                       (int)version);
    }
    LW_TRY(whole_number(r, "bits", 10, 32, err, &bits));
    LW_TRY(whole_number(r, "d_z", 10, 65536, err, &d_z));
    LW_TRY(whole_number(r, "encoder", 16, UINT64_MAX, err, &set->encoder));
    LW_TRY(metadata(r, "compress", err, &compress));
    if (!lw_quantise_has((int64_t)bits) || d_z == 0) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: latents of %d numbers in %d bits are not known", r->name, (int)d_z,
                       (int)bits);
    }
    set->bits = (int64_t)bits;
    set->d_z = (int64_t)d_z;
    set->compress = LW_COMPRESS_PROMPT;
    if (strcmp(compress, lw_compress_name(LW_COMPRESS_CONTEXT)) == 0) {
        set->compress = LW_COMPRESS_CONTEXT;
    } else if (strcmp(compress, lw_compress_name(LW_COMPRESS_PROMPT)) != 0) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: metadata \"compress\" is \"%.40s\"", r->name, compress);
    }
    return LW_OK;
}

static lw_status read_starts(const reader *r, lw_error *err, lw_wire_set *set)
{
    const lw_tensor_view *view = NULL;
    LW_TRY(lw_safetensors_require(r->file, "z_start", 1, (int64_t[]){-1}, err, &view));
    if (view->dtype != LW_I32 || view->elements < 2 || view->elements > MAX_TEXTS + 1) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: z_start is %s with %lld numbers, expected I32 with 2 to %d", r->name,
                       view->dtype_name, (long long)view->elements, MAX_TEXTS + 1);
    }
    set->z_start = malloc(view->bytes);
    set->items = calloc((size_t)view->elements, sizeof *set->items);
    if (set->z_start == NULL || set->items == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "%s: no memory for %lld texts", r->name, (long long)view->elements);
    }
    memcpy(set->z_start, view->data, view->bytes);
    set->count = view->elements - 1;
    for (int64_t i = 0; i <= set->count; i++) {
        if (i == 0 ? set->z_start[0] != 0 : set->z_start[i] <= set->z_start[i - 1]) {
            return lw_fail(err, LW_ERR_FORMAT, "%s: z_start[%lld] is %d: it has to rise from 0, by one latent at least",
                           r->name, (long long)i, set->z_start[i]);
        }
    }
    return LW_OK;
}

static lw_status read_latents(const reader *r, lw_error *err, lw_wire_set *set)
{
    const char *dtype = set->bits == 32 ? "F32" : set->bits == 16 ? "F16" : "U8";
    int64_t rows = set->z_start[set->count];
    int64_t columns = set->bits < 16 ? lw_quantise_row_bytes(set->bits, set->d_z) : set->d_z;
    const lw_tensor_view *view = lw_safetensors_find(r->file, "latents");
    if (view == NULL || strcmp(view->dtype_name, dtype) != 0 || view->rank != 2 || view->dims[0] != rows ||
        view->dims[1] != columns) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: it needs a tensor latents of %lld x %lld %s, as its metadata say",
                       r->name, (long long)rows, (long long)columns, dtype);
    }
    set->data = malloc(view->bytes);
    if (set->data == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "%s: no memory for %lld latents", r->name, (long long)rows);
    }
    memcpy(set->data, view->data, view->bytes);
    return LW_OK;
}

static lw_status read_item(const reader *r, const json_t *value, json_t *seen, lw_error *err, lw_wire_item *out)
{
    lw_json at;
    const char *id = NULL;
    const char *question = NULL;
    LW_TRY(lw_json_object_at(value, r->name, "items.", err, &at));
    LW_TRY(lw_json_string(&at, "id", err, &id));
    LW_TRY(lw_json_string_or(&at, "question", NULL, err, &question));
    if (json_object_get(seen, id) != NULL) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: two texts have the id \"%.80s\"", r->name, id);
    }
    out->id = strdup(id);
    out->question = question != NULL ? strdup(question) : NULL;
    if (out->id == NULL || (question != NULL && out->question == NULL) ||
        json_object_set_new(seen, id, json_true()) != 0) {
        return lw_fail(err, LW_ERR_MEMORY, "%s: no memory for its texts", r->name);
    }
    return LW_OK;
}

static lw_status read_items(const reader *r, lw_error *err, lw_wire_set *set)
{
    const char *text = NULL;
    json_t *items = NULL;
    json_t *seen = json_object();
    lw_status status = LW_OK;
    LW_TRY_GOTO(metadata(r, "items", err, &text));
    LW_TRY_GOTO(lw_json_parse(r->name, text, strlen(text), LW_JSON_REJECT_DUPLICATES, err, &items));
    if (!json_is_array(items) || (int64_t)json_array_size(items) != set->count) {
        LW_TRY_GOTO(lw_fail(err, LW_ERR_FORMAT, "%s: metadata \"items\" is no list of its %lld texts", r->name,
                            (long long)set->count));
    }
    for (int64_t i = 0; i < set->count; i++) {
        LW_TRY_GOTO(read_item(r, json_array_get(items, (size_t)i), seen, err, &set->items[i]));
    }
done:
    json_decref(items);
    json_decref(seen);
    return status;
}

static lw_status read_named(const char *path, const char *name, lw_error *err, lw_wire_set *out)
{
    lw_safetensors *file = NULL;
    lw_wire_set set = {0};
    lw_status status = lw_safetensors_open(path, err, &file);
    if (status != LW_OK) {
        return path == name ? status : lw_fail_in(err, status, "%s", name);
    }
    const reader r = {.file = file, .name = name};
    LW_TRY_GOTO(read_kind(&r, err, &set));
    LW_TRY_GOTO(read_starts(&r, err, &set));
    LW_TRY_GOTO(read_latents(&r, err, &set));
    LW_TRY_GOTO(read_items(&r, err, &set));
    *out = set;
done:
    lw_safetensors_close(&file);
    if (status != LW_OK) {
        lw_wire_set_free(&set);
    }
    return status;
}

lw_status lw_wire_file_read(const char *path, lw_error *err, lw_wire_set *out)
{
    return read_named(path, path, err, out);
}

static lw_status spool(FILE *in, const char *name, int to, lw_error *err)
{
    unsigned char block[65536];
    size_t got;
    while ((got = fread(block, 1, sizeof block, in)) > 0) {
        for (size_t done = 0; done < got;) {
            ssize_t n = write(to, block + done, got - done);
            if (n < 0 && errno != EINTR) {
                return lw_fail_errno(err, LW_ERR_IO, errno, "%s: cannot keep it in a temporary file", name);
            }
            done += n > 0 ? (size_t)n : 0;
        }
    }
    return ferror(in) ? lw_fail_errno(err, LW_ERR_IO, errno, "%s: cannot read", name) : LW_OK;
}

lw_status lw_wire_file_read_stream(FILE *in, const char *name, lw_error *err, lw_wire_set *out)
{
    const char *folder = getenv("TMPDIR");
    char *path = NULL;
    LW_TRY(lw_path_join(folder != NULL && folder[0] != '\0' ? folder : "/tmp", "lwmpi-wire-XXXXXX", err, &path));
    int fd = mkstemp(path);
    if (fd < 0) {
        lw_status status = lw_fail_errno(err, LW_ERR_IO, errno, "%s: cannot make it", path);
        free(path);
        return status;
    }
    lw_status status = spool(in, name, fd, err);
    if (status == LW_OK) {
        status = read_named(path, name, err, out);
    }
    unlink(path);
    close(fd);
    free(path);
    return status;
}
