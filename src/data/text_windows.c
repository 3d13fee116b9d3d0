// text_windows.c: cuts a document into windows. See dataset.h for where the cuts are.
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "core/utf8.h"
#include "data/builder_internal.h"

enum { BYTES_PER_TARGET_TOKEN = 8 }; // kept of a continuation: tokens are three to five bytes long on average

static bool is_space(char c)
{
    return isspace((unsigned char)c) != 0;
}

// Where to cut text[0 .. bytes) at or before `most`, so that no character and, where possible, no word is split: white
// space stays after the cut. Between 1 and bytes.
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

// Adds the window of `count` bytes at `at` with the text that follows it.
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
    size_t at = lw_skip_space(text, 0, bytes);
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
        at = lw_skip_space(text, at + count, bytes);
    }
    size_t half = cut(text + at, bytes - at, (bytes - at) / 2);
    if (half == bytes - at || lw_dataset_full(builder)) {
        return LW_OK; // one wide character is left
    }
    return add_window(builder, where, text, bytes, at, half, err);
}
