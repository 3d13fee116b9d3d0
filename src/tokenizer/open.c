// open.c: the life of a tokenizer, and what is asked of a loaded one.
#include <stdlib.h>
#include <string.h>

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
