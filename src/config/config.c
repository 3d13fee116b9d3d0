// config.c: what a configuration owns, and questions that its keys answer together.
#include "config/config.h"

#include <stdlib.h>
#include <string.h>

#include "config/config_internal.h"

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

// Everything but the phases, which have configurations of their own.
static void free_contents(lw_config *config)
{
    lw_config_free_models(config);
    lw_config_free_keys(config);
    free(config->path);
    free(config->dir);
    free(config->name);
}

void lw_config_free_phases(lw_config *config)
{
    for (int64_t i = 0; i < config->phase_count; i++) {
        lw_phase_config *phase = &config->phases[i];
        if (phase->view != NULL) {
            free_contents(phase->view);
        }
        free(phase->view);
        free(phase->given);
        free(phase->name);
    }
    free(config->phases);
    config->phases = NULL;
    config->phase_count = 0;
}

void lw_config_destroy(lw_config **config)
{
    if (*config == NULL) {
        return;
    }
    lw_config_free_phases(*config);
    free_contents(*config);
    free(*config);
    *config = NULL;
}

int64_t lw_config_latents(const lw_config *config, int64_t tokens)
{
    int64_t ratio = config->wire.ratio;
    if (ratio == 0) {
        return config->wire.latents;
    }
    return tokens > ratio ? (tokens + ratio - 1) / ratio : 1;
}

bool lw_config_reads_text(const lw_config *config)
{
    bool reads = config->data.format == LW_DATA_TEXT;
    for (int64_t i = 0; i < config->phase_count; i++) {
        reads = reads || config->phases[i].view->data.format == LW_DATA_TEXT;
    }
    return reads;
}

int64_t lw_config_phase_count(const lw_config *config)
{
    return config->phase_count > 0 ? config->phase_count : 1;
}

const lw_config *lw_config_phase(const lw_config *config, int64_t i)
{
    return config->phase_count > 0 ? config->phases[i].view : config;
}

const char *lw_config_phase_name(const lw_config *config, int64_t i)
{
    return config->phase_count > 0 ? config->phases[i].name : "";
}

int64_t lw_config_encoder_share(const lw_config *config)
{
    for (int64_t j = 0; lw_config_encoder_uses(config, LW_USES_SHARE) && j < config->model_count; j++) {
        if (strcmp(config->models[j].name, config->encoder.share) == 0) {
            return j;
        }
    }
    return -1;
}
