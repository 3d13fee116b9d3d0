// added.c: cuts added tokens out of a text before it is pre-tokenised.
//
// This follows Hugging Face's AddedVocabulary: the leftmost longest matches of the tokens that are not "normalized" are
// found in the original text; the text between them is normalised, and the other tokens are searched there.
#include <stdlib.h>
#include <string.h>

#include "tokenizer/tokenizer_internal.h"

void lw_added_free(lw_added *added)
{
    free(added->tokens);
    free(added->verbatim.nodes);
    free(added->normalized.nodes);
    *added = (lw_added){0};
}

void lw_trie_init(lw_trie *trie)
{
    *trie = (lw_trie){0};
    for (size_t i = 0; i < 256; i++) {
        trie->root[i] = -1;
    }
}

static lw_status new_node(lw_trie *trie, unsigned char byte, int32_t sibling, lw_error *err, int32_t *out)
{
    if (trie->count == trie->cap) {
        const size_t cap = trie->cap ? 2 * trie->cap : 64;
        lw_trie_node *nodes = cap <= INT32_MAX ? realloc(trie->nodes, cap * sizeof *nodes) : NULL;
        if (!nodes) {
            return lw_fail(err, LW_ERR_MEMORY, "no memory for the search tree of the added tokens");
        }
        trie->nodes = nodes;
        trie->cap = cap;
    }
    trie->nodes[trie->count] = (lw_trie_node){.child = -1, .sibling = sibling, .value = -1, .byte = byte};
    *out = (int32_t)trie->count++;
    return LW_OK;
}

static int32_t find_sibling(const lw_trie *trie, int32_t node, unsigned char byte)
{
    while (node >= 0 && trie->nodes[node].byte != byte) {
        node = trie->nodes[node].sibling;
    }
    return node;
}

lw_status lw_trie_insert(lw_trie *trie, const char *text, size_t len, int32_t value, lw_error *err)
{
    int32_t node = -1;
    for (size_t i = 0; i < len; i++) {
        const unsigned char byte = (unsigned char)text[i];
        const int32_t first = i == 0 ? trie->root[byte] : trie->nodes[node].child;
        int32_t next = i == 0 ? first : find_sibling(trie, first, byte);
        if (next < 0) {
            LW_TRY(new_node(trie, byte, i == 0 ? -1 : first, err, &next));
            if (i == 0) {
                trie->root[byte] = next;
            } else {
                trie->nodes[node].child = next;
            }
        }
        node = next;
    }
    if (node >= 0 && trie->nodes[node].value < 0) {
        trie->nodes[node].value = value;
    }
    return LW_OK;
}

int32_t lw_trie_longest(const lw_trie *trie, const char *text, size_t len, size_t at, size_t *out_end)
{
    int32_t found = -1;
    int32_t node = trie->root[(unsigned char)text[at]];
    while (node >= 0) {
        at++;
        if (trie->nodes[node].value >= 0) {
            found = trie->nodes[node].value;
            *out_end = at;
        }
        node = at < len ? find_sibling(trie, trie->nodes[node].child, (unsigned char)text[at]) : -1;
    }
    return found;
}

static bool touches_word(const char *text, size_t len, size_t start, size_t end)
{
    size_t step;
    return (start > 0 && lw_is_word(lw_utf8_at(text + lw_utf8_before(text, start), &step))) ||
           (end < len && lw_is_word(lw_utf8_at(text + end, &step)));
}

static size_t strip_left(const char *text, size_t start, size_t limit)
{
    while (start > limit) {
        size_t step;
        const size_t before = lw_utf8_before(text, start);
        if (!lw_is_space(lw_utf8_at(text + before, &step))) {
            break;
        }
        start = before;
    }
    return start;
}

static size_t strip_right(const char *text, size_t len, size_t end)
{
    size_t step;
    while (end < len && lw_is_space(lw_utf8_at(text + end, &step))) {
        end += step;
    }
    return end;
}

typedef lw_status (*lw_gap_handler)(const lw_encoding *encoding, const char *text, size_t len);

// Appends the ids of the tokens of one tree, and passes the text between them to `gap`, in order.
static lw_status cut(const lw_encoding *encoding, const lw_trie *trie, const char *text, size_t len, lw_gap_handler gap)
{
    const lw_added *added = &encoding->tokenizer->added;
    size_t done = 0; // the text before this offset has been encoded
    size_t at = 0;
    while (trie->count > 0 && at < len) {
        size_t end = 0;
        const int32_t index = lw_trie_longest(trie, text, len, at, &end);
        if (index < 0) {
            at++;
            continue;
        }
        const lw_added_token *token = &added->tokens[index];
        size_t start = at;
        // Whether this match counts or not, the next search begins after it.
        at = end;
        if ((token->special && !encoding->parse_special) ||
            (token->single_word && touches_word(text, len, start, end))) {
            continue;
        }
        if (token->lstrip) {
            start = start > done ? strip_left(text, start, done) : done;
        }
        if (token->rstrip) {
            end = strip_right(text, len, end);
        }
        if (start >= end) {
            continue; // the previous token has taken all of its text as white space
        }
        if (start > done) {
            LW_TRY(gap(encoding, text + done, start - done));
        }
        LW_TRY(lw_ids_push(encoding->out, token->id, encoding->err));
        done = end;
    }
    return done < len ? gap(encoding, text + done, len - done) : LW_OK;
}

static lw_status encode_gap(const lw_encoding *encoding, const char *text, size_t len)
{
    const lw_tokenizer *tokenizer = encoding->tokenizer;
    LW_TRY(lw_normalise(tokenizer, &encoding->scratch->nfc, text, len, encoding->err, &text, &len));
    return cut(encoding, &tokenizer->added.normalized, text, len, lw_encode_pieces);
}

lw_status lw_encode_text(const lw_encoding *encoding, const char *text, size_t len)
{
    return cut(encoding, &encoding->tokenizer->added.verbatim, text, len, encode_gap);
}
