// read.c: a configuration from a file and overrides.
#include <stdlib.h>
#include <string.h>

#include "config/config_internal.h"
#include "core/utf8.h"
#include "io/files.h"

enum { MAX_CONFIG_BYTES = 64 << 10 }; // libconfig compares every name of a group with every other

static lw_status set_names(lw_config *config, const char *path, lw_error *err)
{
    if (!lw_is_printable(path)) { // it is printed in logs, job scripts and JSON
        return lw_fail(err, LW_ERR_CONFIG, "%s: the path of the configuration holds control characters or is not UTF-8",
                       path);
    }
    const char *slash = strrchr(path, '/');
    const char *base = slash == NULL ? path : slash + 1;
    size_t length = strlen(base);
    if (length > 4 && strcmp(base + length - 4, ".cfg") == 0) {
        length -= 4;
    }
    config->path = strdup(path);
    config->name = strndup(base, length);
    if (config->path == NULL || config->name == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the configuration");
    }
    return lw_path_parent(path, err, &config->dir);
}

static lw_status apply_file(lw_config_loader *loader, const char *text, size_t bytes, lw_error *err)
{
    char *prepared;
    LW_TRY(lw_config_prepare(text, bytes, loader->path, err, &prepared));
    config_t parsed;
    config_init(&parsed);
    lw_status status;
    if (config_read_string(&parsed, prepared) == CONFIG_TRUE) {
        status = lw_config_apply(loader, "", config_root_setting(&parsed), err);
    } else {
        status = lw_fail(err, LW_ERR_CONFIG,
                         "%s:%d: %s (libconfig: settings are  key = value;  groups are  train: { lr = 1e-4; } )",
                         loader->path, config_error_line(&parsed), config_error_text(&parsed));
    }
    config_destroy(&parsed);
    free(prepared);
    return status;
}

static lw_status load_into(lw_config_loader *loader, const char *text, size_t bytes, int64_t override_count,
                           const char *const *overrides, lw_error *err)
{
    LW_TRY(lw_config_set_defaults(loader->config, err));
    LW_TRY(set_names(loader->config, loader->path, err));
    LW_TRY(apply_file(loader, text, bytes, err));
    loader->overriding = true;
    for (int64_t i = 0; i < override_count; i++) {
        LW_TRY(lw_config_override(loader, overrides[i], err));
    }
    return lw_config_finish(loader, err);
}

lw_status lw_config_parse(const char *text, size_t text_bytes, const char *path, int64_t override_count,
                          const char *const *overrides, lw_error *err, lw_config **out)
{
    lw_config *config = calloc(1, sizeof *config);
    if (config == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the configuration");
    }
    lw_config_loader loader = {.config = config, .path = path};
    lw_status status = load_into(&loader, text, text_bytes, override_count, overrides, err);
    free(loader.phases);
    if (status != LW_OK) {
        lw_config_destroy(&config);
        return status;
    }
    *out = config;
    return LW_OK;
}

lw_status lw_config_load(const char *path, int64_t override_count, const char *const *overrides, lw_error *err,
                         lw_config **out)
{
    char *text;
    size_t bytes;
    lw_status status = lw_read_file(path, MAX_CONFIG_BYTES, err, &text, &bytes);
    if (status != LW_OK) {
        // A wrong path on the command line is a mistake in the configuration, like a wrong key.
        return lw_fail_in(err, status == LW_ERR_MEMORY ? status : LW_ERR_CONFIG,
                          "cannot read the configuration; give the path of a .cfg file");
    }
    status = lw_config_parse(text, bytes, path, override_count, overrides, err, out);
    free(text);
    return status;
}
