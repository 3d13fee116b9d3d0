// read_squad.c: format `squad`: SQuAD v1.1 (Rajpurkar et al. 2016).
//
// The layout is {"data": [{"paragraphs": [{"context", "qas": [{"id", "question", "answers": [{"text"}]}]}]}]}. A row is
// a question; where a level above is malformed, everything under it is one malformed row. When the file is read as
// text, a row is a paragraph and its context is a document.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/builder_internal.h"

typedef struct place {
    const char *path;
    size_t article, paragraph, question;
    char text[LW_WHERE_BYTES];
} place;

static lw_status read_answers(const lw_json *qa, lw_error *err, const char ***list, int64_t *count)
{
    const json_t *array;
    LW_TRY(lw_json_array(qa, "answers", err, &array));
    size_t n = json_array_size(array);
    const char **texts = calloc(n + 1, sizeof *texts);
    if (texts == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "%s: no memory for %zu answers", qa->where, n);
    }
    for (size_t i = 0; i < n; i++) {
        lw_json answer;
        lw_status status = lw_json_object_at(json_array_get(array, i), qa->where, "answers.", err, &answer);
        if (status == LW_OK) {
            status = lw_json_string(&answer, "text", err, &texts[i]);
        }
        if (status != LW_OK) {
            free(texts);
            return status;
        }
    }
    *list = texts;
    *count = (int64_t)n;
    return LW_OK;
}

static lw_status read_question(const json_t *value, const char *context, place *at, lw_dataset_builder *builder,
                               lw_error *err)
{
    lw_json qa;
    const char *id;
    const char *question;
    const char **answers = NULL;
    int64_t answer_count = 0;
    snprintf(at->text, sizeof at->text, "%.480s: data[%zu].paragraphs[%zu].qas[%zu]", at->path, at->article,
             at->paragraph, at->question);
    LW_TRY(lw_json_object_at(value, at->text, "", err, &qa));
    LW_TRY(lw_json_string_or(&qa, "id", at->text, err, &id));
    LW_TRY(lw_json_string(&qa, "question", err, &question));
    LW_TRY(read_answers(&qa, err, &answers, &answer_count));
    lw_status status = lw_dataset_add(builder, at->text, id, context, question, answers, answer_count, err);
    free(answers);
    return status;
}

static lw_status read_paragraph(const json_t *value, place *at, const lw_dataset_builder *builder, lw_error *err,
                                const char **context, const json_t **questions)
{
    lw_json paragraph;
    snprintf(at->text, sizeof at->text, "%.480s: data[%zu].paragraphs[%zu]", at->path, at->article, at->paragraph);
    LW_TRY(lw_json_object_at(value, at->text, "", err, &paragraph));
    LW_TRY(lw_json_string(&paragraph, "context", err, context));
    return builder->source->format == LW_DATA_TEXT ? LW_OK : lw_json_array(&paragraph, "qas", err, questions);
}

static lw_status read_article(const json_t *value, place *at, lw_error *err, const json_t **paragraphs)
{
    lw_json article;
    snprintf(at->text, sizeof at->text, "%.480s: data[%zu]", at->path, at->article);
    LW_TRY(lw_json_object_at(value, at->text, "", err, &article));
    return lw_json_array(&article, "paragraphs", err, paragraphs);
}

static lw_status read_questions(const json_t *questions, const char *context, place *at, lw_dataset_builder *builder,
                                lw_error *err)
{
    size_t count = json_array_size(questions);
    builder->same_context = false;
    for (at->question = 0; at->question < count && !lw_dataset_full(builder); at->question++) {
        const json_t *value = json_array_get(questions, at->question);
        int64_t before = builder->set.count;
        LW_TRY(lw_dataset_tolerate(builder, read_question(value, context, at, builder, err), err));
        builder->same_context = builder->same_context || builder->set.count > before;
    }
    return LW_OK;
}

static lw_status read_paragraphs(const json_t *paragraphs, place *at, lw_dataset_builder *builder, lw_error *err)
{
    size_t count = json_array_size(paragraphs);
    for (at->paragraph = 0; at->paragraph < count && !lw_dataset_full(builder); at->paragraph++) {
        const char *context = NULL;
        const json_t *questions = NULL;
        const json_t *value = json_array_get(paragraphs, at->paragraph);
        LW_TRY(lw_dataset_tolerate(builder, read_paragraph(value, at, builder, err, &context, &questions), err));
        if (questions != NULL) {
            LW_TRY(read_questions(questions, context, at, builder, err));
        } else if (context != NULL && builder->source->format == LW_DATA_TEXT) {
            lw_status status = lw_dataset_add_document(builder, at->text, context, strlen(context), err);
            LW_TRY(lw_dataset_tolerate(builder, status, err));
        }
    }
    return LW_OK;
}

static lw_status read_root(const json_t *root, const char *path, lw_dataset_builder *builder, lw_error *err)
{
    lw_json top;
    const json_t *articles;
    place at = {.path = path};
    LW_TRY(lw_json_object_at(root, path, "", err, &top));
    LW_TRY(lw_json_array(&top, "data", err, &articles));
    size_t count = json_array_size(articles);
    for (at.article = 0; at.article < count && !lw_dataset_full(builder); at.article++) {
        const json_t *paragraphs = NULL;
        const json_t *value = json_array_get(articles, at.article);
        LW_TRY(lw_dataset_tolerate(builder, read_article(value, &at, err, &paragraphs), err));
        if (paragraphs != NULL) {
            LW_TRY(read_paragraphs(paragraphs, &at, builder, err));
        }
    }
    return LW_OK;
}

lw_status lw_dataset_read_squad(const char *path, lw_dataset_builder *builder, lw_error *err)
{
    json_t *root;
    LW_TRY(lw_json_read_file(path, LW_MAX_DATA_BYTES, 0, err, &root));
    lw_status status = read_root(root, path, builder, err);
    json_decref(root);
    return status;
}
