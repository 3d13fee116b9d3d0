// pipeline.c: reads normalizer, pre-tokenizer, decoder, post-processor and model flags of tokenizer.json.
#include "tokenizer/tokenizer_json.h"

#include <stdio.h>
#include <string.h>

// --- model

// Files of early versions of Hugging Face tokenizers do not name the model. Only BPE has merges, and only WordPiece has
// a longest word; both may have a prefix of pieces.
static const char *guess_type(const lw_json *model)
{
    bool words = lw_json_has(model, "max_input_chars_per_word") || lw_json_has(model, "continuing_subword_prefix");
    return words && !lw_json_has(model, "merges") ? "WordPiece" : "BPE";
}

lw_status lw_tokenizer_read_model(const lw_json *model, lw_error *err, lw_tokenizer *tokenizer)
{
    static const lw_token_model *const models[] = {&lw_model_bpe, &lw_model_wordpiece};
    const char *type;
    LW_TRY(lw_json_string_or(model, "type", guess_type(model), err, &type));
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        if (strcmp(type, models[i]->type) == 0) {
            tokenizer->model = models[i];
            return tokenizer->model->read_options(model, err, tokenizer);
        }
    }
    return lw_fail(err, LW_ERR_UNSUPPORTED, "%s: model.type is \"%.60s\"; only BPE and WordPiece are supported",
                   model->where, type);
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

static lw_status read_bert_normalizer(const lw_json *item, lw_error *err, lw_bert_normalizer *bert)
{
    LW_TRY(lw_json_bool(item, "clean_text", err, &bert->clean));
    LW_TRY(lw_json_bool(item, "handle_chinese_chars", err, &bert->space_ideographs));
    LW_TRY(lw_json_bool(item, "lowercase", err, &bert->lowercase));
    return lw_json_bool_or(item, "strip_accents", bert->lowercase, err, &bert->strip_accents);
}

static lw_status read_normalizer(const lw_json *item, const char *type, lw_error *err, lw_tokenizer *tokenizer)
{
    const lw_normalizer before = tokenizer->normalizer;
    if (strcmp(type, "NFC") == 0) {
        tokenizer->normalizer = LW_NORMALIZER_NFC;
    } else if (strcmp(type, "BertNormalizer") == 0) {
        LW_TRY(read_bert_normalizer(item, err, &tokenizer->bert));
        tokenizer->normalizer = LW_NORMALIZER_BERT;
    } else {
        return unsupported(item, type, "NFC and BertNormalizer", err);
    }
    // A second NFC changes nothing.
    if (before != LW_NORMALIZER_NONE && (before != tokenizer->normalizer || before == LW_NORMALIZER_BERT)) {
        return lw_fail(err, LW_ERR_UNSUPPORTED, "%s: normalizer has a BertNormalizer among others; it must be alone",
                       item->where);
    }
    return LW_OK;
}

// Any other decoder is accepted here, as the tokenizer can still encode; decoding then fails.
static lw_status read_decoder(const lw_json *item, const char *type, lw_error *err, lw_tokenizer *tokenizer)
{
    const bool only = ++tokenizer->decoder_steps == 1;
    tokenizer->decoder = LW_DECODER_OTHER;
    if (only && strcmp(type, "ByteLevel") == 0) {
        tokenizer->decoder = LW_DECODER_BYTE_LEVEL;
    } else if (only && strcmp(type, "WordPiece") == 0) {
        const char *prefix;
        LW_TRY(lw_json_string(item, "prefix", err, &prefix));
        LW_TRY(lw_json_bool(item, "cleanup", err, &tokenizer->wordpiece.decoder_cleanup));
        tokenizer->wordpiece.decoder_prefix = strdup(prefix);
        if (!tokenizer->wordpiece.decoder_prefix) {
            return lw_fail(err, LW_ERR_MEMORY, "%s: no memory for the decoder", item->where);
        }
        tokenizer->decoder = LW_DECODER_WORDPIECE;
    }
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

static const char *const stage_names[] = {
    [LW_STAGE_SPLIT] = "Split",
    [LW_STAGE_DIGITS] = "Digits",
    [LW_STAGE_BYTE_LEVEL] = "ByteLevel",
    [LW_STAGE_BERT] = "BertPreTokenizer",
};

static lw_status read_pre_tokenizer(const lw_json *item, const char *type, lw_error *err, lw_tokenizer *tokenizer)
{
    const int count = tokenizer->stage_count;
    if (count == LW_MAX_STAGES) {
        return lw_fail(err, LW_ERR_UNSUPPORTED, "%s: pre_tokenizer has more than %d steps", item->where,
                       (int)LW_MAX_STAGES);
    }
    if (count > 0 && tokenizer->stages[count - 1].kind >= LW_STAGE_BYTE_LEVEL) {
        return lw_fail(err, LW_ERR_UNSUPPORTED, "%s: pre_tokenizer has a %.60s behind %s; that must be the last",
                       item->where, type, stage_names[tokenizer->stages[count - 1].kind]);
    }
    // The stage is counted first, so that what is compiled into it is freed with the tokenizer, also after a failure.
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
    if (strcmp(type, "BertPreTokenizer") == 0) {
        stage->kind = LW_STAGE_BERT;
        return LW_OK;
    }
    return unsupported(item, type, "Split, Digits, ByteLevel and BertPreTokenizer", err);
}

lw_status lw_tokenizer_read_pipeline(const lw_json *root, lw_error *err, lw_tokenizer *tokenizer)
{
    LW_TRY(each_item_of(root, "normalizer", "normalizers", read_normalizer, err, tokenizer));
    LW_TRY(each_item_of(root, "pre_tokenizer", "pretokenizers", read_pre_tokenizer, err, tokenizer));
    const int count = tokenizer->stage_count;
    const lw_token_model *model = tokenizer->model;
    if (count == 0 || tokenizer->stages[count - 1].kind != model->last_stage) {
        return lw_fail(err, LW_ERR_UNSUPPORTED, "%s: pre_tokenizer does not end in %s; %s is supported with that alone",
                       root->where, stage_names[model->last_stage], model->type);
    }
    return each_item_of(root, "decoder", "decoders", read_decoder, err, tokenizer);
}

// --- post-processor

static lw_status check_id(const lw_json *item, const json_t *id, lw_error *err, const lw_tokenizer *tokenizer,
                          int32_t *out)
{
    const json_int_t value = json_is_integer(id) ? json_integer_value(id) : -1;
    if (value < 0 || value >= tokenizer->vocab.id_count) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: post_processor adds a token whose id is not in the vocabulary",
                       item->where);
    }
    *out = (int32_t)value;
    return LW_OK;
}

// One end of {"single": [{"SpecialToken": {"id": NAME}}, ...], "special_tokens": {NAME: {"ids": [ID]}}}
static lw_status read_template_end(const lw_json *item, const json_t *piece, lw_error *err,
                                   const lw_tokenizer *tokenizer, int32_t *out)
{
    const json_t *specials;
    const char *name;
    lw_json token;
    const json_t *special = json_object_get(piece, "SpecialToken");
    if (!special) {
        return LW_OK;
    }
    LW_TRY(lw_json_object_at(special, item->where, "post_processor.single.SpecialToken.", err, &token));
    LW_TRY(lw_json_string(&token, "id", err, &name));
    LW_TRY(lw_json_child(item, "special_tokens", err, &specials));
    const json_t *ids = json_object_get(json_object_get(specials, name), "ids");
    return check_id(item, json_array_get(ids, 0), err, tokenizer, out);
}

static lw_status read_template(const lw_json *item, lw_error *err, lw_tokenizer *tokenizer)
{
    const json_t *single;
    LW_TRY(lw_json_array(item, "single", err, &single));
    const size_t count = json_array_size(single);
    LW_TRY(read_template_end(item, json_array_get(single, 0), err, tokenizer, &tokenizer->bos_id));
    return count < 2 ? LW_OK
                     : read_template_end(item, json_array_get(single, count - 1), err, tokenizer, &tokenizer->end_id);
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
        const json_t *sep;
        LW_TRY(lw_json_array(item, "cls", err, &cls));
        LW_TRY(lw_json_array(item, "sep", err, &sep));
        LW_TRY(check_id(item, json_array_get(sep, 1), err, tokenizer, &tokenizer->end_id));
        return check_id(item, json_array_get(cls, 1), err, tokenizer, &tokenizer->bos_id);
    }
    return unsupported(item, type, "TemplateProcessing, ByteLevel, RobertaProcessing and BertProcessing", err);
}

lw_status lw_tokenizer_read_template(const lw_json *root, lw_error *err, lw_tokenizer *tokenizer)
{
    tokenizer->bos_id = tokenizer->end_id = -1;
    return each_item_of(root, "post_processor", "processors", read_post_processor, err, tokenizer);
}
