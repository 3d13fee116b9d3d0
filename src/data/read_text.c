// Plain text as training data: documents cut into windows. See dataset.h for where the cuts are.
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/dataset_internal.h"
#include "io/files.h"

enum { BYTES_PER_TARGET_TOKEN = 8 }; // kept of a continuation: tokens are three to five bytes long on average

static bool is_space(char c)
{
    return isspace((unsigned char)c) != 0;
}

// Where to cut text[0..bytes) at `most` or before, so that no character is split and, where it can be, no word: the
// white space is left behind the cut. Between 1 and bytes.
static size_t cut(const char *text, size_t bytes, size_t most)
{
    if (most >= bytes) {
        return bytes;
    }
    for (size_t at = most; at > most / 2; at--) {
        if (is_space(text[at]) && !is_space(text[at - 1])) {
            return at;
        }
    }
    size_t at = lw_utf8_floor(text, bytes, most);
    return at > 0 ? at : lw_utf8_ceiling(text, bytes, 1);
}

static size_t skip_space(const char *text, size_t at, size_t bytes)
{
    while (at < bytes && is_space(text[at])) {
        at++;
    }
    return at;
}

// The window of `count` bytes at `at`, and what follows.
static lw_status add_window(lw_dataset_builder *builder, const char *where, const char *text, size_t bytes, size_t at,
                            size_t count, lw_error *err)
{
    char id[LW_WHERE_BYTES + 32];
    size_t next = at + count;
    size_t most = BYTES_PER_TARGET_TOKEN * (size_t)builder->source->target_tokens;
    size_t trimmed = count;
    while (is_space(text[at + trimmed - 1])) {
        trimmed--;
    }
    snprintf(id, sizeof id, "%s#%zu", where, at);
    return lw_dataset_add_text(builder, where, id, text + at, trimmed, text + next,
                               cut(text + next, bytes - next, most), err);
}

lw_status lw_dataset_add_document(lw_dataset_builder *builder, const char *where, const char *text, size_t bytes,
                                  lw_error *err)
{
    size_t window = (size_t)builder->source->window_bytes;
    while (bytes > 0 && is_space(text[bytes - 1])) {
        bytes--;
    }
    size_t at = skip_space(text, 0, bytes);
    if (at == bytes) {
        builder->set.blank_rows++;
        return LW_OK;
    }
    if (lw_utf8_ceiling(text + at, bytes - at, 1) == bytes - at) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: the text is one character: nothing follows it", where);
    }
    while (bytes - at > window + window / 2 && !lw_dataset_full(builder)) {
        size_t count = cut(text + at, bytes - at, window);
        LW_TRY(add_window(builder, where, text, bytes, at, count, err));
        at = skip_space(text, at + count, bytes);
    }
    size_t half = cut(text + at, bytes - at, (bytes - at) / 2);
    if (half == bytes - at || lw_dataset_full(builder)) {
        return LW_OK; // one wide character is left
    }
    return add_window(builder, where, text, bytes, at, half, err);
}

// --- files

static lw_status add_row(const json_t *value, const char *where, lw_dataset_builder *builder, lw_error *err)
{
    lw_json row;
    const char *text;
    LW_TRY(lw_json_object_at(value, where, "", err, &row));
    LW_TRY(lw_json_string(&row, "text", err, &text));
    return lw_dataset_add_document(builder, where, text, strlen(text), err);
}

// "\r\n" becomes "\n". Returns the bytes left.
static size_t join_lines(char *text, size_t bytes)
{
    size_t kept = 0;
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] != '\r' || i + 1 == bytes || text[i + 1] != '\n') {
            text[kept++] = text[i];
        }
    }
    return kept;
}

static lw_status add_plain(lw_dataset_builder *builder, const char *path, int64_t line, const char *text, size_t bytes,
                           lw_error *err)
{
    char where[LW_WHERE_BYTES];
    snprintf(where, sizeof where, "%.480s:%lld", path, (long long)line);
    size_t bad = lw_utf8_first_bad(text, bytes);
    const char *nul = memchr(text, '\0', bytes);
    if (bad < bytes || nul != NULL) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: the document that begins here is not text: byte %zu of it is %s", where,
                       bad < bytes ? bad + 1 : (size_t)(nul - text) + 1, bad < bytes ? "not valid UTF-8" : "NUL");
    }
    return lw_dataset_add_document(builder, where, text, bytes, err);
}

static int64_t count_newlines(const char *text, size_t bytes)
{
    int64_t lines = 0;
    for (size_t i = 0; i < bytes; i++) {
        lines += text[i] == '\n';
    }
    return lines;
}

// Form feeds part the documents; blank ones are no documents.
static lw_status add_documents(lw_dataset_builder *builder, const char *path, const char *text, size_t bytes,
                               lw_error *err)
{
    int64_t line = 1;
    for (size_t at = 0; at < bytes && !lw_dataset_full(builder);) {
        const char *feed = memchr(text + at, '\f', bytes - at);
        size_t end = feed == NULL ? bytes : (size_t)(feed - text);
        size_t begin = skip_space(text, at, end);
        line += count_newlines(text + at, begin - at);
        if (begin < end) {
            lw_status status = add_plain(builder, path, line, text + begin, end - begin, err);
            LW_TRY(lw_dataset_tolerate(builder, status, err));
        }
        line += count_newlines(text + begin, end - begin);
        at = end + 1;
    }
    return LW_OK;
}

static lw_status read_plain(const char *path, lw_dataset_builder *builder, lw_error *err)
{
    char *text;
    size_t bytes;
    LW_TRY(lw_read_file(path, LW_MAX_DATA_BYTES, err, &text, &bytes));
    size_t first = bytes >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
    bytes = join_lines(text + first, bytes - first);
    lw_status status = add_documents(builder, path, text + first, bytes, err);
    free(text);
    return status;
}

static bool ends_with(const char *text, const char *end)
{
    size_t a = strlen(text);
    size_t b = strlen(end);
    return a > b && strcmp(text + a - b, end) == 0;
}

lw_status lw_dataset_read_text(const char *path, lw_dataset_builder *builder, lw_error *err)
{
    if (ends_with(path, ".jsonl")) {
        return lw_dataset_read_lines(path, add_row, builder, err);
    }
    return ends_with(path, ".json") ? lw_dataset_read_squad(path, builder, err) : read_plain(path, builder, err);
}
