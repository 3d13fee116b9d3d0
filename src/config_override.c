#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "config_internal.h"

// The value as libconfig sees it; *out NULL when it is a bare word: the text is not a value, or it holds more than one
// setting, or what would be a comment (a path with "//", say). `parsed` owns the result. LW_ERR_MEMORY.
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

// The string that a text value stands for: a quoted string without its quotes, anything else as it is.
static const char *text_of(const config_setting_t *setting, const char *value)
{
    return setting != NULL && config_setting_type(setting) == CONFIG_TYPE_STRING ? config_setting_get_string(setting)
                                                                                 : value;
}

// "models.[1].path" or "models.NAME.path"; `rest` is what follows "models.".
static lw_status override_model(lw_config_loader *loader, const char *key, const char *rest,
                                const config_setting_t *setting, const char *value, lw_error *err)
{
    const char *dot = strrchr(rest, '.');
    if (dot == NULL) {
        return lw_fail(err, LW_ERR_CONFIG, "override %.200s: write models.NAME.path=DIR or models.[0].path=DIR", key);
    }
    size_t length = (size_t)(dot - rest);
    const lw_config *config = loader->config;
    int64_t found = -1;
    if (length >= 3 && length < 8 && rest[0] == '[' && rest[length - 1] == ']' &&
        strspn(rest + 1, "0123456789") == length - 2) {
        found = strtol(rest + 1, NULL, 10);
    } else {
        for (int64_t i = 0; i < config->model_count; i++) {
            const char *name = config->models[i].name;
            if (name != NULL && strlen(name) == length && strncmp(name, rest, length) == 0) {
                found = i;
            }
        }
    }
    if (found < 0 || found >= config->model_count) {
        char names[512] = "";
        for (int64_t i = 0; i < config->model_count && config->models[i].name != NULL; i++) {
            size_t used = strlen(names);
            snprintf(names + used, sizeof names - used, "%s%.64s", i == 0 ? "" : ", ", config->models[i].name);
        }
        return lw_fail(err, LW_ERR_CONFIG, "override %.200s: no such model; the %lld in %.600s: %s", key,
                       (long long)config->model_count, loader->path, names);
    }
    return lw_config_apply_model_text(loader, found, dot + 1, LW_FROM_OVERRIDE, text_of(setting, value), err);
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

static lw_status override_key(lw_config_loader *loader, const char *key, const config_setting_t *setting,
                              const char *value, lw_error *err)
{
    if (strncmp(key, "models.", 7) == 0) {
        return override_model(loader, key, key + 7, setting, value, err);
    }
    int index = lw_key_find(key);
    lw_key_type type = index >= 0 ? lw_key_at(index)->type : LW_KEY_INT;
    bool takes_text = type == LW_KEY_STRING || type == LW_KEY_PATH || type == LW_KEY_CHOICE;
    if (index >= 0 && (takes_text || (type == LW_KEY_AUTO_INT && (strcmp(value, "auto") == 0 || strcmp(value, "all") == 0)))) {
        return lw_config_apply_text(loader, index, LW_FROM_OVERRIDE, text_of(setting, value), err);
    }
    if (index < 0 && strcmp(key, "models") != 0 && !lw_key_is_group(key)) {
        return lw_config_unknown(loader, LW_FROM_OVERRIDE, key, err);
    }
    if (setting == NULL) {
        char wanted[256] = "a group { ... }";
        if (index >= 0) {
            lw_key_describe(lw_key_at(index), wanted, sizeof wanted);
        } else if (strcmp(key, "models") == 0) {
            snprintf(wanted, sizeof wanted, "a list ( { name = \"NAME\"; path = \"DIR\"; }, ... )");
        }
        return lw_fail(err, LW_ERR_CONFIG, "override %.200s wants %s, not \"%.80s\"", key, wanted, value);
    }
    LW_TRY(lw_config_apply(loader, key, setting, err));
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
