// utf8.h: checks of UTF-8 text that came from outside. All functions are Local.
#ifndef LW_UTF8_H
#define LW_UTF8_H

#include <stddef.h>

// Offset of the first byte that does not belong to a valid sequence (no surrogates, nothing overlong); `bytes` when
// all is valid.
size_t lw_utf8_first_bad(const char *text, size_t bytes);

// The largest cut <= limit that does not split a character of valid text.
size_t lw_utf8_floor(const char *text, size_t bytes, size_t limit);
// The smallest cut >= limit that does not split a character of valid text; at most `bytes`.
size_t lw_utf8_ceiling(const char *text, size_t bytes, size_t limit);

#endif
