// json.h: typed reading of JSON (jansson) with messages that name file, key and expected type.
//
// Every JSON file is untrusted: sizes are capped, types and ranges are checked, nothing is coerced from a string.
// Failures are LW_ERR_FORMAT (LW_ERR_IO when a file cannot be read). All functions are Local.
#ifndef LW_JSON_H
#define LW_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "core/utf8.h"

enum {
    LW_JSON_REJECT_DUPLICATES = 1, // a key named twice in one object is an error (without it the last one wins)
    LW_JSON_ALLOW_NUL = 2,         // strings may hold \u0000: read them with a length
};

// Parses `bytes` bytes of UTF-8 text that hold exactly one JSON value. `where` names the text in messages
// ("config.json", "train.jsonl:17"). An integer beyond int64 is read as a real, and then so are all numbers of that
// text. The caller owns *out: json_decref.
lw_status lw_json_parse(const char *where, const char *text, size_t bytes, int flags, lw_error *err, json_t **out);

// The same for a whole file of at most max_bytes whose value is an object.
lw_status lw_json_read_file(const char *path, size_t max_bytes, int flags, lw_error *err, json_t **out);

// One JSON object that is being read, and how messages name it. All pointers are borrowed.
typedef struct lw_json {
    const json_t *object;
    const char *where;  // the file (and line)
    const char *parent; // path of the object within the file, with a trailing dot: "" or "rope_scaling."
} lw_json;

// Wraps a value that must be an object.
lw_status lw_json_object_at(const json_t *value, const char *where, const char *parent, lw_error *err, lw_json *out);

// True when the key is present and not null.
bool lw_json_has(const lw_json *at, const char *key);

// Required keys. A key that is absent or null, a value of another type or out of [min, max] fails.
// An integer may be written as a real without fraction (5.0, 1e3). A double may be written as an integer.
lw_status lw_json_int(const lw_json *at, const char *key, int64_t min, int64_t max, lw_error *err, int64_t *out);
lw_status lw_json_double(const lw_json *at, const char *key, double min, double max, lw_error *err, double *out);
lw_status lw_json_bool(const lw_json *at, const char *key, lw_error *err, bool *out);
// A string without NUL; *out is borrowed from the object.
lw_status lw_json_string(const lw_json *at, const char *key, lw_error *err, const char **out);
// A string that may hold NUL (LW_JSON_ALLOW_NUL).
lw_status lw_json_text(const lw_json *at, const char *key, lw_error *err, const char **out, size_t *out_bytes);
lw_status lw_json_array(const lw_json *at, const char *key, lw_error *err, const json_t **out);
lw_status lw_json_child(const lw_json *at, const char *key, lw_error *err, const json_t **out); // an object

// Optional keys: one that is absent or null gives `fallback`; one that is present is checked as above.
lw_status lw_json_int_or(const lw_json *at, const char *key, int64_t min, int64_t max, int64_t fallback, lw_error *err,
                         int64_t *out);
lw_status lw_json_double_or(const lw_json *at, const char *key, double min, double max, double fallback, lw_error *err,
                            double *out);
lw_status lw_json_bool_or(const lw_json *at, const char *key, bool fallback, lw_error *err, bool *out);
lw_status lw_json_string_or(const lw_json *at, const char *key, const char *fallback, lw_error *err, const char **out);

// A number for a JSON tree: json_real, or null when it is not finite (JSON has no such numbers). New reference.
json_t *lw_json_number(double value);

// Adds a key to an object, or replaces its value: a number as lw_json_number gives it, an integer, a string in UTF-8.
// Without memory, and for a string that is NULL or not UTF-8, the key stays as it was.
void lw_json_put_f64(json_t *object, const char *key, double value);
void lw_json_put_i64(json_t *object, const char *key, int64_t value);
void lw_json_put_text(json_t *object, const char *key, const char *value);

// The text of a value, with jansson's flags JSON_INDENT(n), JSON_COMPACT, JSON_SORT_KEYS. The text is read back and
// compared, as jansson leaves members out when it runs out of memory. NULL stands for a value that could not be
// allocated. LW_ERR_MEMORY, also for a string that is not UTF-8. The caller frees *out.
lw_status lw_json_print(const json_t *value, size_t flags, lw_error *err, char **out);

// What messages call a value: "an object", "a string", "an integer" ..., "nothing" for NULL.
const char *lw_json_type_name(const json_t *value);

#endif
