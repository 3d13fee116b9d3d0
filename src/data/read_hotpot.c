// read_hotpot.c: format `hotpot`: HotpotQA (Yang et al. 2018), distractor and full-wiki files.
//
// These are an array of items, {"_id", "question", "answer", "context": [[title, [sentence, ...]], ...], ...}, or have
// the layout of the Hugging Face data set, {"id", ..., "context": {"title": [...], "sentences": [[...], ...]}}. The
// training file has half a gigabyte, so it is parsed one item at a time.
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/builder_internal.h"
#include "io/files.h"

// --- the context of an item as one text

typedef struct writer {
    char *text;
    size_t used, capacity;
} writer;

static lw_status put(writer *w, const char *text, const char *where, lw_error *err)
{
    size_t bytes = strlen(text);
    if (w->capacity - w->used <= bytes) {
        size_t capacity = 2 * w->capacity + bytes + 4096;
        char *grown = realloc(w->text, capacity);
        if (grown == NULL) {
            return lw_fail(err, LW_ERR_MEMORY, "%s: no memory for a context of %zu bytes", where, capacity);
        }
        w->text = grown;
        w->capacity = capacity;
    }
    memcpy(w->text + w->used, text, bytes + 1);
    w->used += bytes;
    return LW_OK;
}

static lw_status put_sentence(writer *w, const char *sentence, const char *where, lw_error *err)
{
    bool apart = w->used == 0 || isspace((unsigned char)w->text[w->used - 1]) || isspace((unsigned char)sentence[0]);
    if (sentence[0] == '\0') {
        return LW_OK;
    }
    if (!apart) {
        LW_TRY(put(w, " ", where, err));
    }
    return put(w, sentence, where, err);
}

static lw_status put_paragraph(writer *w, const json_t *title, const json_t *sentences, const char *where,
                               lw_error *err)
{
    if (!json_is_string(title) || !json_is_array(sentences)) {
        return lw_fail(err, LW_ERR_FORMAT,
                       "%s: a paragraph of \"context\" wants a title and a list of sentences, but has %s and %s", where,
                       lw_json_type_name(title), lw_json_type_name(sentences));
    }
    if (w->used > 0) {
        LW_TRY(put(w, "\n", where, err));
    }
    LW_TRY(put(w, json_string_value(title), where, err));
    LW_TRY(put(w, ":", where, err));
    for (size_t i = 0; i < json_array_size(sentences); i++) {
        const json_t *sentence = json_array_get(sentences, i);
        if (!json_is_string(sentence)) {
            return lw_fail(err, LW_ERR_FORMAT, "%s: a sentence of \"context\" is %s, expected a string", where,
                           lw_json_type_name(sentence));
        }
        LW_TRY(put_sentence(w, json_string_value(sentence), where, err));
    }
    return LW_OK;
}

// [[title, sentences], ...]
static lw_status put_pairs(writer *w, const json_t *context, const char *where, lw_error *err)
{
    for (size_t i = 0; i < json_array_size(context); i++) {
        const json_t *pair = json_array_get(context, i);
        if (!json_is_array(pair) || json_array_size(pair) != 2) {
            return lw_fail(err, LW_ERR_FORMAT, "%s: a paragraph of \"context\" is %s, expected [title, [sentences]]",
                           where, json_is_array(pair) ? "a list of another length" : lw_json_type_name(pair));
        }
        LW_TRY(put_paragraph(w, json_array_get(pair, 0), json_array_get(pair, 1), where, err));
    }
    return LW_OK;
}

// {"title": [...], "sentences": [[...], ...]}
static lw_status put_columns(writer *w, const json_t *context, const char *where, lw_error *err)
{
    lw_json columns;
    const json_t *titles;
    const json_t *sentences;
    LW_TRY(lw_json_object_at(context, where, "context.", err, &columns));
    LW_TRY(lw_json_array(&columns, "title", err, &titles));
    LW_TRY(lw_json_array(&columns, "sentences", err, &sentences));
    if (json_array_size(titles) != json_array_size(sentences)) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: \"context\" has %zu titles and %zu lists of sentences", where,
                       json_array_size(titles), json_array_size(sentences));
    }
    for (size_t i = 0; i < json_array_size(titles); i++) {
        LW_TRY(put_paragraph(w, json_array_get(titles, i), json_array_get(sentences, i), where, err));
    }
    return LW_OK;
}

// --- items

static lw_status add_item(const json_t *value, const char *where, lw_dataset_builder *builder, lw_error *err)
{
    lw_json item;
    const char *id;
    const char *question;
    const char *answer;
    writer context = {0};
    LW_TRY(lw_json_object_at(value, where, "", err, &item));
    LW_TRY(lw_json_string_or(&item, lw_json_has(&item, "_id") ? "_id" : "id", where, err, &id));
    LW_TRY(lw_json_string(&item, "question", err, &question));
    LW_TRY(lw_json_string(&item, "answer", err, &answer));
    const json_t *paragraphs = json_object_get(item.object, "context");
    lw_status status;
    if (json_is_array(paragraphs)) {
        status = put_pairs(&context, paragraphs, where, err);
    } else if (json_is_object(paragraphs)) {
        status = put_columns(&context, paragraphs, where, err);
    } else {
        status = lw_fail(err, LW_ERR_FORMAT, "%s: \"context\" is %s, expected a list of paragraphs", where,
                         lw_json_type_name(paragraphs));
    }
    if (status == LW_OK) {
        const char *text = context.text == NULL ? "" : context.text;
        status = lw_dataset_add(builder, where, id, text, question, &answer, 1, err);
    }
    free(context.text);
    return status;
}

// --- the file

typedef struct scanner {
    const char *text;
    size_t at, bytes;
    bool in_array;
} scanner;

static void skip_space(scanner *s)
{
    s->at = lw_skip_space(s->text, s->at, s->bytes);
}

// The end of the value at s->at: the next comma, bracket or newline that is outside of its strings and brackets.
static size_t value_end(const scanner *s)
{
    int64_t depth = 0;
    bool quoted = false;
    for (size_t i = s->at; i < s->bytes; i++) {
        char c = s->text[i];
        if (quoted) {
            i += c == '\\';
            quoted = c != '"';
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if (depth > 0 && (c == '}' || c == ']')) {
            depth--;
            if (depth == 0) {
                return i + 1;
            }
        } else if (depth == 0 && (c == ',' || c == ']' || c == '}' || c == '\n') && i > s->at) {
            return i;
        }
    }
    return s->bytes;
}

// The next item, [*begin, *end); false at the end of the file or of its array.
static bool next_item(scanner *s, size_t *begin, size_t *end)
{
    skip_space(s);
    if (s->at == s->bytes || (s->in_array && s->text[s->at] == ']')) {
        return false;
    }
    *begin = s->at;
    *end = value_end(s);
    s->at = *end;
    return true;
}

// Steps over the comma between two items of an array; after the last one the bracket is left for check_end.
static lw_status pass_separator(scanner *s, const char *where, lw_error *err)
{
    skip_space(s);
    char c = s->at < s->bytes ? s->text[s->at] : '\0';
    if (!s->in_array || c == ']') {
        return LW_OK;
    }
    if (c != ',') {
        return lw_fail(err, LW_ERR_FORMAT, "%s: %s", where,
                       s->at == s->bytes ? "the file ends behind this item, without ']': is it whole?"
                                         : "behind this item comes neither ',' nor ']'");
    }
    s->at++;
    return LW_OK;
}

static lw_status check_end(scanner *s, const char *path, lw_error *err)
{
    bool closed = s->at < s->bytes;
    s->at += closed;
    skip_space(s);
    if (!closed || s->at < s->bytes) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: %s", path,
                       closed ? "there is more behind the array of items"
                              : "the array of items does not end: is the file whole?");
    }
    return LW_OK;
}

static lw_status read_items(scanner *s, const char *path, lw_dataset_builder *builder, lw_error *err)
{
    char where[LW_WHERE_BYTES];
    size_t begin;
    size_t end;
    skip_space(s);
    s->in_array = s->at < s->bytes && s->text[s->at] == '[';
    s->at += s->in_array;
    for (int64_t i = 0; !lw_dataset_full(builder) && next_item(s, &begin, &end); i++) {
        snprintf(where, sizeof where, "%.480s: [%lld]", path, (long long)i);
        lw_status status = lw_dataset_parse_row(where, s->text + begin, end - begin, add_item, builder, err);
        LW_TRY(lw_dataset_tolerate(builder, status, err));
        LW_TRY(pass_separator(s, where, err));
    }
    return s->in_array && !lw_dataset_full(builder) ? check_end(s, path, err) : LW_OK;
}

lw_status lw_dataset_read_hotpot(const char *path, lw_dataset_builder *builder, lw_error *err)
{
    char *text;
    scanner s = {0};
    LW_TRY(lw_read_file(path, LW_MAX_DATA_BYTES, err, &text, &s.bytes));
    s.text = text;
    s.at = s.bytes >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
    lw_status status = read_items(&s, path, builder, err);
    free(text);
    return status;
}
