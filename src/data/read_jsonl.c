// read_jsonl.c: format `jsonl`: rows {"context", "question"} or {"prompt"}, with "answers" or "answer".
#include <stdlib.h>

#include "data/builder_internal.h"

// Reads "answers", a list of strings, or "answer", one string. The caller frees *list, whose strings are borrowed.
static lw_status row_answers(const lw_json *row, lw_error *err, const char ***list, int64_t *count)
{
    const json_t *array = NULL;
    const char *single = NULL;
    if (lw_json_has(row, "answers")) {
        LW_TRY(lw_json_array(row, "answers", err, &array));
    } else if (lw_json_has(row, "answer")) {
        LW_TRY(lw_json_string(row, "answer", err, &single));
    } else {
        return lw_fail(err, LW_ERR_FORMAT, "%s: the key \"answers\" (or \"answer\") is missing", row->where);
    }
    size_t n = array == NULL ? 1 : json_array_size(array);
    const char **texts = calloc(n + 1, sizeof *texts);
    if (texts == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "%s: no memory for %zu answers", row->where, n);
    }
    texts[0] = single;
    for (size_t i = 0; i < n && array != NULL; i++) {
        texts[i] = json_string_value(json_array_get(array, i));
        if (texts[i] == NULL) {
            free(texts);
            return lw_fail(err, LW_ERR_FORMAT, "%s: \"answers\" wants strings, but holds %s", row->where,
                           lw_json_type_name(json_array_get(array, i)));
        }
    }
    *list = texts;
    *count = (int64_t)n;
    return LW_OK;
}

static lw_status add_row(const json_t *value, const char *where, lw_dataset_builder *builder, lw_error *err)
{
    lw_json row;
    const char *context = "";
    const char *question;
    LW_TRY(lw_json_object_at(value, where, "", err, &row));
    if (lw_json_has(&row, "prompt") && !lw_json_has(&row, "question")) {
        LW_TRY(lw_json_string(&row, "prompt", err, &question));
    } else {
        LW_TRY(lw_json_string(&row, "context", err, &context));
        LW_TRY(lw_json_string(&row, "question", err, &question));
    }
    const char **answers = NULL;
    int64_t answer_count = 0;
    LW_TRY(row_answers(&row, err, &answers, &answer_count));
    lw_status status = lw_dataset_add(builder, where, where, context, question, answers, answer_count, err);
    free(answers);
    return status;
}

lw_status lw_dataset_read_jsonl(const char *path, lw_dataset_builder *builder, lw_error *err)
{
    return lw_dataset_read_lines(path, add_row, builder, err);
}
