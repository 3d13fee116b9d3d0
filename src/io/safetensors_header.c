// safetensors_header.c: reads the header of a safetensors file; all checks on untrusted input are here.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "io/json.h"
#include "io/safetensors_internal.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the format is little-endian and is read without swapping");

enum { MAX_HEADER_BYTES = 100000000 };

// Bits per element in the format. Only those of lw_dtype are `known`; the others can be listed, not used.
typedef struct dtype_info {
    const char *name;
    unsigned int bits;
    bool known;
    lw_dtype dtype;
} dtype_info;

static const dtype_info dtype_table[] = {
    {"F32", 32, true, LW_F32}, {"BF16", 16, true, LW_BF16}, {"F16", 16, true, LW_F16}, {"I32", 32, true, LW_I32},
    {"BOOL", 8, false, 0},     {"U8", 8, false, 0},         {"I8", 8, false, 0},       {"I16", 16, false, 0},
    {"U16", 16, false, 0},     {"U32", 32, false, 0},       {"I64", 64, false, 0},     {"U64", 64, false, 0},
    {"F64", 64, false, 0},     {"C64", 64, false, 0},       {"F8_E4M3", 8, false, 0},  {"F8_E5M2", 8, false, 0},
    {"F8_E8M0", 8, false, 0},  {"F6_E2M3", 6, false, 0},    {"F6_E3M2", 6, false, 0},  {"F4", 4, false, 0},
};

static const dtype_info *find_dtype(const char *name)
{
    for (size_t i = 0; i < sizeof dtype_table / sizeof dtype_table[0]; i++) {
        if (strcmp(dtype_table[i].name, name) == 0) {
            return &dtype_table[i];
        }
    }
    return NULL;
}

// --- one tensor of a header

static lw_status read_shape(const lw_json *info, lw_error *err, lw_tensor_view *view)
{
    const json_t *shape = NULL;
    LW_TRY(lw_json_array(info, "shape", err, &shape));
    size_t rank = json_array_size(shape);
    if (rank > LW_MAX_DIMS) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: tensor %sshape has %zu dimensions, at most %d are supported",
                       info->where, info->parent, rank, LW_MAX_DIMS);
    }
    int64_t elements = 1;
    for (size_t i = 0; i < rank; i++) {
        const json_t *dim = json_array_get(shape, i);
        if (!json_is_integer(dim) || json_integer_value(dim) < 0) {
            return lw_fail(err, LW_ERR_FORMAT, "%s: tensor %sshape[%zu] is not an integer of at least 0", info->where,
                           info->parent, i);
        }
        view->dims[i] = json_integer_value(dim);
        if (__builtin_mul_overflow(elements, view->dims[i], &elements)) {
            return lw_fail(err, LW_ERR_FORMAT, "%s: tensor %sshape: the number of elements overflows 64 bits",
                           info->where, info->parent);
        }
    }
    view->rank = (int)rank;
    view->elements = elements;
    return LW_OK;
}

static lw_status read_offsets(const lw_json *info, size_t data_bytes, lw_error *err, size_t *out_begin,
                              size_t *out_bytes)
{
    const json_t *offsets = NULL;
    LW_TRY(lw_json_array(info, "data_offsets", err, &offsets));
    const json_t *first = json_array_get(offsets, 0);
    const json_t *second = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(second)) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: tensor %sdata_offsets is not a pair of integers [begin, end]",
                       info->where, info->parent);
    }
    int64_t begin = json_integer_value(first);
    int64_t end = json_integer_value(second);
    if (begin < 0 || end < begin || (uint64_t)end > data_bytes) {
        return lw_fail(err, LW_ERR_FORMAT,
                       "%s: tensor %sdata_offsets [%" PRId64 ", %" PRId64 "] do not lie within the %zu bytes of data; "
                       "the file is damaged or truncated",
                       info->where, info->parent, begin, end, data_bytes);
    }
    *out_begin = (size_t)begin;
    *out_bytes = (size_t)(end - begin);
    return LW_OK;
}

static lw_status check_bytes(const lw_json *info, unsigned int bits, const lw_tensor_view *view, lw_error *err)
{
    int64_t total_bits = 0;
    if (__builtin_mul_overflow(view->elements, (int64_t)bits, &total_bits)) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: tensor %sshape: the size in bytes overflows 64 bits", info->where,
                       info->parent);
    }
    if (total_bits % 8 != 0 || (uint64_t)(total_bits / 8) != view->bytes) {
        return lw_fail(err, LW_ERR_FORMAT,
                       "%s: tensor %sdata_offsets span %zu bytes, but the shape has %" PRId64
                       " elements of %s, %" PRId64 " bytes",
                       info->where, info->parent, view->bytes, view->elements, view->dtype_name, total_bits / 8);
    }
    return LW_OK;
}

// label: "NAME." for messages. data: where the data of the file begin.
static lw_status read_tensor(const json_t *value, const char *path, const char *label, const char *data,
                             size_t data_bytes, lw_error *err, lw_tensor_view *out)
{
    lw_json info;
    LW_TRY(lw_json_object_at(value, path, label, err, &info));
    const char *dtype_name = NULL;
    LW_TRY(lw_json_string(&info, "dtype", err, &dtype_name));
    lw_tensor_view view = {0};
    if (strlen(dtype_name) >= sizeof view.dtype_name) {
        char shown[32];
        return lw_fail(err, LW_ERR_FORMAT, "%s: tensor %sdtype \"%s\" is not a dtype of the format", path, label,
                       lw_printable(dtype_name, shown, sizeof shown));
    }
    lw_printable(dtype_name, view.dtype_name, sizeof view.dtype_name);
    LW_TRY(read_shape(&info, err, &view));
    size_t begin = 0;
    LW_TRY(read_offsets(&info, data_bytes, err, &begin, &view.bytes));
    view.data = data + begin;
    const dtype_info *dtype = find_dtype(dtype_name);
    if (dtype != NULL) {
        view.known = dtype->known;
        view.dtype = dtype->dtype;
        LW_TRY(check_bytes(&info, dtype->bits, &view, err));
    }
    *out = view;
    return LW_OK;
}

// --- one file

static lw_status append_entry(lw_safetensors *file, const char *name, const lw_tensor_view *view, int64_t shard_index,
                              lw_error *err)
{
    if (file->count == file->capacity) {
        int64_t capacity = file->capacity == 0 ? 64 : 2 * file->capacity; // at most the tensors of 100 MB headers
        lw_tensor_entry *entries = realloc(file->entries, (size_t)capacity * sizeof *entries);
        if (entries == NULL) {
            return lw_fail(err, LW_ERR_MEMORY, "%s: out of memory listing tensors", file->path);
        }
        file->entries = entries;
        file->capacity = capacity;
    }
    lw_tensor_entry *e = &file->entries[file->count];
    e->view = *view;
    e->shard = shard_index;
    e->name = strdup(name);
    if (e->name == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "%s: out of memory listing tensors", file->path);
    }
    e->view.name = e->name;
    file->count++;
    return LW_OK;
}

static int by_place(const void *a, const void *b)
{
    const lw_tensor_view *x = &((const lw_tensor_entry *)a)->view;
    const lw_tensor_view *y = &((const lw_tensor_entry *)b)->view;
    if (x->data != y->data) {
        return (const char *)x->data < (const char *)y->data ? -1 : 1;
    }
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

// The format allows no gaps: in order of their offsets, every tensor begins where the one before it ended, and the last
// one ends with the file. Reorders the entries.
static lw_status check_coverage(const char *path, lw_tensor_entry *entries, int64_t count, const char *data,
                                size_t data_bytes, lw_error *err)
{
    if (count > 0) {
        qsort(entries, (size_t)count, sizeof *entries, by_place);
    }
    const char *end = data;
    char label[LW_TENSOR_LABEL_BYTES];
    char previous[LW_TENSOR_LABEL_BYTES];
    for (int64_t i = 0; i < count; i++) {
        const lw_tensor_view *view = &entries[i].view;
        const char *begin = view->data;
        lw_printable(view->name, label, sizeof label);
        if (begin < end) {
            return lw_fail(err, LW_ERR_FORMAT, "%s: tensors %s and %s overlap", path,
                           lw_printable(entries[i - 1].name, previous, sizeof previous), label);
        }
        if (begin > end) {
            return lw_fail(err, LW_ERR_FORMAT, "%s: %td bytes before tensor %s belong to no tensor", path, begin - end,
                           label);
        }
        end = begin + view->bytes;
    }
    if (end != data + data_bytes) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: %td bytes after the last tensor belong to no tensor", path,
                       data + data_bytes - end);
    }
    return LW_OK;
}

static lw_status take_metadata(json_t *value, lw_shard *s, lw_error *err)
{
    const char *key = NULL;
    json_t *text = NULL;
    bool strings = json_is_object(value);
    if (strings) {
        json_object_foreach(value, key, text)
        {
            strings = strings && json_is_string(text);
        }
    }
    if (!strings) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: __metadata__ is not an object of strings", s->path);
    }
    s->metadata = json_incref(value);
    return LW_OK;
}

lw_status lw_safetensors_read_header(lw_safetensors *file, int64_t shard_index, lw_error *err)
{
    lw_shard *s = &file->shards[shard_index];
    uint64_t header_bytes = 0;
    memcpy(&header_bytes, s->base, sizeof header_bytes);
    if (header_bytes > MAX_HEADER_BYTES || header_bytes > s->bytes - 8) {
        return lw_fail(err, LW_ERR_FORMAT,
                       "%s: claims a header of %" PRIu64 " bytes in a file of %zu (at most %d are allowed); not a "
                       "safetensors file, or truncated",
                       s->path, header_bytes, s->bytes, MAX_HEADER_BYTES);
    }
    const char *text = (const char *)s->base + 8;
    const char *data = text + header_bytes;
    size_t data_bytes = s->bytes - 8 - (size_t)header_bytes;
    if (header_bytes == 0 || text[0] != '{') {
        return lw_fail(err, LW_ERR_FORMAT, "%s: the header does not begin with '{'; not a safetensors file", s->path);
    }
    json_t *root = NULL;
    lw_status status = lw_json_parse(s->path, text, (size_t)header_bytes, LW_JSON_REJECT_DUPLICATES, err, &root);
    if (status != LW_OK) {
        return lw_fail_in(err, status, "safetensors header");
    }
    int64_t first = file->count;
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach(root, name, value)
    {
        char label[LW_TENSOR_LABEL_BYTES];
        lw_tensor_view view;
        if (strcmp(name, "__metadata__") == 0) {
            LW_TRY_GOTO(take_metadata(value, s, err));
            continue;
        }
        lw_printable(name, label, sizeof label - 1);
        strcat(label, ".");
        LW_TRY_GOTO(read_tensor(value, s->path, label, data, data_bytes, err, &view));
        LW_TRY_GOTO(append_entry(file, name, &view, shard_index, err));
    }
    lw_tensor_entry *entries = file->entries != NULL ? file->entries + first : NULL;
    status = check_coverage(s->path, entries, file->count - first, data, data_bytes, err);
done:
    json_decref(root);
    return status;
}
