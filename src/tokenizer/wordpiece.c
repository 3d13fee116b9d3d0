// wordpiece.c: the WordPiece model (Wu et al. 2016, arXiv:1609.08144, as BERT uses it).
//
// A word is cut from the left into the longest pieces of the vocabulary; in the vocabulary, pieces after the first
// carry a prefix ("##"). A word in which at some place no piece fits, or which has too many characters, is one unknown
// token.
#include <stdlib.h>
#include <string.h>

#include "tokenizer/tokenizer_json.h"

// The search at each place may read the rest of the word, so words that are cut must be short. BERT's limit is 100.
enum { MOST_CHARS_PER_WORD = 1000 };

void lw_wordpiece_free(lw_wordpiece *wordpiece)
{
    free(wordpiece->first.nodes);
    free(wordpiece->rest.nodes);
    free(wordpiece->decoder_prefix);
    *wordpiece = (lw_wordpiece){0};
}

// --- reading

static lw_status read_options(const lw_json *model, lw_error *err, lw_tokenizer *tokenizer)
{
    int64_t chars;
    LW_TRY(lw_json_int(model, "max_input_chars_per_word", 0, INT64_MAX, err, &chars));
    if (chars > MOST_CHARS_PER_WORD) {
        return lw_fail(err, LW_ERR_UNSUPPORTED, "%s: model.max_input_chars_per_word is %lld; at most %d", model->where,
                       (long long)chars, (int)MOST_CHARS_PER_WORD);
    }
    tokenizer->wordpiece.max_chars = (size_t)chars;
    return LW_OK;
}

static lw_status read_rest(const lw_json *model, lw_error *err, lw_tokenizer *tokenizer)
{
    lw_vocab *vocab = &tokenizer->vocab;
    lw_wordpiece *wordpiece = &tokenizer->wordpiece;
    const char *unknown;
    const char *prefix;
    LW_TRY(lw_json_string(model, "unk_token", err, &unknown));
    LW_TRY(lw_json_string(model, "continuing_subword_prefix", err, &prefix));
    vocab->unk_id = lw_id_map_find(vocab, &vocab->by_content, unknown, strlen(unknown));
    if (vocab->unk_id < 0) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: model.unk_token \"%.60s\" is not in model.vocab", model->where,
                       unknown);
    }
    const size_t prefix_len = strlen(prefix);
    for (int32_t id = 0; id < vocab->id_count; id++) {
        const lw_token *token = &vocab->tokens[id];
        if (!token->in_model) {
            continue;
        }
        LW_TRY(lw_trie_insert(&wordpiece->first, token->content, token->content_len, id, err));
        if (token->content_len > prefix_len && memcmp(token->content, prefix, prefix_len) == 0) {
            LW_TRY(lw_trie_insert(&wordpiece->rest, token->content + prefix_len, token->content_len - prefix_len, id,
                                  err));
        }
    }
    return LW_OK;
}

// --- encoding

static size_t count_chars(const char *text, size_t len)
{
    size_t count = 0;
    for (size_t i = 0; i < len; i++) {
        count += ((unsigned char)text[i] & 0xC0) != 0x80;
    }
    return count;
}

static lw_status encode_word(const lw_encoding *encoding, const char *word, size_t len)
{
    const lw_tokenizer *tokenizer = encoding->tokenizer;
    const lw_wordpiece *wordpiece = &tokenizer->wordpiece;
    lw_ids *out = encoding->out;
    const size_t before = out->len;
    bool known = count_chars(word, len) <= wordpiece->max_chars;
    size_t end = 0;
    for (size_t at = 0; known && at < len; at = end) {
        const int32_t id = lw_trie_longest(at == 0 ? &wordpiece->first : &wordpiece->rest, word, len, at, &end);
        known = id >= 0;
        if (known) {
            LW_TRY(lw_ids_push(out, id, encoding->err));
        }
    }
    if (known) {
        return LW_OK;
    }
    out->len = before;
    return lw_ids_push(out, tokenizer->vocab.unk_id, encoding->err);
}

const lw_token_model lw_model_wordpiece = {
    .type = "WordPiece",
    .last_stage = LW_STAGE_BERT,
    .read_options = read_options,
    .read_rest = read_rest,
    .encode_word = encode_word,
};

// --- decoding

// Replaces every `what` in text[from ..) by `with`, which is not longer.
static void replace(lw_text_buffer *text, size_t from, const char *what, const char *with)
{
    const size_t what_len = strlen(what);
    const size_t with_len = strlen(with);
    size_t kept = from;
    for (size_t at = from; at < text->len;) {
        if (text->len - at >= what_len && memcmp(text->data + at, what, what_len) == 0) {
            memcpy(text->data + kept, with, with_len);
            kept += with_len;
            at += what_len;
        } else {
            text->data[kept++] = text->data[at++];
        }
    }
    text->len = kept;
}

// `cleanup` of Hugging Face's WordPiece decoder: applied to each token on its own, in this order.
static const struct {
    const char *what, *with;
} cleanups[] = {{" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
                {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};

lw_status lw_wordpiece_decode(const lw_wordpiece *wordpiece, const lw_token *token, bool first, lw_error *err,
                              lw_text_buffer *out)
{
    const size_t from = out->len;
    const size_t prefix_len = strlen(wordpiece->decoder_prefix);
    const bool continues = !first && token->content_len >= prefix_len &&
                           memcmp(token->content, wordpiece->decoder_prefix, prefix_len) == 0;
    const size_t skipped = continues ? prefix_len : 0;
    if (!first && !continues) {
        LW_TRY(lw_text_append(out, " ", 1, err));
    }
    LW_TRY(lw_text_append(out, token->content + skipped, token->content_len - skipped, err));
    for (size_t i = 0; wordpiece->decoder_cleanup && i < sizeof cleanups / sizeof *cleanups; i++) {
        replace(out, from, cleanups[i].what, cleanups[i].with);
    }
    return LW_OK;
}
