// decoder_load.c: weights of a frozen LLM, from a Hugging Face directory to device memory.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "model/decoder_internal.h"
#include "model/frozen_weights.h"

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

lw_hf_config lw_decoder_backbone(const lw_hf_config *config, int64_t layers)
{
    lw_hf_config c = *config;
    c.layers = layers > 0 && layers < c.layers ? layers : c.layers;
    c.tied = true; // the embedding table stands in for the head, which nothing reads
    return c;
}

size_t lw_decoder_weight_bytes(const lw_hf_config *config, lw_dtype type, int64_t max_positions)
{
    lw_arena arena = measure(config, type, max_positions);
    return arena.overflow ? SIZE_MAX : arena.high_water_bytes;
}

// --- what there is to load

enum { WEIGHTS_BESIDE_LAYERS = 3, WEIGHTS_OF_LAYER = 16 };

static void add_norm(lw_weight_list *l, int64_t layer, const char *suffix, int64_t d, float *out)
{
    char name[128];
    snprintf(name, sizeof name, "model.layers.%lld.%s", (long long)layer, suffix);
    lw_weight_list_add(l, name, 1, &d, 1.0F, LW_F32, out);
}

// Parts stacked into one matrix (and one bias): "self_attn.q_proj" and so on, of `rows[i]` rows each.
static void add_stacked(lw_weight_list *l, lw_dtype type, int64_t layer, int parts, const char *const *names,
                        const int64_t *rows, int64_t columns, void *weight, float *bias)
{
    int64_t row = 0;
    for (int i = 0; i < parts; i++) {
        char name[128];
        snprintf(name, sizeof name, "model.layers.%lld.%s.weight", (long long)layer, names[i]);
        unsigned char *target = (unsigned char *)weight + (size_t)(row * columns) * lw_dtype_bytes(type);
        lw_weight_list_add(l, name, 2, (int64_t[]){rows[i], columns}, 0.0F, type, target);
        if (bias != NULL) {
            snprintf(name, sizeof name, "model.layers.%lld.%s.bias", (long long)layer, names[i]);
            lw_weight_list_add(l, name, 1, &rows[i], 0.0F, LW_F32, bias + row);
        }
        row += rows[i];
    }
}

static void add_layer(lw_weight_list *l, const lw_decoder *m, int64_t i)
{
    const lw_hf_config *c = &m->config;
    const lw_decoder_layer *w = &m->layers[i];
    lw_dtype type = m->dev->frozen_type;
    int64_t q_width = c->heads * c->head_dim;
    int64_t kv_width = c->kv_heads * c->head_dim;
    add_norm(l, i, "input_layernorm.weight", c->d, w->attn_norm);
    add_stacked(l, type, i, 3, (const char *const[]){"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"},
                (int64_t[]){q_width, kv_width, kv_width}, c->d, w->qkv, w->qkv_bias);
    add_stacked(l, type, i, 1, (const char *const[]){"self_attn.o_proj"}, &c->d, q_width, w->o, w->o_bias);
    add_norm(l, i, "post_attention_layernorm.weight", c->d, w->mlp_norm);
    add_stacked(l, type, i, 2, (const char *const[]){"mlp.gate_proj", "mlp.up_proj"}, (int64_t[]){c->ffn, c->ffn}, c->d,
                w->gate_up, w->gate_up_bias);
    add_stacked(l, type, i, 1, (const char *const[]){"mlp.down_proj"}, &c->d, c->ffn, w->down, w->down_bias);
}

// The embedding table is the first.
static lw_status list_weights(const lw_decoder *m, lw_error *err, lw_weight_list *out)
{
    const lw_hf_config *c = &m->config;
    lw_dtype type = m->dev->frozen_type;
    const int64_t table[] = {c->vocab, c->d};
    lw_weight_list l;
    LW_TRY(lw_weight_list_create(WEIGHTS_BESIDE_LAYERS + WEIGHTS_OF_LAYER * c->layers, err, &l));
    lw_weight_list_add(&l, "model.embed_tokens.weight", 2, table, 0.0F, type, m->embedding);
    if (!c->tied) {
        lw_weight_list_add(&l, "lm_head.weight", 2, table, 0.0F, type, m->lm_head);
    }
    lw_weight_list_add(&l, "model.norm.weight", 1, &c->d, 1.0F, LW_F32, m->final_norm);
    for (int64_t i = 0; i < c->layers; i++) {
        add_layer(&l, m, i);
    }
    *out = l;
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
    double start_s = lw_now_s();
    lw_weight_list list = {0};
    LW_TRY(list_weights(m, err, &list));
    lw_status status = LW_OK;
    if (options->random) {
        LW_TRY_GOTO(lw_weights_random(m->dev, &list, options->seed, &m->fingerprint));
    } else {
        LW_TRY_GOTO(lw_weights_read(m->dev, dir, &list, err, &m->loaded.bytes, &m->fingerprint));
    }
    LW_TRY_GOTO(lw_weights_check(m->dev, options->random ? "random weights" : dir, &list, err));
    m->embedding_rms = (float)sqrt((double)list.items[0].sqnorm / (double)list.items[0].elements);
    LW_TRY_GOTO(upload_rope_table(m, err));
    LW_TRY_GOTO(m->dev->ops->sync(m->dev, err));
    m->loaded.wall_s = lw_now_s() - start_s;
done:
    lw_weight_list_free(&list);
    return status;
}

lw_status lw_decoder_load(lw_device *dev, const char *dir, const lw_decoder_options *options, lw_error *err,
                          lw_decoder **out)
{
    lw_hf_config config;
    LW_TRY(lw_hf_config_read(dir, err, &config));
    if (options->backbone) {
        config = lw_decoder_backbone(&config, options->layers);
    }
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

lw_decoder_loaded lw_decoder_load_figures(const lw_decoder *decoder)
{
    return decoder->loaded;
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
