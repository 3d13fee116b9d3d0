// run_dir.c: opening and closing a run directory, its log, and the small files in it.
#include "run/run_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/utf8.h"
#include "io/atomic_file.h"
#include "io/files.h"
#include "io/json.h"
#include "run/run_dir_internal.h"

// --- opening

static lw_status unusable(const char *path, lw_error *err)
{
    return lw_fail_in(err, LW_ERR_CONFIG, "run.dir = \"%s\" cannot be used (choose another with run.dir=PATH)", path);
}

// Opens RUN/NAME, made when missing.
static lw_status open_in(const char *dir, const char *name, int flags, lw_error *err, int *out)
{
    char *path = NULL;
    LW_TRY(lw_path_join(dir, name, err, &path));
    int fd = open(path, flags | O_CREAT | O_CLOEXEC, LW_FILE_MODE);
    lw_status status = LW_OK;
    if (fd < 0) {
        status = lw_fail_errno(err, LW_ERR_IO, errno, "%s cannot be written", path);
    } else {
        *out = fd;
    }
    free(path);
    return status;
}

static lw_status open_log(lw_run_dir *run, lw_error *err)
{
    LW_TRY(open_in(run->path, "log.txt", O_RDWR | O_APPEND, err, &run->log_fd));
    // A crash may have cut the last line.
    off_t size = lseek(run->log_fd, 0, SEEK_END);
    char last = '\n';
    if (size > 0 && pread(run->log_fd, &last, 1, size - 1) == 1 && last != '\n' && write(run->log_fd, "\n", 1) != 1) {
        return lw_fail_errno(err, LW_ERR_IO, errno, "%s/log.txt cannot be written", run->path);
    }
    return LW_OK;
}

// A kill in the middle of an atomic replacement leaves a temporary file; the job that holds the lock may remove it.
static void remove_temporaries(const char *dir)
{
    static const char *const ours[] = {"config.cfg", "metrics.jsonl",     "summary.json", "eval.json",
                                       "latest",     "predictions.jsonl", "best"};
    DIR *stream = opendir(dir);
    if (stream == NULL) {
        return;
    }
    for (const struct dirent *found = readdir(stream); found != NULL; found = readdir(stream)) {
        for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++) {
            size_t length = strlen(ours[i]);
            if (strncmp(found->d_name, ours[i], length) == 0 && strncmp(found->d_name + length, ".tmp.", 5) == 0) {
                unlinkat(dirfd(stream), found->d_name, 0); // a file that stays does no harm
            }
        }
    }
    closedir(stream);
}

static lw_status open_all(lw_run_dir *run, lw_error *err)
{
    run->made = !lw_path_is_dir(run->path);
    LW_TRY(lw_mkdir_p(run->path, err));
    // Files in it are replaced later, which needs the directory itself to be writable.
    if (access(run->path, W_OK | X_OK) != 0) {
        return lw_fail_errno(err, LW_ERR_IO, errno, "%s cannot be written", run->path);
    }
    LW_TRY(lw_run_dir_lock(run, err));
    remove_temporaries(run->path);
    return open_log(run, err);
}

lw_status lw_run_dir_open(const char *path, lw_progress *progress, lw_error *err, lw_run_dir **out)
{
    lw_run_dir *run = calloc(1, sizeof *run);
    if (run == NULL || (run->path = strdup(path)) == NULL) {
        free(run);
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the run directory");
    }
    run->progress = progress;
    run->lock_fd = run->log_fd = run->metrics_fd = -1;
    lw_status status = open_all(run, err);
    if (status != LW_OK) {
        status = status == LW_ERR_MEMORY ? status : unusable(path, err);
        lw_run_dir_close(&run);
        return status;
    }
    if (run->unlocked) {
        lw_log(run, "warning: this file system has no locks: only the lock file, which names host and process, keeps a "
                    "second job out of the run directory");
    }
    if (run->before[0] != '\0') {
        lw_log(run, "note: the last job in this directory did not end in order: %s", run->before);
    }
    *out = run;
    return LW_OK;
}

static void close_fd(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}

void lw_run_dir_close(lw_run_dir **run)
{
    if (*run == NULL) {
        return;
    }
    if (!lw_run_dir_unlock(*run)) {
        lw_log_file(*run, "warning: %s/lock cannot be written", (*run)->path);
    }
    close_fd((*run)->metrics_fd);
    close_fd((*run)->log_fd);
    free((*run)->path);
    free(*run);
    *run = NULL;
}

void lw_run_dir_abandon(lw_run_dir **run)
{
    lw_run_dir *r = *run;
    DIR *stream = r != NULL && r->made ? opendir(r->path) : NULL;
    bool bare = stream != NULL;
    for (const struct dirent *found = bare ? readdir(stream) : NULL; found != NULL; found = readdir(stream)) {
        const char *name = found->d_name;
        bare = bare && (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, "lock") == 0 ||
                        strcmp(name, "log.txt") == 0);
    }
    if (bare && unlinkat(dirfd(stream), "log.txt", 0) == 0 && unlinkat(dirfd(stream), "lock", 0) == 0) {
        rmdir(r->path);
    }
    if (stream != NULL) {
        closedir(stream);
    }
    lw_run_dir_close(run);
}

const char *lw_run_dir_path(const lw_run_dir *run)
{
    return run->path;
}

// --- lines

// Formats a message of one or more lines and makes it safe to print, as it may quote files, paths and models. NULL when
// out of memory.
__attribute__((format(printf, 1, 0))) static char *format_text(const char *format, va_list args)
{
    char *raw = NULL;
    if (vasprintf(&raw, format, args) < 0) {
        return NULL;
    }
    char *text = lw_printable_lines(raw);
    free(raw);
    return text;
}

// One text with every line of `text` behind a time stamp. NULL when out of memory.
static char *stamp_lines(const char *text)
{
    char utc[LW_UTC_BYTES];
    lw_utc_now(utc);
    size_t lines = 1;
    for (const char *c = text; *c != '\0'; c++) {
        lines += *c == '\n';
    }
    size_t room = strlen(text) + lines * (strlen(utc) + 2) + 1;
    char *out = malloc(room);
    if (out == NULL) {
        return NULL;
    }
    char *at = out;
    do {
        size_t length = strcspn(text, "\n");
        at += snprintf(at, room - (size_t)(at - out), "%s %.*s\n", utc, (int)length, text);
        text += length;
        text += *text == '\n';
    } while (*text != '\0');
    return out;
}

static void log_text(lw_run_dir *run, const char *text)
{
    char *lines = stamp_lines(text);
    if (lines == NULL) {
        return;
    }
    lw_error err = {{0}};
    if (lw_append_line(run->log_fd, run->path, "log.txt", lines, strlen(lines), &err) != LW_OK && !run->log_failed) {
        run->log_failed = true;
        lw_progress_message(run->progress, "lwmpi: warning: %s", err.text);
    }
    free(lines);
}

// Formats a message and writes it to log.txt, and to stderr too when `shown`.
__attribute__((format(printf, 3, 0))) static void log_message(lw_run_dir *run, bool shown, const char *format,
                                                              va_list args)
{
    char *text = run != NULL ? format_text(format, args) : NULL;
    if (text == NULL) {
        return;
    }
    log_text(run, text);
    if (shown) {
        lw_progress_message(run->progress, "%s", text);
    }
    free(text);
}

void lw_log(lw_run_dir *run, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    log_message(run, true, format, args);
    va_end(args);
}

void lw_log_file(lw_run_dir *run, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    log_message(run, false, format, args);
    va_end(args);
}

void lw_log_warning(void *run, const char *message)
{
    lw_log(run, "warning: %s", message);
}

void lw_print_warning(void *nothing, const char *message)
{
    (void)nothing;
    fprintf(stderr, "lwmpi: warning: %s\n", message);
}

void lw_run_dir_progress(lw_run_dir *run, const lw_progress_state *state)
{
    if (run == NULL) {
        return;
    }
    lw_progress_update(run->progress, state);
    double now_s = lw_now_s();
    bool last = state->total > 0 && state->done == state->total;
    if (!last && run->progress_logged && now_s - run->progress_s < lw_progress_interval_s(run->progress)) {
        return;
    }
    run->progress_logged = true;
    run->progress_s = now_s;
    char line[512];
    lw_progress_state shown = *state;
    shown.left_s = lw_progress_left_s(run->progress, state);
    lw_progress_format(&shown, 0, line, sizeof line);
    log_text(run, line);
}

// --- whole files

lw_status lw_run_dir_write_config(lw_run_dir *run, const char *text, lw_error *err)
{
    char *path = NULL;
    LW_TRY(lw_path_join(run->path, "config.cfg", err, &path));
    lw_status status = lw_write_file_atomic(path, text, strlen(text), err);
    free(path);
    return status;
}

lw_status lw_run_dir_write_json(lw_run_dir *run, const char *name, const json_t *value, lw_error *err)
{
    if (strchr(name, '/') != NULL) {
        return lw_fail(err, LW_ERR_INTERNAL, "\"%s\" is not a name in the run directory", name);
    }
    char *text = NULL;
    lw_status status = lw_json_print(value, JSON_INDENT(2), err, &text);
    if (status != LW_OK) {
        return lw_fail_in(err, status, "%s/%s", run->path, name);
    }
    size_t bytes = strlen(text);
    text[bytes++] = '\n'; // over the NUL: the bytes are counted
    char *path = NULL;
    status = lw_path_join(run->path, name, err, &path);
    if (status == LW_OK) {
        status = lw_write_file_atomic(path, text, bytes, err);
    }
    free(path);
    free(text);
    return status;
}
