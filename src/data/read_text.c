// read_text.c: format `text`: documents from JSON lines, from SQuAD's layout or from plain text.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/utf8.h"
#include "data/builder_internal.h"
#include "io/files.h"

static lw_status add_row(const json_t *value, const char *where, lw_dataset_builder *builder, lw_error *err)
{
    lw_json row;
    const char *text;
    LW_TRY(lw_json_object_at(value, where, "", err, &row));
    LW_TRY(lw_json_string(&row, "text", err, &text));
    return lw_dataset_add_document(builder, where, text, strlen(text), err);
}

// Turns "\r\n" into "\n". Returns how many bytes are left.
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

// Adds the documents of a text, which form feeds separate; blank ones are skipped.
static lw_status add_documents(lw_dataset_builder *builder, const char *path, const char *text, size_t bytes,
                               lw_error *err)
{
    int64_t line = 1;
    for (size_t at = 0; at < bytes && !lw_dataset_full(builder);) {
        const char *feed = memchr(text + at, '\f', bytes - at);
        size_t end = feed == NULL ? bytes : (size_t)(feed - text);
        size_t begin = lw_skip_space(text, at, end);
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
