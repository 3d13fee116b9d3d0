// token_cache.c: reads and writes the file of a data set's tokens.
#include "data/token_cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "io/atomic_file.h"
#include "io/files.h"

static const char magic[8] = "LWTOKEN";
static const uint32_t byte_order_mark = 0x01020304;
#define MAX_CACHE_BYTES ((size_t)1 << 36)

typedef struct header {
    char magic[8];
    uint32_t byte_order;
    uint32_t version;
    uint64_t key;
    int64_t count;
    int64_t cut_prompts, cut_answers, vocab;
    int64_t ids[3]; // in prompt, suffix, answer
} header;
_Static_assert(sizeof(header) == 80, "the header has no padding");

static lw_token_list *list_of(lw_token_set *set, int i)
{
    lw_token_list *const lists[3] = {&set->prompt, &set->suffix, &set->answer};
    return lists[i];
}

static lw_status cache_path(const char *dir, uint64_t key, lw_error *err, char **out)
{
    char name[64];
    snprintf(name, sizeof name, "tokens-%016llx.bin", (unsigned long long)key);
    return lw_path_join(dir, name, err, out);
}

static size_t file_bytes(const header *h)
{
    size_t starts = 3 * ((size_t)h->count + 1) * sizeof(int64_t);
    size_t ids = ((size_t)h->ids[0] + (size_t)h->ids[1] + (size_t)h->ids[2]) * sizeof(int32_t);
    return sizeof *h + starts + ids + sizeof(uint64_t);
}

// Bounds the sizes before anything is added or multiplied, so that nothing overflows.
static bool header_is_good(const header *h, uint64_t key, int64_t count, size_t bytes)
{
    int64_t most = (int64_t)(bytes / sizeof(int32_t));
    return memcmp(h->magic, magic, sizeof magic) == 0 && h->byte_order == byte_order_mark &&
           h->version == LW_TOKEN_CACHE_VERSION && h->key == key && h->count == count && count <= most &&
           h->ids[0] >= 0 && h->ids[0] <= most && h->ids[1] >= 0 && h->ids[1] <= most && h->ids[2] >= 0 &&
           h->ids[2] <= most && h->cut_prompts >= 0 && h->cut_answers >= 0 && file_bytes(h) == bytes;
}

// Raises *used to the largest id plus one.
static bool list_is_good(const lw_token_list *list, int64_t count, int64_t ids, int64_t vocab, int64_t *used)
{
    if (list->start[0] != 0 || list->start[count] != ids) {
        return false;
    }
    for (int64_t i = 0; i < count; i++) {
        if (list->start[i] > list->start[i + 1]) {
            return false;
        }
    }
    for (int64_t i = 0; i < ids; i++) {
        if (list->ids[i] < 0 || list->ids[i] >= vocab) {
            return false;
        }
        *used = list->ids[i] >= *used ? (int64_t)list->ids[i] + 1 : *used;
    }
    return true;
}

static bool parse(const char *data, size_t bytes, uint64_t key, int64_t count, int64_t vocab, lw_token_set *set)
{
    header h;
    uint64_t hash;
    if (bytes < sizeof h + sizeof hash) {
        return false;
    }
    memcpy(&h, data, sizeof h);
    memcpy(&hash, data + bytes - sizeof hash, sizeof hash);
    if (!header_is_good(&h, key, count, bytes) || lw_xxh64(data, bytes - sizeof hash, 0) != hash) {
        return false;
    }
    const char *at = data + sizeof h;
    int64_t used = 0;
    for (int i = 0; i < 3; i++) {
        lw_token_list *list = list_of(set, i);
        size_t start_bytes = ((size_t)count + 1) * sizeof *list->start;
        size_t id_bytes = (size_t)h.ids[i] * sizeof *list->ids;
        list->start = malloc(start_bytes);
        list->ids = malloc(id_bytes + 1);
        if (list->start == NULL || list->ids == NULL) {
            return false;
        }
        memcpy(list->start, at, start_bytes);
        memcpy(list->ids, at + start_bytes, id_bytes);
        at += start_bytes + id_bytes;
        if (!list_is_good(list, count, h.ids[i], vocab, &used)) {
            return false;
        }
    }
    set->count = count;
    set->cut_prompts = h.cut_prompts;
    set->cut_answers = h.cut_answers;
    set->vocab = h.vocab;
    set->from_cache = true;
    return h.vocab == used; // this figure is what gets checked against the models
}

bool lw_token_cache_read(const char *dir, uint64_t key, int64_t count, int64_t vocab, lw_token_set *out)
{
    lw_error ignored; // a missing cache is not a failure: the tokens are made again
    char *path;
    char *data;
    size_t bytes;
    if (cache_path(dir, key, &ignored, &path) != LW_OK) {
        return false;
    }
    bool read = lw_path_is_file(path) && lw_read_own_file(path, MAX_CACHE_BYTES, &ignored, &data, &bytes) == LW_OK;
    free(path);
    if (!read) {
        return false;
    }
    lw_token_set set = {0};
    bool good = parse(data, bytes, key, count, vocab, &set);
    free(data);
    if (!good) {
        lw_token_set_free(&set);
        return false;
    }
    *out = set;
    return true;
}

static char *serialise(const lw_token_set *set, uint64_t key, size_t *out_bytes)
{
    const lw_token_list *const lists[3] = {&set->prompt, &set->suffix, &set->answer};
    header h = {.byte_order = byte_order_mark,
                .version = LW_TOKEN_CACHE_VERSION,
                .key = key,
                .count = set->count,
                .cut_prompts = set->cut_prompts,
                .cut_answers = set->cut_answers,
                .vocab = set->vocab};
    memcpy(h.magic, magic, sizeof magic);
    for (int i = 0; i < 3; i++) {
        h.ids[i] = lists[i]->start[set->count];
    }
    size_t bytes = file_bytes(&h);
    char *data = malloc(bytes);
    if (data == NULL) {
        return NULL;
    }
    char *at = data;
    memcpy(at, &h, sizeof h);
    at += sizeof h;
    for (int i = 0; i < 3; i++) {
        size_t start_bytes = ((size_t)set->count + 1) * sizeof(int64_t);
        size_t id_bytes = (size_t)h.ids[i] * sizeof(int32_t);
        memcpy(at, lists[i]->start, start_bytes);
        if (id_bytes > 0) {
            memcpy(at + start_bytes, lists[i]->ids, id_bytes);
        }
        at += start_bytes + id_bytes;
    }
    uint64_t hash = lw_xxh64(data, (size_t)(at - data), 0);
    memcpy(at, &hash, sizeof hash);
    *out_bytes = bytes;
    return data;
}

lw_status lw_token_cache_write(const char *dir, uint64_t key, const lw_token_set *set, lw_error *err)
{
    size_t bytes;
    char *path;
    LW_TRY(lw_mkdir_p(dir, err));
    LW_TRY(cache_path(dir, key, err, &path));
    char *data = serialise(set, key, &bytes);
    lw_status status = data == NULL ? lw_fail(err, LW_ERR_MEMORY, "%s: no memory to write it", path)
                                    : lw_write_file_atomic(path, data, bytes, err);
    free(data);
    free(path);
    return status;
}
