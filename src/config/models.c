// models.c: reads the list `models`.
#include <stdlib.h>
#include <string.h>

#include "config/config_internal.h"

lw_status lw_config_apply_model_text(lw_config_loader *loader, int64_t i, const char *field, int line, const char *text,
                                     lw_error *err)
{
    char key[160];
    snprintf(key, sizeof key, "models.[%lld].%.100s", (long long)i, field);
    lw_model_config *model = &loader->config->models[i];
    LW_TRY(lw_config_check_utf8(loader, line, key, text, err));
    if (strcmp(field, "name") == 0) {
        return lw_config_replace_text(&model->name, text, err);
    }
    if (strcmp(field, "path") == 0) {
        return lw_config_replace_path(loader, &model->path, text, false, err);
    }
    if (strcmp(field, "init") == 0) {
        int word = lw_config_word_index(lw_model_init_words, text);
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

lw_status lw_config_apply_models(lw_config_loader *loader, const config_setting_t *setting, lw_error *err)
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
