// json_lines.c: finds the lines of a text in a buffer that grows to the longest of them.
#include "io/json_lines.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK_BYTES = 1 << 18 };

void lw_json_lines_of_text(lw_json_lines *out, const char *name, char *text, size_t bytes)
{
    *out = (lw_json_lines){.name = name, .fd = -1, .buffer = text, .capacity = bytes, .end = bytes, .at_end = true};
}

void lw_json_lines_free(lw_json_lines *lines)
{
    free(lines->buffer);
    *lines = (lw_json_lines){.fd = -1};
}

// Makes room for a block behind what is still to be returned.
static lw_status make_room(lw_json_lines *lines, lw_error *err)
{
    if (lines->begin > 0) {
        memmove(lines->buffer, lines->buffer + lines->begin, lines->end - lines->begin);
        lines->end -= lines->begin;
        lines->begin = 0;
    }
    if (lines->max_mib > 0 && lines->end > (size_t)lines->max_mib << 20) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: a line of more than %lld MiB: this is not JSONL", lines->where,
                       (long long)lines->max_mib);
    }
    if (lines->capacity - lines->end < BLOCK_BYTES) {
        size_t capacity = 2 * lines->capacity + BLOCK_BYTES;
        char *buffer = realloc(lines->buffer, capacity);
        if (buffer == NULL) {
            return lw_fail(err, LW_ERR_MEMORY, "%s: no memory for a line of %zu bytes", lines->where, lines->end);
        }
        lines->buffer = buffer;
        lines->capacity = capacity;
    }
    return LW_OK;
}

// A pipe gives what it has: a line is returned as soon as it is there.
static lw_status fill_buffer(lw_json_lines *lines, lw_error *err)
{
    LW_TRY(make_room(lines, err));
    ssize_t got = read(lines->fd, lines->buffer + lines->end, BLOCK_BYTES);
    if (got < 0) {
        return lw_fail_errno(err, LW_ERR_IO, errno, "%s: cannot read the line", lines->where);
    }
    lines->at_end = got == 0;
    lines->end += (size_t)got;
    return LW_OK;
}

lw_status lw_json_lines_next(lw_json_lines *lines, lw_error *err, const char **text, size_t *bytes)
{
    size_t searched = 0;
    lines->number++;
    snprintf(lines->where, sizeof lines->where, "%.480s:%lld", lines->name, (long long)lines->number);
    *text = NULL;
    *bytes = 0;
    for (;;) {
        size_t unread = lines->end - lines->begin;
        const char *start = unread == 0 ? NULL : lines->buffer + lines->begin;
        const char *newline = unread == searched ? NULL : memchr(start + searched, '\n', unread - searched);
        if (newline != NULL || (lines->at_end && unread > 0)) {
            *text = start;
            *bytes = newline != NULL ? (size_t)(newline - start) + 1 : unread;
            lines->begin += *bytes;
            return LW_OK;
        }
        if (lines->at_end) {
            return LW_OK;
        }
        searched = unread;
        LW_TRY(fill_buffer(lines, err));
    }
}
