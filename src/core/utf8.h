// utf8.h: UTF-8 text that came from outside: checked, and made fit to be printed. All functions are Local.
#ifndef LW_UTF8_H
#define LW_UTF8_H

#include <stdbool.h>
#include <stddef.h>

// Offset of the first byte that does not belong to a valid sequence (no surrogates, nothing overlong); `bytes` when
// all is valid.
size_t lw_utf8_first_bad(const char *text, size_t bytes);

// The largest cut <= limit that does not split a character of valid text.
size_t lw_utf8_floor(const char *text, size_t bytes, size_t limit);
// The smallest cut >= limit that does not split a character of valid text; at most `bytes`.
size_t lw_utf8_ceiling(const char *text, size_t bytes, size_t limit);

// Offset of the first byte at or after `at` that is not white space (isspace); `bytes` where there is none.
size_t lw_skip_space(const char *text, size_t at, size_t bytes);
// Whether text[0 .. bytes) is white space alone, or empty.
bool lw_is_blank(const char *text, size_t bytes);

// The text is what lw_printable makes of it.
bool lw_is_printable(const char *text);

// Untrusted text for a message or a log: control characters (C0, DEL, C1), those that reorder or break a line (U+2028,
// U+202E, ...) and what is not UTF-8 come out as \xNN, so that no text obeys a terminal or forges a line. Cut with
// "..." between characters to out_bytes (at least 8). Returns out.
const char *lw_printable(const char *text, char *out, size_t out_bytes);

// The same for a text of several lines: newlines stay. malloc'd; NULL without memory.
char *lw_printable_lines(const char *text);

#endif
