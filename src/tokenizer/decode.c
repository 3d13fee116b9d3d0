// decode.c: ids -> text.
#include <stdlib.h>

#include "core/utf8.h"
#include "tokenizer/tokenizer_internal.h"

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
