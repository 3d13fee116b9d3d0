// nfc.c: Unicode normalisation forms C and D in linear time, by the tables of Unicode 9.
//
// utf8proc does decomposition and composition. utf8proc_NFC as a whole would not do: its canonical ordering is a bubble
// sort, quadratic on long runs of marks, and its Unicode version cannot be chosen. So the ordering is done here, and
// characters newer than Unicode 9 are left out.
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "tokenizer/tokenizer_internal.h"

enum { MAX_DECOMPOSITION = 8 }; // a canonical decomposition has at most 4 code points

void lw_nfc_free(lw_nfc *nfc)
{
    free(nfc->points);
    free(nfc->sorted);
    free(nfc->text.data);
    free(nfc->cleaned.data);
    *nfc = (lw_nfc){0};
}

static lw_status reserve(lw_nfc *nfc, size_t count, lw_error *err)
{
    if (count <= nfc->cap) {
        return LW_OK;
    }
    if (count > SIZE_MAX / 16) {
        return lw_fail(err, LW_ERR_MEMORY, "a text of %zu characters is too large to normalise", count);
    }
    const size_t cap = 2 * count;
    int32_t *points = realloc(nfc->points, cap * sizeof *points);
    if (points) {
        nfc->points = points;
    }
    int32_t *sorted = realloc(nfc->sorted, cap * sizeof *sorted);
    if (sorted) {
        nfc->sorted = sorted;
    }
    if (!points || !sorted) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory to normalise a text of %zu characters", count);
    }
    nfc->cap = cap;
    return LW_OK;
}

static unsigned combining_class(int32_t c)
{
    const int combining = utf8proc_get_property(c)->combining_class;
    return (unsigned)combining & 0xFF;
}

// Stable sort of marks by their combining class (UAX #15, D109).
static void sort_marks(int32_t *marks, int32_t *room, size_t count)
{
    if (count <= 16) {
        for (size_t i = 1; i < count; i++) {
            const int32_t mark = marks[i];
            const unsigned mark_class = combining_class(mark);
            size_t j = i;
            for (; j > 0 && combining_class(marks[j - 1]) > mark_class; j--) {
                marks[j] = marks[j - 1];
            }
            marks[j] = mark;
        }
        return;
    }
    size_t start[257] = {0};
    for (size_t i = 0; i < count; i++) {
        start[combining_class(marks[i]) + 1]++;
    }
    for (size_t c = 1; c < 257; c++) {
        start[c] += start[c - 1];
    }
    for (size_t i = 0; i < count; i++) {
        room[start[combining_class(marks[i])]++] = marks[i];
    }
    memcpy(marks, room, count * sizeof *marks);
}

static void canonical_order(int32_t *points, int32_t *room, size_t count)
{
    size_t i = 0;
    while (i < count) {
        if (combining_class(points[i]) == 0) {
            i++;
            continue;
        }
        const size_t first = i;
        while (i < count && combining_class(points[i]) != 0) {
            i++;
        }
        sort_marks(points + first, room, i - first);
    }
}

// Appends the canonical decomposition of one character to nfc->points.
static lw_status decompose(lw_nfc *nfc, int32_t c, int options, lw_error *err, size_t *count)
{
    LW_TRY(reserve(nfc, *count + MAX_DECOMPOSITION, err));
    int last_boundclass = UTF8PROC_BOUNDCLASS_START;
    const utf8proc_ssize_t made = utf8proc_decompose_char(c, nfc->points + *count, MAX_DECOMPOSITION,
                                                          (utf8proc_option_t)options, &last_boundclass);
    if (made < 0 || made > MAX_DECOMPOSITION) {
        return lw_fail(err, LW_ERR_INTERNAL, "utf8proc cannot decompose U+%04X", (unsigned)c);
    }
    *count += (size_t)made;
    return LW_OK;
}

// Appends the NFC of one span.
static lw_status normalise_span(lw_nfc *nfc, const char *span, size_t len, lw_error *err)
{
    const int options = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    size_t count = 0;
    for (size_t at = 0, step; at < len; at += step) {
        const int32_t c = lw_utf8_at(span + at, &step);
        LW_TRY(decompose(nfc, c, options, err, &count));
    }
    canonical_order(nfc->points, nfc->sorted, count);
    const utf8proc_ssize_t composed =
        utf8proc_normalize_utf32(nfc->points, (utf8proc_ssize_t)count, (utf8proc_option_t)options);
    if (composed < 0) {
        return lw_fail(err, LW_ERR_INTERNAL, "utf8proc: %s", utf8proc_errmsg(composed));
    }
    LW_TRY(lw_text_reserve(&nfc->text, 4 * (size_t)composed, err));
    for (utf8proc_ssize_t i = 0; i < composed; i++) {
        utf8proc_uint8_t *end = (utf8proc_uint8_t *)nfc->text.data + nfc->text.len;
        nfc->text.len += (size_t)utf8proc_encode_char(nfc->points[i], end);
    }
    return LW_OK;
}

// Hugging Face `tokenizers` normalises by Unicode 9 (0.20 and 0.23). It treats characters that came later and have a
// combining class or a decomposition as starters that combine with nothing. These are the ones up to Unicode 16; none
// of them was assigned in Unicode 9.
static const struct {
    int32_t first, last;
} after_unicode_9[] = {
    {0x07FD, 0x07FD},   {0x0897, 0x089F},   {0x08CA, 0x08D3},   {0x09FE, 0x09FE},   {0x0C3C, 0x0C3C},
    {0x0D3B, 0x0D3C},   {0x0EBA, 0x0EBA},   {0x1715, 0x1715},   {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},
    {0xA82C, 0xA82C},   {0x105C9, 0x105C9}, {0x105E4, 0x105E4}, {0x10D24, 0x10D27}, {0x10D69, 0x10D6D},
    {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070},
    {0x1133B, 0x1133B}, {0x11380, 0x113E2}, {0x1145E, 0x1145E}, {0x11839, 0x1183A}, {0x11930, 0x11930},
    {0x11935, 0x11935}, {0x11938, 0x11938}, {0x1193D, 0x1193E}, {0x11943, 0x11943}, {0x119E0, 0x119E0},
    {0x11A34, 0x11A34}, {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D42}, {0x11D44, 0x11D45},
    {0x11D97, 0x11D97}, {0x11F41, 0x11F42}, {0x16100, 0x1612F}, {0x16D40, 0x16D6F}, {0x16FF0, 0x16FF1},
    {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF},
    {0x1E5EE, 0x1E5EF},
};

static bool is_after_unicode_9(int32_t c)
{
    size_t low = 0;
    size_t high = sizeof after_unicode_9 / sizeof *after_unicode_9;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (c > after_unicode_9[middle].last) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < sizeof after_unicode_9 / sizeof *after_unicode_9 && c >= after_unicode_9[low].first;
}

// INERT: a starter that is its own NFC and composes with nothing before it, but perhaps with what follows. ISOLATED: a
// character that combines with nothing on either side. A span to normalise begins with an inert character, if there is
// one, and ends before the next character that is not ACTIVE.
typedef enum lw_nfc_kind { NFC_INERT, NFC_ISOLATED, NFC_ACTIVE } lw_nfc_kind;

static lw_nfc_kind kind_of(int32_t c)
{
    if (c < 0x300 || (c >= 0x3400 && c <= 0x9FFF)) { // up to the combining marks, and the ideographs
        return NFC_INERT;
    }
    return is_after_unicode_9(c) ? NFC_ISOLATED : NFC_ACTIVE;
}

lw_status lw_nfc_apply(lw_nfc *nfc, const char *text, size_t len, lw_error *err, const char **out, size_t *out_len)
{
    nfc->text.len = 0;
    size_t copied = 0; // text before this offset is in nfc->text, once a span has been normalised
    size_t begin = 0;  // where a span would begin
    size_t at = 0;
    while (at < len) {
        size_t step;
        const lw_nfc_kind kind = kind_of(lw_utf8_at(text + at, &step));
        if (kind != NFC_ACTIVE) {
            begin = kind == NFC_INERT ? at : at + step;
            at += step;
            continue;
        }
        size_t end = at + step;
        while (end < len && kind_of(lw_utf8_at(text + end, &step)) == NFC_ACTIVE) {
            end += step;
        }
        LW_TRY(lw_text_append(&nfc->text, text + copied, begin - copied, err));
        LW_TRY(normalise_span(nfc, text + begin, end - begin, err));
        copied = begin = at = end;
    }
    if (copied == 0) {
        *out = text;
        *out_len = len;
        return LW_OK;
    }
    LW_TRY(lw_text_append(&nfc->text, text + copied, len - copied, err));
    *out = nfc->text.data;
    *out_len = nfc->text.len;
    return LW_OK;
}

lw_status lw_nfd_points(lw_nfc *nfc, const char *text, size_t len, lw_error *err, size_t *out_count)
{
    const int options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    size_t count = 0;
    size_t first = 0;             // from here on, marks may have to be put in order
    LW_TRY(reserve(nfc, 1, err)); // an empty text also needs an array
    for (size_t at = 0, step; at < len; at += step) {
        const int32_t c = lw_utf8_at(text + at, &step);
        if (c < 0xC0) { // a starter with nothing to decompose
            LW_TRY(reserve(nfc, count + 1, err));
            nfc->points[count++] = c;
        } else if (is_after_unicode_9(c)) {
            canonical_order(nfc->points + first, nfc->sorted, count - first);
            LW_TRY(reserve(nfc, count + 1, err));
            nfc->points[count++] = c;
            first = count;
        } else {
            LW_TRY(decompose(nfc, c, options, err, &count));
        }
    }
    canonical_order(nfc->points + first, nfc->sorted, count - first);
    *out_count = count;
    return LW_OK;
}
