// phases.c: reads the list `phases`: groups, each of which has some keys of its own.
#include <stdlib.h>
#include <string.h>

#include "config/config_internal.h"

static lw_status no_memory(lw_error *err)
{
    return lw_fail(err, LW_ERR_MEMORY, "no memory for the configuration's phases");
}

// --- reading

// The configuration of a phase, with every key at its default; `dir` is where its paths start.
static lw_status make_view(const lw_config *common, lw_phase_config *phase, lw_error *err)
{
    lw_config *view = calloc(1, sizeof *view);
    phase->view = view;
    phase->given = calloc((size_t)lw_key_count(), sizeof *phase->given);
    if (view == NULL || phase->given == NULL) {
        return no_memory(err);
    }
    view->path = strdup(common->path);
    view->dir = strdup(common->dir);
    view->name = strdup(common->name);
    if (view->path == NULL || view->dir == NULL || view->name == NULL) {
        return no_memory(err);
    }
    return lw_config_set_defaults(view, err);
}

// Makes the phases and their loaders, without any key of their own yet.
static lw_status make_phases(lw_config_loader *loader, int64_t count, lw_error *err)
{
    lw_config *config = loader->config;
    lw_config_free_phases(config);
    free(loader->phases);
    loader->phases = calloc((size_t)count, sizeof *loader->phases);
    config->phases = calloc((size_t)count, sizeof *config->phases);
    if (loader->phases == NULL || config->phases == NULL) {
        return no_memory(err);
    }
    config->phase_count = count;
    for (int64_t i = 0; i < count; i++) {
        LW_TRY(make_view(config, &config->phases[i], err));
        loader->phases[i] = (lw_config_loader){.config = config->phases[i].view, .path = loader->path};
        snprintf(loader->phases[i].phase, sizeof loader->phases[i].phase, "phases.[%lld]", (long long)i);
    }
    return LW_OK;
}

lw_status lw_config_name_phase(lw_config_loader *loader, int64_t i, int line, const char *name, lw_error *err)
{
    if (!lw_config_is_name(name)) {
        return lw_fail(err, LW_ERR_CONFIG, "%s = \"%.80s\": a name is 1 to 64 of A-Z a-z 0-9 _ -",
                       lw_config_at(&loader->phases[i], line, "name").text, name);
    }
    return lw_config_replace_text(&loader->config->phases[i].name, name, err);
}

static lw_status apply_phase(lw_config_loader *loader, int64_t i, const config_setting_t *setting, lw_error *err)
{
    lw_config_loader *phase = &loader->phases[i];
    phase->overriding = loader->overriding;
    if (!config_setting_is_group(setting)) {
        return lw_config_wrong_type(loader, phase->phase, "a group { name = \"NAME\"; data = \"FILE\"; steps = N; }",
                                    setting, err);
    }
    for (unsigned k = 0; k < (unsigned)config_setting_length(setting); k++) {
        const config_setting_t *value = config_setting_get_elem(setting, k);
        const char *name = config_setting_name(value);
        int index = lw_key_find_phase(name);
        if (strcmp(name, "name") == 0 && config_setting_type(value) == CONFIG_TYPE_STRING) {
            LW_TRY(lw_config_name_phase(loader, i, lw_config_line_of(loader, value), config_setting_get_string(value),
                                        err));
        } else if (strcmp(name, "name") == 0) {
            return lw_config_wrong_type(phase, "name", "a string", value, err);
        } else if (index < 0) {
            return lw_config_unknown(phase, lw_config_line_of(loader, value), name, err);
        } else {
            LW_TRY(lw_config_apply_key(phase, index, value, err));
        }
    }
    return LW_OK;
}

lw_status lw_config_apply_phases(lw_config_loader *loader, const config_setting_t *setting, lw_error *err)
{
    if (!config_setting_is_list(setting)) {
        return lw_config_wrong_type(loader, "phases",
                                    "a list ( { name = \"NAME\"; data = \"FILE\"; steps = N; }, ... )", setting, err);
    }
    int count = config_setting_length(setting);
    if (count > LW_MAX_PHASES) {
        return lw_fail(err, LW_ERR_CONFIG, "%s holds %d phases: give %d at most",
                       lw_config_at(loader, lw_config_line_of(loader, setting), "phases").text, count,
                       (int)LW_MAX_PHASES);
    }
    if (count == 0) {
        lw_config_free_phases(loader->config); // "phases=()" on the command line: none
        return LW_OK;
    }
    LW_TRY(make_phases(loader, count, err));
    for (int i = 0; i < count; i++) {
        LW_TRY(apply_phase(loader, i, config_setting_get_elem(setting, (unsigned)i), err));
    }
    return LW_OK;
}

// --- completing

// Copies one key of the common configuration.
static lw_status inherit(lw_config *view, const lw_config *common, const lw_key *key, lw_error *err)
{
    void *field = lw_key_field(view, key);
    const void *from = lw_key_field_const(common, key);
    switch (key->type) {
    case LW_KEY_INT:
    case LW_KEY_AUTO_INT: *(int64_t *)field = *(const int64_t *)from; break;
    case LW_KEY_FLOAT: *(double *)field = *(const double *)from; break;
    case LW_KEY_BOOL: *(bool *)field = *(const bool *)from; break;
    case LW_KEY_CHOICE: memcpy(field, from, sizeof(unsigned)); break;
    case LW_KEY_STRING:
    case LW_KEY_PATH: return lw_config_replace_text(field, *(char *const *)from, err);
    }
    return LW_OK;
}

static lw_status copy_models(const lw_config *common, lw_config *view, lw_error *err)
{
    view->models = calloc((size_t)common->model_count, sizeof *view->models);
    if (view->models == NULL) {
        return no_memory(err);
    }
    view->model_count = common->model_count;
    for (int64_t i = 0; i < common->model_count; i++) {
        const lw_model_config *model = &common->models[i];
        view->models[i].init = model->init;
        LW_TRY(lw_config_replace_text(&view->models[i].name, model->name, err));
        LW_TRY(lw_config_replace_text(&view->models[i].path, model->path, err));
    }
    return LW_OK;
}

// Gives a phase the common value of every key that it does not set itself. Its length is an exception, as a number of
// steps and a number of epochs are two ways to set it.
static lw_status complete(lw_config_loader *loader, int64_t i, lw_error *err)
{
    lw_phase_config *phase = &loader->config->phases[i];
    const lw_config_loader *own = &loader->phases[i];
    const int steps = lw_key_find("train.max_steps");
    const int epochs = lw_key_find("train.epochs");
    for (int k = 0; k < lw_key_count(); k++) {
        phase->given[k] = own->origin[k] != LW_FROM_DEFAULT;
        if (!phase->given[k]) {
            LW_TRY(inherit(phase->view, loader->config, lw_key_at(k), err));
        }
    }
    if (!phase->given[steps]) {
        phase->view->train.max_steps = 0;
    }
    if (phase->given[steps] && phase->view->train.max_steps > 0 && !phase->given[epochs]) {
        phase->view->train.epochs = lw_key_at(epochs)->int_max;
    }
    return copy_models(loader->config, phase->view, err);
}

lw_status lw_config_finish_phases(lw_config_loader *loader, lw_error *err)
{
    const lw_config *config = loader->config;
    for (int64_t i = 0; i < config->phase_count; i++) {
        const char *name = config->phases[i].name;
        if (name == NULL) {
            return lw_fail(err, LW_ERR_CONFIG, "%s: phases.[%lld] has no name: write { name = \"NAME\"; ... }",
                           loader->path, (long long)i);
        }
        for (int64_t k = 0; k < i; k++) {
            if (strcmp(config->phases[k].name, name) == 0) {
                return lw_fail(err, LW_ERR_CONFIG,
                               "%s: phases.[%lld] and phases.[%lld] are both named \"%s\": rename one", loader->path,
                               (long long)k, (long long)i, name);
            }
        }
        snprintf(loader->phases[i].phase, sizeof loader->phases[i].phase, "phases.%s", name);
        LW_TRY(complete(loader, i, err));
    }
    return LW_OK;
}
