// lex.c: rewrites the text of a configuration so that libconfig reads it without surprises.
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/config_internal.h"
#include "core/utf8.h"

// The text being read, and the end of the copy that is made of it.
typedef struct lexer {
    const char *at, *end;
    char *out;
    int line;
    const char *what;
} lexer;

static void copy_one(lexer *lex)
{
    if (*lex->at == '\n') {
        lex->line++;
    }
    *lex->out++ = *lex->at++;
}

static void copy_until(lexer *lex, const char *stop)
{
    size_t length = strlen(stop);
    while (lex->at < lex->end && strncmp(lex->at, stop, length) != 0) {
        copy_one(lex);
    }
    for (size_t i = 0; i < length && lex->at < lex->end; i++) {
        copy_one(lex);
    }
}

static lw_status copy_string(lexer *lex, lw_error *err)
{
    copy_one(lex);
    while (lex->at < lex->end && *lex->at != '"') {
        if (*lex->at == '\\') {
            if (strncmp(lex->at, "\\x00", 4) == 0) {
                return lw_fail(err, LW_ERR_CONFIG, "%s:%d: a string may not hold a NUL byte (\\x00): remove it",
                               lex->what, lex->line);
            }
            copy_one(lex);
        }
        if (lex->at < lex->end) {
            copy_one(lex);
        }
    }
    if (lex->at < lex->end) {
        copy_one(lex);
    }
    return LW_OK;
}

// Length of the number that starts here, with its suffix; *is_integer: whether it is an integer.
static size_t scan_number(const lexer *lex, bool *is_integer)
{
    const char *c = lex->at;
    if (*c == '+' || *c == '-') {
        c++;
    }
    bool hex = c[0] == '0' && (c[1] == 'x' || c[1] == 'X');
    bool integer = true;
    while (isalnum((unsigned char)*c) || *c == '.' ||
           (!hex && (*c == '+' || *c == '-') && (c[-1] == 'e' || c[-1] == 'E'))) {
        if (*c == '.' || (!hex && (*c == 'e' || *c == 'E'))) {
            integer = false;
        }
        c++;
    }
    *is_integer = integer;
    return (size_t)(c - lex->at);
}

static lw_status copy_number(lexer *lex, lw_error *err)
{
    bool integer;
    size_t length = scan_number(lex, &integer);
    const char *start = lex->at;
    char *end = NULL;
    errno = 0;
    long long value =
        integer ? strtoll(start, &end, 0 == strncmp(start, "0x", 2) || 0 == strncmp(start, "0X", 2) ? 16 : 10) : 0;
    bool range = integer && errno == ERANGE;
    for (size_t i = 0; i < length; i++) {
        copy_one(lex);
    }
    if (range) {
        return lw_fail(err, LW_ERR_CONFIG, "%s:%d: the integer %.*s does not fit 64 bits", lex->what, lex->line,
                       (int)(length < 64 ? length : 64), start);
    }
    if (integer && end == start + length && (value > INT32_MAX || value < INT32_MIN)) {
        *lex->out++ = 'L';
    }
    return LW_OK;
}

static bool at_include(const lexer *lex)
{
    static const char word[] = "@include";
    return (size_t)(lex->end - lex->at) >= sizeof word - 1 && memcmp(lex->at, word, sizeof word - 1) == 0;
}

static lw_status copy_all(lexer *lex, lw_error *err)
{
    while (lex->at < lex->end) {
        char c = *lex->at;
        bool comment = c == '#' || (c == '/' && lex->at[1] == '/');
        if (comment) {
            copy_until(lex, "\n");
        } else if (c == '/' && lex->at[1] == '*') {
            copy_until(lex, "*/");
        } else if (c == '"') {
            LW_TRY(copy_string(lex, err));
        } else if (isdigit((unsigned char)c) || c == '-' || c == '+' || c == '.') {
            bool integer;
            if (scan_number(lex, &integer) == 0) {
                copy_one(lex);
            } else {
                LW_TRY(copy_number(lex, err));
            }
        } else if (isalpha((unsigned char)c) || c == '*') { // a name may hold digits and dashes
            while (isalnum((unsigned char)*lex->at) || *lex->at == '-' || *lex->at == '_' || *lex->at == '*') {
                copy_one(lex);
            }
        } else if (at_include(lex)) {
            return lw_fail(err, LW_ERR_CONFIG,
                           "%s:%d: @include is not supported, so that one file says all that a run was: copy the "
                           "settings here",
                           lex->what, lex->line);
        } else {
            copy_one(lex);
        }
    }
    return LW_OK;
}

static int line_of(const char *text, size_t offset)
{
    int line = 1;
    for (size_t i = 0; i < offset; i++) {
        line += text[i] == '\n';
    }
    return line;
}

lw_status lw_config_prepare(const char *text, size_t bytes, const char *what, lw_error *err, char **out)
{
    const char *nul = memchr(text, '\0', bytes);
    if (nul != NULL) {
        return lw_fail(err, LW_ERR_CONFIG, "%s:%d: a NUL byte: this is not a text file", what,
                       line_of(text, (size_t)(nul - text)));
    }
    size_t bad = lw_utf8_first_bad(text, bytes);
    if (bad < bytes) {
        return lw_fail(err, LW_ERR_CONFIG, "%s:%d: text that is not UTF-8: save the file as UTF-8", what,
                       line_of(text, bad));
    }
    if (bytes >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) {
        text += 3;
        bytes -= 3;
    }
    // The lexer looks one character ahead, so it needs a NUL at the end; each L that it adds follows ten digits or
    // more.
    char *copy = malloc(2 * bytes + 2);
    char *source = malloc(bytes + 1);
    lw_status status;
    if (copy == NULL || source == NULL) {
        status = lw_fail(err, LW_ERR_MEMORY, "%s: no memory to read %zu bytes", what, bytes);
    } else {
        memcpy(source, text, bytes);
        source[bytes] = '\0';
        lexer lex = {.at = source, .end = source + bytes, .out = copy, .line = 1, .what = what};
        status = copy_all(&lex, err);
        *lex.out = '\0';
    }
    free(source);
    if (status != LW_OK) {
        free(copy);
        return status;
    }
    *out = copy;
    return LW_OK;
}
