// apply.c: applies a setting of libconfig at a key path: a value, a group of settings, or one of the lists.
#include <string.h>

#include "config/config_internal.h"

lw_status lw_config_apply(lw_config_loader *loader, const char *key, const config_setting_t *setting, lw_error *err)
{
    if (strcmp(key, "models") == 0) {
        return lw_config_apply_models(loader, setting, err);
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
