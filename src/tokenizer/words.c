// words.c: the ids of one pre-tokenised word, remembered for short words.
#include <string.h>

#include "tokenizer/tokenizer_internal.h"

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
