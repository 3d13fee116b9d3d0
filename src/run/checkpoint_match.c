// checkpoint_match.c: whether a checkpoint fits the models, data and configuration of this job.
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "io/files.h"
#include "run/checkpoint.h"

static lw_status same_models(const lw_checkpoint_info *found, const lw_checkpoint_info *now, lw_error *err)
{
    if (found->model_count != now->model_count) {
        return lw_fail(err, LW_ERR_CONFIG, "the checkpoint was trained with %d models, there are %d now",
                       found->model_count, now->model_count);
    }
    for (int i = 0; i < now->model_count; i++) {
        const lw_checkpoint_model *a = &found->models[i];
        const lw_checkpoint_model *b = &now->models[i];
        const char *what = strcmp(a->name, b->name) != 0            ? "name"
                           : a->weights_hash != b->weights_hash     ? "weights"
                           : a->tokenizer_hash != b->tokenizer_hash ? "tokenizer"
                                                                    : NULL;
        if (what != NULL) {
            return lw_fail(err, LW_ERR_CONFIG, "models[%d] \"%s\": another %s than the checkpoint was trained with", i,
                           b->name, what);
        }
    }
    return LW_OK;
}

lw_status lw_checkpoint_same_inputs(const lw_checkpoint_info *found, const lw_checkpoint_info *now, lw_error *err)
{
    lw_status status = same_models(found, now, err);
    if (status == LW_OK && found->data_hash != now->data_hash) {
        status = lw_fail(err, LW_ERR_CONFIG, "data.train: other samples than the checkpoint was trained with");
    }
    if (status != LW_OK) {
        lw_error why = *err;
        return lw_fail(err, status, "%s: go on with the old one, or choose another run.dir to start anew", why.text);
    }
    return LW_OK;
}

// NULL where the run's configuration is not beside its checkpoint, or cannot be read. malloc'd.
static char *wire_differences(const char *checkpoint_dir, const lw_config *config)
{
    char *path = NULL;
    char *list = NULL;
    lw_error ignored;
    lw_config *before = NULL;
    if (lw_path_join(checkpoint_dir, "../../config.cfg", &ignored, &path) == LW_OK &&
        lw_config_load(path, 0, NULL, &ignored, &before) == LW_OK) {
        (void)lw_config_wire_differences(before, config, &ignored, &list);
    }
    lw_config_destroy(&before);
    free(path);
    return list;
}

static lw_status same_wire(const char *checkpoint_dir, const lw_checkpoint_info *found, const lw_config *config,
                           lw_error *err)
{
    uint64_t now = 0;
    LW_TRY(lw_config_wire_hash(config, err, &now));
    if (found->wire_hash == 0 || found->wire_hash == now) {
        return LW_OK;
    }
    char *list = wire_differences(checkpoint_dir, config);
    bool known = list != NULL && list[0] != '\0';
    lw_status status = lw_fail(err, LW_ERR_CONFIG, "it was trained with another configuration:\n%s",
                               known ? list : "  (keys of encoder, pooler, adapter, wire or prompt)\n");
    free(list);
    return status;
}

lw_status lw_checkpoint_same_use(const char *checkpoint_dir, const lw_checkpoint_info *found, const lw_config *config,
                                 const lw_checkpoint_info *models, lw_checkpoint_warn warn, lw_error *err)
{
    lw_status status = models != NULL ? same_models(found, models, err) : LW_OK;
    if (status == LW_OK) {
        status = same_wire(checkpoint_dir, found, config, err);
    }
    if (status != LW_ERR_CONFIG) {
        return status;
    }
    lw_error why = *err;
    bool lines = why.text[strlen(why.text) - 1] == '\n';
    (void)lw_fail(err, status, "%s does not fit: %s%s%s", checkpoint_dir, why.text, lines ? "" : "; ",
                  config->run.accept_changes
                      ? "used all the same (run.accept_changes)"
                      : "give what it was trained with, or run.accept_changes=true to use it all the same");
    if (!config->run.accept_changes) {
        return status;
    }
    warn(NULL, err->text);
    return LW_OK;
}
