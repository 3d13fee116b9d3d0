// encode.c: text -> ids: the scratch, and the bounds on the time that a text may take.
#include <stdlib.h>

#include "core/clock.h"
#include "core/utf8.h"
#include "tokenizer/tokenizer_internal.h"

lw_status lw_tokenizer_scratch_create(const lw_tokenizer *tokenizer, lw_error *err, lw_tokenizer_scratch **out)
{
    lw_tokenizer_scratch *scratch = calloc(1, sizeof *scratch);
    if (scratch) {
        scratch->tokenizer = tokenizer;
        scratch->match = pcre2_match_data_create(1, NULL);
        scratch->match_context = pcre2_match_context_create(NULL);
        scratch->cache = calloc(LW_CACHE_SLOTS, sizeof *scratch->cache);
    }
    if (!scratch || !scratch->match || !scratch->match_context || !scratch->cache) {
        lw_tokenizer_scratch_destroy(&scratch);
        return lw_fail(err, LW_ERR_MEMORY, "no memory to encode text");
    }
    *out = scratch;
    return LW_OK;
}

void lw_tokenizer_scratch_destroy(lw_tokenizer_scratch **scratch)
{
    if (!*scratch) {
        return;
    }
    pcre2_match_data_free((*scratch)->match);
    pcre2_match_context_free((*scratch)->match_context);
    free((*scratch)->cache);
    free((*scratch)->word.symbol);
    free((*scratch)->word.prev);
    free((*scratch)->word.next);
    free((*scratch)->word.heap);
    lw_nfc_free(&(*scratch)->nfc);
    free((*scratch)->prefixed.data);
    free(*scratch);
    *scratch = NULL;
}

// The time that a text may take: hundreds of times what the patterns of the three families need.
static const double CPU_BASE_S = 2.0;
static const double CPU_PER_BYTE_S = 20e-6;

// Backtracking within one match is a small multiple of its length for the patterns of the three families. A pattern
// that explodes is stopped instead of running for ever; one that looks far ahead at every place is stopped by its time.
static uint32_t match_limit(size_t bytes)
{
    const uint64_t limit = UINT64_C(1000000) + 64 * (uint64_t)bytes;
    return limit < UINT32_MAX ? (uint32_t)limit : UINT32_MAX;
}

lw_status lw_tokenizer_encode_with(const lw_tokenizer *tokenizer, lw_tokenizer_scratch *scratch, const char *text,
                                   size_t bytes, bool parse_special, lw_error *err, lw_ids *out)
{
    if (scratch->tokenizer != tokenizer) {
        return lw_fail(err, LW_ERR_INTERNAL, "the scratch belongs to another tokenizer");
    }
    const size_t bad = lw_utf8_first_bad(text, bytes);
    if (bad < bytes) {
        return lw_fail(err, LW_ERR_FORMAT, "the text is not UTF-8: byte 0x%02X at offset %zu",
                       (unsigned)(unsigned char)text[bad], bad);
    }
    pcre2_set_match_limit(scratch->match_context, match_limit(bytes));
    scratch->cpu_end_s = lw_thread_cpu_s() + CPU_BASE_S + CPU_PER_BYTE_S * (double)bytes;
    const lw_encoding encoding = {tokenizer, scratch, parse_special, err, out};
    const size_t before = out->len;
    const lw_status status = lw_encode_text(&encoding, text, bytes);
    if (status != LW_OK) {
        out->len = before;
    }
    return status;
}

lw_status lw_tokenizer_encode(const lw_tokenizer *tokenizer, const char *text, size_t bytes, bool parse_special,
                              lw_error *err, lw_ids *out)
{
    lw_tokenizer_scratch *scratch;
    LW_TRY(lw_tokenizer_scratch_create(tokenizer, err, &scratch));
    const lw_status status = lw_tokenizer_encode_with(tokenizer, scratch, text, bytes, parse_special, err, out);
    lw_tokenizer_scratch_destroy(&scratch);
    return status;
}
