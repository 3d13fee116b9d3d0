// normalise.c: applies a tokenizer's normalizer; BertNormalizer, and the punctuation of BertPreTokenizer.
//
// Categories come from utf8proc, which knows Unicode 15. Hugging Face `tokenizers` (0.20 and 0.23) uses those of
// Unicode 8: the tables below name the characters that differ, so that ids are equal for every character.
#include <string.h>

#include <utf8proc.h>

#include "tokenizer/tokenizer_internal.h"

typedef struct lw_char_range {
    int32_t first, last;
} lw_char_range;

static bool in_ranges(const lw_char_range *ranges, size_t count, int32_t c)
{
    size_t low = 0;
    size_t high = count;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (c > ranges[middle].last) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < count && c >= ranges[low].first;
}

#define IN_RANGES(ranges, c) in_ranges(ranges, sizeof(ranges) / sizeof *(ranges), c)

// Characters that belong to category Mn now, but not in Unicode 8.
static const lw_char_range later_marks[] = {
    {0x7FD, 0x7FD},     {0x898, 0x89F},     {0x8CA, 0x8E1},     {0x9FE, 0x9FE},     {0xAFA, 0xAFF},
    {0xB55, 0xB55},     {0xC04, 0xC04},     {0xC3C, 0xC3C},     {0xD00, 0xD00},     {0xD3B, 0xD3C},
    {0xD81, 0xD81},     {0xEBA, 0xEBA},     {0xECE, 0xECE},     {0x180F, 0x180F},   {0x1885, 0x1886},
    {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFB},   {0xA82C, 0xA82C},   {0xA8C5, 0xA8C5},   {0xA8FF, 0xA8FF},
    {0xA9BD, 0xA9BD},   {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50},
    {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x11073, 0x11074}, {0x110C2, 0x110C2}, {0x111C9, 0x111C9},
    {0x111CF, 0x111CF}, {0x1123E, 0x1123E}, {0x11241, 0x11241}, {0x1133B, 0x1133B}, {0x11438, 0x1143F},
    {0x11442, 0x11444}, {0x11446, 0x11446}, {0x1145E, 0x1145E}, {0x1182F, 0x11837}, {0x11839, 0x1183A},
    {0x1193B, 0x1193C}, {0x1193E, 0x1193E}, {0x11943, 0x11943}, {0x119D4, 0x119D7}, {0x119DA, 0x119DB},
    {0x119E0, 0x119E0}, {0x11A01, 0x11A0A}, {0x11A33, 0x11A38}, {0x11A3B, 0x11A3E}, {0x11A47, 0x11A47},
    {0x11A51, 0x11A56}, {0x11A59, 0x11A5B}, {0x11A8A, 0x11A96}, {0x11A98, 0x11A99}, {0x11C30, 0x11C36},
    {0x11C38, 0x11C3D}, {0x11C3F, 0x11C3F}, {0x11C92, 0x11CA7}, {0x11CAA, 0x11CB0}, {0x11CB2, 0x11CB3},
    {0x11CB5, 0x11CB6}, {0x11D31, 0x11D36}, {0x11D3A, 0x11D3A}, {0x11D3C, 0x11D3D}, {0x11D3F, 0x11D45},
    {0x11D47, 0x11D47}, {0x11D90, 0x11D91}, {0x11D95, 0x11D95}, {0x11D97, 0x11D97}, {0x11EF3, 0x11EF4},
    {0x11F00, 0x11F01}, {0x11F36, 0x11F3A}, {0x11F40, 0x11F40}, {0x11F42, 0x11F42}, {0x13440, 0x13440},
    {0x13447, 0x13455}, {0x16F4F, 0x16F4F}, {0x16FE4, 0x16FE4}, {0x1CF00, 0x1CF2D}, {0x1CF30, 0x1CF46},
    {0x1E000, 0x1E006}, {0x1E008, 0x1E018}, {0x1E01B, 0x1E021}, {0x1E023, 0x1E024}, {0x1E026, 0x1E02A},
    {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF},
    {0x1E944, 0x1E94A},
};

// Characters that belong to a category of punctuation now, but not in Unicode 8.
static const lw_char_range later_punctuation[] = {
    {0x61D, 0x61D},     {0x9FD, 0x9FD},     {0xA76, 0xA76},     {0xC77, 0xC77},     {0xC84, 0xC84},
    {0x1B7D, 0x1B7E},   {0x2E43, 0x2E4F},   {0x2E52, 0x2E54},   {0x2E55, 0x2E55},   {0x2E56, 0x2E56},
    {0x2E57, 0x2E57},   {0x2E58, 0x2E58},   {0x2E59, 0x2E59},   {0x2E5A, 0x2E5A},   {0x2E5B, 0x2E5B},
    {0x2E5C, 0x2E5C},   {0x2E5D, 0x2E5D},   {0x10EAD, 0x10EAD}, {0x10F55, 0x10F59}, {0x10F86, 0x10F89},
    {0x1144B, 0x1144F}, {0x1145A, 0x1145B}, {0x1145D, 0x1145D}, {0x11660, 0x1166C}, {0x116B9, 0x116B9},
    {0x1183B, 0x1183B}, {0x11944, 0x11946}, {0x119E2, 0x119E2}, {0x11A3F, 0x11A46}, {0x11A9A, 0x11A9C},
    {0x11A9E, 0x11AA2}, {0x11B00, 0x11B09}, {0x11C41, 0x11C45}, {0x11C70, 0x11C71}, {0x11EF7, 0x11EF8},
    {0x11F43, 0x11F4F}, {0x11FFF, 0x11FFF}, {0x12FF1, 0x12FF2}, {0x16E97, 0x16E9A}, {0x16FE2, 0x16FE2},
    {0x1E95E, 0x1E95F},
};

// Characters that belong to category Cf now, but not in Unicode 8.
static const lw_char_range later_formats[] = {{0x890, 0x891}, {0x8E2, 0x8E2}, {0x110CD, 0x110CD}, {0x13430, 0x1343F}};

// CJK ideographs as the original BERT lists them.
static const lw_char_range ideographs[] = {{0x3400, 0x4DBF},   {0x4E00, 0x9FFF},   {0xF900, 0xFAFF},
                                           {0x20000, 0x2A6DF}, {0x2A700, 0x2B81F}, {0x2B920, 0x2CEAF},
                                           {0x2F800, 0x2FA1F}};

static bool is_stripped(int32_t c)
{
    if (c < 0x300) {
        return false;
    }
    return c == 0x1734 || (utf8proc_category(c) == UTF8PROC_CATEGORY_MN && !IN_RANGES(later_marks, c));
}

static bool is_ascii_punctuation(int32_t c)
{
    return (c >= 0x21 && c <= 0x2F) || (c >= 0x3A && c <= 0x40) || (c >= 0x5B && c <= 0x60) || (c >= 0x7B && c <= 0x7E);
}

bool lw_bert_is_punctuation(int32_t c)
{
    if (c < 0x80) {
        return is_ascii_punctuation(c);
    }
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO: return !IN_RANGES(later_punctuation, c);
    default: return c == 0x111C9 || c == 0x166D;
    }
}

// Tab and line ends count as white space, not as control characters; unassigned code points are neither.
static bool is_removed(int32_t c)
{
    if (c == '\t' || c == '\n' || c == '\r') {
        return false;
    }
    if (c < 0x80) {
        return c < 0x20 || c == 0x7F;
    }
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CO: return true;
    case UTF8PROC_CATEGORY_CF: return !IN_RANGES(later_formats, c);
    default: return c == 0xFFFD;
    }
}

// Performs the first two steps: text -> nfc->cleaned.
static lw_status clean(const lw_bert_normalizer *bert, lw_nfc *nfc, const char *text, size_t len, lw_error *err)
{
    nfc->cleaned.len = 0;
    for (size_t at = 0, step; at < len; at += step) {
        const int32_t c = lw_utf8_at(text + at, &step);
        if (bert->clean && is_removed(c)) {
            continue;
        }
        const bool space = bert->clean && lw_is_space(c);
        const bool apart = bert->space_ideographs && c >= ideographs[0].first && IN_RANGES(ideographs, c);
        LW_TRY(lw_text_reserve(&nfc->cleaned, 6, err));
        char *end = nfc->cleaned.data + nfc->cleaned.len;
        char *const begin = end;
        if (apart) {
            *end++ = ' ';
        }
        memcpy(end, space ? " " : text + at, space ? 1 : step);
        end += space ? 1 : step;
        if (apart) {
            *end++ = ' ';
        }
        nfc->cleaned.len += (size_t)(end - begin);
    }
    return LW_OK;
}

static lw_status append_char(lw_text_buffer *text, int32_t c, bool lowercase, lw_error *err)
{
    LW_TRY(lw_text_reserve(text, 8, err));
    utf8proc_uint8_t *end = (utf8proc_uint8_t *)text->data + text->len;
    if (lowercase && c == 0x130) { // the only character whose lower case has two
        memcpy(end, "i\xCC\x87", 3);
        text->len += 3;
        return LW_OK;
    }
    text->len += (size_t)utf8proc_encode_char(lowercase ? utf8proc_tolower(c) : c, end);
    return LW_OK;
}

static lw_status bert_normalise(const lw_bert_normalizer *bert, lw_nfc *nfc, const char *text, size_t len,
                                lw_error *err, const char **out, size_t *out_len)
{
    if (bert->clean || bert->space_ideographs) {
        LW_TRY(clean(bert, nfc, text, len, err));
        text = nfc->cleaned.data;
        len = nfc->cleaned.len;
    }
    nfc->text.len = 0;
    if (bert->strip_accents) {
        size_t count;
        LW_TRY(lw_nfd_points(nfc, text, len, err, &count));
        for (size_t i = 0; i < count; i++) {
            if (!is_stripped(nfc->points[i])) {
                LW_TRY(append_char(&nfc->text, nfc->points[i], bert->lowercase, err));
            }
        }
    } else {
        for (size_t at = 0, step; at < len; at += step) {
            LW_TRY(append_char(&nfc->text, lw_utf8_at(text + at, &step), bert->lowercase, err));
        }
    }
    *out = nfc->text.len > 0 ? nfc->text.data : "";
    *out_len = nfc->text.len;
    return LW_OK;
}

// --- the normalizer that the tokenizer has

lw_status lw_normalise(const lw_tokenizer *tokenizer, lw_nfc *nfc, const char *text, size_t len, lw_error *err,
                       const char **out, size_t *out_len)
{
    switch (tokenizer->normalizer) {
    case LW_NORMALIZER_NFC: return lw_nfc_apply(nfc, text, len, err, out, out_len);
    case LW_NORMALIZER_BERT: return bert_normalise(&tokenizer->bert, nfc, text, len, err, out, out_len);
    case LW_NORMALIZER_NONE: break;
    }
    *out = text;
    *out_len = len;
    return LW_OK;
}
