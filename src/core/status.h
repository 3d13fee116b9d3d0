// status.h: how every function of lwmpi fails.
//
// A function that can fail returns lw_status and takes an `lw_error *err` in front of its outputs. On failure it
// has set err->text (what was wrong, where, what to do) and left its outputs untouched. Library code never exits.
#ifndef LW_STATUS_H
#define LW_STATUS_H

#include <stdarg.h>
#include <stddef.h>

// X(code, process exit code, name). The order is the severity: when ranks disagree, the highest wins (mpi/agree.h).
#define LW_STATUS_LIST(X)                                                \
    X(LW_OK, 0, "ok")                                                    \
    X(LW_REQUEUE, 75, "stopped by a signal after a checkpoint; requeue") \
    X(LW_INTERRUPTED, 130, "interrupted after a checkpoint")             \
    X(LW_ERR_MISMATCH, 1, "result outside tolerance")                    \
    X(LW_ERR_USAGE, 2, "usage")                                          \
    X(LW_ERR_CONFIG, 2, "configuration")                                 \
    X(LW_ERR_FORMAT, 1, "malformed file")                                \
    X(LW_ERR_UNSUPPORTED, 1, "unsupported")                              \
    X(LW_ERR_IO, 1, "input/output")                                      \
    X(LW_ERR_MEMORY, 1, "out of memory")                                 \
    X(LW_ERR_NUMERIC, 1, "non-finite numbers")                           \
    X(LW_ERR_DEVICE, 1, "device")                                        \
    X(LW_ERR_COMM, 1, "communication")                                   \
    X(LW_ERR_TIMEOUT, 1, "deadline passed")                              \
    X(LW_ERR_INTERNAL, 1, "internal error")

typedef enum lw_status {
#define LW_STATUS_ENUM(code, exit_code, name) code,
    LW_STATUS_LIST(LW_STATUS_ENUM)
#undef LW_STATUS_ENUM
} lw_status;

typedef struct lw_error {
    char text[1536]; // one message, UTF-8 without control characters or a trailing newline; empty when nothing failed
} lw_error;

const char *lw_status_name(lw_status status);
int lw_status_exit_code(lw_status status);

// Sets err->text and returns `status`, so that a failure is one line: return lw_fail(err, LW_ERR_IO, ...).
// The text is made safe to print (lw_printable of utf8.h), so what it quotes may come from anywhere; a newline too
// becomes \x0a. The arguments may point into err->text.
__attribute__((format(printf, 3, 4))) lw_status lw_fail(lw_error *err, lw_status status, const char *format, ...);

// Puts "context: " in front of err->text; returns `status`.
__attribute__((format(printf, 3, 4))) lw_status lw_fail_in(lw_error *err, lw_status status, const char *format, ...);

// Same as lw_fail for a failed system call: appends ": " and the text of the errno value `errnum`.
__attribute__((format(printf, 4, 5))) lw_status lw_fail_errno(lw_error *err, lw_status status, int errnum,
                                                              const char *format, ...);

// Appends ":" and a list of lines to err->text; returns `status`.
lw_status lw_fail_lines(lw_error *err, lw_status status, const char *lines);

#define LW_TRY(expression)                       \
    do {                                         \
        lw_status lw_try_status_ = (expression); \
        if (lw_try_status_ != LW_OK) {           \
            return lw_try_status_;               \
        }                                        \
    } while (0)

// For functions with clean-up: `status` and the label `done` are the caller's.
#define LW_TRY_GOTO(expression) \
    do {                        \
        status = (expression);  \
        if (status != LW_OK) {  \
            goto done;          \
        }                       \
    } while (0)

#endif
