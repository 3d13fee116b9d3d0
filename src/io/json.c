// json.c: typed reading of JSON values, and printing that cannot lose a value.
#include "io/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/files.h"

enum { DESCRIPTION_BYTES = 96 };

const char *lw_json_type_name(const json_t *value)
{
    if (value == NULL) {
        return "nothing";
    }
    switch (json_typeof(value)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a number";
    case JSON_TRUE: return "true";
    case JSON_FALSE: return "false";
    case JSON_NULL: return "null";
    }
    return "something unknown";
}

// What a message calls a value of another type than expected.
static const char *describe(const json_t *value, char out[DESCRIPTION_BYTES])
{
    if (json_is_string(value)) {
        char text[DESCRIPTION_BYTES - 16];
        snprintf(out, DESCRIPTION_BYTES, "the string \"%s\"",
                 lw_printable(json_string_value(value), text, sizeof text));
    } else if (json_is_integer(value)) {
        snprintf(out, DESCRIPTION_BYTES, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    } else if (json_is_real(value)) {
        snprintf(out, DESCRIPTION_BYTES, "%.17g", json_real_value(value));
    } else {
        snprintf(out, DESCRIPTION_BYTES, "%s", lw_json_type_name(value));
    }
    return out;
}

static json_t *decode_text(const char *text, size_t bytes, size_t decode, json_error_t *error)
{
    json_t *value = json_loadb(text, bytes, decode, error);
    if (value == NULL && json_error_code(error) == json_error_numeric_overflow) {
        // Tokenizer files write 1000000000000000019884624838656 for "no limit".
        value = json_loadb(text, bytes, decode | JSON_DECODE_INT_AS_REAL, error);
    }
    return value;
}

lw_status lw_json_parse(const char *where, const char *text, size_t bytes, int flags, lw_error *err, json_t **out)
{
    size_t decode = JSON_DECODE_ANY;
    if (flags & LW_JSON_REJECT_DUPLICATES) {
        decode |= JSON_REJECT_DUPLICATES;
    }
    if (flags & LW_JSON_ALLOW_NUL) {
        decode |= JSON_ALLOW_NUL;
    }
    json_error_t error;
    json_t *value = decode_text(text, bytes, decode, &error);
    bool memory = error.text[0] == '\0' || json_error_code(&error) == json_error_out_of_memory;
    if (value == NULL && !memory) {
        // When out of memory, jansson also reports a correct string as an invalid token. A real fault
        // is found at the same position again.
        int position = error.position;
        value = decode_text(text, bytes, decode, &error);
        memory = error.position != position;
    }
    if (value == NULL && memory) {
        return lw_fail(err, LW_ERR_MEMORY, "%s: out of memory", where);
    }
    if (value == NULL) {
        char reason[JSON_ERROR_TEXT_LENGTH];
        return lw_fail(err, LW_ERR_FORMAT, "%s: not valid JSON at line %d column %d: %s", where, error.line,
                       error.column, lw_printable(error.text, reason, sizeof reason));
    }
    *out = value;
    return LW_OK;
}

lw_status lw_json_read_file(const char *path, size_t max_bytes, int flags, lw_error *err, json_t **out)
{
    char *text = NULL;
    size_t bytes = 0;
    LW_TRY(lw_read_file(path, max_bytes, err, &text, &bytes));
    json_t *value = NULL;
    lw_status status = lw_json_parse(path, text, bytes, flags, err, &value);
    free(text);
    if (status != LW_OK) {
        return status;
    }
    if (!json_is_object(value)) {
        status = lw_fail(err, LW_ERR_FORMAT, "%s: expected a JSON object, got %s", path, lw_json_type_name(value));
        json_decref(value);
        return status;
    }
    *out = value;
    return LW_OK;
}

lw_status lw_json_object_at(const json_t *value, const char *where, const char *parent, lw_error *err, lw_json *out)
{
    if (!json_is_object(value)) {
        size_t length = strlen(parent);
        if (length > 0 && parent[length - 1] == '.') {
            length--;
        }
        return lw_fail(err, LW_ERR_FORMAT, "%s: %s%.*s%sexpected an object, got %s", where, length > 0 ? "\"" : "",
                       (int)(length < 200 ? length : 200), parent, length > 0 ? "\": " : "", lw_json_type_name(value));
    }
    *out = (lw_json){.object = value, .where = where, .parent = parent};
    return LW_OK;
}

static const json_t *member(const lw_json *at, const char *key)
{
    const json_t *value = json_object_get(at->object, key);
    return json_is_null(value) ? NULL : value;
}

bool lw_json_has(const lw_json *at, const char *key)
{
    return member(at, key) != NULL;
}

static lw_status missing(const lw_json *at, const char *key, lw_error *err)
{
    const char *how = json_object_get(at->object, key) == NULL ? "is missing" : "is null";
    return lw_fail(err, LW_ERR_FORMAT, "%s: the required key \"%s%s\" %s", at->where, at->parent, key, how);
}

static lw_status unexpected(const lw_json *at, const char *key, const char *expected, const json_t *value,
                            lw_error *err)
{
    char got[DESCRIPTION_BYTES];
    return lw_fail(err, LW_ERR_FORMAT, "%s: \"%s%s\": expected %s, got %s", at->where, at->parent, key, expected,
                   describe(value, got));
}

static bool to_integer(const json_t *value, int64_t *out)
{
    if (json_is_integer(value)) {
        *out = json_integer_value(value);
        return true;
    }
    if (json_is_real(value)) {
        double real = json_real_value(value);
        if (fabs(real) <= 9007199254740992.0 && real == floor(real)) { // 2^53: exact
            *out = (int64_t)real;
            return true;
        }
    }
    return false;
}

lw_status lw_json_int(const lw_json *at, const char *key, int64_t min, int64_t max, lw_error *err, int64_t *out)
{
    const json_t *value = member(at, key);
    if (value == NULL) {
        return missing(at, key, err);
    }
    int64_t integer = 0;
    if (!to_integer(value, &integer)) {
        return unexpected(at, key, "an integer", value, err);
    }
    if (integer < min || integer > max) {
        return lw_fail(err, LW_ERR_FORMAT,
                       "%s: \"%s%s\": %" PRId64 " is out of range, expected %" PRId64 " to %" PRId64, at->where,
                       at->parent, key, integer, min, max);
    }
    *out = integer;
    return LW_OK;
}

lw_status lw_json_double(const lw_json *at, const char *key, double min, double max, lw_error *err, double *out)
{
    const json_t *value = member(at, key);
    if (value == NULL) {
        return missing(at, key, err);
    }
    if (!json_is_number(value)) {
        return unexpected(at, key, "a number", value, err);
    }
    double number = json_number_value(value);
    if (!(number >= min && number <= max)) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: \"%s%s\": %g is out of range, expected %g to %g", at->where, at->parent,
                       key, number, min, max);
    }
    *out = number;
    return LW_OK;
}

lw_status lw_json_bool(const lw_json *at, const char *key, lw_error *err, bool *out)
{
    const json_t *value = member(at, key);
    if (value == NULL) {
        return missing(at, key, err);
    }
    if (!json_is_boolean(value)) {
        return unexpected(at, key, "true or false", value, err);
    }
    *out = json_is_true(value);
    return LW_OK;
}

lw_status lw_json_text(const lw_json *at, const char *key, lw_error *err, const char **out, size_t *out_bytes)
{
    const json_t *value = member(at, key);
    if (value == NULL) {
        return missing(at, key, err);
    }
    if (!json_is_string(value)) {
        return unexpected(at, key, "a string", value, err);
    }
    *out = json_string_value(value);
    *out_bytes = json_string_length(value);
    return LW_OK;
}

lw_status lw_json_string(const lw_json *at, const char *key, lw_error *err, const char **out)
{
    const char *text = NULL;
    size_t bytes = 0;
    LW_TRY(lw_json_text(at, key, err, &text, &bytes));
    if (strlen(text) != bytes) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: \"%s%s\": the string holds a NUL character", at->where, at->parent,
                       key);
    }
    *out = text;
    return LW_OK;
}

lw_status lw_json_array(const lw_json *at, const char *key, lw_error *err, const json_t **out)
{
    const json_t *value = member(at, key);
    if (value == NULL) {
        return missing(at, key, err);
    }
    if (!json_is_array(value)) {
        return unexpected(at, key, "an array", value, err);
    }
    *out = value;
    return LW_OK;
}

lw_status lw_json_child(const lw_json *at, const char *key, lw_error *err, const json_t **out)
{
    const json_t *value = member(at, key);
    if (value == NULL) {
        return missing(at, key, err);
    }
    if (!json_is_object(value)) {
        return unexpected(at, key, "an object", value, err);
    }
    *out = value;
    return LW_OK;
}

lw_status lw_json_int_or(const lw_json *at, const char *key, int64_t min, int64_t max, int64_t fallback, lw_error *err,
                         int64_t *out)
{
    if (!lw_json_has(at, key)) {
        *out = fallback;
        return LW_OK;
    }
    return lw_json_int(at, key, min, max, err, out);
}

lw_status lw_json_double_or(const lw_json *at, const char *key, double min, double max, double fallback, lw_error *err,
                            double *out)
{
    if (!lw_json_has(at, key)) {
        *out = fallback;
        return LW_OK;
    }
    return lw_json_double(at, key, min, max, err, out);
}

lw_status lw_json_bool_or(const lw_json *at, const char *key, bool fallback, lw_error *err, bool *out)
{
    if (!lw_json_has(at, key)) {
        *out = fallback;
        return LW_OK;
    }
    return lw_json_bool(at, key, err, out);
}

lw_status lw_json_string_or(const lw_json *at, const char *key, const char *fallback, lw_error *err, const char **out)
{
    if (!lw_json_has(at, key)) {
        *out = fallback;
        return LW_OK;
    }
    return lw_json_string(at, key, err, out);
}

json_t *lw_json_number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

void lw_json_put_f64(json_t *object, const char *key, double value)
{
    json_object_set_new(object, key, lw_json_number(value));
}

void lw_json_put_i64(json_t *object, const char *key, int64_t value)
{
    json_object_set_new(object, key, json_integer(value));
}

void lw_json_put_text(json_t *object, const char *key, const char *value)
{
    json_object_set_new(object, key, json_string(value));
}

lw_status lw_json_print(const json_t *value, size_t flags, lw_error *err, char **out)
{
    char *text = value != NULL ? json_dumps(value, flags | JSON_ENCODE_ANY) : NULL;
    json_t *again = text != NULL ? json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL) : NULL;
    bool whole = again != NULL && json_equal(again, value);
    json_decref(again);
    if (!whole) {
        free(text);
        return lw_fail(err, LW_ERR_MEMORY, "no memory for a text in JSON (or a string in it is not UTF-8)");
    }
    *out = text;
    return LW_OK;
}
