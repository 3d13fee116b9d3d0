// characters.c: UTF-8, character classes and the byte alphabet of byte-level BPE.
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "tokenizer/tokenizer_internal.h"

lw_status lw_text_reserve(lw_text_buffer *buffer, size_t more, lw_error *err)
{
    if (more <= buffer->cap - buffer->len) {
        return LW_OK;
    }
    if (more > SIZE_MAX / 2 - buffer->len) {
        return lw_fail(err, LW_ERR_MEMORY, "a text of %zu + %zu bytes is too large", buffer->len, more);
    }
    size_t cap = 2 * buffer->cap;
    if (cap < buffer->len + more) {
        cap = buffer->len + more;
    }
    if (cap < 64) {
        cap = 64;
    }
    char *data = realloc(buffer->data, cap);
    if (!data) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for %zu bytes of text", cap);
    }
    buffer->data = data;
    buffer->cap = cap;
    return LW_OK;
}

lw_status lw_text_append(lw_text_buffer *buffer, const char *data, size_t len, lw_error *err)
{
    if (len == 0) {
        return LW_OK;
    }
    LW_TRY(lw_text_reserve(buffer, len, err));
    memcpy(buffer->data + buffer->len, data, len);
    buffer->len += len;
    return LW_OK;
}

// Follows the Unicode standard, table 3-7 and "maximal subpart": the range of the second byte excludes overlong forms,
// surrogates and code points beyond U+10FFFF.
size_t lw_utf8_bad_part(const char *s, size_t left)
{
    const unsigned char *u = (const unsigned char *)s;
    const unsigned char lead = u[0];
    if (lead < 0xC2 || lead > 0xF4) {
        return 1;
    }
    const size_t len = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (left < 2 || u[1] < low || u[1] > high) {
        return 1;
    }
    size_t good = 2;
    while (good < len && good < left && (u[good] & 0xC0) == 0x80) {
        good++;
    }
    return good;
}

bool lw_is_space(int32_t c)
{
    return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

// UTS #18: Alphabetic, Mark, Decimal_Number, Connector_Punctuation, Join_Control. Alphabetic is the letters, Nl, some
// marks, and the circled and squared Latin letters of category So.
bool lw_is_word(int32_t c)
{
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    default:
        return c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
               (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
    }
}

bool lw_is_numeric(int32_t c)
{
    if (c < 0x80) {
        return c >= '0' && c <= '9';
    }
    const utf8proc_category_t category = utf8proc_category(c);
    return category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL || category == UTF8PROC_CATEGORY_NO;
}

// GPT-2 shows printable Latin-1 bytes as themselves, and the 68 others in order from U+0100: 0..0x20 are U+0100..0120,
// 0x7F..0xA0 are U+0121..0142, 0xAD is U+0143.
int32_t lw_byte_to_char(unsigned char byte)
{
    if (byte <= 0x20) {
        return 0x100 + byte;
    }
    if (byte >= 0x7F && byte <= 0xA0) {
        return 0x121 + (byte - 0x7F);
    }
    return byte == 0xAD ? 0x143 : byte;
}

int lw_char_to_byte(int32_t c)
{
    if ((c > 0x20 && c < 0x7F) || (c > 0xA0 && c <= 0xFF && c != 0xAD)) {
        return c;
    }
    if (c >= 0x100 && c <= 0x120) {
        return c - 0x100;
    }
    if (c >= 0x121 && c <= 0x142) {
        return c - 0x121 + 0x7F;
    }
    return c == 0x143 ? 0xAD : -1;
}
