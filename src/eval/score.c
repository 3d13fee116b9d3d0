// score.c: exact match and token F1, with the text normalised as Python does it.
#include "eval/score.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

// Text is kept as code points, as in Python: the rules below are those of str.lower, the \b of re, and str.split.
typedef struct points {
    int32_t *data;
    size_t count;
} points;

static const int32_t sigma = 0x3A3;
static const int32_t final_sigma = 0x3C2;

static lw_status decode(const char *text, size_t bytes, lw_error *err, points *out)
{
    out->count = 0;
    out->data = malloc((bytes + 1) * sizeof *out->data);
    if (out->data == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory to score a text of %zu bytes", bytes);
    }
    for (size_t at = 0; at < bytes;) {
        size_t left = bytes - at < 4 ? bytes - at : 4;
        utf8proc_ssize_t used =
            utf8proc_iterate((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)left, &out->data[out->count]);
        if (used <= 0) {
            out->data[out->count] = 0xFFFD;
            used = 1;
        }
        out->count++;
        at += (size_t)used;
    }
    return LW_OK;
}

static utf8proc_category_t category(int32_t c)
{
    return utf8proc_category(c);
}

// Unicode's Cased and Case_Ignorable, which decide between the two small sigmas (SpecialCasing.txt, Final_Sigma).
static bool is_cased(int32_t c)
{
    utf8proc_category_t of = category(c);
    return of == UTF8PROC_CATEGORY_LU || of == UTF8PROC_CATEGORY_LL || of == UTF8PROC_CATEGORY_LT || c == 0xAA ||
           c == 0xBA || (c >= 0x2160 && c <= 0x217F) || (c >= 0x24B6 && c <= 0x24E9);
}

static bool is_case_ignorable(int32_t c)
{
    static const int32_t inside_words[] = {0x27,   0x2E,   0x3A,   0xB7,   0x387,  0x55F,  0x5F4,  0x2018, 0x2019,
                                           0x2024, 0x2027, 0xFE13, 0xFE52, 0xFE55, 0xFF07, 0xFF0E, 0xFF1A};
    for (size_t i = 0; i < sizeof inside_words / sizeof inside_words[0]; i++) {
        if (c == inside_words[i]) {
            return true;
        }
    }
    switch (category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK: return true;
    default: return false;
    }
}

static bool ends_word(const points *text, size_t at)
{
    size_t before = at;
    while (before > 0 && is_case_ignorable(text->data[before - 1])) {
        before--;
    }
    size_t after = at + 1;
    while (after < text->count && is_case_ignorable(text->data[after])) {
        after++;
    }
    return before > 0 && is_cased(text->data[before - 1]) && !(after < text->count && is_cased(text->data[after]));
}

// ASCII punctuation only: string.punctuation.
static bool is_punctuation(int32_t c)
{
    return c > ' ' && c < 0x7F && !(c >= '0' && c <= '9') && !(c >= 'A' && c <= 'Z') && !(c >= 'a' && c <= 'z');
}

// str.isspace: bidirectional class WS, B or S, or category Zs.
static bool is_space(int32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

// \w: letters and numbers, but not combining marks; the underscore has been removed by then.
static bool is_word(int32_t c)
{
    utf8proc_category_t of = category(c);
    return (of >= UTF8PROC_CATEGORY_LU && of <= UTF8PROC_CATEGORY_LO) ||
           (of >= UTF8PROC_CATEGORY_ND && of <= UTF8PROC_CATEGORY_NO);
}

// Lower case, then no punctuation. Only U+0130 becomes two characters, so the result needs at most twice the room.
static lw_status lower_and_strip(const points *text, lw_error *err, points *out)
{
    out->count = 0;
    out->data = malloc((2 * text->count + 1) * sizeof *out->data);
    if (out->data == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory to score a text of %zu characters", text->count);
    }
    for (size_t i = 0; i < text->count; i++) {
        int32_t c = text->data[i];
        if (c == 0x130) {
            out->data[out->count++] = 'i';
            out->data[out->count++] = 0x307;
        } else if (c == sigma && ends_word(text, i)) {
            out->data[out->count++] = final_sigma;
        } else if (!is_punctuation(c)) {
            out->data[out->count++] = utf8proc_tolower(c);
        }
    }
    return LW_OK;
}

static bool is_article(const int32_t *word, size_t length)
{
    return (length == 1 && word[0] == 'a') || (length == 2 && word[0] == 'a' && word[1] == 'n') ||
           (length == 3 && word[0] == 't' && word[1] == 'h' && word[2] == 'e');
}

// Replaces each article that is a whole run of \w by a space: re.sub(r'\b(a|an|the)\b', ' ', text).
static void drop_articles(points *text)
{
    size_t kept = 0;
    for (size_t i = 0; i < text->count;) {
        size_t end = i;
        while (end < text->count && is_word(text->data[end])) {
            end++;
        }
        if (is_article(text->data + i, end - i)) {
            text->data[kept++] = ' ';
        } else {
            size_t length = end > i ? end - i : 1;
            memmove(text->data + kept, text->data + i, length * sizeof *text->data);
            kept += length;
            end = i + length;
        }
        i = end;
    }
    text->count = kept;
}

// ' '.join(text.split()) as UTF-8.
static lw_status encode_words(const points *text, lw_error *err, char **out, size_t *out_bytes)
{
    char *bytes = malloc(4 * text->count + 1);
    if (bytes == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory to score a text of %zu characters", text->count);
    }
    size_t used = 0;
    bool gap = false;
    for (size_t i = 0; i < text->count; i++) {
        if (is_space(text->data[i])) {
            gap = used > 0;
            continue;
        }
        if (gap) {
            bytes[used++] = ' ';
            gap = false;
        }
        used += (size_t)utf8proc_encode_char(text->data[i], (utf8proc_uint8_t *)bytes + used);
    }
    bytes[used] = '\0';
    *out = bytes;
    *out_bytes = used;
    return LW_OK;
}

lw_status lw_score_normalize(const char *text, size_t bytes, lw_error *err, char **out, size_t *out_bytes)
{
    points raw = {0};
    points words = {0};
    lw_status status = decode(text, bytes, err, &raw);
    if (status == LW_OK) {
        status = lower_and_strip(&raw, err, &words);
    }
    if (status == LW_OK) {
        drop_articles(&words);
        status = encode_words(&words, err, out, out_bytes);
    }
    free(raw.data);
    free(words.data);
    return status;
}

// --- words of a normalised text, sorted

typedef struct word {
    const char *text;
    size_t bytes;
} word;

typedef struct bag {
    char *text; // normalised
    size_t bytes;
    word *words;
    size_t count;
} bag;

static int compare_words(const void *a, const void *b)
{
    const word *x = a;
    const word *y = b;
    int order = memcmp(x->text, y->text, x->bytes < y->bytes ? x->bytes : y->bytes);
    return order != 0 ? order : (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static void free_bag(bag *b)
{
    free(b->text);
    free(b->words);
}

static lw_status make_bag(const char *text, size_t bytes, lw_error *err, bag *out)
{
    *out = (bag){0};
    LW_TRY(lw_score_normalize(text, bytes, err, &out->text, &out->bytes));
    out->words = malloc((out->bytes / 2 + 1) * sizeof *out->words);
    if (out->words == NULL) {
        free_bag(out);
        return lw_fail(err, LW_ERR_MEMORY, "no memory to score a text of %zu bytes", bytes);
    }
    for (size_t at = 0; at < out->bytes;) {
        const char *space = memchr(out->text + at, ' ', out->bytes - at);
        size_t end = space == NULL ? out->bytes : (size_t)(space - out->text);
        out->words[out->count++] = (word){out->text + at, end - at};
        at = end + 1;
    }
    qsort(out->words, out->count, sizeof *out->words, compare_words);
    return LW_OK;
}

static double f1_of(const bag *prediction, const bag *gold)
{
    size_t same = 0;
    for (size_t i = 0, j = 0; i < prediction->count && j < gold->count;) {
        int order = compare_words(&prediction->words[i], &gold->words[j]);
        same += order == 0;
        i += order <= 0;
        j += order >= 0;
    }
    if (same == 0) { // also when both are empty, as in the official script
        return 0;
    }
    double precision = (double)same / (double)prediction->count;
    double recall = (double)same / (double)gold->count;
    return (2 * precision * recall) / (precision + recall);
}

lw_status lw_score_answer(const char *prediction, size_t bytes, char *const *answers, int64_t answer_count,
                          lw_error *err, lw_score *out)
{
    lw_score best = {0};
    bag said;
    LW_TRY(make_bag(prediction, bytes, err, &said));
    for (int64_t i = 0; i < answer_count; i++) {
        bag gold;
        lw_status status = make_bag(answers[i], strlen(answers[i]), err, &gold);
        if (status != LW_OK) {
            free_bag(&said);
            return status;
        }
        bool equal = said.bytes == gold.bytes && memcmp(said.text, gold.text, said.bytes) == 0;
        double f1 = f1_of(&said, &gold);
        best.exact = equal ? 1 : best.exact;
        best.f1 = f1 > best.f1 ? f1 : best.f1;
        free_bag(&gold);
    }
    free_bag(&said);
    *out = best;
    return LW_OK;
}
