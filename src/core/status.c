// status.c: names of error codes, and the text of an error as it is written, extended and printed.
#include "core/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/utf8.h"

const char *lw_status_name(lw_status status)
{
    static const char *const names[] = {
#define LW_STATUS_NAME(code, exit_code, name) [code] = name,
        LW_STATUS_LIST(LW_STATUS_NAME)
#undef LW_STATUS_NAME
    };
    return names[status];
}

int lw_status_exit_code(lw_status status)
{
    static const int exit_codes[] = {
#define LW_STATUS_EXIT(code, exit_code, name) [code] = exit_code,
        LW_STATUS_LIST(LW_STATUS_EXIT)
#undef LW_STATUS_EXIT
    };
    return exit_codes[status];
}

// A message may quote a file, a path or a peer: the one place where all of them are made safe to print. The arguments
// may point into err->text.
__attribute__((format(printf, 2, 0))) static void set_text(lw_error *err, const char *format, va_list args)
{
    char raw[sizeof err->text + 8]; // what does not fit is seen and marked as cut
    vsnprintf(raw, sizeof raw, format, args);
    lw_printable(raw, err->text, sizeof err->text);
}

lw_status lw_fail(lw_error *err, lw_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    set_text(err, format, args);
    va_end(args);
    return status;
}

// Appends what fits of `separator` and `text`, whole characters.
static void append(lw_error *err, const char *separator, const char *text)
{
    size_t used = strlen(err->text);
    size_t room = sizeof err->text - 1 - used;
    size_t bytes = strlen(separator);
    bytes = bytes < room ? bytes : room;
    memcpy(err->text + used, separator, bytes);
    size_t length = strlen(text);
    size_t kept = lw_utf8_floor(text, length, room - bytes);
    memcpy(err->text + used + bytes, text, kept);
    err->text[used + bytes + kept] = '\0';
}

lw_status lw_fail_in(lw_error *err, lw_status status, const char *format, ...)
{
    char inner[sizeof err->text];
    memcpy(inner, err->text, strlen(err->text) + 1);
    va_list args;
    va_start(args, format);
    set_text(err, format, args);
    va_end(args);
    append(err, ": ", inner);
    return status;
}

lw_status lw_fail_errno(lw_error *err, lw_status status, int errnum, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    set_text(err, format, args);
    va_end(args);
    append(err, ": ", strerror(errnum));
    return status;
}

lw_status lw_fail_lines(lw_error *err, lw_status status, const char *lines)
{
    char *safe = lw_printable_lines(lines);
    append(err, ":\n", safe == NULL ? "" : safe);
    free(safe);
    return status;
}
