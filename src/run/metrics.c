// metrics.c: metrics.jsonl: rows are appended as the steps are logged, and cut back to the step that a run resumes
// from.
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/atomic_file.h"
#include "io/files.h"
#include "io/json.h"
#include "run/run_dir_internal.h"

static const char file_name[] = "metrics.jsonl";

static lw_status open_metrics(lw_run_dir *run, lw_error *err)
{
    if (run->metrics_fd >= 0) {
        return LW_OK;
    }
    char *path = NULL;
    LW_TRY(lw_path_join(run->path, file_name, err, &path));
    lw_status status = LW_OK;
    run->metrics_fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, LW_FILE_MODE);
    if (run->metrics_fd < 0) {
        status = lw_fail_errno(err, LW_ERR_IO, errno, "%s cannot be written", path);
    }
    free(path);
    return status;
}

// --- one row

typedef struct row {
    char *text;
    size_t used, size;
    bool full;
} row;

__attribute__((format(printf, 2, 3))) static void add(row *r, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(r->text + r->used, r->size - r->used, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= r->size - r->used) {
        r->full = true;
    } else {
        r->used += (size_t)n;
    }
}

static void add_string(row *r, const char *text)
{
    add(r, "\"");
    for (const char *c = text; *c != '\0' && !r->full; c++) {
        if (*c == '"' || *c == '\\') {
            add(r, "\\%c", *c);
        } else if ((unsigned char)*c < ' ') {
            add(r, "\\u%04x", (unsigned)(unsigned char)*c);
        } else {
            add(r, "%c", *c);
        }
    }
    add(r, "\"");
}

// Writes the shortest form that reads back as the same bits, always with a point or exponent, so that a column keeps
// its type.
static void add_f64(row *r, double value)
{
    if (!isfinite(value)) {
        add(r, "null");
        return;
    }
    char text[40];
    for (int digits = 9; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        double back = strtod(text, NULL);
        if (memcmp(&back, &value, sizeof back) == 0) {
            break;
        }
    }
    add(r, "%s%s", text, strpbrk(text, ".e") == NULL ? ".0" : "");
}

static void add_values(row *r, const lw_metric *metrics, int count)
{
    for (int i = 0; i < count; i++) {
        add(r, "%s", i > 0 ? ", " : "");
        add_string(r, metrics[i].key);
        add(r, ": ");
        switch (metrics[i].kind) {
        case LW_METRIC_F64: add_f64(r, metrics[i].f64); break;
        case LW_METRIC_I64: add(r, "%lld", (long long)metrics[i].i64); break;
        case LW_METRIC_TEXT: add_string(r, metrics[i].text); break;
        }
    }
}

lw_status lw_run_dir_metrics(lw_run_dir *run, const lw_metric *metrics, int count, lw_error *err)
{
    LW_TRY(open_metrics(run, err));
    row r = {.text = run->line, .size = sizeof run->line};
    add(&r, "{");
    add_values(&r, metrics, count);
    add(&r, "}\n");
    if (r.full) {
        return lw_fail(err, LW_ERR_INTERNAL, "%s/%s: a row of %d values exceeds %d bytes", run->path, file_name, count,
                       LW_METRICS_LINE_BYTES);
    }
    return lw_append_line(run->metrics_fd, run->path, file_name, r.text, r.used, err);
}

// --- resuming

// The object of a line; NULL when the line is torn. Being out of memory is an error and not a torn line. The caller
// drops the reference.
static lw_status parse_row(const char *line, size_t bytes, lw_error *err, json_t **out)
{
    json_t *value = NULL;
    lw_status status = lw_json_parse(file_name, line, bytes, 0, err, &value);
    if (status != LW_OK && status != LW_ERR_FORMAT) {
        return status;
    }
    if (!json_is_object(value)) {
        json_decref(value);
        value = NULL;
    }
    *out = value;
    return LW_OK;
}

// Whether a line belongs to the run up to `step`: a whole JSON object whose "step", if it has one, is not later.
static lw_status keep_line(const char *line, size_t bytes, int64_t step, lw_error *err, bool *keep)
{
    json_t *object = NULL;
    *keep = false;
    if (step <= 0 || bytes == 0 || line[bytes - 1] != '\n') {
        return LW_OK;
    }
    LW_TRY(parse_row(line, bytes, err, &object));
    const json_t *at = json_object_get(object, "step");
    *keep = object != NULL && (!json_is_number(at) || json_number_value(at) <= (double)step);
    json_decref(object);
    return LW_OK;
}

static lw_status copy_kept(FILE *in, const char *path, int64_t step, lw_atomic_file *out, lw_error *err,
                           int64_t *dropped)
{
    char *line = NULL;
    size_t capacity = 0;
    lw_status status = LW_OK;
    for (;;) {
        errno = 0;
        ssize_t n = getline(&line, &capacity, in);
        if (n < 0) {
            if (!feof(in)) {
                status = lw_fail_errno(err, LW_ERR_IO, errno, "%s cannot be read", path);
            }
            break;
        }
        bool keep = false;
        status = keep_line(line, (size_t)n, step, err, &keep);
        *dropped += status == LW_OK && !keep;
        if (status == LW_OK && keep) {
            status = lw_atomic_write(out, line, (size_t)n, err);
        }
        if (status != LW_OK) {
            break;
        }
    }
    free(line);
    return status;
}

static lw_status cut_back(const char *path, int64_t step, lw_error *err, int64_t *dropped)
{
    FILE *in = fopen(path, "re");
    if (in == NULL) {
        return errno == ENOENT ? LW_OK : lw_fail_errno(err, LW_ERR_IO, errno, "%s cannot be read", path);
    }
    lw_atomic_file *out = NULL;
    lw_status status = lw_atomic_open(path, err, &out);
    if (status == LW_OK) {
        status = copy_kept(in, path, step, out, err, dropped);
    }
    if (status == LW_OK && *dropped > 0) {
        status = lw_atomic_commit(&out, err);
    }
    lw_atomic_abort(&out); // where nothing was dropped the file stays as it is
    fclose(in);
    return status;
}

lw_status lw_run_dir_resume_metrics(lw_run_dir *run, int64_t step, lw_error *err)
{
    if (run->metrics_fd >= 0) {
        return lw_fail(err, LW_ERR_INTERNAL, "%s/%s is being written already", run->path, file_name);
    }
    char *path = NULL;
    LW_TRY(lw_path_join(run->path, file_name, err, &path));
    int64_t dropped = 0;
    lw_status status = cut_back(path, step, err, &dropped);
    free(path);
    LW_TRY(status);
    if (dropped > 0) {
        lw_log_file(run, "%s: dropped %lld lines of steps after %lld", file_name, (long long)dropped, (long long)step);
    }
    return open_metrics(run, err);
}

// Whether a line is the row of `step` and lacks `key`.
static lw_status lacks(const char *line, size_t bytes, int64_t step, const char *key, lw_error *err, bool *out)
{
    json_t *object = NULL;
    LW_TRY(parse_row(line, bytes, err, &object));
    *out = json_integer_value(json_object_get(object, "step")) == step && json_object_get(object, key) == NULL;
    json_decref(object);
    return LW_OK;
}

// Copies the lines. If the last one lacks the key, `more` goes before its closing brace, and *extended is true.
static lw_status copy_extended(FILE *in, const char *path, int64_t step, const char *key, const row *more,
                               lw_atomic_file *out, lw_error *err, bool *extended)
{
    char *line = NULL;
    size_t capacity = 0;
    lw_status status = LW_OK;
    ssize_t n;
    while (status == LW_OK && (n = getline(&line, &capacity, in)) >= 2) {
        size_t bytes = (size_t)n;
        int next = getc(in);
        if (next != EOF) {
            ungetc(next, in);
        }
        if (next == EOF && line[bytes - 1] == '\n') {
            status = lacks(line, bytes, step, key, err, extended);
        }
        if (status == LW_OK) {
            status = lw_atomic_write(out, line, *extended ? bytes - 2 : bytes, err); // less "}\n"
        }
    }
    if (status == LW_OK && ferror(in)) {
        status = lw_fail_errno(err, LW_ERR_IO, errno, "%s cannot be read", path);
    }
    if (status == LW_OK && *extended) {
        status = lw_atomic_write(out, more->text, more->used, err);
    }
    free(line);
    return status;
}

static lw_status extend_file(const char *path, int64_t step, const char *key, const row *more, lw_error *err,
                             bool *extended)
{
    FILE *in = fopen(path, "re");
    if (in == NULL) {
        return lw_fail_errno(err, LW_ERR_IO, errno, "%s cannot be read", path);
    }
    lw_atomic_file *out = NULL;
    lw_status status = lw_atomic_open(path, err, &out);
    if (status == LW_OK) {
        status = copy_extended(in, path, step, key, more, out, err, extended);
    }
    if (status == LW_OK && *extended) {
        status = lw_atomic_commit(&out, err);
    }
    lw_atomic_abort(&out);
    fclose(in);
    return status;
}

lw_status lw_run_dir_extend_metrics(lw_run_dir *run, int64_t step, const lw_metric *metrics, int count, lw_error *err)
{
    char *path = NULL;
    bool extended = false;
    row more = {.text = run->line, .size = sizeof run->line};
    add(&more, ", ");
    add_values(&more, metrics, count);
    add(&more, "}\n");
    if (more.full) {
        return lw_fail(err, LW_ERR_INTERNAL, "%s/%s: %d values exceed %d bytes", run->path, file_name, count,
                       LW_METRICS_LINE_BYTES);
    }
    LW_TRY(lw_path_join(run->path, file_name, err, &path));
    lw_status status = extend_file(path, step, metrics[0].key, &more, err, &extended);
    free(path);
    LW_TRY(status);
    if (extended) { // metrics_fd is open on the file that has been replaced
        close(run->metrics_fd);
        run->metrics_fd = -1;
    }
    return open_metrics(run, err);
}

lw_status lw_run_dir_last_metrics(const lw_run_dir *run, lw_error *err, json_t **out)
{
    char *path = NULL;
    char *line = NULL;
    size_t capacity = 0;
    json_t *last = NULL;
    LW_TRY(lw_path_join(run->path, file_name, err, &path));
    FILE *in = fopen(path, "rbe");
    ssize_t n;
    lw_status status = LW_OK;
    if (in == NULL && errno != ENOENT) {
        status = lw_fail_errno(err, LW_ERR_IO, errno, "%s cannot be read", path);
    }
    while (status == LW_OK && in != NULL && (n = getline(&line, &capacity, in)) >= 0) {
        json_t *object = NULL;
        status = parse_row(line, (size_t)n, err, &object);
        if (object != NULL) {
            json_decref(last);
            last = object;
        }
    }
    if (in != NULL) {
        fclose(in);
    }
    free(line);
    free(path);
    if (status != LW_OK) {
        json_decref(last);
        return status;
    }
    *out = last;
    return LW_OK;
}
