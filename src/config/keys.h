// keys.h: the table of configuration keys, the one place that defines a key. Internal to config, but for
// lw_edit_distance.
//
// Implemented by keys.c (the table), suggest.c, help.c (descriptions) and write.c (lw_format_double). Local.
#ifndef LW_CONFIG_KEYS_H
#define LW_CONFIG_KEYS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "config/config.h"

typedef enum lw_key_type {
    LW_KEY_INT,      // int64_t
    LW_KEY_AUTO_INT, // int64_t; the word "auto" is the number below int_min
    LW_KEY_FLOAT,    // double
    LW_KEY_BOOL,     // bool
    LW_KEY_STRING,   // char *
    LW_KEY_PATH,     // char *
    LW_KEY_CHOICE    // an enum whose values count the words from 0
} lw_key_type;

enum {
    // May change when a run is continued, and is not in the hash: where and how a job runs (the same computation, with
    // other rounding) and what is measured, logged and kept; never which samples are used or what is computed from
    // them.
    LW_KEY_FREE = 1,
    LW_KEY_UNSET = 2,   // 0 means "not set"; it is then not written and cannot be given
    LW_KEY_OPEN_LO = 4, // the bounds themselves are excluded
    LW_KEY_OPEN_HI = 8,
    LW_KEY_CWD = 16,    // a path that always starts at the working directory
    LW_KEY_ALL = 32,    // LW_KEY_AUTO_INT: the word "all" is LW_GPUS_ALL, and the default
    LW_KEY_LONGER = 64, // may be raised but not lowered when a run is continued; 0 is the largest value
    LW_KEY_PHASE = 128, // a phase may have its own
    LW_KEY_WIRE = 256   // decides what the trained parameters compute: whoever uses them needs the same value
};

enum { LW_KEY_MAX = 192 }; // most keys in the table

#define LW_KEY_NO_MAX (INT64_C(1) << 40) // int_max of a key whose description names no upper bound

typedef struct lw_key {
    const char *path;
    lw_key_type type;
    unsigned flags;
    size_t offset;                         // of the field in lw_config
    int64_t int_default, int_min, int_max; // int_default: of choices and booleans too
    double float_default, float_min, float_max;
    const char *text_default;
    const char *const *words; // choices, NULL at the end
    const char *help;
} lw_key;

int lw_key_count(void);
const lw_key *lw_key_at(int index);
int lw_key_find(const char *path); // index or -1
bool lw_key_is_group(const char *path);
// The last part of a path: "lr" of "train.lr".
const char *lw_key_last_part(const char *path);
// The name of a key within a phase: the last part of its path, except "data" for data.train and "steps" for
// train.max_steps.
const char *lw_key_phase_name(const lw_key *key);
int lw_key_find_phase(const char *name); // index or -1

// The key, group or "models" that `wrong` was probably meant to be; false when none is near.
bool lw_key_suggest(const char *wrong, char *out, size_t size);
// Number of edits (insert, delete, replace, swap neighbours) from a to b; large when a string is longer than any key.
int lw_edit_distance(const char *a, const char *b);

// Words of the models' `init`.
extern const char *const lw_model_init_words[];

// "an integer", "one of \"byte\", \"bert\", \"llm\"", ... with the range where there is one.
void lw_key_describe(const lw_key *key, char *out, size_t size);

// Shortest decimal that reads back as the same double, always with '.' or an exponent.
// For tests.
void lw_format_double(double value, char *out, size_t size);

lw_status lw_config_set_defaults(lw_config *config, lw_error *err);
void lw_config_free_keys(lw_config *config); // the strings among the fields

static inline void *lw_key_field(lw_config *config, const lw_key *key)
{
    return (char *)config + key->offset;
}
static inline const void *lw_key_field_const(const lw_config *config, const lw_key *key)
{
    return (const char *)config + key->offset;
}

#endif
