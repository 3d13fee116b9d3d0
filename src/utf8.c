#include "utf8.h"

#include <utf8proc.h>

size_t lw_utf8_first_bad(const char *text, size_t bytes)
{
    size_t at = 0;
    while (at < bytes) {
        if ((unsigned char)text[at] < 0x80) {
            at++;
            continue;
        }
        size_t left = bytes - at < 4 ? bytes - at : 4;
        utf8proc_int32_t code;
        utf8proc_ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)left, &code);
        if (used <= 0) {
            return at;
        }
        at += (size_t)used;
    }
    return bytes;
}

size_t lw_utf8_floor(const char *text, size_t bytes, size_t limit)
{
    if (limit >= bytes) {
        return bytes;
    }
    while (limit > 0 && ((unsigned char)text[limit] & 0xC0) == 0x80) {
        limit--;
    }
    return limit;
}

size_t lw_utf8_ceiling(const char *text, size_t bytes, size_t limit)
{
    while (limit < bytes && ((unsigned char)text[limit] & 0xC0) == 0x80) {
        limit++;
    }
    return limit < bytes ? limit : bytes;
}
