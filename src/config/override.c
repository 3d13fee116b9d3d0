// override.c: applies one KEY=VALUE of the command line.
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "config/config_internal.h"

// The value as libconfig reads it. *out is NULL for a bare word: a text that is no value, that holds more than one
// setting, or that holds what would be a comment (a path with "//", say). `parsed` owns the result. LW_ERR_MEMORY.
static lw_status parse_value(config_t *parsed, const char *value, lw_error *err, const config_setting_t **out)
{
    bool quoted = value[0] == '"' || value[0] == '(' || value[0] == '[' || value[0] == '{';
    *out = NULL;
    if (!quoted && (strchr(value, '#') != NULL || strstr(value, "//") != NULL || strstr(value, "/*") != NULL)) {
        return LW_OK;
    }
    size_t size = strlen(value) + 16;
    char *text = malloc(size);
    if (text == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for an override");
    }
    snprintf(text, size, "value = %s\n;", value);
    char *prepared = NULL;
    lw_status status = lw_config_prepare(text, strlen(text), "", err, &prepared);
    if (status == LW_OK && config_read_string(parsed, prepared) == CONFIG_TRUE &&
        config_setting_length(config_root_setting(parsed)) == 1) {
        *out = config_setting_get_elem(config_root_setting(parsed), 0);
    }
    free(text);
    free(prepared);
    return status == LW_ERR_MEMORY ? status : LW_OK;
}

// The string that a value stands for: a quoted string without its quotes, any other text as it is.
static const char *text_of(const config_setting_t *setting, const char *value)
{
    return setting != NULL && config_setting_type(setting) == CONFIG_TYPE_STRING ? config_setting_get_string(setting)
                                                                                 : value;
}

static const char *entry_name(const lw_config *config, bool phases, int64_t i)
{
    return phases ? config->phases[i].name : config->models[i].name;
}

// Splits "models.[1].path" or "models.NAME.path", and the same with phases, into the index in the list and the field
// ("path").
static lw_status find_entry(const lw_config_loader *loader, const char *key, lw_error *err, int64_t *out,
                            const char **field)
{
    bool phases = strncmp(key, "phases.", 7) == 0;
    const char *what = phases ? "phase" : "model";
    const char *rest = key + 7; // "models." and "phases." have the same length
    const char *dot = strrchr(rest, '.');
    if (dot == NULL) {
        const char *example = phases ? "steps=N" : "path=DIR";
        return lw_fail(err, LW_ERR_CONFIG, "override %.200s: write %ss.NAME.%s or %ss.[0].%s", key, what, example, what,
                       example);
    }
    size_t length = (size_t)(dot - rest);
    const lw_config *config = loader->config;
    int64_t count = phases ? config->phase_count : config->model_count;
    int64_t found = -1;
    if (length >= 3 && length < 8 && rest[0] == '[' && rest[length - 1] == ']' &&
        strspn(rest + 1, "0123456789") == length - 2) {
        found = strtol(rest + 1, NULL, 10);
    } else {
        for (int64_t i = 0; i < count; i++) {
            const char *name = entry_name(config, phases, i);
            if (name != NULL && strlen(name) == length && strncmp(name, rest, length) == 0) {
                found = i;
            }
        }
    }
    if (found < 0 || found >= count) {
        char names[512] = "";
        for (int64_t i = 0; i < count && entry_name(config, phases, i) != NULL; i++) {
            size_t used = strlen(names);
            snprintf(names + used, sizeof names - used, "%s%.64s", i == 0 ? "" : ", ", entry_name(config, phases, i));
        }
        return lw_fail(err, LW_ERR_CONFIG, "override %.200s: no such %s; the %lld in %.600s: %s", key, what,
                       (long long)count, loader->path, names);
    }
    *out = found;
    *field = dot + 1;
    return LW_OK;
}

static lw_status override_model(lw_config_loader *loader, const char *key, const config_setting_t *setting,
                                const char *value, lw_error *err)
{
    int64_t i;
    const char *field;
    LW_TRY(find_entry(loader, key, err, &i, &field));
    return lw_config_apply_model_text(loader, i, field, LW_FROM_OVERRIDE, text_of(setting, value), err);
}

// Exactly one of batch.global and batch.per_rank may be set: an override of one replaces the file's other.
static void drop_other_batch(lw_config_loader *loader)
{
    const int pair[2] = {lw_key_find("batch.global"), lw_key_find("batch.per_rank")};
    for (int i = 0; i < 2; i++) {
        if (loader->origin[pair[i]] == LW_FROM_OVERRIDE && loader->origin[pair[1 - i]] != LW_FROM_OVERRIDE) {
            *(int64_t *)lw_key_field(loader->config, lw_key_at(pair[1 - i])) = 0;
            loader->origin[pair[1 - i]] = LW_FROM_DEFAULT;
        }
    }
}

// Reports what a key, a group or a list needs instead of a word that is no libconfig value.
static lw_status bare_word(const lw_config_loader *loader, const char *key, int index, const char *value, lw_error *err)
{
    char wanted[256] = "a group { ... }";
    if (index >= 0) {
        lw_key_describe(lw_key_at(index), wanted, sizeof wanted);
    } else if (strcmp(key, "models") == 0) {
        snprintf(wanted, sizeof wanted, "a list ( { name = \"NAME\"; path = \"DIR\"; }, ... )");
    } else if (strcmp(key, "phases") == 0) {
        snprintf(wanted, sizeof wanted, "a list ( { name = \"NAME\"; data = \"FILE\"; steps = N; }, ... )");
    }
    return lw_fail(err, LW_ERR_CONFIG, "%s wants %s, not \"%.80s\"", lw_config_at(loader, LW_FROM_OVERRIDE, key).text,
                   wanted, value);
}

// Sets key number `index` of the loader's configuration.
static lw_status override_value(lw_config_loader *loader, int index, const config_setting_t *setting, const char *value,
                                lw_error *err)
{
    lw_key_type type = lw_key_at(index)->type;
    bool takes_text = type == LW_KEY_STRING || type == LW_KEY_PATH || type == LW_KEY_CHOICE;
    if (takes_text || (type == LW_KEY_AUTO_INT && (strcmp(value, "auto") == 0 || strcmp(value, "all") == 0))) {
        return lw_config_apply_text(loader, index, LW_FROM_OVERRIDE, text_of(setting, value), err);
    }
    if (setting == NULL) {
        return bare_word(loader, lw_key_at(index)->path, index, value, err);
    }
    return lw_config_apply_key(loader, index, setting, err);
}

static lw_status override_phase(lw_config_loader *loader, const char *key, const config_setting_t *setting,
                                const char *value, lw_error *err)
{
    int64_t i;
    const char *field;
    LW_TRY(find_entry(loader, key, err, &i, &field));
    if (strcmp(field, "name") == 0) {
        return lw_config_name_phase(loader, i, LW_FROM_OVERRIDE, text_of(setting, value), err);
    }
    lw_config_loader *phase = &loader->phases[i];
    int index = lw_key_find_phase(field);
    phase->overriding = true;
    if (index < 0) {
        return lw_config_unknown(phase, LW_FROM_OVERRIDE, field, err);
    }
    return override_value(phase, index, setting, value, err);
}

static lw_status override_key(lw_config_loader *loader, const char *key, const config_setting_t *setting,
                              const char *value, lw_error *err)
{
    if (strncmp(key, "models.", 7) == 0) {
        return override_model(loader, key, setting, value, err);
    }
    if (strncmp(key, "phases.", 7) == 0) {
        return override_phase(loader, key, setting, value, err);
    }
    int index = lw_key_find(key);
    bool is_list = strcmp(key, "models") == 0 || strcmp(key, "phases") == 0;
    if (index < 0 && !is_list && !lw_key_is_group(key)) {
        return lw_config_unknown(loader, LW_FROM_OVERRIDE, key, err);
    }
    if (index >= 0) {
        LW_TRY(override_value(loader, index, setting, value, err));
    } else if (setting == NULL) {
        return bare_word(loader, key, index, value, err);
    } else {
        LW_TRY(lw_config_apply(loader, key, setting, err));
    }
    drop_other_batch(loader);
    return LW_OK;
}

lw_status lw_config_override(lw_config_loader *loader, const char *override, lw_error *err)
{
    const char *equals = strchr(override, '=');
    size_t length = equals == NULL ? 0 : (size_t)(equals - override);
    while (length > 0 && isspace((unsigned char) override[length - 1])) {
        length--;
    }
    if (length == 0) {
        return lw_fail(err, LW_ERR_CONFIG, "override \"%.200s\": write it as KEY=VALUE", override);
    }
    char *key = strndup(override, length);
    if (key == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for an override");
    }
    config_t parsed;
    config_init(&parsed);
    const config_setting_t *setting = NULL;
    lw_status status = parse_value(&parsed, equals + 1, err, &setting);
    if (status == LW_OK) {
        status = override_key(loader, key, setting, equals + 1, err);
    }
    config_destroy(&parsed);
    free(key);
    return status;
}
