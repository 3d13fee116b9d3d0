// json_lines.h: text with one JSON value per line, read line by line from a file, a pipe or memory. Local.
//
// The reader only finds the lines. What else it takes for a line to be accepted (blank lines, a BOM, NUL, keys named
// twice) is a matter of each format, and is decided by its caller.
#ifndef LW_JSON_LINES_H
#define LW_JSON_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

enum { LW_JSON_LINES_WHERE_BYTES = 512 };

// Starts as {.name, .fd, .max_mib}, or with lw_json_lines_of_text.
typedef struct lw_json_lines {
    const char *name;                      // of the text in messages; borrowed
    int fd;                                // borrowed; nothing has been read from it yet
    int64_t max_mib;                       // a longer line is LW_ERR_FORMAT; 0: any length
    int64_t number;                        // of the line that was returned last, from 1
    char where[LW_JSON_LINES_WHERE_BYTES]; // "NAME:NUMBER" of that line, for messages
    char *buffer;                          // grows to the longest line
    size_t capacity, begin, end;           // bytes that are still to be returned: begin .. end
    bool at_end;                           // nothing follows what is in the buffer
} lw_json_lines;

// The lines of `bytes` bytes of text, whose ownership passes to *out.
void lw_json_lines_of_text(lw_json_lines *out, const char *name, char *text, size_t bytes);

// The next line with its newline, where it has one; good until the next call. *text is NULL after the last line.
// LW_ERR_IO, LW_ERR_MEMORY, LW_ERR_FORMAT.
lw_status lw_json_lines_next(lw_json_lines *lines, lw_error *err, const char **text, size_t *bytes);

void lw_json_lines_free(lw_json_lines *lines);

#endif
