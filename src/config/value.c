// value.c: checks one value and stores it in its field.
#include <stdlib.h>
#include <string.h>

#include "config/config_internal.h"
#include "core/utf8.h"
#include "io/files.h"

lw_config_where lw_config_at(const lw_config_loader *loader, int line, const char *key)
{
    lw_config_where where;
    char full[256];
    if (loader->phase[0] != '\0') {
        int index = lw_key_find(key);
        snprintf(full, sizeof full, "%s.%.120s", loader->phase, index >= 0 ? lw_key_phase_name(lw_key_at(index)) : key);
        key = full;
    }
    if (line == LW_FROM_OVERRIDE) {
        snprintf(where.text, sizeof where.text, "override %.200s", key);
    } else if (line == LW_FROM_DEFAULT) {
        snprintf(where.text, sizeof where.text, "%.600s: %.200s", loader->path, key);
    } else {
        snprintf(where.text, sizeof where.text, "%.600s:%d: %.200s", loader->path, line, key);
    }
    return where;
}

lw_config_where lw_config_at_key(const lw_config_loader *loader, int index)
{
    return lw_config_at(loader, loader->origin[index], lw_key_at(index)->path);
}

int lw_config_line_of(const lw_config_loader *loader, const config_setting_t *setting)
{
    return loader->overriding ? LW_FROM_OVERRIDE : (int)config_setting_source_line(setting);
}

static const char *type_name(const config_setting_t *setting)
{
    switch (config_setting_type(setting)) {
    case CONFIG_TYPE_GROUP: return "a group";
    case CONFIG_TYPE_INT:
    case CONFIG_TYPE_INT64: return "an integer";
    case CONFIG_TYPE_FLOAT: return "a number with a fraction or exponent";
    case CONFIG_TYPE_STRING: return "a string";
    case CONFIG_TYPE_BOOL: return "true or false";
    case CONFIG_TYPE_ARRAY: return "an array";
    case CONFIG_TYPE_LIST: return "a list";
    default: return "nothing";
    }
}

bool lw_config_is_name(const char *text)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    size_t length = strlen(text);
    return length > 0 && length <= LW_MODEL_NAME_MAX && strspn(text, allowed) == length;
}

lw_status lw_config_unknown(const lw_config_loader *loader, int line, const char *key, lw_error *err)
{
    char near[128];
    if (lw_key_suggest(key, near, sizeof near)) {
        return lw_fail(err, LW_ERR_CONFIG, "%s: unknown key; did you mean %s? (lwmpi --help lists the keys)",
                       lw_config_at(loader, line, key).text, near);
    }
    return lw_fail(err, LW_ERR_CONFIG, "%s: unknown key; lwmpi --help lists the keys",
                   lw_config_at(loader, line, key).text);
}

lw_status lw_config_wrong_type(const lw_config_loader *loader, const char *key, const char *wanted,
                               const config_setting_t *setting, lw_error *err)
{
    return lw_fail(err, LW_ERR_CONFIG, "%s wants %s, but this is %s",
                   lw_config_at(loader, lw_config_line_of(loader, setting), key).text, wanted, type_name(setting));
}

lw_status lw_config_check_utf8(const lw_config_loader *loader, int line, const char *key, const char *text,
                               lw_error *err)
{
    if (lw_utf8_first_bad(text, strlen(text)) < strlen(text)) {
        return lw_fail(err, LW_ERR_CONFIG, "%s: the value is not valid UTF-8", lw_config_at(loader, line, key).text);
    }
    return LW_OK;
}

lw_status lw_config_replace_text(char **field, const char *text, lw_error *err)
{
    char *copy = strdup(text);
    if (copy == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the configuration");
    }
    free(*field);
    *field = copy;
    return LW_OK;
}

lw_status lw_config_replace_path(const lw_config_loader *loader, char **field, const char *text, bool from_cwd,
                                 lw_error *err)
{
    const char *dir = loader->config->dir;
    if (!lw_is_printable(text)) { // it is printed in logs, job scripts and JSON
        return lw_fail(err, LW_ERR_CONFIG, "the path \"%s\" holds control characters: rename the file", text);
    }
    if (from_cwd || loader->overriding || text[0] == '\0' || strcmp(dir, ".") == 0) {
        return lw_config_replace_text(field, text, err);
    }
    char *joined;
    LW_TRY(lw_path_join(dir, text, err, &joined));
    free(*field);
    *field = joined;
    return LW_OK;
}

int lw_config_word_index(const char *const *words, const char *text)
{
    for (int i = 0; words[i] != NULL; i++) {
        if (strcmp(words[i], text) == 0) {
            return i;
        }
    }
    return -1;
}

lw_status lw_config_apply_text(lw_config_loader *loader, int index, int line, const char *text, lw_error *err)
{
    const lw_key *key = lw_key_at(index);
    void *field = lw_key_field(loader->config, key);
    LW_TRY(lw_config_check_utf8(loader, line, key->path, text, err));
    if (key->type == LW_KEY_STRING) {
        LW_TRY(lw_config_replace_text(field, text, err));
    } else if (key->type == LW_KEY_PATH) {
        LW_TRY(lw_config_replace_path(loader, field, text, (key->flags & LW_KEY_CWD) != 0, err));
    } else {
        int word = key->type == LW_KEY_CHOICE ? lw_config_word_index(key->words, text) : -1;
        bool is_auto = key->type == LW_KEY_AUTO_INT && strcmp(text, "auto") == 0;
        bool is_all = (key->flags & LW_KEY_ALL) != 0 && strcmp(text, "all") == 0;
        if (word < 0 && !is_auto && !is_all) {
            char wanted[256];
            lw_key_describe(key, wanted, sizeof wanted);
            return lw_fail(err, LW_ERR_CONFIG, "%s wants %s, not \"%.80s\"", lw_config_at(loader, line, key->path).text,
                           wanted, text);
        }
        if (is_auto || is_all) {
            *(int64_t *)field = is_auto ? key->int_min - 1 : LW_GPUS_ALL;
        } else {
            unsigned value = (unsigned)word;
            memcpy(field, &value, sizeof value);
        }
    }
    loader->origin[index] = line;
    return LW_OK;
}

static lw_status out_of_range(const lw_config_loader *loader, const lw_key *key, const config_setting_t *setting,
                              lw_error *err)
{
    char wanted[256];
    char value[64];
    lw_key_describe(key, wanted, sizeof wanted);
    if (config_setting_type(setting) == CONFIG_TYPE_FLOAT) {
        snprintf(value, sizeof value, "%g", config_setting_get_float(setting));
    } else {
        snprintf(value, sizeof value, "%lld", config_setting_get_int64(setting));
    }
    return lw_fail(err, LW_ERR_CONFIG, "%s = %s is out of range: give %s",
                   lw_config_at(loader, lw_config_line_of(loader, setting), key->path).text, value, wanted);
}

static bool is_integer(const config_setting_t *setting)
{
    int type = config_setting_type(setting);
    return type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64;
}

static int64_t integer_of(const config_setting_t *setting)
{
    return config_setting_type(setting) == CONFIG_TYPE_INT ? config_setting_get_int(setting)
                                                           : config_setting_get_int64(setting);
}

static double number_of(const config_setting_t *setting)
{
    return is_integer(setting) ? (double)integer_of(setting) : config_setting_get_float(setting);
}

static bool in_float_range(const lw_key *key, double value)
{
    bool above = (key->flags & LW_KEY_OPEN_LO) != 0 ? value > key->float_min : value >= key->float_min;
    bool below = (key->flags & LW_KEY_OPEN_HI) != 0 ? value < key->float_max : value <= key->float_max;
    return above && below; // false for NaN
}

lw_status lw_config_apply_key(lw_config_loader *loader, int index, const config_setting_t *setting, lw_error *err)
{
    const lw_key *key = lw_key_at(index);
    void *field = lw_key_field(loader->config, key);
    int type = config_setting_type(setting);
    int line = lw_config_line_of(loader, setting);
    bool takes_text = key->type == LW_KEY_STRING || key->type == LW_KEY_PATH || key->type == LW_KEY_CHOICE ||
                      key->type == LW_KEY_AUTO_INT;
    if (type == CONFIG_TYPE_STRING && takes_text) {
        return lw_config_apply_text(loader, index, line, config_setting_get_string(setting), err);
    }
    if (is_integer(setting) && (key->type == LW_KEY_INT || key->type == LW_KEY_AUTO_INT)) {
        int64_t value = integer_of(setting);
        if (value < key->int_min || value > key->int_max) {
            return out_of_range(loader, key, setting, err);
        }
        *(int64_t *)field = value;
    } else if ((is_integer(setting) || type == CONFIG_TYPE_FLOAT) && key->type == LW_KEY_FLOAT) {
        double value = number_of(setting);
        if (!in_float_range(key, value)) {
            return out_of_range(loader, key, setting, err);
        }
        *(double *)field = value;
    } else if (type == CONFIG_TYPE_BOOL && key->type == LW_KEY_BOOL) {
        *(bool *)field = config_setting_get_bool(setting) != 0;
    } else {
        char wanted[256];
        lw_key_describe(key, wanted, sizeof wanted);
        return lw_config_wrong_type(loader, key->path, wanted, setting, err);
    }
    loader->origin[index] = line;
    return LW_OK;
}
