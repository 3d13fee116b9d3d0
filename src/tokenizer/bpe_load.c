// bpe_load.c: reads what byte-level BPE needs from `model` of tokenizer.json beside its vocabulary.
#include <stdlib.h>
#include <string.h>

#include "tokenizer/tokenizer_json.h"

// --- flags

static lw_status refuse_prefix(const lw_json *model, const char *key, lw_error *err)
{
    const char *value;
    LW_TRY(lw_json_string_or(model, key, "", err, &value));
    if (value[0] != '\0') {
        return lw_fail(err, LW_ERR_UNSUPPORTED, "%s: model.%s is \"%.60s\"; byte-level BPE has none", model->where, key,
                       value);
    }
    return LW_OK;
}

lw_status lw_bpe_read_options(const lw_json *model, lw_error *err, lw_tokenizer *tokenizer)
{
    double dropout;
    LW_TRY(lw_json_double_or(model, "dropout", 0.0, 1.0, 0.0, err, &dropout));
    if (dropout > 0.0) {
        return lw_fail(err, LW_ERR_UNSUPPORTED, "%s: model.dropout is %g: ids would be random; set it to null",
                       model->where, dropout);
    }
    LW_TRY(refuse_prefix(model, "continuing_subword_prefix", err));
    LW_TRY(refuse_prefix(model, "end_of_word_suffix", err));
    LW_TRY(lw_json_bool_or(model, "fuse_unk", false, err, &tokenizer->vocab.fuse_unk));
    return lw_json_bool_or(model, "ignore_merges", false, err, &tokenizer->vocab.ignore_merges);
}

// --- merges

typedef struct lw_merge_text {
    const char *left, *right;
    size_t left_len, right_len;
} lw_merge_text;

// A merge is "a b", or ["a", "b"], whose parts may hold spaces.
static lw_status split_merge(const char *path, size_t index, const json_t *value, lw_error *err, lw_merge_text *out)
{
    if (json_is_string(value)) {
        const char *text = json_string_value(value);
        const char *space = strchr(text, ' ');
        if (space && !strchr(space + 1, ' ')) {
            *out = (lw_merge_text){text, space + 1, (size_t)(space - text), strlen(space + 1)};
            return LW_OK;
        }
    } else if (json_is_array(value) && json_array_size(value) == 2) {
        const json_t *left = json_array_get(value, 0);
        const json_t *right = json_array_get(value, 1);
        if (json_is_string(left) && json_is_string(right)) {
            *out = (lw_merge_text){json_string_value(left), json_string_value(right), json_string_length(left),
                                   json_string_length(right)};
            return LW_OK;
        }
    }
    return lw_fail(err, LW_ERR_FORMAT, "%s: model.merges[%zu] must be \"a b\" or [\"a\", \"b\"]", path, index);
}

static lw_status merge_token(const char *path, size_t index, const lw_vocab *vocab, const char *text, size_t len,
                             lw_error *err, int32_t *out)
{
    *out = lw_id_map_find(vocab, &vocab->by_content, text, len);
    if (*out < 0) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: model.merges[%zu] needs the token \"%.*s\", which model.vocab lacks",
                       path, index, LW_SHOWN(len), text);
    }
    return LW_OK;
}

static lw_status read_merges(const char *path, const json_t *merges, lw_vocab *vocab, lw_error *err)
{
    lw_text_buffer joined = {0};
    lw_status status = lw_merges_create(vocab, json_array_size(merges), err);
    uint32_t rank = 0;
    for (size_t i = 0; status == LW_OK && i < json_array_size(merges); i++) {
        const json_t *value = json_array_get(merges, i);
        if (json_is_string(value) && strncmp(json_string_value(value), "#version", 8) == 0) {
            continue; // the first line of a merges.txt
        }
        lw_merge_text text = {0};
        int32_t left = -1, right = -1, id = -1;
        LW_TRY_GOTO(split_merge(path, i, value, err, &text));
        LW_TRY_GOTO(merge_token(path, i, vocab, text.left, text.left_len, err, &left));
        LW_TRY_GOTO(merge_token(path, i, vocab, text.right, text.right_len, err, &right));
        joined.len = 0;
        LW_TRY_GOTO(lw_text_append(&joined, text.left, text.left_len, err));
        LW_TRY_GOTO(lw_text_append(&joined, text.right, text.right_len, err));
        LW_TRY_GOTO(merge_token(path, i, vocab, joined.data, joined.len, err, &id));
        lw_merges_set(vocab, left, right, rank++, id);
    }
done:
    free(joined.data);
    return status;
}

// --- bytes

static void find_bytes(lw_vocab *vocab)
{
    for (int byte = 0; byte < 256; byte++) {
        const int32_t c = lw_byte_to_char((unsigned char)byte);
        const char two[] = {(char)(0xC0 | c >> 6), (char)(0x80 | (c & 0x3F))};
        const char one[] = {(char)c};
        vocab->byte_id[byte] = c < 0x80 ? lw_id_map_find(vocab, &vocab->by_content, one, 1)
                                        : lw_id_map_find(vocab, &vocab->by_content, two, 2);
    }
}

// Bytes that UTF-8 never uses (C0, C1, F5..FF) need not be there.
static bool lacks_a_byte(const lw_vocab *vocab)
{
    for (int byte = 0; byte < 0xF5; byte++) {
        if (vocab->byte_id[byte] < 0 && byte != 0xC0 && byte != 0xC1) {
            return true;
        }
    }
    return false;
}

// unk_token and byte_fallback matter only if the vocabulary lacks a byte.
static lw_status read_unknown(const lw_json *model, lw_error *err, lw_tokenizer *tokenizer)
{
    lw_vocab *vocab = &tokenizer->vocab;
    const char *unknown;
    bool byte_fallback;
    LW_TRY(lw_json_string_or(model, "unk_token", NULL, err, &unknown));
    LW_TRY(lw_json_bool_or(model, "byte_fallback", false, err, &byte_fallback));
    vocab->unk_id = -1;
    if (!lacks_a_byte(vocab)) {
        return LW_OK;
    }
    if (byte_fallback) {
        return lw_fail(err, LW_ERR_UNSUPPORTED, "%s: model.byte_fallback is true and model.vocab lacks some bytes",
                       model->where);
    }
    if (unknown) {
        vocab->unk_id = lw_id_map_find(vocab, &vocab->by_content, unknown, strlen(unknown));
        if (vocab->unk_id < 0) {
            return lw_fail(err, LW_ERR_FORMAT, "%s: model.unk_token \"%.60s\" is not in model.vocab", model->where,
                           unknown);
        }
    }
    return LW_OK;
}

lw_status lw_bpe_read_rest(const lw_json *model, lw_error *err, lw_tokenizer *tokenizer)
{
    const json_t *merges;
    LW_TRY(lw_json_array(model, "merges", err, &merges));
    find_bytes(&tokenizer->vocab);
    LW_TRY(read_merges(model->where, merges, &tokenizer->vocab, err));
    return read_unknown(model, err, tokenizer);
}
