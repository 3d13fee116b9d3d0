#include "status.h"

#include <stdio.h>
#include <string.h>

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

lw_status lw_fail(lw_error *err, lw_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    return status;
}

// Appends what fits of ": " and `text`.
static void append(lw_error *err, const char *text)
{
    size_t used = strlen(err->text);
    size_t room = sizeof err->text - 1 - used;
    strncat(err->text, ": ", room);
    room = sizeof err->text - 1 - strlen(err->text);
    strncat(err->text, text, room);
}

lw_status lw_fail_in(lw_error *err, lw_status status, const char *format, ...)
{
    char inner[sizeof err->text];
    memcpy(inner, err->text, sizeof inner);
    va_list args;
    va_start(args, format);
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    append(err, inner);
    return status;
}

lw_status lw_fail_errno(lw_error *err, lw_status status, int errnum, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    append(err, strerror(errnum));
    return status;
}
