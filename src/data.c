#include "data.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data_internal.h"
#include "file_util.h"
#include "utf8.h"

enum { BLOCK_BYTES = 1 << 18, MAX_LINE_BYTES = 64 << 20 };

bool lw_dataset_full(const lw_dataset_builder *builder)
{
    return builder->limit > 0 && builder->set.count >= builder->limit;
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
    bool shared = builder->same_context && set->count > 0;
    lw_sample sample = {.context = shared ? set->samples[set->count - 1].context : strdup(context)};
    if (sample.context == NULL || !copy_sample(&sample, id, question, answers, answer_count)) {
        free_sample(&sample);
        if (!shared) {
            free(sample.context);
        }
        return lw_fail(err, LW_ERR_MEMORY, "%s: no memory for sample %lld", where, (long long)set->count);
    }
    set->samples[set->count++] = sample;
    return LW_OK;
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
    if (set->bad_rows <= builder->max_bad_rows) {
        return LW_OK;
    }
    if (builder->max_bad_rows == 0) {
        return lw_fail(err, status, "%.1200s; correct it, or set data.max_bad_rows to pass over such rows",
                       set->first_bad_row);
    }
    return lw_fail(err, status, "%.1100s; this is the first of more than data.max_bad_rows = %lld malformed rows",
                   set->first_bad_row, (long long)builder->max_bad_rows);
}

// --- JSONL

// "answers": a list of strings, or "answer": one. *list is to be freed by the caller, not its strings.
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

static lw_status read_row(const char *path, int64_t line, const char *text, size_t bytes, lw_dataset_builder *builder,
                          lw_error *err)
{
    char where[512];
    snprintf(where, sizeof where, "%.480s:%lld", path, (long long)line);
    size_t bad = lw_utf8_first_bad(text, bytes); // jansson would only name the byte
    if (bad < bytes) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: column %zu is not valid UTF-8", where, bad + 1);
    }
    json_t *value;
    LW_TRY(lw_json_parse(where, text, bytes, 0, err, &value));
    lw_status status = add_row(value, where, builder, err);
    json_decref(value);
    return status;
}

// Lines of a file in a buffer that grows to the longest of them.
typedef struct line_reader {
    FILE *file;
    char *buffer;
    size_t capacity, begin, end; // unread bytes: begin .. end
    bool at_end;
} line_reader;

static lw_status fill_buffer(line_reader *reader, const char *path, int64_t line, lw_error *err)
{
    if (reader->begin > 0) {
        memmove(reader->buffer, reader->buffer + reader->begin, reader->end - reader->begin);
        reader->end -= reader->begin;
        reader->begin = 0;
    }
    if (reader->end > MAX_LINE_BYTES) {
        return lw_fail(err, LW_ERR_FORMAT, "%s:%lld: a line of more than %d MiB: this is not JSONL", path,
                       (long long)line, MAX_LINE_BYTES >> 20);
    }
    if (reader->capacity - reader->end < BLOCK_BYTES) {
        size_t capacity = 2 * reader->capacity + BLOCK_BYTES;
        char *buffer = realloc(reader->buffer, capacity);
        if (buffer == NULL) {
            return lw_fail(err, LW_ERR_MEMORY, "%s:%lld: no memory for a line of %zu bytes", path, (long long)line,
                           reader->end);
        }
        reader->buffer = buffer;
        reader->capacity = capacity;
    }
    errno = 0;
    size_t got = fread(reader->buffer + reader->end, 1, BLOCK_BYTES, reader->file);
    if (got == 0 && ferror(reader->file)) {
        return lw_fail_errno(err, LW_ERR_IO, errno, "%s: cannot read", path);
    }
    reader->at_end = got == 0;
    reader->end += got;
    return LW_OK;
}

// The next line without its newline, *text == NULL at the end of the file.
static lw_status next_line(line_reader *reader, const char *path, int64_t line, lw_error *err, const char **text,
                           size_t *bytes)
{
    size_t searched = 0;
    for (;;) {
        size_t unread = reader->end - reader->begin;
        const char *start = unread == 0 ? NULL : reader->buffer + reader->begin;
        const char *newline = unread == searched ? NULL : memchr(start + searched, '\n', unread - searched);
        if (newline != NULL || (reader->at_end && unread > 0)) {
            *text = start;
            *bytes = newline != NULL ? (size_t)(newline - start) : unread;
            reader->begin += *bytes + (newline != NULL);
            return LW_OK;
        }
        if (reader->at_end) {
            *text = NULL;
            return LW_OK;
        }
        searched = unread;
        LW_TRY(fill_buffer(reader, path, line, err));
    }
}

static lw_status read_lines(line_reader *reader, const char *path, lw_dataset_builder *builder, lw_error *err)
{
    for (int64_t line = 1; !lw_dataset_full(builder); line++) {
        const char *text;
        size_t bytes;
        LW_TRY(next_line(reader, path, line, err, &text, &bytes));
        if (text == NULL) {
            break;
        }
        if (line == 1 && bytes >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) {
            text += 3;
            bytes -= 3;
        }
        while (bytes > 0 && isspace((unsigned char)text[bytes - 1])) {
            bytes--;
        }
        if (bytes > 0) {
            LW_TRY(lw_dataset_tolerate(builder, read_row(path, line, text, bytes, builder, err), err));
        }
    }
    return LW_OK;
}

// O_NONBLOCK: opening a pipe must not wait for its writer. Every rank reads the file, so a pipe would not do anyway.
static lw_status open_rows(const char *path, lw_error *err, FILE **out)
{
    static const char what[] = "the data file (data.train, data.eval)";
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return lw_fail_errno(err, LW_ERR_IO, errno, "%s: cannot open %s", path, what);
    }
    struct stat st;
    if (fstat(fd, &st) != 0) {
        int errnum = errno;
        close(fd);
        return lw_fail_errno(err, LW_ERR_IO, errnum, "%s: cannot stat %s", path, what);
    }
    if (!S_ISREG(st.st_mode)) {
        close(fd);
        return lw_fail(err, LW_ERR_IO, "%s: %s is %s, expected a regular file", path, what,
                       S_ISDIR(st.st_mode) ? "a directory" : "a pipe, socket or device");
    }
    FILE *file = fdopen(fd, "rb");
    if (file == NULL) {
        int errnum = errno;
        close(fd);
        return lw_fail_errno(err, LW_ERR_IO, errnum, "%s: cannot open %s", path, what);
    }
    *out = file;
    return LW_OK;
}

static lw_status read_jsonl(const char *path, lw_dataset_builder *builder, lw_error *err)
{
    line_reader reader = {0};
    LW_TRY(open_rows(path, err, &reader.file));
    lw_status status = read_lines(&reader, path, builder, err);
    fclose(reader.file);
    free(reader.buffer);
    return status;
}

// --- both formats

static uint64_t fingerprint(const lw_dataset *set)
{
    uint64_t hash = (uint64_t)set->count;
    uint64_t context = 0; // its hash: read once, however many questions share it
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

lw_status lw_dataset_read(const char *path, lw_data_format format, int64_t limit, int64_t max_bad_rows, lw_error *err,
                          lw_dataset *out)
{
    if (path[0] == '\0') {
        return lw_fail(err, LW_ERR_CONFIG, "no data file: set data.train (and data.eval to evaluate)");
    }
    lw_dataset_builder builder = {.limit = limit, .max_bad_rows = max_bad_rows};
    lw_status status;
    if (format == LW_DATA_JSONL) {
        status = read_jsonl(path, &builder, err);
    } else if (format == LW_DATA_SQUAD) {
        status = lw_dataset_read_squad(path, &builder, err);
    } else {
        status = lw_fail(err, LW_ERR_UNSUPPORTED, "%s: data.format = \"%s\" is not in this build yet", path,
                         lw_data_format_name(format));
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
    *out = builder.set;
    return LW_OK;
}
