// config_internal.h: what config.c, lex.c, value.c and override.c share. Local.
#ifndef LW_CONFIG_INTERNAL_H
#define LW_CONFIG_INTERNAL_H

#include <libconfig.h>

#include "config/config.h"
#include "config/keys.h"

enum { LW_FROM_DEFAULT = 0, LW_FROM_OVERRIDE = -1 }; // else the line in the file

typedef struct lw_config_loader {
    lw_config *config;
    const char *path;                // of the file, for messages
    bool overriding;                 // values now come from overrides
    int origin[LW_KEY_MAX];          // of each key: a line, or LW_FROM_...
    char phase[96];                  // of a phase's keys: "phases.[0]", for messages; "" for those of all
    struct lw_config_loader *phases; // (config->phase_count), of their keys
} lw_config_loader;

// Where a value comes from, for the start of a message: "FILE:LINE: KEY" or "override KEY".
typedef struct lw_config_where {
    char text[1024];
} lw_config_where;

lw_config_where lw_config_at(const lw_config_loader *loader, int line, const char *key);
lw_config_where lw_config_at_key(const lw_config_loader *loader, int index); // by the key's recorded origin

// lex.c. A copy of the text that libconfig 1.5 reads without surprises: BOM removed, integers beyond 32 bits
// marked with L (unmarked ones wrap around silently); NUL, `\x00`, text that is not UTF-8, integers beyond 64 bits and
// @include refused. Line numbers stay. `what` names the text in messages. malloc'd.
lw_status lw_config_prepare(const char *text, size_t bytes, const char *what, lw_error *err, char **out);

// value.c. Applies a setting (a value or a group of settings) that stands at key path `key`.
lw_status lw_config_apply(lw_config_loader *loader, const char *key, const config_setting_t *setting, lw_error *err);
// A string for key number `index`: a path is resolved, a choice looked up.
lw_status lw_config_apply_text(lw_config_loader *loader, int index, int line, const char *text, lw_error *err);
// Field `field` of models[i] from a string.
lw_status lw_config_apply_model_text(lw_config_loader *loader, int64_t i, const char *field, int line, const char *text,
                                     lw_error *err);
lw_status lw_config_unknown(const lw_config_loader *loader, int line, const char *key, lw_error *err);
void lw_config_free_models(lw_config *config);

// A setting for key number `index`.
lw_status lw_config_apply_key(lw_config_loader *loader, int index, const config_setting_t *setting, lw_error *err);
lw_status lw_config_wrong_type(const lw_config_loader *loader, const char *key, const char *wanted,
                               const config_setting_t *setting, lw_error *err);
lw_status lw_config_replace_text(char **field, const char *text, lw_error *err);
int lw_config_line_of(const lw_config_loader *loader, const config_setting_t *setting);

// config.c
lw_status lw_config_set_defaults(lw_config *config, lw_error *err);
void lw_config_free_keys(lw_config *config); // the strings that the table names

// phases.c. The list `phases`, replacing one from before.
lw_status lw_config_apply_phases(lw_config_loader *loader, const config_setting_t *setting, lw_error *err);
// A new name for phase i.
lw_status lw_config_name_phase(lw_config_loader *loader, int64_t i, int line, const char *name, lw_error *err);
// Checks names, and completes each phase from the common keys.
lw_status lw_config_finish_phases(lw_config_loader *loader, lw_error *err);
void lw_config_free_phases(lw_config *config);

// override.c. One KEY=VALUE.
lw_status lw_config_override(lw_config_loader *loader, const char *override, lw_error *err);

// check.c. Resolves what depends on other keys, then checks keys against each other.
lw_status lw_config_finish(lw_config_loader *loader, lw_error *err);

#endif
