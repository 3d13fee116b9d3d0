// check.c: resolves keys that depend on others, and checks keys against each other.
#include <stdlib.h>
#include <string.h>

#include "config/config_internal.h"

static lw_config_where where(const lw_config_loader *loader, const char *key)
{
    return lw_config_at_key(loader, lw_key_find(key));
}

static lw_status check_models(const lw_config_loader *loader, lw_error *err)
{
    const lw_config *config = loader->config;
    if (config->model_count == 0) {
        return lw_fail(err, LW_ERR_CONFIG, "%s: no models: add  models = ( { name = \"NAME\"; path = \"DIR\"; } );",
                       loader->path);
    }
    for (int64_t i = 0; i < config->model_count; i++) {
        const lw_model_config *model = &config->models[i];
        if (model->name == NULL || model->path == NULL || model->path[0] == '\0') {
            return lw_fail(err, LW_ERR_CONFIG,
                           "%s: models.[%lld] has no %s: write { name = \"NAME\"; path = \"DIR\"; }", loader->path,
                           (long long)i, model->name == NULL ? "name" : "path");
        }
        if (!lw_config_is_name(model->name)) {
            return lw_fail(err, LW_ERR_CONFIG,
                           "%s: models.[%lld].name = \"%.80s\": a name is 1 to 64 of A-Z a-z 0-9 _ -, as it names "
                           "metrics and tensors",
                           loader->path, (long long)i, model->name);
        }
        for (int64_t j = 0; j < i; j++) {
            if (strcmp(config->models[j].name, model->name) == 0) {
                return lw_fail(err, LW_ERR_CONFIG,
                               "%s: models.[%lld] and models.[%lld] are both named \"%s\": rename one", loader->path,
                               (long long)j, (long long)i, model->name);
            }
        }
    }
    return LW_OK;
}

static lw_status check_batch(const lw_config_loader *loader, lw_error *err)
{
    const lw_config *config = loader->config;
    if (config->batch.global == 0 && config->batch.per_rank == 0) {
        return lw_fail(err, LW_ERR_CONFIG,
                       "%s: no batch size: set batch.global (samples of a step over all ranks) or batch.per_rank",
                       loader->path);
    }
    if (config->batch.global != 0 && config->batch.per_rank != 0) {
        return lw_fail(err, LW_ERR_CONFIG, "%s and %s are both set: keep one of them",
                       where(loader, "batch.global").text, where(loader, "batch.per_rank").text);
    }
    return LW_OK;
}

static lw_status check_eval(const lw_config_loader *loader, lw_error *err)
{
    const lw_config *config = loader->config;
    if (config->eval.every_steps > 0 && config->data.eval[0] == '\0') {
        return lw_fail(err, LW_ERR_CONFIG, "%s = %lld, but there is nothing to evaluate on: set data.eval",
                       where(loader, "eval.every_steps").text, (long long)config->eval.every_steps);
    }
    return LW_OK;
}

static lw_status check_wire(const lw_config_loader *loader, lw_error *err)
{
    const lw_config *config = loader->config;
    if (config->wire.ratio > 0 && !lw_config_pools(config, LW_POOLS_SPANS)) {
        return lw_fail(
            err, LW_ERR_CONFIG,
            "%s = %lld, but learned queries have a fixed number: set pooler.kind = \"mean\", or wire.ratio = 0",
            where(loader, "wire.ratio").text, (long long)config->wire.ratio);
    }
    if (config->adapter.start == LW_ADAPTER_EMBEDDINGS && !lw_config_pools(config, LW_POOLS_SPANS)) {
        return lw_fail(err, LW_ERR_CONFIG,
                       "%s = \"embeddings\", but learned queries stand for no words of their own: set pooler.kind = "
                       "\"mean\", or adapter.start = \"random\"",
                       where(loader, "adapter.start").text);
    }
    return LW_OK;
}

static lw_status check_shared(const lw_config_loader *loader, lw_error *err)
{
    const lw_config *config = loader->config;
    if ((config->encoder.path[0] == '\0') == (config->encoder.share[0] == '\0')) {
        return lw_fail(err, LW_ERR_CONFIG,
                       "%s = \"%s\" needs encoder.path (a directory) or encoder.share (a name in models), and not both",
                       where(loader, "encoder.kind").text, lw_encoder_kind_name(config->encoder.kind));
    }
    if (config->encoder.share[0] == '\0' || lw_config_encoder_share(config) >= 0) {
        return LW_OK;
    }
    return lw_fail(err, LW_ERR_CONFIG, "%s = \"%.80s\" is the name of no entry of models",
                   where(loader, "encoder.share").text, config->encoder.share);
}

// The words of the kinds that use `key`, for messages: "llm or bert".
static void kinds_with(unsigned key, const char *quote, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (int kind = LW_ENCODER_KIND_COUNT - 1; kind >= 0; kind--) {
        if ((lw_encoder_kind_keys((lw_encoder_kind)kind) & key) != 0 && used < size) {
            used += (size_t)snprintf(out + used, size - used, "%s%s%s%s", used > 0 ? " or " : "", quote,
                                     lw_encoder_kind_name((lw_encoder_kind)kind), quote);
        }
    }
}

static lw_status check_encoder(const lw_config_loader *loader, lw_error *err)
{
    const lw_config *config = loader->config;
    bool reads_with_model = lw_config_encoder_uses(config, LW_USES_PATH);
    char kinds[128];
    if (lw_config_encoder_uses(config, LW_USES_SHARE)) {
        LW_TRY(check_shared(loader, err));
    } else if (reads_with_model && config->encoder.path[0] == '\0') {
        return lw_fail(err, LW_ERR_CONFIG, "%s = \"%s\" needs encoder.path (a directory)",
                       where(loader, "encoder.kind").text, lw_encoder_kind_name(config->encoder.kind));
    }
    if (reads_with_model && config->encoder.layers == 0) {
        kinds_with(LW_USES_PATH, "", kinds, sizeof kinds);
        return lw_fail(err, LW_ERR_CONFIG, "%s = 0: an encoder of kind %s has at least one layer",
                       where(loader, "encoder.layers").text, kinds);
    }
    if (!lw_config_encoder_uses(config, LW_USES_LORA) && config->encoder.lora_rank > 0) {
        kinds_with(LW_USES_LORA, "\"", kinds, sizeof kinds);
        return lw_fail(err, LW_ERR_CONFIG, "%s = %lld, but encoder.kind is not %s: set it to 0",
                       where(loader, "encoder.lora_rank").text, (long long)config->encoder.lora_rank, kinds);
    }
    if (config->encoder.window > 0 && config->encoder.window < 8) {
        return lw_fail(err, LW_ERR_CONFIG,
                       "%s = %lld: a window has at least 8 positions, or 0 for what the model can take",
                       where(loader, "encoder.window").text, (long long)config->encoder.window);
    }
    return LW_OK;
}

static lw_status check_distillation(const lw_config_loader *loader, lw_error *err)
{
    const lw_config *config = loader->config;
    if (config->loss.kd_weight > 0.0 && config->loss.k == 0) {
        return lw_fail(err, LW_ERR_CONFIG, "%s = %g, but loss.k = 0 gives it no position: set loss.k",
                       where(loader, "loss.kd_weight").text, config->loss.kd_weight);
    }
    if (config->loss.kd_weight > 0.0 && config->data.format == LW_DATA_TEXT) {
        return lw_fail(err, LW_ERR_CONFIG, "%s = %g, but windows of text (data.format) have no teacher: set it to 0",
                       where(loader, "loss.kd_weight").text, config->loss.kd_weight);
    }
    return LW_OK;
}

static lw_status check_text(const lw_config_loader *loader, lw_error *err)
{
    const lw_config *config = loader->config;
    if (config->data.format == LW_DATA_TEXT && config->data.window_bytes > config->prompt.max_source_bytes) {
        return lw_fail(err, LW_ERR_CONFIG,
                       "%s = %lld, but prompt.max_source_bytes = %lld: the encoder would not read whole windows; raise "
                       "that",
                       where(loader, "data.window_bytes").text, (long long)config->data.window_bytes,
                       (long long)config->prompt.max_source_bytes);
    }
    return LW_OK;
}

static lw_status check_nested(const lw_config_loader *loader, lw_error *err)
{
    const lw_config *config = loader->config;
    if (config->train.nested_from > 0 && lw_config_pools(config, LW_POOLS_SPANS)) {
        return lw_fail(
            err, LW_ERR_CONFIG,
            "%s = %lld, but the first latents of pooler.kind = \"mean\" are those of the text's beginning: set "
            "it to 0, or take phases with a ratio each",
            where(loader, "train.nested_from").text, (long long)config->train.nested_from);
    }
    return LW_OK;
}

static lw_status check_heads(const lw_config_loader *loader, const char *width_key, int64_t width,
                             const char *heads_key, int64_t heads, lw_error *err)
{
    if (width % heads != 0 || width / heads % 2 != 0) {
        return lw_fail(err, LW_ERR_CONFIG, "%s = %lld does not fit %s = %lld: each head needs a whole, even width",
                       where(loader, heads_key).text, (long long)heads, width_key, (long long)width);
    }
    return LW_OK;
}

static lw_status check_template(const lw_config_loader *loader, const char *key, const char *text,
                                const char *placeholder, lw_error *err)
{
    const char *first = strstr(text, placeholder);
    if (first == NULL || strstr(first + 1, placeholder) != NULL) {
        return lw_fail(err, LW_ERR_CONFIG, "%s = \"%.200s\" must hold %s exactly once", where(loader, key).text, text,
                       placeholder);
    }
    return LW_OK;
}

static lw_status resolve(lw_config *config, lw_error *err)
{
    if (lw_config_encoder_uses(config, LW_USES_HEADS) && config->encoder.layers < 0) {
        config->encoder.layers = 2;
    }
    if (config->encoder.lora_alpha == 0.0) {
        config->encoder.lora_alpha = 2.0 * (double)config->encoder.lora_rank;
    }
    if (config->encoder.ffn == 0) {
        config->encoder.ffn = 4 * config->encoder.width;
    }
    if (config->pooler.ffn == 0) {
        config->pooler.ffn = 4 * config->wire.d_z;
    }
    if (config->adapter.hidden == 0) {
        config->adapter.hidden = 4 * config->wire.d_z;
    }
    if (config->run.dir[0] == '\0') {
        size_t size = strlen(config->name) + sizeof "runs/";
        char *dir = malloc(size);
        if (dir == NULL) {
            return lw_fail(err, LW_ERR_MEMORY, "no memory for the configuration");
        }
        snprintf(dir, size, "runs/%s", config->name);
        free(config->run.dir);
        config->run.dir = dir;
    }
    return LW_OK;
}

// Checks what has to hold in every phase.
static lw_status check_phase(const lw_config_loader *loader, lw_error *err)
{
    const lw_config *config = loader->config;
    LW_TRY(check_wire(loader, err));
    LW_TRY(check_encoder(loader, err));
    LW_TRY(check_distillation(loader, err));
    LW_TRY(check_text(loader, err));
    LW_TRY(check_nested(loader, err));
    if (lw_config_encoder_uses(config, LW_USES_HEADS)) {
        LW_TRY(
            check_heads(loader, "encoder.width", config->encoder.width, "encoder.heads", config->encoder.heads, err));
    }
    if (lw_config_pools(config, LW_POOLS_BY_HEADS)) {
        LW_TRY(check_heads(loader, "wire.d_z", config->wire.d_z, "pooler.heads", config->pooler.heads, err));
    }
    LW_TRY(check_template(loader, "prompt.context", config->prompt.context, "{context}", err));
    LW_TRY(check_template(loader, "prompt.question", config->prompt.question, "{question}", err));
    LW_TRY(check_template(loader, "prompt.answer", config->prompt.answer, "{answer}", err));
    return LW_OK;
}

lw_status lw_config_finish(lw_config_loader *loader, lw_error *err)
{
    lw_config *config = loader->config;
    LW_TRY(check_models(loader, err));
    LW_TRY(check_batch(loader, err));
    LW_TRY(check_eval(loader, err));
    LW_TRY(resolve(config, err));
    LW_TRY(check_phase(loader, err));
    LW_TRY(lw_config_finish_phases(loader, err));
    for (int64_t i = 0; i < config->phase_count; i++) {
        LW_TRY(check_phase(&loader->phases[i], err));
    }
    return LW_OK;
}
