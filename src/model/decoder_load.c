// decoder_load.c: weights of a frozen LLM, from a Hugging Face directory to device memory.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "model/decoder_internal.h"

// --- layout

static void place(lw_arena *arena, size_t operand, lw_decoder *m)
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

static lw_status layout(void *model, lw_arena *arena, lw_error *err)
{
    (void)err;
    lw_decoder *m = model;
    place(arena, lw_dtype_bytes(m->dev->frozen_type), m);
    return LW_OK;
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
    lw_decoder shape = {.config = *config, .qkv_width = lw_decoder_qkv_width(config), .max_positions = max_positions};
    lw_arena arena = lw_arena_measure();
    place(&arena, lw_dtype_bytes(type), &shape);
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

// The embedding table is the first: `finish` takes its sum of squares from there.
static void list_weights(const void *model, lw_weight_list *l)
{
    const lw_decoder *m = model;
    const lw_hf_config *c = &m->config;
    lw_dtype type = m->dev->frozen_type;
    const int64_t table[] = {c->vocab, c->d};
    lw_weight_list_add(l, "model.embed_tokens.weight", 2, table, 0.0F, type, m->embedding);
    if (!c->tied) {
        lw_weight_list_add(l, "lm_head.weight", 2, table, 0.0F, type, m->lm_head);
    }
    lw_weight_list_add(l, "model.norm.weight", 1, &c->d, 1.0F, LW_F32, m->final_norm);
    for (int64_t i = 0; i < c->layers; i++) {
        add_layer(l, m, i);
    }
}

// --- loading

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

static lw_status finish(void *model, const lw_weight_list *list, lw_error *err)
{
    lw_decoder *m = model;
    const lw_weight *table = &list->items[0];
    m->embedding_rms = (float)sqrt((double)table->sqnorm / (double)table->elements);
    return upload_rope_table(m, err);
}

static const lw_frozen_kind kind = {.layout = layout, .list = list_weights, .finish = finish};

lw_status lw_decoder_load(lw_device *dev, const char *dir, const lw_decoder_options *options, lw_error *err,
                          lw_decoder **out)
{
    const lw_frozen_source source = {.dir = dir, .random = options->random, .seed = options->seed};
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
    lw_decoder *m = calloc(1, sizeof *m);
    if (m == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for a model");
    }
    m->dev = dev;
    m->config = config;
    m->qkv_width = lw_decoder_qkv_width(&config);
    m->max_positions = options->max_positions;
    m->layers = calloc((size_t)config.layers, sizeof *m->layers);
    int64_t tensors = WEIGHTS_BESIDE_LAYERS + WEIGHTS_OF_LAYER * config.layers;
    lw_status status = m->layers == NULL ? lw_fail(err, LW_ERR_MEMORY, "no memory for a model")
                                         : lw_frozen_open(dev, &source, &kind, tensors, m, err, &m->frozen);
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
        lw_frozen_close(m->dev, &m->frozen);
        free(m->layers);
        free(m);
    }
    *decoder = NULL;
}
