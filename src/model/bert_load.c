// bert_load.c: weights of a frozen BERT, from a Hugging Face directory to device memory.
#include <stdio.h>
#include <stdlib.h>

#include "model/bert_internal.h"

// --- layout

static void norm_layout(lw_arena *arena, int64_t d, lw_bert_norm *out)
{
    out->gain = LW_TAKE(arena, d, float);
    out->bias = LW_TAKE(arena, d, float);
}

static void place(lw_arena *arena, size_t operand, lw_bert *m)
{
    const lw_bert_config *c = &m->config;
    m->words = lw_arena_take(arena, c->vocab * c->d, operand);
    m->positions = LW_TAKE(arena, c->max_positions * c->d, float);
    m->types = LW_TAKE(arena, c->types * c->d, float);
    norm_layout(arena, c->d, &m->norm);
    for (int64_t i = 0; i < c->layers; i++) {
        lw_bert_layer unused;
        lw_bert_layer *w = m->layers != NULL ? &m->layers[i] : &unused;
        w->qkv = lw_arena_take(arena, 3 * c->d * c->d, operand);
        w->qkv_bias = LW_TAKE(arena, 3 * c->d, float);
        w->o = lw_arena_take(arena, c->d * c->d, operand);
        w->o_bias = LW_TAKE(arena, c->d, float);
        norm_layout(arena, c->d, &w->attn_norm);
        w->up = lw_arena_take(arena, c->ffn * c->d, operand);
        w->up_bias = LW_TAKE(arena, c->ffn, float);
        w->down = lw_arena_take(arena, c->d * c->ffn, operand);
        w->down_bias = LW_TAKE(arena, c->d, float);
        norm_layout(arena, c->d, &w->mlp_norm);
    }
}

static lw_status layout(void *model, lw_arena *arena, lw_error *err)
{
    (void)err;
    lw_bert *m = model;
    place(arena, lw_dtype_bytes(m->dev->frozen_type), m);
    return LW_OK;
}

size_t lw_bert_weight_bytes(const lw_bert_config *config, lw_dtype type)
{
    lw_bert shape = {.config = *config};
    lw_arena arena = lw_arena_measure();
    place(&arena, lw_dtype_bytes(type), &shape);
    return arena.overflow ? SIZE_MAX : arena.high_water_bytes;
}

// --- what there is to load

enum { WEIGHTS_BESIDE_LAYERS = 5, WEIGHTS_OF_LAYER = 16 };

// Files of the first BERT call gain and bias gamma and beta.
static void add_norm(lw_weight_list *l, const char *name, int64_t d, const lw_bert_norm *n)
{
    static const char *const spelling[2][2] = {{"weight", "gamma"}, {"bias", "beta"}};
    for (int i = 0; i < 2; i++) {
        char full[128];
        snprintf(full, sizeof full, "%s.LayerNorm.%s", name, spelling[i][0]);
        int64_t at = l->count;
        lw_weight_list_add(l, full, 1, &d, i == 0 ? 1.0F : 0.0F, LW_F32, i == 0 ? n->gain : n->bias);
        if (l->count > at) {
            snprintf(l->items[at].old_name, sizeof l->items[at].old_name, "%s.LayerNorm.%s", name, spelling[i][1]);
        }
    }
}

static void add_linear(lw_weight_list *l, lw_dtype type, int64_t layer, const char *name, int64_t out, int64_t in,
                       void *weight, float *bias)
{
    char full[128];
    snprintf(full, sizeof full, "encoder.layer.%lld.%s.weight", (long long)layer, name);
    lw_weight_list_add(l, full, 2, (int64_t[]){out, in}, 0.0F, type, weight);
    snprintf(full, sizeof full, "encoder.layer.%lld.%s.bias", (long long)layer, name);
    lw_weight_list_add(l, full, 1, &out, 0.0F, LW_F32, bias);
}

static void add_layer(lw_weight_list *l, const lw_bert *m, int64_t i)
{
    static const char *const parts[] = {"attention.self.query", "attention.self.key", "attention.self.value"};
    const lw_bert_config *c = &m->config;
    const lw_bert_layer *w = &m->layers[i];
    lw_dtype type = m->dev->frozen_type;
    char name[128];
    for (int64_t k = 0; k < 3; k++) {
        unsigned char *target = (unsigned char *)w->qkv + (size_t)(k * c->d * c->d) * lw_dtype_bytes(type);
        add_linear(l, type, i, parts[k], c->d, c->d, target, w->qkv_bias + k * c->d);
    }
    add_linear(l, type, i, "attention.output.dense", c->d, c->d, w->o, w->o_bias);
    snprintf(name, sizeof name, "encoder.layer.%lld.attention.output", (long long)i);
    add_norm(l, name, c->d, &w->attn_norm);
    add_linear(l, type, i, "intermediate.dense", c->ffn, c->d, w->up, w->up_bias);
    add_linear(l, type, i, "output.dense", c->d, c->ffn, w->down, w->down_bias);
    snprintf(name, sizeof name, "encoder.layer.%lld.output", (long long)i);
    add_norm(l, name, c->d, &w->mlp_norm);
}

static void list_weights(const void *model, lw_weight_list *l)
{
    const lw_bert *m = model;
    const lw_bert_config *c = &m->config;
    l->prefix = "bert.";
    lw_weight_list_add(l, "embeddings.word_embeddings.weight", 2, (int64_t[]){c->vocab, c->d}, 0.0F,
                       m->dev->frozen_type, m->words);
    lw_weight_list_add(l, "embeddings.position_embeddings.weight", 2, (int64_t[]){c->max_positions, c->d}, 0.0F, LW_F32,
                       m->positions);
    lw_weight_list_add(l, "embeddings.token_type_embeddings.weight", 2, (int64_t[]){c->types, c->d}, 0.0F, LW_F32,
                       m->types);
    add_norm(l, "embeddings", c->d, &m->norm);
    for (int64_t i = 0; i < c->layers; i++) {
        add_layer(l, m, i);
    }
}

// --- loading

// All tokens are of type 0, so that its vector is added to the positions once and for all.
static lw_status finish(void *model, const lw_weight_list *list, lw_error *err)
{
    (void)list;
    (void)err;
    lw_bert *m = model;
    for (int64_t p = 0; p < m->config.max_positions; p++) {
        m->dev->ops->axpy(m->dev, m->config.d, 1.0F, m->types, m->positions + p * m->config.d);
    }
    return LW_OK;
}

static const lw_frozen_kind kind = {.layout = layout, .list = list_weights, .finish = finish};

lw_status lw_bert_load(lw_device *dev, const char *dir, const lw_bert_options *options, lw_error *err, lw_bert **out)
{
    const lw_frozen_source source = {.dir = dir, .random = options->random, .seed = options->seed};
    lw_bert_config config;
    LW_TRY(lw_bert_config_read(dir, err, &config));
    config = lw_bert_config_first(&config, options->layers);
    lw_bert *m = calloc(1, sizeof *m);
    if (m == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for a model");
    }
    m->dev = dev;
    m->config = config;
    m->layers = calloc((size_t)config.layers, sizeof *m->layers);
    int64_t tensors = WEIGHTS_BESIDE_LAYERS + WEIGHTS_OF_LAYER * config.layers;
    lw_status status = m->layers == NULL ? lw_fail(err, LW_ERR_MEMORY, "no memory for a model")
                                         : lw_frozen_open(dev, &source, &kind, tensors, m, err, &m->frozen);
    if (status != LW_OK) {
        lw_bert_destroy(&m);
        return status;
    }
    *out = m;
    return LW_OK;
}

void lw_bert_destroy(lw_bert **bert)
{
    lw_bert *m = *bert;
    if (m != NULL) {
        lw_frozen_close(m->dev, &m->frozen);
        free(m->layers);
        free(m);
    }
    *bert = NULL;
}
