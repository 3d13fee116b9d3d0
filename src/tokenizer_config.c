// tokenizer_config.c: normalizer, pre-tokenizer, decoder, post-processor and model flags of tokenizer.json.
#include "tokenizer_json.h"

#include <stdio.h>
#include <string.h>

// --- model

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

lw_status lw_tokenizer_read_model_options(const lw_json *model, lw_error *err, lw_tokenizer *tokenizer)
{
    const char *type;
    double dropout;
    LW_TRY(lw_json_string_or(model, "type", "BPE", err, &type)); // GPT-2's own file has none
    if (strcmp(type, "BPE") != 0) {
        return lw_fail(err, LW_ERR_UNSUPPORTED, "%s: model.type is \"%.60s\"; only BPE is supported", model->where,
                       type);
    }
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

// Bytes that UTF-8 never uses (C0, C1, F5..FF) cannot be missed.
static bool lacks_a_byte(const lw_vocab *vocab)
{
    for (int byte = 0; byte < 0xF5; byte++) {
        if (vocab->byte_id[byte] < 0 && byte != 0xC0 && byte != 0xC1) {
            return true;
        }
    }
    return false;
}

lw_status lw_tokenizer_check_unknown(const lw_json *model, lw_error *err, lw_tokenizer *tokenizer)
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
        if (vocab->unk_id < 0 || !vocab->tokens[vocab->unk_id].in_model) {
            return lw_fail(err, LW_ERR_FORMAT, "%s: model.unk_token \"%.60s\" is not in model.vocab", model->where,
                           unknown);
        }
    }
    return LW_OK;
}

// --- lists: "X" or {"type": "Sequence", LIST: [...]}, without nesting beyond a few levels

enum { MAX_NESTING = 8 };

typedef lw_status (*lw_item_reader)(const lw_json *item, const char *type, lw_error *err, lw_tokenizer *tokenizer);

// Calls `read` for every item of a possibly nested Sequence, in order.
static lw_status each_item(const char *where, const char *parent, const char *list, const json_t *value, int nesting,
                           lw_item_reader read, lw_error *err, lw_tokenizer *tokenizer)
{
    lw_json item;
    const char *type;
    LW_TRY(lw_json_object_at(value, where, parent, err, &item));
    LW_TRY(lw_json_string(&item, "type", err, &type));
    if (strcmp(type, "Sequence") != 0) {
        return read(&item, type, err, tokenizer);
    }
    const json_t *items;
    LW_TRY(lw_json_array(&item, list, err, &items));
    if (nesting == MAX_NESTING) {
        return lw_fail(err, LW_ERR_UNSUPPORTED, "%s: %s... is nested too deeply", where, parent);
    }
    for (size_t i = 0; i < json_array_size(items); i++) {
        LW_TRY(each_item(where, parent, list, json_array_get(items, i), nesting + 1, read, err, tokenizer));
    }
    return LW_OK;
}

static lw_status each_item_of(const lw_json *root, const char *key, const char *list, lw_item_reader read,
                              lw_error *err, lw_tokenizer *tokenizer)
{
    char parent[40];
    const json_t *value;
    if (!lw_json_has(root, key)) {
        return LW_OK;
    }
    LW_TRY(lw_json_child(root, key, err, &value));
    snprintf(parent, sizeof parent, "%s.", key);
    return each_item(root->where, parent, list, value, 0, read, err, tokenizer);
}

static lw_status unsupported(const lw_json *item, const char *type, const char *supported, lw_error *err)
{
    return lw_fail(err, LW_ERR_UNSUPPORTED, "%s: %stype \"%.60s\" is not supported (only %s)", item->where,
                   item->parent, type, supported);
}

// --- normalizer, decoder

static lw_status read_normalizer(const lw_json *item, const char *type, lw_error *err, lw_tokenizer *tokenizer)
{
    if (strcmp(type, "NFC") != 0) {
        return unsupported(item, type, "NFC", err);
    }
    tokenizer->nfc = true; // twice is the same as once
    return LW_OK;
}

// Another decoder does not keep a tokenizer from encoding: decoding will refuse.
static lw_status read_decoder(const lw_json *item, const char *type, lw_error *err, lw_tokenizer *tokenizer)
{
    (void)item;
    (void)err;
    tokenizer->decodes = ++tokenizer->decoder_steps == 1 && strcmp(type, "ByteLevel") == 0;
    return LW_OK;
}

// --- pre-tokenizer

static lw_status read_behavior(const lw_json *item, lw_error *err, lw_split_behavior *out)
{
    static const char *const names[] = {
        [LW_SPLIT_ISOLATED] = "Isolated",
        [LW_SPLIT_REMOVED] = "Removed",
        [LW_SPLIT_CONTIGUOUS] = "Contiguous",
        [LW_SPLIT_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
        [LW_SPLIT_MERGED_WITH_NEXT] = "MergedWithNext",
    };
    const char *name;
    LW_TRY(lw_json_string(item, "behavior", err, &name));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (lw_split_behavior)i;
            return LW_OK;
        }
    }
    return lw_fail(err, LW_ERR_UNSUPPORTED, "%s: %sbehavior \"%.60s\" is unknown", item->where, item->parent, name);
}

static lw_status read_split(const lw_json *item, lw_error *err, lw_stage *stage)
{
    const json_t *value;
    lw_json pattern;
    const char *text;
    LW_TRY(lw_json_child(item, "pattern", err, &value));
    LW_TRY(lw_json_object_at(value, item->where, "pre_tokenizer.pattern.", err, &pattern));
    const bool literal = lw_json_has(&pattern, "String");
    LW_TRY(lw_json_string(&pattern, literal ? "String" : "Regex", err, &text));
    LW_TRY(read_behavior(item, err, &stage->behavior));
    LW_TRY(lw_json_bool_or(item, "invert", false, err, &stage->invert));
    return lw_regex_compile(item->where, text, literal, err, &stage->code);
}

static lw_status read_byte_level(const lw_json *item, lw_error *err, lw_stage *stage)
{
    bool use_regex;
    LW_TRY(lw_json_bool(item, "add_prefix_space", err, &stage->add_prefix_space));
    LW_TRY(lw_json_bool_or(item, "use_regex", true, err, &use_regex));
    stage->behavior = LW_SPLIT_ISOLATED;
    return use_regex ? lw_regex_compile(item->where, lw_gpt2_pattern, false, err, &stage->code) : LW_OK;
}

static lw_status read_digits(const lw_json *item, lw_error *err, lw_stage *stage)
{
    bool individual;
    LW_TRY(lw_json_bool_or(item, "individual_digits", false, err, &individual));
    stage->behavior = individual ? LW_SPLIT_ISOLATED : LW_SPLIT_CONTIGUOUS;
    return LW_OK;
}

static lw_status read_pre_tokenizer(const lw_json *item, const char *type, lw_error *err, lw_tokenizer *tokenizer)
{
    const int count = tokenizer->stage_count;
    if (count == LW_MAX_STAGES) {
        return lw_fail(err, LW_ERR_UNSUPPORTED, "%s: pre_tokenizer has more than %d steps", item->where,
                       (int)LW_MAX_STAGES);
    }
    if (count > 0 && tokenizer->stages[count - 1].kind == LW_STAGE_BYTE_LEVEL) {
        return lw_fail(err, LW_ERR_UNSUPPORTED, "%s: pre_tokenizer has a %.60s behind ByteLevel; it must be the last",
                       item->where, type);
    }
    // Counted first, so that whatever is compiled into it is freed with the tokenizer.
    lw_stage *stage = &tokenizer->stages[tokenizer->stage_count++];
    if (strcmp(type, "Split") == 0) {
        stage->kind = LW_STAGE_SPLIT;
        return read_split(item, err, stage);
    }
    if (strcmp(type, "Digits") == 0) {
        stage->kind = LW_STAGE_DIGITS;
        return read_digits(item, err, stage);
    }
    if (strcmp(type, "ByteLevel") == 0) {
        stage->kind = LW_STAGE_BYTE_LEVEL;
        return read_byte_level(item, err, stage);
    }
    return unsupported(item, type, "Split, Digits and ByteLevel", err);
}

lw_status lw_tokenizer_read_pipeline(const lw_json *root, lw_error *err, lw_tokenizer *tokenizer)
{
    LW_TRY(each_item_of(root, "normalizer", "normalizers", read_normalizer, err, tokenizer));
    LW_TRY(each_item_of(root, "pre_tokenizer", "pretokenizers", read_pre_tokenizer, err, tokenizer));
    const int count = tokenizer->stage_count;
    if (count == 0 || tokenizer->stages[count - 1].kind != LW_STAGE_BYTE_LEVEL) {
        return lw_fail(err, LW_ERR_UNSUPPORTED,
                       "%s: pre_tokenizer does not end in ByteLevel; only byte-level BPE is supported", root->where);
    }
    return each_item_of(root, "decoder", "decoders", read_decoder, err, tokenizer);
}

// --- post-processor

static lw_status set_bos(const lw_json *item, const json_t *id, lw_error *err, lw_tokenizer *tokenizer)
{
    const json_int_t value = json_is_integer(id) ? json_integer_value(id) : -1;
    if (value < 0 || value >= tokenizer->vocab.id_count) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: post_processor puts a token first whose id is not in the vocabulary",
                       item->where);
    }
    tokenizer->bos_id = (int32_t)value;
    return LW_OK;
}

// {"single": [{"SpecialToken": {"id": NAME}}, ...], "special_tokens": {NAME: {"ids": [ID]}}}
static lw_status read_template(const lw_json *item, lw_error *err, lw_tokenizer *tokenizer)
{
    const json_t *single;
    const json_t *specials;
    const char *name;
    LW_TRY(lw_json_array(item, "single", err, &single));
    const json_t *first = json_object_get(json_array_get(single, 0), "SpecialToken");
    if (!first) {
        return LW_OK;
    }
    lw_json token;
    LW_TRY(lw_json_object_at(first, item->where, "post_processor.single.SpecialToken.", err, &token));
    LW_TRY(lw_json_string(&token, "id", err, &name));
    LW_TRY(lw_json_child(item, "special_tokens", err, &specials));
    const json_t *ids = json_object_get(json_object_get(specials, name), "ids");
    return set_bos(item, json_array_get(ids, 0), err, tokenizer);
}

static lw_status read_post_processor(const lw_json *item, const char *type, lw_error *err, lw_tokenizer *tokenizer)
{
    if (tokenizer->bos_id >= 0 || strcmp(type, "ByteLevel") == 0) {
        return LW_OK;
    }
    if (strcmp(type, "TemplateProcessing") == 0) {
        return read_template(item, err, tokenizer);
    }
    if (strcmp(type, "RobertaProcessing") == 0 || strcmp(type, "BertProcessing") == 0) {
        const json_t *cls;
        LW_TRY(lw_json_array(item, "cls", err, &cls));
        return set_bos(item, json_array_get(cls, 1), err, tokenizer);
    }
    return unsupported(item, type, "TemplateProcessing, ByteLevel, RobertaProcessing and BertProcessing", err);
}

lw_status lw_tokenizer_read_bos(const lw_json *root, lw_error *err, lw_tokenizer *tokenizer)
{
    tokenizer->bos_id = -1;
    return each_item_of(root, "post_processor", "processors", read_post_processor, err, tokenizer);
}
