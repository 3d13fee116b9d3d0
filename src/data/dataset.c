#include "data/dataset.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "core/utf8.h"
#include "data/dataset_internal.h"
#include "io/files.h"

bool lw_dataset_full(const lw_dataset_builder *builder)
{
    return builder->source->limit > 0 && builder->set.count >= builder->source->limit;
}

// All but the context.
static void free_sample(lw_sample *sample)
{
    for (int64_t i = 0; i < sample->answer_count; i++) {
        free(sample->answers[i]);
    }
    free(sample->answers);
    free(sample->id);
    free(sample->question);
}

void lw_dataset_free(lw_dataset *dataset)
{
    for (int64_t i = 0; i < dataset->count; i++) {
        if (i + 1 == dataset->count || dataset->samples[i].context != dataset->samples[i + 1].context) {
            free(dataset->samples[i].context);
        }
        free_sample(&dataset->samples[i]);
    }
    free(dataset->samples);
    free(dataset->first_bad_row);
    *dataset = (lw_dataset){0};
}

static bool is_blank(const char *text)
{
    while (isspace((unsigned char)*text)) {
        text++;
    }
    return *text == '\0';
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

// Room for one more sample.
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

// Takes `context` over.
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
        free_sample(&sample);
        if (!shared) {
            free(context);
        }
        return status;
    }
    set->samples[set->count++] = sample;
    lw_beat_tell(&set->beat);
    return LW_OK;
}

lw_status lw_dataset_add(lw_dataset_builder *builder, const char *where, const char *id, const char *context,
                         const char *question, const char *const *answers, int64_t answer_count, lw_error *err)
{
    if (answer_count == 0) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: no answer", where);
    }
    for (int64_t i = 0; i < answer_count; i++) {
        if (is_blank(answers[i])) {
            return lw_fail(err, LW_ERR_FORMAT, "%s: an answer is empty", where);
        }
    }
    if (is_blank(question)) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: the question is empty", where);
    }
    if (builder->source->needs_context && is_blank(context)) {
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

// --- all formats

static uint64_t fingerprint(const lw_dataset *set)
{
    uint64_t hash = (uint64_t)set->count;
    uint64_t context = 0;                      // its hash: read once, however many questions share it
    for (int64_t i = 0; i < set->count; i++) { // each text is hashed with its NUL and seeds the next
        const lw_sample *sample = &set->samples[i];
        if (i == 0 || sample->context != sample[-1].context) {
            context = lw_xxh64(sample->context, strlen(sample->context) + 1, 0);
        }
        hash = lw_xxh64(&context, sizeof context, hash);
        hash = lw_xxh64(sample->question, strlen(sample->question) + 1, hash);
        for (int64_t j = 0; j < sample->answer_count; j++) {
            hash = lw_xxh64(sample->answers[j], strlen(sample->answers[j]) + 1, hash);
        }
        hash = lw_xxh64("\n", 1, hash);
    }
    return hash;
}

lw_data_source lw_data_source_of(const lw_config *config, const char *path, int64_t limit)
{
    return (lw_data_source){.path = path,
                            .format = config->data.format,
                            .limit = limit,
                            .max_bad_rows = config->data.max_bad_rows,
                            .needs_context = config->wire.compress == LW_COMPRESS_CONTEXT,
                            .window_bytes = config->data.window_bytes,
                            .target_tokens = config->data.target_tokens,
                            .repeated = config->loss.reconstruct_share};
}

lw_status lw_dataset_read(const lw_data_source *source, lw_error *err, lw_dataset *out)
{
    const char *path = source->path;
    if (path[0] == '\0') {
        return lw_fail(err, LW_ERR_CONFIG, "no data file: set data.train (and data.eval to evaluate)");
    }
    lw_dataset_builder builder = {.source = source, .set.beat = source->beat};
    lw_status status = LW_ERR_INTERNAL;
    switch (source->format) {
    case LW_DATA_JSONL: status = lw_dataset_read_jsonl(path, &builder, err); break;
    case LW_DATA_SQUAD: status = lw_dataset_read_squad(path, &builder, err); break;
    case LW_DATA_HOTPOT: status = lw_dataset_read_hotpot(path, &builder, err); break;
    case LW_DATA_TEXT: status = lw_dataset_read_text(path, &builder, err); break;
    }
    if (status == LW_OK && builder.set.count == 0) {
        status = builder.set.bad_rows == 0
                     ? lw_fail(err, LW_ERR_CONFIG, "%s: no samples: is it the right file?", path)
                     : lw_fail(err, LW_ERR_CONFIG, "%s: no samples, %lld malformed rows, the first: %.1000s", path,
                               (long long)builder.set.bad_rows, builder.set.first_bad_row);
    }
    if (status != LW_OK) {
        lw_dataset_free(&builder.set);
        return status;
    }
    builder.set.fingerprint = fingerprint(&builder.set);
    builder.set.target_tokens = source->format == LW_DATA_TEXT ? source->target_tokens : 0;
    builder.set.repeated = source->format == LW_DATA_TEXT ? source->repeated : 0.0;
    *out = builder.set;
    return LW_OK;
}
