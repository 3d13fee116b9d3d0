#include <math.h>
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

static lw_status check_utf8(const lw_config_loader *loader, int line, const char *key, const char *text, lw_error *err)
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

static lw_status replace_path(const lw_config_loader *loader, char **field, const char *text, bool from_cwd,
                              lw_error *err)
{
    const char *dir = loader->config->dir;
    if (!lw_is_printable(text)) { // it ends up in logs, job scripts and JSON
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

static int word_index(const char *const *words, const char *text)
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
    LW_TRY(check_utf8(loader, line, key->path, text, err));
    if (key->type == LW_KEY_STRING) {
        LW_TRY(lw_config_replace_text(field, text, err));
    } else if (key->type == LW_KEY_PATH) {
        LW_TRY(replace_path(loader, field, text, (key->flags & LW_KEY_CWD) != 0, err));
    } else {
        int word = key->type == LW_KEY_CHOICE ? word_index(key->words, text) : -1;
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

// --- models

void lw_config_free_models(lw_config *config)
{
    for (int64_t i = 0; i < config->model_count; i++) {
        free(config->models[i].name);
        free(config->models[i].path);
    }
    free(config->models);
    config->models = NULL;
    config->model_count = 0;
}

lw_status lw_config_apply_model_text(lw_config_loader *loader, int64_t i, const char *field, int line, const char *text,
                                     lw_error *err)
{
    char key[160];
    snprintf(key, sizeof key, "models.[%lld].%.100s", (long long)i, field);
    lw_model_config *model = &loader->config->models[i];
    LW_TRY(check_utf8(loader, line, key, text, err));
    if (strcmp(field, "name") == 0) {
        return lw_config_replace_text(&model->name, text, err);
    }
    if (strcmp(field, "path") == 0) {
        return replace_path(loader, &model->path, text, false, err);
    }
    if (strcmp(field, "init") == 0) {
        int word = word_index(lw_model_init_words, text);
        if (word < 0) {
            return lw_fail(err, LW_ERR_CONFIG, "%s wants one of \"load\", \"random\", not \"%.80s\"",
                           lw_config_at(loader, line, key).text, text);
        }
        model->init = word == 0 ? LW_MODEL_INIT_LOAD : LW_MODEL_INIT_RANDOM;
        return LW_OK;
    }
    return lw_fail(err, LW_ERR_CONFIG, "%s: unknown key; a model has name, path and init",
                   lw_config_at(loader, line, key).text);
}

static lw_status apply_model(lw_config_loader *loader, int64_t i, const config_setting_t *setting, lw_error *err)
{
    char key[160];
    snprintf(key, sizeof key, "models.[%lld]", (long long)i);
    if (!config_setting_is_group(setting)) {
        return lw_config_wrong_type(loader, key, "a group { name = \"NAME\"; path = \"DIR\"; }", setting, err);
    }
    for (unsigned j = 0; j < (unsigned)config_setting_length(setting); j++) {
        const config_setting_t *value = config_setting_get_elem(setting, j);
        const char *field = config_setting_name(value);
        if (config_setting_type(value) != CONFIG_TYPE_STRING) {
            snprintf(key, sizeof key, "models.[%lld].%.100s", (long long)i, field);
            return lw_config_wrong_type(loader, key, "a string", value, err);
        }
        LW_TRY(lw_config_apply_model_text(loader, i, field, lw_config_line_of(loader, value),
                                          config_setting_get_string(value), err));
    }
    return LW_OK;
}

static lw_status apply_models(lw_config_loader *loader, const config_setting_t *setting, lw_error *err)
{
    if (!config_setting_is_list(setting)) {
        return lw_config_wrong_type(loader, "models", "a list ( { name = \"NAME\"; path = \"DIR\"; }, ... )", setting,
                                    err);
    }
    int count = config_setting_length(setting);
    if (count < 1 || count > LW_MAX_MODELS) {
        return lw_fail(err, LW_ERR_CONFIG, "%s holds %d models: give 1 to %d of them",
                       lw_config_at(loader, lw_config_line_of(loader, setting), "models").text, count,
                       (int)LW_MAX_MODELS);
    }
    lw_config_free_models(loader->config);
    loader->config->models = calloc((size_t)count, sizeof *loader->config->models);
    if (loader->config->models == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the configuration");
    }
    loader->config->model_count = count;
    for (int i = 0; i < count; i++) {
        LW_TRY(apply_model(loader, i, config_setting_get_elem(setting, (unsigned)i), err));
    }
    return LW_OK;
}

lw_status lw_config_apply(lw_config_loader *loader, const char *key, const config_setting_t *setting, lw_error *err)
{
    if (strcmp(key, "models") == 0) {
        return apply_models(loader, setting, err);
    }
    if (strcmp(key, "phases") == 0) {
        return lw_config_apply_phases(loader, setting, err);
    }
    int index = lw_key_find(key);
    if (index >= 0) {
        return lw_config_apply_key(loader, index, setting, err);
    }
    if (key[0] != '\0' && !lw_key_is_group(key)) {
        return lw_config_unknown(loader, lw_config_line_of(loader, setting), key, err);
    }
    if (!config_setting_is_group(setting)) {
        return lw_config_wrong_type(loader, key, "a group of keys { ... }", setting, err);
    }
    for (unsigned i = 0; i < (unsigned)config_setting_length(setting); i++) {
        const config_setting_t *member = config_setting_get_elem(setting, i);
        char path[256]; // a longer one is unknown, and is shown cut
        snprintf(path, sizeof path, "%s%s%s", key, key[0] == '\0' ? "" : ".", config_setting_name(member));
        LW_TRY(lw_config_apply(loader, path, member, err));
    }
    return LW_OK;
}
