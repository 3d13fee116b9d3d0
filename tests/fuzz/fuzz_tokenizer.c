// tokenizer.json and, as a second part, a text to tokenize with it (without one: the end of the file).
#include <stdlib.h>
#include <string.h>

#include "core/utf8.h"
#include "fuzz.h"
#include "tokenizer/tokenizer.h"

enum { TEXT_BYTES = 4096 };

static void encode(const lw_tokenizer *tokenizer, const char *text, size_t bytes, bool special)
{
    lw_error err = {.text = ""};
    lw_ids ids = {0};
    char *back = NULL;
    size_t back_bytes = 0;
    lw_status status = lw_tokenizer_encode(tokenizer, text, bytes, special, &err, &ids);
    if (status != LW_OK) {
        fuzz_check_failure(status, &err);
        FUZZ_CHECK(ids.len == 0);
    }
    for (size_t i = 0; i < ids.len; i++) {
        FUZZ_CHECK(ids.data[i] >= 0 && ids.data[i] < lw_tokenizer_vocab_size(tokenizer));
    }
    status = lw_tokenizer_decode(tokenizer, ids.data, ids.len, !special, &err, &back, &back_bytes);
    if (status == LW_OK) {
        FUZZ_CHECK(lw_utf8_first_bad(back, back_bytes) == back_bytes && back[back_bytes] == '\0');
        free(back);
    } else {
        fuzz_check_failure(status, &err);
    }
    lw_ids_free(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const fuzz_parts parts = fuzz_split(data, size);
    lw_error err = {.text = ""};
    lw_tokenizer *tokenizer = NULL;
    lw_status status = lw_tokenizer_load(fuzz_put("tokenizer.json", parts.data[0], parts.bytes[0]), &err, &tokenizer);
    if (status != LW_OK) {
        fuzz_check_failure(status, &err);
        return 0;
    }
    const uint8_t *text = parts.data[parts.count - 1];
    size_t bytes = parts.bytes[parts.count - 1];
    if (bytes > TEXT_BYTES) {
        text += bytes - TEXT_BYTES;
        bytes = TEXT_BYTES;
    }
    char *copy = fuzz_text(text, bytes);
    FUZZ_CHECK(lw_tokenizer_bos_id(tokenizer) < lw_tokenizer_vocab_size(tokenizer));
    encode(tokenizer, copy, bytes, false);
    encode(tokenizer, copy, bytes, true);
    free(copy);
    lw_tokenizer_destroy(&tokenizer);
    return 0;
}
