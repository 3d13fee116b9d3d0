// pretok.c: pre-tokenizers: a chain of stages, each of which cuts the pieces of the previous one.
#include "core/clock.h"
#include "tokenizer/tokenizer_internal.h"

// Cuts one piece. Segments (matches and the gaps between them) arrive in order; the behaviour decides how they are
// joined, and the result goes to the next stage. One segment is held back, since the next may be joined to it.
typedef struct lw_splitter {
    const lw_encoding *encoding;
    int stage;
    const char *text;
    size_t start, end; // the segment held back
    bool holds, is_match;
    bool previous_match; // whether the last segment was a match when it arrived
} lw_splitter;

static lw_status run_stage(const lw_encoding *encoding, int stage, const char *text, size_t len);

static lw_status flush(lw_splitter *s)
{
    const bool removed = s->encoding->tokenizer->stages[s->stage].behavior == LW_SPLIT_REMOVED && s->is_match;
    if (!s->holds || removed || s->start == s->end) {
        s->holds = false;
        return LW_OK;
    }
    s->holds = false;
    return run_stage(s->encoding, s->stage + 1, s->text + s->start, s->end - s->start);
}

static bool joins(const lw_splitter *s, lw_split_behavior behavior, bool is_match)
{
    if (!s->holds) {
        return false;
    }
    switch (behavior) {
    case LW_SPLIT_CONTIGUOUS: return is_match == s->previous_match;
    case LW_SPLIT_MERGED_WITH_PREVIOUS: return is_match && !s->previous_match;
    case LW_SPLIT_MERGED_WITH_NEXT: return !is_match && s->previous_match;
    case LW_SPLIT_ISOLATED:
    case LW_SPLIT_REMOVED: break;
    }
    return false;
}

static lw_status segment(lw_splitter *s, size_t start, size_t end, bool is_match)
{
    const lw_stage *stage = &s->encoding->tokenizer->stages[s->stage];
    is_match ^= stage->invert;
    if (joins(s, stage->behavior, is_match)) {
        s->end = end;
    } else {
        LW_TRY(flush(s));
        s->start = start;
        s->end = end;
        s->holds = true;
    }
    s->is_match = s->previous_match = is_match;
    return LW_OK;
}

// Finds the first match at or after `at`, if there is one.
static lw_status match(const lw_encoding *encoding, const pcre2_code *code, const char *text, size_t len, size_t at,
                       bool *found, size_t *out_start, size_t *out_end)
{
    enum { MATCHES_BETWEEN_LOOKS = 64 };
    lw_tokenizer_scratch *scratch = encoding->scratch;
    if (++scratch->matches % MATCHES_BETWEEN_LOOKS == 0 && lw_thread_cpu_s() > scratch->cpu_end_s) {
        return lw_fail(encoding->err, LW_ERR_UNSUPPORTED,
                       "the pre-tokenizer's pattern takes too long: it was given up %zu bytes into a piece of %zu", at,
                       len);
    }
    // The whole text has been checked already: checking it again at every match would take quadratic time.
    int rc = pcre2_match(code, (PCRE2_SPTR)text, len, at, PCRE2_NO_UTF_CHECK, scratch->match, scratch->match_context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
        // The interpreter can go on, as it keeps its frames on the heap.
        rc = pcre2_match(code, (PCRE2_SPTR)text, len, at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, scratch->match,
                         scratch->match_context);
    }
    if (rc == PCRE2_ERROR_NOMATCH) {
        *found = false;
        return LW_OK;
    }
    if (rc < 0) {
        char reason[160] = "";
        pcre2_get_error_message(rc, (PCRE2_UCHAR *)reason, sizeof reason);
        return lw_fail(encoding->err, rc == PCRE2_ERROR_NOMEMORY ? LW_ERR_MEMORY : LW_ERR_UNSUPPORTED,
                       "the pre-tokenizer's pattern fails %zu bytes into a text of %zu bytes: %s", at, len, reason);
    }
    const PCRE2_SIZE *offsets = pcre2_get_ovector_pointer(scratch->match);
    *found = true;
    *out_start = offsets[0];
    *out_end = offsets[1];
    return LW_OK;
}

// Makes the segments of Hugging Face's find_iter, in which an empty match directly after a match does not count.
static lw_status split_by_pattern(lw_splitter *s, const pcre2_code *code, size_t len)
{
    size_t done = 0; // end of the last match: segments cover the text up to here
    size_t at = 0;   // where the search goes on
    bool matched = false;
    while (at <= len) {
        bool found = false;
        size_t start = 0;
        size_t end = 0;
        LW_TRY(match(s->encoding, code, s->text, len, at, &found, &start, &end));
        if (!found) {
            break;
        }
        if (start == end && matched && end == done) {
            size_t step = 1;
            if (at < len) {
                (void)lw_utf8_at(s->text + at, &step);
            }
            at += step;
            continue;
        }
        if (start > done) {
            LW_TRY(segment(s, done, start, false));
        }
        LW_TRY(segment(s, start, end, true));
        done = at = end;
        matched = true;
    }
    return done < len ? segment(s, done, len, false) : LW_OK;
}

static lw_status split_by_digits(lw_splitter *s, size_t len)
{
    size_t done = 0;
    for (size_t at = 0, step; at < len; at += step) {
        if (!lw_is_numeric(lw_utf8_at(s->text + at, &step))) {
            continue;
        }
        if (at > done) {
            LW_TRY(segment(s, done, at, false));
        }
        LW_TRY(segment(s, at, at + step, true));
        done = at + step;
    }
    return done < len ? segment(s, done, len, false) : LW_OK;
}

// BertPreTokenizer drops white space and makes each punctuation character a piece of its own.
static lw_status split_for_bert(const lw_encoding *encoding, int index, const char *text, size_t len)
{
    size_t begin = 0; // of the current piece
    for (size_t at = 0, step; at < len; at += step) {
        const int32_t c = lw_utf8_at(text + at, &step);
        const bool punctuation = lw_bert_is_punctuation(c);
        if (!punctuation && !lw_is_space(c)) {
            continue;
        }
        if (at > begin) {
            LW_TRY(run_stage(encoding, index + 1, text + begin, at - begin));
        }
        if (punctuation) {
            LW_TRY(run_stage(encoding, index + 1, text + at, step));
        }
        begin = at + step;
    }
    return begin < len ? run_stage(encoding, index + 1, text + begin, len - begin) : LW_OK;
}

static lw_status run_stage(const lw_encoding *encoding, int index, const char *text, size_t len)
{
    if (index == encoding->tokenizer->stage_count) {
        return lw_encode_word(encoding, text, len);
    }
    const lw_stage *stage = &encoding->tokenizer->stages[index];
    if (stage->kind == LW_STAGE_BERT) {
        return split_for_bert(encoding, index, text, len);
    }
    if (stage->add_prefix_space && text[0] != ' ') {
        // ByteLevel is the last stage, so nothing deeper uses this buffer.
        lw_text_buffer *prefixed = &encoding->scratch->prefixed;
        prefixed->len = 0;
        LW_TRY(lw_text_append(prefixed, " ", 1, encoding->err));
        LW_TRY(lw_text_append(prefixed, text, len, encoding->err));
        text = prefixed->data;
        len = prefixed->len;
    }
    lw_splitter splitter = {.encoding = encoding, .stage = index, .text = text};
    if (stage->code) {
        LW_TRY(split_by_pattern(&splitter, stage->code, len));
    } else if (stage->kind == LW_STAGE_DIGITS) {
        LW_TRY(split_by_digits(&splitter, len));
    } else {
        return run_stage(encoding, index + 1, text, len);
    }
    return flush(&splitter);
}

lw_status lw_encode_pieces(const lw_encoding *encoding, const char *text, size_t len)
{
    return len == 0 ? LW_OK : run_stage(encoding, 0, text, len);
}
