// read_lines.c: data files with one JSON object per line, read as a stream.
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/utf8.h"
#include "data/builder_internal.h"
#include "io/json_lines.h"

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

static lw_status read_lines(lw_json_lines *lines, lw_dataset_row *row, lw_dataset_builder *builder, lw_error *err)
{
    while (!lw_dataset_full(builder)) {
        const char *text;
        size_t bytes;
        LW_TRY(lw_json_lines_next(lines, err, &text, &bytes));
        if (text == NULL) {
            break;
        }
        if (lines->number == 1 && bytes >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) {
            text += 3;
            bytes -= 3;
        }
        while (bytes > 0 && isspace((unsigned char)text[bytes - 1])) {
            bytes--;
        }
        if (bytes > 0) {
            lw_status status = lw_dataset_parse_row(lines->where, text, bytes, row, builder, err);
            LW_TRY(lw_dataset_tolerate(builder, status, err));
        }
    }
    return LW_OK;
}

// Pipes are refused, since every rank reads the file; O_NONBLOCK keeps the opening of one from waiting for its writer.
static lw_status open_rows(const char *path, lw_error *err, int *out)
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
    *out = fd;
    return LW_OK;
}

lw_status lw_dataset_read_lines(const char *path, lw_dataset_row *row, lw_dataset_builder *builder, lw_error *err)
{
    lw_json_lines lines = {.name = path, .max_mib = 64};
    LW_TRY(open_rows(path, err, &lines.fd));
    int fd = lines.fd;
    lw_status status = read_lines(&lines, row, builder, err);
    lw_json_lines_free(&lines);
    close(fd);
    return status;
}
