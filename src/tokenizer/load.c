// load.c: tokenizer.json -> vocabulary and added tokens. pipeline.c reads the pipeline; what else a model needs is read
// in its own files.
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/hash.h"
#include "io/files.h"
#include "io/json.h"
#include "tokenizer/tokenizer_json.h"

enum { MAX_FILE_BYTES = 256 << 20, MAX_CONTENT_BYTES = 1 << 16 };

// The limit of an added token is lower, as it is compared with the text wherever its first byte occurs.
enum { MAX_ADDED_BYTES = 1024 };

// --- vocabulary

static lw_status check_entry(const char *path, const char *content, size_t len, const json_t *value, lw_error *err)
{
    if (len > MAX_CONTENT_BYTES) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: model.vocab has a token of %zu bytes, \"%.*s...\"; at most %d", path,
                       len, LW_SHOWN(len), content, (int)MAX_CONTENT_BYTES);
    }
    if (!json_is_integer(value)) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: model.vocab[\"%.*s\"] must be an integer id, not %s", path,
                       LW_SHOWN(len), content, lw_json_type_name(value));
    }
    const json_int_t id = json_integer_value(value);
    if (id < 0 || id > LW_MAX_TOKEN_ID) {
        return lw_fail(err, LW_ERR_FORMAT,
                       "%s: model.vocab[\"%.*s\"] has the id %" JSON_INTEGER_FORMAT "; ids are 0 to %d", path,
                       LW_SHOWN(len), content, id, (int)LW_MAX_TOKEN_ID);
    }
    return LW_OK;
}

// The sizes of the tables, known once every entry and added token has been checked.
typedef struct lw_vocab_size {
    size_t token_count, content_bytes;
    int32_t id_count;
} lw_vocab_size;

static lw_status measure(const char *path, const json_t *vocab, const json_t *added, lw_error *err, lw_vocab_size *out)
{
    lw_vocab_size size = {0};
    const char *key;
    json_t *value;
    // The iteration macros of jansson do not accept const.
    json_t *entries = (json_t *)(uintptr_t)vocab;
    json_object_foreach(entries, key, value)
    {
        const size_t len = strlen(key);
        LW_TRY(check_entry(path, key, len, value, err));
        const int32_t id = (int32_t)json_integer_value(value);
        size.id_count = id >= size.id_count ? id + 1 : size.id_count;
        size.content_bytes += len;
        size.token_count++;
    }
    if (size.token_count == 0) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: model.vocab is empty", path);
    }
    for (size_t i = 0; i < json_array_size(added); i++) {
        lw_json at;
        const char *content;
        int64_t id;
        LW_TRY(lw_json_object_at(json_array_get(added, i), path, "added_tokens.", err, &at));
        LW_TRY(lw_json_string(&at, "content", err, &content));
        LW_TRY(lw_json_int(&at, "id", 0, LW_MAX_TOKEN_ID, err, &id));
        const size_t len = strlen(content);
        if (len > MAX_ADDED_BYTES) {
            return lw_fail(err, LW_ERR_FORMAT, "%s: added_tokens[%zu] has %zu bytes; at most %d", path, i, len,
                           (int)MAX_ADDED_BYTES);
        }
        size.id_count = id >= size.id_count ? (int32_t)id + 1 : size.id_count;
        size.content_bytes += len;
        size.token_count++;
    }
    *out = size;
    return LW_OK;
}

// Enters a token: copies its content and raw bytes to *end and advances that.
static void place(lw_vocab *vocab, int32_t id, const char *content, size_t len, char **end)
{
    lw_token *token = &vocab->tokens[id];
    memcpy(*end, content, len);
    token->content = *end;
    token->content_len = (uint32_t)len;
    *end += len;
    lw_token_unmap(token, *end);
    *end += token->raw_len;
    lw_id_map_add(vocab, &vocab->by_content, id);
}

static lw_status read_vocab(const char *path, const json_t *entries, lw_vocab *vocab, lw_error *err, char **end)
{
    const char *key;
    json_t *value;
    json_t *object = (json_t *)(uintptr_t)entries;
    json_object_foreach(object, key, value)
    {
        const int32_t id = (int32_t)json_integer_value(value);
        const lw_token *taken = &vocab->tokens[id];
        if (taken->content) {
            return lw_fail(err, LW_ERR_FORMAT, "%s: model.vocab gives the id %d to both \"%.*s\" and \"%.*s\"", path,
                           id, LW_SHOWN(taken->content_len), taken->content, LW_SHOWN_BYTES, key);
        }
        place(vocab, id, key, strlen(key), end);
        vocab->tokens[id].in_model = true;
        vocab->model_count++;
        if (vocab->ignore_merges && vocab->tokens[id].mapped) {
            lw_id_map_add(vocab, &vocab->by_raw, id);
        }
    }
    return LW_OK;
}

// --- added tokens

// Hugging Face ignores the id in the file: a token of the vocabulary keeps its id, other tokens are numbered from the
// size of the vocabulary. *next is the id that it would assign now.
static lw_status place_added(const char *path, size_t index, int64_t file_id, const char *content, int32_t *next,
                             lw_vocab *vocab, lw_error *err, char **end, int32_t *out)
{
    const size_t len = strlen(content);
    const int32_t known = lw_id_map_find(vocab, &vocab->by_content, content, len);
    if (known >= 0 && vocab->tokens[known].added) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: added_tokens[%zu]: \"%.*s\" is there twice", path, index, LW_SHOWN(len),
                       content);
    }
    const int32_t id = known >= 0 ? known : *next;
    if (file_id != id) {
        return lw_fail(err, LW_ERR_FORMAT,
                       "%s: added_tokens[%zu]: \"%.*s\" has the id %lld, but %s makes it %d; "
                       "write the file again with Hugging Face tokenizers",
                       path, index, LW_SHOWN(len), content, (long long)file_id,
                       known >= 0 ? "model.vocab" : "its place behind the vocabulary", id);
    }
    if (known < 0) {
        if (vocab->tokens[id].content) {
            return lw_fail(err, LW_ERR_FORMAT, "%s: added_tokens[%zu]: \"%.*s\" has the id %d of \"%.*s\"", path, index,
                           LW_SHOWN(len), content, id, LW_SHOWN(vocab->tokens[id].content_len),
                           vocab->tokens[id].content);
        }
        place(vocab, id, content, len, end);
    }
    if (id >= *next) {
        *next = id + 1;
    }
    vocab->tokens[id].added = true;
    *out = id;
    return LW_OK;
}

static lw_status read_added_token(const char *path, size_t index, const json_t *value, int32_t *next,
                                  lw_tokenizer *tokenizer, lw_error *err, char **end)
{
    lw_json at;
    const char *content;
    int64_t file_id;
    lw_added_token token = {0};
    LW_TRY(lw_json_object_at(value, path, "added_tokens.", err, &at));
    LW_TRY(lw_json_string(&at, "content", err, &content));
    LW_TRY(lw_json_int(&at, "id", 0, LW_MAX_TOKEN_ID, err, &file_id));
    LW_TRY(lw_json_bool_or(&at, "special", false, err, &token.special));
    LW_TRY(lw_json_bool_or(&at, "single_word", false, err, &token.single_word));
    LW_TRY(lw_json_bool_or(&at, "lstrip", false, err, &token.lstrip));
    LW_TRY(lw_json_bool_or(&at, "rstrip", false, err, &token.rstrip));
    LW_TRY(lw_json_bool_or(&at, "normalized", !token.special, err, &token.normalized));
    if (content[0] == '\0') {
        return LW_OK; // Hugging Face drops it too
    }
    LW_TRY(place_added(path, index, file_id, content, next, &tokenizer->vocab, err, end, &token.id));
    tokenizer->vocab.tokens[token.id].special = token.special;
    tokenizer->added.tokens[tokenizer->added.count++] = token;
    return LW_OK;
}

// Inserts special tokens first: of two tokens that normalise to the same text, the one inserted first stays.
static lw_status build_tries(lw_tokenizer *tokenizer, lw_error *err)
{
    lw_added *added = &tokenizer->added;
    lw_nfc nfc = {0};
    lw_status status = LW_OK;
    for (size_t i = 0; i < 2 * added->count; i++) {
        const size_t index = i % added->count;
        const lw_added_token *token = &added->tokens[index];
        if (token->special != (i < added->count)) {
            continue;
        }
        const char *text = tokenizer->vocab.tokens[token->id].content;
        size_t len = tokenizer->vocab.tokens[token->id].content_len;
        if (token->normalized) {
            LW_TRY_GOTO(lw_normalise(tokenizer, &nfc, text, len, err, &text, &len));
        }
        LW_TRY_GOTO(
            lw_trie_insert(token->normalized ? &added->normalized : &added->verbatim, text, len, (int32_t)index, err));
    }
done:
    lw_nfc_free(&nfc);
    return status;
}

static lw_status read_added(const char *path, const json_t *array, lw_tokenizer *tokenizer, lw_error *err, char **end)
{
    const size_t count = json_array_size(array);
    lw_added *added = &tokenizer->added;
    if (count == 0) {
        return LW_OK;
    }
    added->tokens = calloc(count, sizeof *added->tokens);
    if (!added->tokens) {
        return lw_fail(err, LW_ERR_MEMORY, "%s: no memory for %zu added tokens", path, count);
    }
    int32_t next = tokenizer->vocab.model_count;
    for (size_t i = 0; i < count; i++) {
        LW_TRY(read_added_token(path, i, json_array_get(array, i), &next, tokenizer, err, end));
    }
    return build_tries(tokenizer, err);
}

// --- the file

// The table of tokens is as long as the highest id, and a small file must not cause a large allocation.
static lw_status check_ids(const char *path, const lw_vocab_size *size, size_t file_bytes, lw_error *err)
{
    if ((size_t)size->id_count > file_bytes) {
        return lw_fail(err, LW_ERR_FORMAT,
                       "%s: the highest id is %d in a file of %zu bytes: most ids would name nothing", path,
                       size->id_count - 1, file_bytes);
    }
    return LW_OK;
}

// The seed of the hash tables is random, so that nobody can make a file whose tokens all collide.
static uint64_t random_seed(uint64_t fingerprint)
{
    uint64_t seed = 0;
    return getrandom(&seed, sizeof seed, GRND_NONBLOCK) == (ssize_t)sizeof seed ? seed : fingerprint;
}

static lw_status read_tokens(const char *path, size_t file_bytes, const lw_json *root, const lw_json *model,
                             lw_error *err, lw_tokenizer *tokenizer)
{
    const json_t *entries;
    const json_t *added = NULL;
    LW_TRY(lw_json_child(model, "vocab", err, &entries));
    if (lw_json_has(root, "added_tokens")) {
        LW_TRY(lw_json_array(root, "added_tokens", err, &added));
    }
    lw_vocab *vocab = &tokenizer->vocab;
    lw_vocab_size size = {0};
    LW_TRY(measure(path, entries, added, err, &size));
    LW_TRY(check_ids(path, &size, file_bytes, err));
    vocab->id_count = size.id_count;
    vocab->seed = random_seed(tokenizer->fingerprint);
    vocab->tokens = calloc((size_t)size.id_count, sizeof *vocab->tokens);
    vocab->bytes = malloc(2 * size.content_bytes + 1);
    if (!vocab->tokens || !vocab->bytes) {
        return lw_fail(err, LW_ERR_MEMORY, "%s: no memory for a vocabulary of %zu tokens", path, size.token_count);
    }
    LW_TRY(lw_id_map_create(&vocab->by_content, size.token_count, false, err));
    if (vocab->ignore_merges) {
        LW_TRY(lw_id_map_create(&vocab->by_raw, size.token_count, true, err));
    }
    char *end = vocab->bytes;
    LW_TRY(read_vocab(path, entries, vocab, err, &end));
    LW_TRY(tokenizer->model->read_rest(model, err, tokenizer));
    return read_added(path, added, tokenizer, err, &end);
}

lw_status lw_tokenizer_read(const char *path, lw_error *err, lw_tokenizer *tokenizer)
{
    char *text = NULL;
    size_t bytes = 0;
    json_t *json = NULL;
    lw_json root, model;
    const json_t *object;
    lw_status status;
    LW_TRY_GOTO(lw_read_file(path, MAX_FILE_BYTES, err, &text, &bytes));
    tokenizer->fingerprint = lw_xxh64(text, bytes, 0);
    LW_TRY_GOTO(lw_json_parse(path, text, bytes, LW_JSON_REJECT_DUPLICATES, err, &json));
    LW_TRY_GOTO(lw_json_object_at(json, path, "", err, &root));
    LW_TRY_GOTO(lw_json_child(&root, "model", err, &object));
    LW_TRY_GOTO(lw_json_object_at(object, path, "model.", err, &model));
    LW_TRY_GOTO(lw_tokenizer_read_model(&model, err, tokenizer));
    LW_TRY_GOTO(lw_tokenizer_read_pipeline(&root, err, tokenizer));
    LW_TRY_GOTO(read_tokens(path, bytes, &root, &model, err, tokenizer));
    LW_TRY_GOTO(lw_tokenizer_read_template(&root, err, tokenizer));
done:
    json_decref(json);
    free(text);
    return status;
}
