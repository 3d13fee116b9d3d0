// safetensors_write.c: checks, lays out and writes tensors, to a file or a stream.
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "io/atomic_file.h"
#include "io/json.h"
#include "io/safetensors.h"

enum { HEADER_ALIGNMENT = 64 }; // of the data in the file, so of every tensor to its element size

// --- checks: the arguments are the program's own, but a wrong size here would read past a buffer

static size_t width_of(const lw_tensor_source *source)
{
    return source->bytes ? 1 : lw_dtype_bytes(source->dtype);
}

static lw_status source_bytes(const lw_tensor_source *source, lw_error *err, size_t *out)
{
    if (source->rank < 0 || source->rank > LW_MAX_DIMS) {
        return lw_fail(err, LW_ERR_INTERNAL, "tensor %s: %d dimensions, expected 0 to %d", source->name, source->rank,
                       LW_MAX_DIMS);
    }
    int64_t bytes = (int64_t)width_of(source);
    for (int i = 0; i < source->rank; i++) {
        if (source->dims[i] < 0 || __builtin_mul_overflow(bytes, source->dims[i], &bytes)) {
            return lw_fail(err, LW_ERR_INTERNAL, "tensor %s: dimension %d is %" PRId64 ", negative or too large",
                           source->name, i, source->dims[i]);
        }
    }
    if (source->data == NULL && bytes > 0) {
        return lw_fail(err, LW_ERR_INTERNAL, "tensor %s: no data", source->name);
    }
    *out = (size_t)bytes;
    return LW_OK;
}

// --- header

static lw_status add_metadata(json_t *header, const char *const *metadata, lw_error *err)
{
    if (metadata == NULL || metadata[0] == NULL) {
        return LW_OK;
    }
    json_t *object = json_object();
    if (object == NULL || json_object_set_new(header, "__metadata__", object) != 0) {
        return lw_fail(err, LW_ERR_MEMORY, "out of memory");
    }
    for (size_t i = 0; metadata[i] != NULL; i += 2) {
        if (metadata[i + 1] == NULL) {
            return lw_fail(err, LW_ERR_INTERNAL, "metadata %s has no value", metadata[i]);
        }
        if (json_object_set_new(object, metadata[i], json_string(metadata[i + 1])) != 0) {
            return lw_fail(err, LW_ERR_INTERNAL, "metadata %s: key or value is not UTF-8", metadata[i]);
        }
    }
    return LW_OK;
}

static lw_status add_tensor(json_t *header, const lw_tensor_source *source, int64_t begin, int64_t end, lw_error *err)
{
    if (source->name == NULL || source->name[0] == '\0' || strcmp(source->name, "__metadata__") == 0 ||
        json_object_get(header, source->name) != NULL) {
        return lw_fail(err, LW_ERR_INTERNAL, "tensor name \"%s\" is empty, reserved or repeated",
                       source->name == NULL ? "" : source->name);
    }
    json_t *shape = json_array();
    for (int i = 0; i < source->rank; i++) {
        if (json_array_append_new(shape, json_integer(source->dims[i])) != 0) {
            json_decref(shape);
            return lw_fail(err, LW_ERR_MEMORY, "out of memory");
        }
    }
    json_t *info = json_pack("{s:s, s:o, s:[I, I]}", "dtype", source->bytes ? "U8" : lw_dtype_name(source->dtype),
                             "shape", shape, "data_offsets", (json_int_t)begin, (json_int_t)end);
    if (info == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "out of memory");
    }
    if (json_object_set_new(header, source->name, info) != 0) {
        return lw_fail(err, LW_ERR_INTERNAL, "tensor name is not UTF-8");
    }
    return LW_OK;
}

// Tensors of wide elements come first, as the reference implementation writes them: with no padding allowed between
// tensors, that is what aligns each to its element size.
static int64_t *order_by_width(const lw_tensor_source *tensors, int64_t count)
{
    int64_t *order = calloc((size_t)count + 1, sizeof *order);
    if (order == NULL) {
        return NULL;
    }
    int64_t used = 0;
    for (size_t width = 8; width >= 1; width /= 2) {
        for (int64_t i = 0; i < count; i++) {
            if (width_of(&tensors[i]) == width) {
                order[used++] = i;
            }
        }
    }
    return order;
}

// The header's text, padded with spaces (which the format allows) so that the data begin aligned.
static lw_status print_header(const json_t *header, lw_error *err, char **out, size_t *out_bytes)
{
    char *text = NULL;
    LW_TRY(lw_json_print(header, JSON_COMPACT, err, &text));
    size_t bytes = strlen(text);
    size_t padded = (bytes + 8 + HEADER_ALIGNMENT - 1) / HEADER_ALIGNMENT * HEADER_ALIGNMENT - 8;
    char *grown = realloc(text, padded + 1);
    if (grown == NULL) {
        free(text);
        return lw_fail(err, LW_ERR_MEMORY, "out of memory");
    }
    memset(grown + bytes, ' ', padded - bytes);
    grown[padded] = '\0';
    *out = grown;
    *out_bytes = padded;
    return LW_OK;
}

static lw_status make_header(const lw_tensor_source *tensors, const int64_t *order, int64_t count,
                             const char *const *metadata, lw_error *err, char **out, size_t *out_bytes)
{
    json_t *header = json_object();
    if (header == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "out of memory");
    }
    lw_status status = LW_OK;
    LW_TRY_GOTO(add_metadata(header, metadata, err));
    int64_t begin = 0;
    for (int64_t i = 0; i < count; i++) {
        const lw_tensor_source *source = &tensors[order[i]];
        size_t bytes = 0;
        int64_t end = 0;
        LW_TRY_GOTO(source_bytes(source, err, &bytes));
        if (__builtin_add_overflow(begin, bytes, &end)) {
            LW_TRY_GOTO(lw_fail(err, LW_ERR_INTERNAL, "tensor %s: the file would exceed 2^63 bytes", source->name));
        }
        LW_TRY_GOTO(add_tensor(header, source, begin, end, err));
        begin = end;
    }
    status = print_header(header, err, out, out_bytes);
done:
    json_decref(header);
    return status;
}

// --- file

// Where the bytes go: a file that replaces another, or a stream.
typedef struct sink {
    lw_atomic_file *file; // NULL: the stream
    FILE *stream;
    const char *name;
} sink;

static lw_status put(const sink *to, const void *data, size_t bytes, lw_error *err)
{
    if (to->file != NULL) {
        return lw_atomic_write(to->file, data, bytes, err);
    }
    if (bytes > 0 && fwrite(data, 1, bytes, to->stream) != bytes) {
        return lw_fail_errno(err, LW_ERR_IO, errno, "%s: cannot write", to->name);
    }
    return LW_OK;
}

static lw_status put_all(const sink *to, const lw_tensor_source *tensors, const int64_t *order, int64_t count,
                         const char *header, size_t header_bytes, lw_error *err)
{
    unsigned char prefix[8]; // u64 little-endian
    for (int i = 0; i < 8; i++) {
        prefix[i] = (unsigned char)((uint64_t)header_bytes >> (8 * i));
    }
    LW_TRY(put(to, prefix, sizeof prefix, err));
    LW_TRY(put(to, header, header_bytes, err));
    for (int64_t i = 0; i < count; i++) {
        const lw_tensor_source *source = &tensors[order[i]];
        size_t bytes = 0;
        LW_TRY(source_bytes(source, err, &bytes));
        LW_TRY(put(to, source->data, bytes, err));
    }
    return LW_OK;
}

// stream NULL: the file `name`.
static lw_status write_to(FILE *stream, const char *name, const lw_tensor_source *tensors, int64_t count,
                          const char *const *metadata, lw_error *err)
{
    lw_status status = LW_OK;
    sink to = {.stream = stream, .name = name};
    char *header = NULL;
    size_t header_bytes = 0;
    int64_t *order = order_by_width(tensors, count);
    if (order == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "%s: out of memory", name);
    }
    status = make_header(tensors, order, count, metadata, err, &header, &header_bytes);
    if (status != LW_OK) {
        status = lw_fail_in(err, status, "%s", name);
        goto done;
    }
    if (stream == NULL) {
        LW_TRY_GOTO(lw_atomic_open(name, err, &to.file));
    }
    LW_TRY_GOTO(put_all(&to, tensors, order, count, header, header_bytes, err));
    if (stream == NULL) {
        status = lw_atomic_commit(&to.file, err);
    } else if (fflush(stream) != 0) {
        status = lw_fail_errno(err, LW_ERR_IO, errno, "%s: cannot write", name);
    }
done:
    lw_atomic_abort(&to.file);
    free(header);
    free(order);
    return status;
}

lw_status lw_safetensors_write(const char *path, const lw_tensor_source *tensors, int64_t count,
                               const char *const *metadata, lw_error *err)
{
    return write_to(NULL, path, tensors, count, metadata, err);
}

lw_status lw_safetensors_print(FILE *out, const char *name, const lw_tensor_source *tensors, int64_t count,
                               const char *const *metadata, lw_error *err)
{
    return write_to(out, name, tensors, count, metadata, err);
}
