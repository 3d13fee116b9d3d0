// tokenizer.c: the tokenizer's public functions: life time, encoding, decoding.
#include "tokenizer/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/utf8.h"
#include "tokenizer/tokenizer_internal.h"

lw_status lw_tokenizer_load(const char *path, lw_error *err, lw_tokenizer **out)
{
    lw_tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    if (!tokenizer) {
        return lw_fail(err, LW_ERR_MEMORY, "%s: no memory for a tokenizer", path);
    }
    lw_trie_init(&tokenizer->added.verbatim);
    lw_trie_init(&tokenizer->added.normalized);
    lw_trie_init(&tokenizer->wordpiece.first);
    lw_trie_init(&tokenizer->wordpiece.rest);
    const lw_status status = lw_tokenizer_read(path, err, tokenizer);
    if (status != LW_OK) {
        lw_tokenizer_destroy(&tokenizer);
        return status;
    }
    *out = tokenizer;
    return LW_OK;
}

void lw_tokenizer_destroy(lw_tokenizer **tokenizer)
{
    if (!*tokenizer) {
        return;
    }
    for (int i = 0; i < (*tokenizer)->stage_count; i++) {
        pcre2_code_free((*tokenizer)->stages[i].code);
    }
    lw_added_free(&(*tokenizer)->added);
    lw_wordpiece_free(&(*tokenizer)->wordpiece);
    lw_vocab_free(&(*tokenizer)->vocab);
    free(*tokenizer);
    *tokenizer = NULL;
}

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

// Time for a text: hundreds of times what the patterns of the three families need.
static const double CPU_BASE_S = 2.0;
static const double CPU_PER_BYTE_S = 20e-6;

// Backtracking within one match is a small multiple of its length for the patterns of the three families; a pattern
// that explodes is stopped instead of running for ever, and so is one that looks far ahead at every place (below).
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

lw_status lw_normalise(const lw_tokenizer *tokenizer, lw_nfc *nfc, const char *text, size_t len, lw_error *err,
                       const char **out, size_t *out_len)
{
    switch (tokenizer->normalizer) {
    case LW_NORMALIZER_NFC: return lw_nfc_apply(nfc, text, len, err, out, out_len);
    case LW_NORMALIZER_BERT: return lw_bert_normalise(&tokenizer->bert, nfc, text, len, err, out, out_len);
    case LW_NORMALIZER_NONE: break;
    }
    *out = text;
    *out_len = len;
    return LW_OK;
}

static lw_cached_word *cache_slot(const lw_tokenizer_scratch *scratch, const char *word, size_t len)
{
    uint64_t hash = len;
    for (size_t at = 0; at < len; at += sizeof hash) {
        uint64_t eight = 0;
        memcpy(&eight, word + at, len - at < sizeof eight ? len - at : sizeof eight);
        hash = (hash ^ eight) * UINT64_C(0x9E3779B97F4A7C15);
        hash ^= hash >> 32;
    }
    return &scratch->cache[hash % LW_CACHE_SLOTS];
}

lw_status lw_encode_word(const lw_encoding *encoding, const char *word, size_t len)
{
    const lw_token_model *model = encoding->tokenizer->model;
    lw_ids *out = encoding->out;
    if (len == 0) {
        return LW_OK;
    }
    if (len > LW_CACHE_KEY_BYTES) {
        return model->encode_word(encoding, word, len);
    }
    lw_cached_word *cached = cache_slot(encoding->scratch, word, len);
    if (cached->len == len && memcmp(cached->key, word, len) == 0) {
        return lw_ids_append(out, cached->ids, cached->id_count, encoding->err);
    }
    const size_t before = out->len;
    LW_TRY(model->encode_word(encoding, word, len));
    const size_t count = out->len - before;
    if (count <= LW_CACHE_IDS) {
        cached->len = (uint8_t)len;
        cached->id_count = (uint8_t)count;
        memcpy(cached->key, word, len);
        if (count > 0) {
            memcpy(cached->ids, out->data + before, count * sizeof *cached->ids);
        }
    }
    return LW_OK;
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

// Appends `raw` with U+FFFD for each part that is not UTF-8.
static lw_status append_lossy(lw_text_buffer *text, const char *raw, size_t len, lw_error *err)
{
    size_t at = 0;
    while (at < len) {
        const size_t good = lw_utf8_first_bad(raw + at, len - at);
        LW_TRY(lw_text_append(text, raw + at, good, err));
        at += good;
        if (at < len) {
            LW_TRY(lw_text_append(text, "\xEF\xBF\xBD", 3, err));
            at += lw_utf8_bad_part(raw + at, len - at);
        }
    }
    return LW_OK;
}

lw_status lw_tokenizer_decode(const lw_tokenizer *tokenizer, const int32_t *ids, size_t count, bool skip_special,
                              lw_error *err, char **out, size_t *out_bytes)
{
    const lw_vocab *vocab = &tokenizer->vocab;
    lw_text_buffer raw = {0};
    lw_text_buffer text = {0};
    lw_status status = LW_OK;
    if (tokenizer->decoder == LW_DECODER_OTHER) {
        return lw_fail(err, LW_ERR_UNSUPPORTED,
                       "cannot decode: the decoder of this tokenizer.json is neither ByteLevel nor WordPiece");
    }
    const bool wordpiece = tokenizer->decoder == LW_DECODER_WORDPIECE;
    bool first = true;
    for (size_t i = 0; i < count; i++) {
        if (ids[i] < 0) {
            status = lw_fail(err, LW_ERR_FORMAT, "cannot decode the token id %d", (int)ids[i]);
            goto done;
        }
        if (ids[i] >= vocab->id_count || !vocab->tokens[ids[i]].content ||
            (skip_special && vocab->tokens[ids[i]].special)) {
            continue;
        }
        const lw_token *token = &vocab->tokens[ids[i]];
        LW_TRY_GOTO(wordpiece ? lw_wordpiece_decode(&tokenizer->wordpiece, token, first, err, &raw)
                              : lw_text_append(&raw, token->raw, token->raw_len, err));
        first = false;
    }
    LW_TRY_GOTO(append_lossy(&text, raw.data, raw.len, err));
    LW_TRY_GOTO(lw_text_append(&text, "", 1, err));
    *out_bytes = text.len - 1;
    *out = text.data;
    text.data = NULL;
done:
    free(raw.data);
    free(text.data);
    return status;
}

int64_t lw_tokenizer_vocab_size(const lw_tokenizer *tokenizer)
{
    return tokenizer->vocab.id_count;
}

int32_t lw_tokenizer_token_id(const lw_tokenizer *tokenizer, const char *content)
{
    return lw_id_map_find(&tokenizer->vocab, &tokenizer->vocab.by_content, content, strlen(content));
}

int32_t lw_tokenizer_bos_id(const lw_tokenizer *tokenizer)
{
    return tokenizer->bos_id;
}

int32_t lw_tokenizer_end_id(const lw_tokenizer *tokenizer)
{
    return tokenizer->end_id;
}

uint64_t lw_tokenizer_fingerprint(const lw_tokenizer *tokenizer)
{
    return tokenizer->fingerprint;
}
