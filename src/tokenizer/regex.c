// regex.c: the patterns of tokenizer.json, written for Oniguruma (Ruby's syntax), compiled by PCRE2.
//
// Both agree on most of what such patterns use. What they read differently is rewritten where PCRE2 can express it
// (\s, \v, \u, scripts, {,n}) and refused by name where it cannot: a pattern that matched something else would silently
// give wrong ids.
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer/tokenizer_internal.h"

const char lw_gpt2_pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

// \s of Oniguruma is the property White_Space; PCRE2's has U+180E as well. It ends in a class and not in a character,
// so that a hyphen behind it cannot become a range.
#define SPACE_CLASS "\\t-\\r \\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{202F}\\x{205F}\\x{3000}\\p{Zl}\\p{Zp}"

enum { MAX_DEPTH = 64, MAX_PATTERN_BYTES = 1 << 16 };

typedef struct lw_translation {
    const char *where;
    const char *pattern;
    size_t at, len;
    int depth;
    bool caseless[MAX_DEPTH];
    char literal; // inside (?i: ) the ASCII letter just before, in lower case; 0 otherwise
    lw_error *err;
    lw_text_buffer *out;
} lw_translation;

static lw_status refuse(const lw_translation *t, size_t at, const char *what)
{
    return lw_fail(t->err, LW_ERR_UNSUPPORTED,
                   "%s: the pattern has %s at byte %zu, which is not supported: PCRE2 reads it differently from the "
                   "Oniguruma library it was written for",
                   t->where, what, at);
}

static lw_status put(lw_translation *t, const char *text)
{
    return lw_text_append(t->out, text, strlen(text), t->err);
}

// Copies `count` bytes of the pattern and steps over them.
static lw_status copy(lw_translation *t, size_t count)
{
    LW_TRY(lw_text_append(t->out, t->pattern + t->at, count, t->err));
    t->at += count;
    return LW_OK;
}

// The byte `ahead` bytes after the current one, 0 past the end.
static char peek(const lw_translation *t, size_t ahead)
{
    return ahead < t->len - t->at ? t->pattern[t->at + ahead] : '\0';
}

static bool starts(const lw_translation *t, const char *text)
{
    const size_t len = strlen(text);
    return t->len - t->at >= len && memcmp(t->pattern + t->at, text, len) == 0;
}

// \p{Name}, \P{Name}, \p{^Name}. General categories mean the same; PCRE2 takes a script's name as Script_Extensions.
static lw_status property(lw_translation *t)
{
    const size_t first = t->at;
    if (t->caseless[t->depth]) {
        return refuse(t, first, "a property under (?i)");
    }
    if (peek(t, 2) != '{') {
        return refuse(t, first, "a property without braces");
    }
    size_t name = first + 3;
    const bool negated = name < t->len && t->pattern[name] == '^';
    name += negated;
    size_t end = name;
    while (end < t->len && (isalpha((unsigned char)t->pattern[end]) || t->pattern[end] == '_')) {
        end++;
    }
    if (end == name || end >= t->len || t->pattern[end] != '}' || end - name > 40) {
        return refuse(t, first, "a malformed property");
    }
    LW_TRY(copy(t, 2));
    LW_TRY(put(t, negated ? "{^" : "{"));
    LW_TRY(put(t, end - name > 2 ? "sc:" : ""));
    t->at = name;
    return copy(t, end + 1 - name);
}

// \xHH, \x{H...}, \uHHHH
static lw_status code_point(lw_translation *t)
{
    const size_t first = t->at;
    const bool braced = peek(t, 1) == 'x' && peek(t, 2) == '{';
    const size_t digits = braced ? 8 : peek(t, 1) == 'u' ? 4 : 2;
    size_t end = first + (braced ? 3 : 2);
    const size_t begin = end;
    unsigned long value = 0;
    while (end < t->len && end - begin < digits && isxdigit((unsigned char)t->pattern[end])) {
        const int c = tolower((unsigned char)t->pattern[end++]);
        value = 16 * value + (unsigned long)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    const bool complete = braced ? end > begin && end < t->len && t->pattern[end] == '}' : end - begin == digits;
    if (!complete || value > 0x10FFFF || (digits == 2 && value > 0x7F) || t->caseless[t->depth]) {
        return refuse(t, first, "a character code of this form");
    }
    LW_TRY(put(t, "\\x{"));
    LW_TRY(lw_text_append(t->out, t->pattern + begin, end - begin, t->err));
    t->at = end + braced;
    return put(t, "}");
}

static lw_status escape(lw_translation *t, bool in_class)
{
    const char c = peek(t, 1);
    switch (c) {
    case 's': t->at += 2; return put(t, in_class ? SPACE_CLASS : "[" SPACE_CLASS "]");
    case 'S': t->at += 2; return put(t, in_class ? "\\x{180E}\\S" : "[^" SPACE_CLASS "]");
    case 'v': // a vertical tab; for PCRE2 any vertical space
        t->at += 2;
        return put(t, "\\x{0B}");
    case 'n':
    case 'r':
    case 't':
    case 'f':
    case 'a':
    case 'e':
    case 'd':
    case 'D': return copy(t, 2);
    case 'p':
    case 'P': return property(t);
    case 'x':
    case 'u': return code_point(t);
    default: break;
    }
    if (ispunct((unsigned char)c) || c == ' ') {
        return copy(t, 2);
    }
    if ((unsigned char)c >= 0x80 && !t->caseless[t->depth]) {
        t->at++; // an escaped letter beyond ASCII is that letter
        return copy(t, 1);
    }
    char what[] = "the escape \\?";
    what[sizeof what - 2] = isgraph((unsigned char)c) ? c : '?';
    return refuse(t, t->at, what);
}

static lw_status class(lw_translation *t)
{
    const size_t first = t->at;
    if (t->caseless[t->depth]) {
        return refuse(t, first, "a character class under (?i)");
    }
    LW_TRY(copy(t, peek(t, 1) == '^' ? 2 : 1));
    if (peek(t, 0) == ']') { // the first one is a member
        t->at++;
        LW_TRY(put(t, "\\]"));
    }
    while (t->at < t->len && peek(t, 0) != ']') {
        if (peek(t, 0) == '\\') {
            LW_TRY(escape(t, true));
        } else if (peek(t, 0) == '[') {
            return refuse(t, t->at, "a class inside a class");
        } else if (starts(t, "&&")) {
            return refuse(t, t->at, "a class intersection");
        } else {
            LW_TRY(copy(t, 1));
        }
    }
    if (t->at == t->len) {
        return refuse(t, first, "a class without end");
    }
    return copy(t, 1);
}

static lw_status open_group(lw_translation *t)
{
    static const char *const same[] = {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>"};
    if (starts(t, "(?i)")) {
        // In Oniguruma such a flag extends over the alternatives that follow; at the very start both agree.
        if (t->at > 0) {
            return refuse(t, t->at, "(?i) not at the start");
        }
        t->caseless[0] = true;
        return copy(t, 4);
    }
    if (t->depth + 1 == MAX_DEPTH) {
        return refuse(t, t->at, "groups nested too deeply");
    }
    bool caseless = t->caseless[t->depth];
    if (starts(t, "(?i:") || starts(t, "(?-i:")) {
        caseless = peek(t, 2) == 'i';
        LW_TRY(copy(t, caseless ? 4 : 5));
    } else if (peek(t, 1) != '?') {
        // Nothing can refer to the group, so it need not capture.
        t->at++;
        LW_TRY(put(t, "(?:"));
    } else {
        size_t i = 0;
        while (i < sizeof same / sizeof *same && !starts(t, same[i])) {
            i++;
        }
        if (i == sizeof same / sizeof *same) {
            return refuse(t, t->at, "a group of this kind");
        }
        LW_TRY(copy(t, strlen(same[i])));
    }
    t->caseless[++t->depth] = caseless;
    return LW_OK;
}

// Translates {n}, {n,}, {n,m}, {,m}; any other brace stands for itself.
static lw_status interval(lw_translation *t)
{
    size_t end = t->at + 1;
    while (end < t->len && isdigit((unsigned char)t->pattern[end])) {
        end++;
    }
    const bool low = end > t->at + 1;
    const bool comma = end < t->len && t->pattern[end] == ',';
    const size_t after_comma = end + comma;
    end = after_comma;
    while (comma && end < t->len && isdigit((unsigned char)t->pattern[end])) {
        end++;
    }
    const bool high = end > after_comma;
    if (end >= t->len || t->pattern[end] != '}' || (!low && !high)) {
        t->at++;
        return put(t, "\\{");
    }
    const char next = end + 1 < t->len ? t->pattern[end + 1] : '\0';
    if (next == '+' || (next == '?' && !comma)) {
        return refuse(t, t->at, "a repeated interval");
    }
    if (!low) {
        t->at++;
        LW_TRY(put(t, "{0"));
    }
    return copy(t, end + 1 - t->at);
}

// Under (?i) Oniguruma also matches one letter for several ("ss" and U+00DF), PCRE2 letter by letter only.
static lw_status caseless_literal(lw_translation *t)
{
    static const char *const folds[] = {"ss", "ff", "fi", "fl", "st"};
    const unsigned char c = (unsigned char)peek(t, 0);
    if (c >= 0x80) {
        return refuse(t, t->at, "a letter beyond ASCII under (?i)");
    }
    const char lower = (char)tolower(c);
    for (size_t i = 0; i < sizeof folds / sizeof *folds; i++) {
        if (t->literal == folds[i][0] && lower == folds[i][1]) {
            return refuse(t, t->at, "a sequence that folds to one letter under (?i)");
        }
    }
    t->literal = isalpha(c) ? lower : '\0';
    return copy(t, 1);
}

// Rewrites an Oniguruma pattern for PCRE2 with UTF, UCP and MULTILINE so that it matches the same text, or refuses it.
static lw_status translate(const char *where, const char *pattern, lw_error *err, lw_text_buffer *out)
{
    lw_translation t = {.where = where, .pattern = pattern, .len = strlen(pattern), .err = err, .out = out};
    if (t.len > MAX_PATTERN_BYTES) {
        return lw_fail(err, LW_ERR_UNSUPPORTED, "%s: a pattern of %zu bytes; at most %d", where, t.len,
                       (int)MAX_PATTERN_BYTES);
    }
    while (t.at < t.len) {
        const char c = peek(&t, 0);
        if (t.caseless[t.depth] && !strchr("\\[(){}|", c)) {
            LW_TRY(caseless_literal(&t));
            continue;
        }
        t.literal = '\0';
        if (c == '\\') {
            LW_TRY(escape(&t, false));
        } else if (c == '[') {
            LW_TRY(class(&t));
        } else if (c == '(') {
            LW_TRY(open_group(&t));
        } else if (c == '{') {
            LW_TRY(interval(&t));
        } else {
            if (c == ')') {
                if (t.depth == 0) {
                    return refuse(&t, t.at, "a ) without its (");
                }
                t.depth--;
            }
            LW_TRY(copy(&t, 1));
        }
    }
    return LW_OK;
}

lw_status lw_regex_compile(const char *where, const char *pattern, bool literal, lw_error *err, pcre2_code **out)
{
    lw_text_buffer translated = {0};
    pcre2_compile_context *context = NULL;
    lw_status status;
    if (literal) {
        LW_TRY_GOTO(lw_text_append(&translated, pattern, strlen(pattern), err));
    } else {
        LW_TRY_GOTO(translate(where, pattern, err, &translated));
    }
    LW_TRY_GOTO(lw_text_append(&translated, "", 1, err)); // for the message below
    translated.len--;
    if (translated.len == 0) {
        status = lw_fail(err, LW_ERR_UNSUPPORTED, "%s: an empty pattern", where);
        goto done;
    }
    context = pcre2_compile_context_create(NULL);
    if (!context) {
        status = lw_fail(err, LW_ERR_MEMORY, "%s: no memory to compile the pattern", where);
        goto done;
    }
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    // ^ and $ are per line in Ruby's syntax.
    const uint32_t options = PCRE2_UTF | (literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_MULTILINE);
    int code = 0;
    PCRE2_SIZE offset = 0;
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)translated.data, translated.len, options, &code, &offset, context);
    if (!compiled) {
        char reason[160] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)reason, sizeof reason);
        status =
            lw_fail(err, LW_ERR_UNSUPPORTED, "%s: PCRE2 cannot compile the pattern (rewritten: %.400s): %s at byte %zu",
                    where, translated.data, reason, (size_t)offset);
        goto done;
    }
    // A failure is ignored: where machine code is not allowed or not available, matching falls back to the interpreter.
    (void)pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE);
    *out = compiled;
    status = LW_OK;
done:
    pcre2_compile_context_free(context);
    free(translated.data);
    return status;
}
