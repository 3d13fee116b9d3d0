// config_internal.h: what the files of config/ share. Local.
//
// Each file uses those above it only: keys.c, suggest.c, help.c; config.c; value.c, lex.c; models.c, phases.c; apply.c;
// override.c, check.c; read.c. write.c uses keys.c alone.
#ifndef LW_CONFIG_INTERNAL_H
#define LW_CONFIG_INTERNAL_H

#include <libconfig.h>

#include "config/config.h"
#include "config/keys.h"

enum { LW_FROM_DEFAULT = 0, LW_FROM_OVERRIDE = -1 }; // origins of a key; any other is the line in the file

typedef struct lw_config_loader {
    lw_config *config;
    const char *path;                // of the file, for messages
    bool overriding;                 // values now come from overrides
    int origin[LW_KEY_MAX];          // where each key was set: a line, or LW_FROM_...
    char phase[96];                  // "phases.[0]" in messages about the keys of a phase; "" for the common keys
    struct lw_config_loader *phases; // (config->phase_count): the loaders of their keys
} lw_config_loader;

// Where a value comes from, for the start of a message: "FILE:LINE: KEY" or "override KEY".
typedef struct lw_config_where {
    char text[1024];
} lw_config_where;

// --- config.c

void lw_config_free_models(lw_config *config);
void lw_config_free_phases(lw_config *config);

// --- value.c

lw_config_where lw_config_at(const lw_config_loader *loader, int line, const char *key);
lw_config_where lw_config_at_key(const lw_config_loader *loader, int index); // by the recorded origin of the key
int lw_config_line_of(const lw_config_loader *loader, const config_setting_t *setting);

// Whether `text` may name a model or a phase: 1 to LW_MODEL_NAME_MAX of A-Z a-z 0-9 _ -.
bool lw_config_is_name(const char *text);
// Index of `text` in a list of words that ends with NULL; -1 where it is not one of them.
int lw_config_word_index(const char *const *words, const char *text);
lw_status lw_config_check_utf8(const lw_config_loader *loader, int line, const char *key, const char *text,
                               lw_error *err);

// Replace a string and a path. A path that is not from an override starts at the file's directory, unless from_cwd.
lw_status lw_config_replace_text(char **field, const char *text, lw_error *err);
lw_status lw_config_replace_path(const lw_config_loader *loader, char **field, const char *text, bool from_cwd,
                                 lw_error *err);

// Applies a setting to key number `index`.
lw_status lw_config_apply_key(lw_config_loader *loader, int index, const config_setting_t *setting, lw_error *err);
// Applies a string to key number `index`: a path is resolved, a choice looked up.
lw_status lw_config_apply_text(lw_config_loader *loader, int index, int line, const char *text, lw_error *err);

// Failures: LW_ERR_CONFIG with the origin of the setting and what would be right.
lw_status lw_config_unknown(const lw_config_loader *loader, int line, const char *key, lw_error *err);
lw_status lw_config_wrong_type(const lw_config_loader *loader, const char *key, const char *wanted,
                               const config_setting_t *setting, lw_error *err);

// --- lex.c

// A copy of the text that libconfig 1.5 reads without surprises: the BOM is removed, and integers beyond 32 bits are
// marked with L (unmarked ones wrap around silently). NUL, `\x00`, text that is not UTF-8, integers beyond 64 bits and
// @include are refused. Line numbers stay. `what` names the text in messages. malloc'd.
lw_status lw_config_prepare(const char *text, size_t bytes, const char *what, lw_error *err, char **out);

// --- models.c

// Applies the list `models`, replacing an earlier one.
lw_status lw_config_apply_models(lw_config_loader *loader, const config_setting_t *setting, lw_error *err);
// Sets field `field` of models[i] from a string.
lw_status lw_config_apply_model_text(lw_config_loader *loader, int64_t i, const char *field, int line, const char *text,
                                     lw_error *err);

// --- phases.c

// Applies the list `phases`, replacing an earlier one.
lw_status lw_config_apply_phases(lw_config_loader *loader, const config_setting_t *setting, lw_error *err);
lw_status lw_config_name_phase(lw_config_loader *loader, int64_t i, int line, const char *name, lw_error *err);
// Checks the names, and completes each phase from the common keys.
lw_status lw_config_finish_phases(lw_config_loader *loader, lw_error *err);

// --- apply.c

// Applies a setting (a value or a group of settings) that stands at key path `key`.
lw_status lw_config_apply(lw_config_loader *loader, const char *key, const config_setting_t *setting, lw_error *err);

// --- override.c

// Applies one KEY=VALUE.
lw_status lw_config_override(lw_config_loader *loader, const char *override, lw_error *err);

// --- check.c

// Resolves keys that depend on others, then checks keys against each other.
lw_status lw_config_finish(lw_config_loader *loader, lw_error *err);

#endif
