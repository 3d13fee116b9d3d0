// utf8.c: checks and repairs of UTF-8, and text made safe for a terminal.
#include "core/utf8.h"

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

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

// --- printing

// Characters that write what follows in another direction, mark it so, or end a line.
static bool reorders(const unsigned char *c)
{
    return c[0] == 0xe2 && ((c[1] == 0x80 && (c[2] == 0x8e || c[2] == 0x8f || (c[2] >= 0xa8 && c[2] <= 0xae))) ||
                            (c[1] == 0x81 && c[2] >= 0xa6 && c[2] <= 0xa9));
}

// Bytes of the character at `text`; 0 for a byte that must be escaped. C1 controls are characters beyond ASCII that
// terminals obey too.
static size_t printable_bytes(const char *text, size_t left)
{
    const unsigned char *c = (const unsigned char *)text;
    if (c[0] < 0x80) {
        return c[0] >= 0x20 && c[0] != 0x7f;
    }
    size_t bytes = c[0] < 0xe0 ? 2 : c[0] < 0xf0 ? 3 : 4;
    if (bytes > left || lw_utf8_first_bad(text, bytes) != bytes) {
        return 0;
    }
    bool c1 = c[0] == 0xc2 && c[1] < 0xa0;
    return c1 || (bytes == 3 && reorders(c)) ? 0 : bytes;
}

size_t lw_skip_space(const char *text, size_t at, size_t bytes)
{
    while (at < bytes && isspace((unsigned char)text[at])) {
        at++;
    }
    return at;
}

bool lw_is_blank(const char *text, size_t bytes)
{
    return lw_skip_space(text, 0, bytes) == bytes;
}

bool lw_is_printable(const char *text)
{
    size_t left = strlen(text);
    while (left > 0) {
        size_t bytes = printable_bytes(text, left);
        if (bytes == 0) {
            return false;
        }
        text += bytes;
        left -= bytes;
    }
    return true;
}

// Copies the next character, or the escape of the next byte, to out (room for 4); *used gets the bytes of text.
static size_t print_one(const char *text, size_t left, char *out, size_t *used)
{
    static const char digits[] = "0123456789abcdef";
    size_t bytes = printable_bytes(text, left);
    if (bytes > 0) {
        memcpy(out, text, bytes);
        *used = bytes;
        return bytes;
    }
    unsigned char c = (unsigned char)text[0];
    const char code[4] = {'\\', 'x', digits[c >> 4], digits[c & 15]};
    memcpy(out, code, sizeof code);
    *used = 1;
    return sizeof code;
}

const char *lw_printable(const char *text, char *out, size_t out_bytes)
{
    size_t made = 0;
    size_t whole = 0; // what may stay when the end is cut
    size_t left = strlen(text);
    while (left > 0) {
        char one[4];
        size_t used = 0;
        size_t bytes = print_one(text, left, one, &used);
        if (made + bytes + 1 > out_bytes) {
            memcpy(out + whole, "...", 3);
            made = whole + 3;
            break;
        }
        memcpy(out + made, one, bytes);
        made += bytes;
        whole = made + 4 <= out_bytes ? made : whole;
        text += used;
        left -= used;
    }
    out[made] = '\0';
    return out;
}

char *lw_printable_lines(const char *text)
{
    size_t left = strlen(text);
    if (left > SIZE_MAX / 4 - 1) {
        return NULL;
    }
    char *out = malloc(4 * left + 1);
    if (out == NULL) {
        return NULL;
    }
    char *at = out;
    while (left > 0) {
        size_t used = 1;
        if (*text == '\n') {
            *at++ = '\n';
        } else {
            at += print_one(text, left, at, &used);
        }
        text += used;
        left -= used;
    }
    *at = '\0';
    return out;
}
