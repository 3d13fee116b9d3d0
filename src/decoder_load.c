// decoder_load.c: weights of a frozen LLM, from a Hugging Face directory to device memory.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "decoder_internal.h"
#include "random.h"
#include "safetensors.h"

enum { LW_STAGE_ELEMENTS = 1 << 20 };

// --- layout

static void layout(lw_arena *arena, size_t operand, lw_decoder *m)
{
    const lw_hf_config *c = &m->config;
    int64_t q_width = c->heads * c->head_dim;
    m->embedding = lw_arena_take(arena, c->vocab * c->d, operand);
    m->lm_head = c->tied ? m->embedding : lw_arena_take(arena, c->vocab * c->d, operand);
    m->final_norm = LW_TAKE(arena, c->d, float);
    m->cos_sin = LW_TAKE(arena, m->max_positions * c->head_dim, float);
    for (int64_t i = 0; i < c->layers; i++) {
        lw_decoder_layer unused;
        lw_decoder_layer *w = m->layers != NULL ? &m->layers[i] : &unused;
        w->attn_norm = LW_TAKE(arena, c->d, float);
        w->mlp_norm = LW_TAKE(arena, c->d, float);
        w->qkv = lw_arena_take(arena, m->qkv_width * c->d, operand);
        w->qkv_bias = c->qkv_bias ? LW_TAKE(arena, m->qkv_width, float) : NULL;
        w->o = lw_arena_take(arena, c->d * q_width, operand);
        w->o_bias = c->o_bias ? LW_TAKE(arena, c->d, float) : NULL;
        w->gate_up = lw_arena_take(arena, 2 * c->ffn * c->d, operand);
        w->gate_up_bias = c->mlp_bias ? LW_TAKE(arena, 2 * c->ffn, float) : NULL;
        w->down = lw_arena_take(arena, c->d * c->ffn, operand);
        w->down_bias = c->mlp_bias ? LW_TAKE(arena, c->d, float) : NULL;
    }
}

static lw_arena measure(const lw_hf_config *config, lw_dtype type, int64_t max_positions)
{
    lw_decoder shape = {.config = *config,
                        .qkv_width = (config->heads + 2 * config->kv_heads) * config->head_dim,
                        .max_positions = max_positions};
    lw_arena arena = lw_arena_measure();
    layout(&arena, lw_dtype_bytes(type), &shape);
    return arena;
}

size_t lw_decoder_weight_bytes(const lw_hf_config *config, lw_dtype type, int64_t max_positions)
{
    lw_arena arena = measure(config, type, max_positions);
    return arena.overflow ? SIZE_MAX : arena.high_water_bytes;
}

// --- tensors, one after another, through a host stage

typedef struct lw_loader {
    lw_decoder *model;
    const lw_safetensors *file; // NULL: random weights
    float *stage;               // LW_STAGE_ELEMENTS, host
    void *device_stage;         // the same on the device, where the frozen type is not f32
    uint64_t seed;
    uint64_t stream;   // random: one per tensor
    XXH3_state_t *hash;
    double sqsum;      // of the tensor loaded last
} lw_loader;

// Fills the stage with elements first .. first+n of the tensor.
static lw_status stage_chunk(lw_loader *l, const lw_tensor_view *view, int64_t first, int64_t n, float mean, float std,
                             lw_error *err)
{
    if (view != NULL) {
        lw_tensor_view chunk = *view;
        chunk.data = (const unsigned char *)view->data + (size_t)first * lw_dtype_bytes(view->dtype);
        chunk.elements = n;
        chunk.bytes = (size_t)n * lw_dtype_bytes(view->dtype);
        XXH3_64bits_update(l->hash, chunk.data, chunk.bytes);
        return lw_tensor_to_f32(&chunk, err, l->stage);
    }
    for (int64_t i = 0; i < n; i++) {
        l->stage[i] = mean + std * (float)lw_random_normal(l->seed, l->stream, (uint64_t)(first + i));
    }
    return LW_OK;
}

// Loads tensor `name` of the given shape to `out`, elements of `type`. Random weights: normal with this mean and
// standard deviation.
static lw_status load(lw_loader *l, const char *name, int rank, const int64_t *dims, float mean, float std,
                      lw_dtype type, void *out, lw_error *err)
{
    lw_device *dev = l->model->dev;
    const lw_tensor_view *view = NULL;
    int64_t elements = dims[0] * (rank > 1 ? dims[1] : 1);
    if (l->file != NULL) {
        LW_TRY(lw_safetensors_require(l->file, name, rank, dims, err, &view));
    }
    l->stream++;
    l->sqsum = 0.0;
    for (int64_t first = 0; first < elements; first += LW_STAGE_ELEMENTS) {
        int64_t n = elements - first < LW_STAGE_ELEMENTS ? elements - first : LW_STAGE_ELEMENTS;
        lw_status status = stage_chunk(l, view, first, n, mean, std, err);
        if (status != LW_OK) {
            return lw_fail_in(err, status, "%s: tensor %s", lw_safetensors_path(l->file), name);
        }
        for (int64_t i = 0; i < n; i++) {
            l->sqsum += (double)l->stage[i] * (double)l->stage[i];
        }
        unsigned char *target = (unsigned char *)out + (size_t)first * lw_dtype_bytes(type);
        if (type == LW_F32) {
            dev->ops->upload(dev, l->stage, (size_t)n * sizeof(float), target);
        } else { // another frozen type is converted on the device's side of the copy
            dev->ops->upload(dev, l->stage, (size_t)n * sizeof(float), l->device_stage);
            dev->ops->cast(dev, n, l->device_stage, LW_F32, target, type);
        }
    }
    if (!isfinite(l->sqsum)) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: tensor %s holds a non-finite number; the file is damaged or was saved "
                                           "from a diverged run",
                       l->file != NULL ? lw_safetensors_path(l->file) : "random weights", name);
    }
    return LW_OK;
}

static lw_status load_layer_tensor(lw_loader *l, int64_t layer, const char *suffix, int rank, const int64_t *dims,
                                   float mean, lw_dtype type, void *out, lw_error *err)
{
    char name[192];
    snprintf(name, sizeof name, "model.layers.%lld.%s", (long long)layer, suffix);
    return load(l, name, rank, dims, mean, 0.02F, type, out, err);
}

// Parts stacked into one matrix (and one bias): "self_attn.q_proj" and so on, of `rows[i]` rows each.
static lw_status load_stacked(lw_loader *l, int64_t layer, int parts, const char *const *names, const int64_t *rows,
                              int64_t columns, void *weight, float *bias, lw_error *err)
{
    lw_dtype type = l->model->dev->frozen_type;
    int64_t row = 0;
    for (int i = 0; i < parts; i++) {
        char name[128];
        snprintf(name, sizeof name, "%s.weight", names[i]);
        unsigned char *target = (unsigned char *)weight + (size_t)(row * columns) * lw_dtype_bytes(type);
        LW_TRY(load_layer_tensor(l, layer, name, 2, (int64_t[]){rows[i], columns}, 0.0F, type, target, err));
        if (bias != NULL) {
            snprintf(name, sizeof name, "%s.bias", names[i]);
            LW_TRY(load_layer_tensor(l, layer, name, 1, &rows[i], 0.0F, LW_F32, bias + row, err));
        }
        row += rows[i];
    }
    return LW_OK;
}

static lw_status load_layer(lw_loader *l, int64_t i, lw_error *err)
{
    const lw_hf_config *c = &l->model->config;
    lw_decoder_layer *w = &l->model->layers[i];
    int64_t q_width = c->heads * c->head_dim;
    int64_t kv_width = c->kv_heads * c->head_dim;
    LW_TRY(load_layer_tensor(l, i, "input_layernorm.weight", 1, &c->d, 1.0F, LW_F32, w->attn_norm, err));
    LW_TRY(load_stacked(l, i, 3, (const char *const[]){"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"},
                        (int64_t[]){q_width, kv_width, kv_width}, c->d, w->qkv, w->qkv_bias, err));
    LW_TRY(load_stacked(l, i, 1, (const char *const[]){"self_attn.o_proj"}, &c->d, q_width, w->o, w->o_bias, err));
    LW_TRY(load_layer_tensor(l, i, "post_attention_layernorm.weight", 1, &c->d, 1.0F, LW_F32, w->mlp_norm, err));
    LW_TRY(load_stacked(l, i, 2, (const char *const[]){"mlp.gate_proj", "mlp.up_proj"}, (int64_t[]){c->ffn, c->ffn},
                        c->d, w->gate_up, w->gate_up_bias, err));
    LW_TRY(load_stacked(l, i, 1, (const char *const[]){"mlp.down_proj"}, &c->d, c->ffn, w->down, w->down_bias, err));
    return LW_OK;
}

static lw_status load_all(lw_loader *l, lw_error *err)
{
    lw_decoder *m = l->model;
    const lw_hf_config *c = &m->config;
    const int64_t table[] = {c->vocab, c->d};
    LW_TRY(load(l, "model.embed_tokens.weight", 2, table, 0.0F, 0.02F, m->dev->frozen_type, m->embedding, err));
    m->embedding_rms = (float)sqrt(l->sqsum / ((double)c->vocab * (double)c->d));
    if (!c->tied) {
        LW_TRY(load(l, "lm_head.weight", 2, table, 0.0F, 0.02F, m->dev->frozen_type, m->lm_head, err));
    }
    LW_TRY(load(l, "model.norm.weight", 1, &c->d, 1.0F, 0.02F, LW_F32, m->final_norm, err));
    for (int64_t i = 0; i < c->layers; i++) {
        LW_TRY(load_layer(l, i, err));
    }
    return LW_OK;
}

static lw_status upload_rope_table(lw_decoder *m, lw_error *err)
{
    int64_t half = m->config.head_dim / 2;
    double *inv_freq = malloc((size_t)half * sizeof *inv_freq);
    float *table = malloc((size_t)(m->max_positions * half * 2) * sizeof *table);
    if (inv_freq == NULL || table == NULL) {
        free(inv_freq);
        free(table);
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the RoPE table");
    }
    lw_hf_rope_inv_freq(&m->config, inv_freq);
    for (int64_t p = 0; p < m->max_positions; p++) {
        for (int64_t i = 0; i < half; i++) {
            table[(p * half + i) * 2] = (float)cos((double)p * inv_freq[i]);
            table[(p * half + i) * 2 + 1] = (float)sin((double)p * inv_freq[i]);
        }
    }
    m->dev->ops->upload(m->dev, table, (size_t)(m->max_positions * half * 2) * sizeof *table, m->cos_sin);
    free(inv_freq);
    free(table);
    return LW_OK;
}

static lw_status load_weights(lw_decoder *m, const char *dir, const lw_decoder_options *options, lw_error *err)
{
    lw_loader loader = {.model = m, .seed = options->seed};
    lw_safetensors *file = NULL;
    lw_status status = LW_OK;
    loader.stage = malloc(LW_STAGE_ELEMENTS * sizeof *loader.stage);
    loader.hash = XXH3_createState();
    if (loader.stage == NULL || loader.hash == NULL) {
        status = lw_fail(err, LW_ERR_MEMORY, "no memory for the loading stage");
        goto done;
    }
    if (m->dev->frozen_type != LW_F32) {
        LW_TRY_GOTO(m->dev->ops->alloc(m->dev, LW_STAGE_ELEMENTS * sizeof(float), err, &loader.device_stage));
    }
    XXH3_64bits_reset(loader.hash);
    XXH3_64bits_update(loader.hash, &options->seed, options->random ? sizeof options->seed : 0);
    if (!options->random) {
        LW_TRY_GOTO(lw_safetensors_open(dir, err, &file));
        loader.file = file;
    }
    LW_TRY_GOTO(load_all(&loader, err));
    LW_TRY_GOTO(upload_rope_table(m, err));
    LW_TRY_GOTO(m->dev->ops->sync(m->dev, err));
    m->fingerprint = XXH3_64bits_digest(loader.hash);
done:
    lw_safetensors_close(&file);
    if (loader.device_stage != NULL) {
        m->dev->ops->free(m->dev, loader.device_stage);
    }
    XXH3_freeState(loader.hash);
    free(loader.stage);
    return status;
}

lw_status lw_decoder_load(lw_device *dev, const char *dir, const lw_decoder_options *options, lw_error *err,
                          lw_decoder **out)
{
    lw_hf_config config;
    LW_TRY(lw_hf_config_read(dir, err, &config));
    if (options->max_positions > config.max_positions) {
        return lw_fail(err, LW_ERR_CONFIG,
                       "%s/config.json: sequences of %lld positions are needed, but max_position_embeddings is %lld; "
                       "lower wire.latents or the prompt.max_* keys",
                       dir, (long long)options->max_positions, (long long)config.max_positions);
    }
    lw_arena measured = measure(&config, dev->frozen_type, options->max_positions);
    lw_decoder *m = calloc(1, sizeof *m);
    if (m == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for a model");
    }
    m->dev = dev;
    m->config = config;
    m->qkv_width = (config.heads + 2 * config.kv_heads) * config.head_dim;
    m->max_positions = options->max_positions;
    m->layers = calloc((size_t)config.layers, sizeof *m->layers);
    lw_status status = m->layers == NULL ? lw_fail(err, LW_ERR_MEMORY, "no memory for a model") : LW_OK;
    if (status == LW_OK) {
        char what[256];
        snprintf(what, sizeof what, "weights of %s", dir);
        status = lw_arena_alloc(dev, &measured, what, err, &m->arena);
    }
    if (status == LW_OK) {
        layout(&m->arena, lw_dtype_bytes(dev->frozen_type), m);
        status = load_weights(m, dir, options, err);
    }
    if (status != LW_OK) {
        lw_decoder_destroy(&m);
        return status;
    }
    *out = m;
    return LW_OK;
}

void lw_decoder_destroy(lw_decoder **decoder)
{
    lw_decoder *m = *decoder;
    if (m != NULL) {
        lw_arena_free(m->dev, &m->arena);
        free(m->layers);
        free(m);
    }
    *decoder = NULL;
}
