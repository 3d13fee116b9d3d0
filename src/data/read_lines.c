// Files of one JSON object a line, read as a stream.
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/builder_internal.h"

enum { BLOCK_BYTES = 1 << 18, MAX_LINE_BYTES = 64 << 20 };

lw_status lw_dataset_parse_row(const char *where, const char *text, size_t bytes, lw_dataset_row *row,
                               lw_dataset_builder *builder, lw_error *err)
{
    size_t bad = lw_utf8_first_bad(text, bytes); // jansson would only name the byte
    if (bad < bytes) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: column %zu is not valid UTF-8", where, bad + 1);
    }
    json_t *value;
    LW_TRY(lw_json_parse(where, text, bytes, 0, err, &value));
    lw_status status = row(value, where, builder, err);
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

static lw_status read_row(const char *path, int64_t line, const char *text, size_t bytes, lw_dataset_row *row,
                          lw_dataset_builder *builder, lw_error *err)
{
    char where[LW_WHERE_BYTES];
    snprintf(where, sizeof where, "%.480s:%lld", path, (long long)line);
    return lw_dataset_parse_row(where, text, bytes, row, builder, err);
}

static lw_status read_lines(line_reader *reader, const char *path, lw_dataset_row *row, lw_dataset_builder *builder,
                            lw_error *err)
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
            LW_TRY(lw_dataset_tolerate(builder, read_row(path, line, text, bytes, row, builder, err), err));
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

lw_status lw_dataset_read_lines(const char *path, lw_dataset_row *row, lw_dataset_builder *builder, lw_error *err)
{
    line_reader reader = {0};
    LW_TRY(open_rows(path, err, &reader.file));
    lw_status status = read_lines(&reader, path, row, builder, err);
    fclose(reader.file);
    free(reader.buffer);
    return status;
}
