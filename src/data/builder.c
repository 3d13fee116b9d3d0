// builder.c: adds samples to a data set that is being read, and counts the malformed rows that are skipped.
#include <stdlib.h>
#include <string.h>

#include "core/utf8.h"
#include "data/builder_internal.h"

bool lw_dataset_full(const lw_dataset_builder *builder)
{
    return builder->source->limit > 0 && builder->set.count >= builder->source->limit;
}

static bool copy_sample(lw_sample *sample, const char *id, const char *question, const char *const *answers,
                        int64_t answer_count)
{
    sample->id = strdup(id);
    sample->question = strdup(question);
    sample->answers = calloc((size_t)answer_count, sizeof *sample->answers);
    if (sample->id == NULL || sample->question == NULL || sample->answers == NULL) {
        return false;
    }
    for (int64_t i = 0; i < answer_count; i++) {
        sample->answers[i] = strdup(answers[i]);
        if (sample->answers[i] == NULL) {
            return false;
        }
        sample->answer_count++;
    }
    return true;
}

// Makes room for one more sample.
static lw_status reserve(lw_dataset_builder *builder, const char *where, lw_error *err)
{
    lw_dataset *set = &builder->set;
    if (set->count == builder->capacity) {
        int64_t capacity = builder->capacity == 0 ? 256 : 2 * builder->capacity;
        lw_sample *samples = realloc(set->samples, (size_t)capacity * sizeof *samples);
        if (samples == NULL) {
            return lw_fail(err, LW_ERR_MEMORY, "%s: no memory for %lld samples", where, (long long)capacity);
        }
        set->samples = samples;
        builder->capacity = capacity;
    }
    return LW_OK;
}

// Adds a sample; takes ownership of `context`, also when it fails.
static lw_status put(lw_dataset_builder *builder, lw_sample_kind kind, const char *where, const char *id, char *context,
                     const char *question, const char *const *answers, int64_t answer_count, lw_error *err)
{
    lw_dataset *set = &builder->set;
    bool shared = set->count > 0 && context == set->samples[set->count - 1].context;
    lw_sample sample = {.kind = kind, .context = context};
    lw_status status = reserve(builder, where, err);
    if (status == LW_OK && (context == NULL || !copy_sample(&sample, id, question, answers, answer_count))) {
        status = lw_fail(err, LW_ERR_MEMORY, "%s: no memory for sample %lld", where, (long long)set->count);
    }
    if (status != LW_OK) {
        lw_sample_free(&sample);
        if (!shared) {
            free(context);
        }
        return status;
    }
    set->samples[set->count++] = sample;
    lw_heartbeat_report(&set->heartbeat);
    return LW_OK;
}

lw_status lw_dataset_add(lw_dataset_builder *builder, const char *where, const char *id, const char *context,
                         const char *question, const char *const *answers, int64_t answer_count, lw_error *err)
{
    if (answer_count == 0) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: no answer", where);
    }
    for (int64_t i = 0; i < answer_count; i++) {
        if (lw_is_blank(answers[i], strlen(answers[i]))) {
            return lw_fail(err, LW_ERR_FORMAT, "%s: an answer is empty", where);
        }
    }
    if (lw_is_blank(question, strlen(question))) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: the question is empty", where);
    }
    if (builder->source->needs_context && lw_is_blank(context, strlen(context))) {
        return lw_fail(err, LW_ERR_FORMAT,
                       "%s: sample \"%.80s\" has no context, and with wire.compress = \"context\" the encoder reads "
                       "nothing else (\"prompt\" would send the question too)",
                       where, id);
    }
    const lw_dataset *set = &builder->set;
    char *kept = builder->same_context && set->count > 0 ? set->samples[set->count - 1].context : strdup(context);
    return put(builder, LW_SAMPLE_QUESTION, where, id, kept, question, answers, answer_count, err);
}

lw_status lw_dataset_add_text(lw_dataset_builder *builder, const char *where, const char *id, const char *window,
                              size_t window_bytes, const char *next, size_t next_bytes, lw_error *err)
{
    char *continuation = strndup(next, next_bytes);
    if (continuation == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "%s: no memory for a window of %zu bytes", where, next_bytes);
    }
    const char *const answers[] = {continuation};
    lw_status status = put(builder, LW_SAMPLE_TEXT, where, id, strndup(window, window_bytes), "", answers, 1, err);
    free(continuation);
    return status;
}

lw_status lw_dataset_tolerate(lw_dataset_builder *builder, lw_status status, lw_error *err)
{
    lw_dataset *set = &builder->set;
    if (status != LW_ERR_FORMAT) {
        return status;
    }
    if (set->first_bad_row == NULL) {
        set->first_bad_row = strdup(err->text);
        if (set->first_bad_row == NULL) {
            return lw_fail(err, LW_ERR_MEMORY, "no memory for a message");
        }
    }
    set->bad_rows++;
    if (set->bad_rows <= builder->source->max_bad_rows) {
        return LW_OK;
    }
    if (builder->source->max_bad_rows == 0) {
        return lw_fail(err, status, "%.1200s; correct it, or set data.max_bad_rows to pass over such rows",
                       set->first_bad_row);
    }
    return lw_fail(err, status, "%.1100s; this is the first of more than data.max_bad_rows = %lld malformed rows",
                   set->first_bad_row, (long long)builder->source->max_bad_rows);
}
