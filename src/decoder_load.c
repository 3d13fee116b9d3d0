// decoder_load.c: weights of a frozen LLM, from a Hugging Face directory to device memory.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "clock.h"
#include "decoder_internal.h"
#include "safetensors.h"
#include "signals.h"
#include "weight_reader.h"

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

// One tensor of the file and its place on the device.
typedef struct lw_weight {
    char name[128];
    int rank;
    int64_t dims[2];
    int64_t elements;
    float mean; // of random weights
    lw_dtype type;
    void *out;
    const lw_tensor_view *view;
} lw_weight;

typedef struct lw_weight_list {
    lw_weight *items;
    int64_t count, capacity;
} lw_weight_list;

enum { WEIGHTS_BESIDE_LAYERS = 3, WEIGHTS_OF_LAYER = 16 };

static void add(lw_weight_list *l, const char *name, int rank, const int64_t *dims, float mean, lw_dtype type, void *out)
{
    int64_t i = l->count++;
    if (i < l->capacity) {
        lw_weight *w = &l->items[i];
        *w = (lw_weight){.rank = rank, .mean = mean, .type = type, .out = out};
        snprintf(w->name, sizeof w->name, "%s", name);
        w->elements = 1;
        for (int k = 0; k < rank; k++) {
            w->dims[k] = dims[k];
            w->elements *= dims[k];
        }
    }
}

static void add_norm(lw_weight_list *l, int64_t layer, const char *suffix, int64_t d, float *out)
{
    char name[128];
    snprintf(name, sizeof name, "model.layers.%lld.%s", (long long)layer, suffix);
    add(l, name, 1, &d, 1.0F, LW_F32, out);
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
        add(l, name, 2, (int64_t[]){rows[i], columns}, 0.0F, type, target);
        if (bias != NULL) {
            snprintf(name, sizeof name, "model.layers.%lld.%s.bias", (long long)layer, names[i]);
            add(l, name, 1, &rows[i], 0.0F, LW_F32, bias + row);
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
    add_stacked(l, type, i, 2, (const char *const[]){"mlp.gate_proj", "mlp.up_proj"}, (int64_t[]){c->ffn, c->ffn},
                c->d, w->gate_up, w->gate_up_bias);
    add_stacked(l, type, i, 1, (const char *const[]){"mlp.down_proj"}, &c->d, c->ffn, w->down, w->down_bias);
}

// The embedding table is the first.
static lw_status list_weights(const lw_decoder *m, lw_error *err, lw_weight_list *out)
{
    const lw_hf_config *c = &m->config;
    lw_dtype type = m->dev->frozen_type;
    const int64_t table[] = {c->vocab, c->d};
    lw_weight_list l = {.capacity = WEIGHTS_BESIDE_LAYERS + WEIGHTS_OF_LAYER * c->layers};
    l.items = calloc((size_t)l.capacity, sizeof *l.items);
    if (l.items == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for a list of %lld tensors", (long long)l.capacity);
    }
    add(&l, "model.embed_tokens.weight", 2, table, 0.0F, type, m->embedding);
    if (!c->tied) {
        add(&l, "lm_head.weight", 2, table, 0.0F, type, m->lm_head);
    }
    add(&l, "model.norm.weight", 1, &c->d, 1.0F, LW_F32, m->final_norm);
    for (int64_t i = 0; i < c->layers; i++) {
        add_layer(&l, m, i);
    }
    if (l.count > l.capacity) {
        free(l.items);
        return lw_fail(err, LW_ERR_INTERNAL, "a layer has more tensors than were counted");
    }
    *out = l;
    return LW_OK;
}

// --- weights of a file

// Everything that can be wrong with the list is found before the first of many gigabytes is read.
static lw_status find_all(const lw_safetensors *file, lw_weight_list *l, lw_error *err, size_t *bytes)
{
    for (int64_t i = 0; i < l->count; i++) {
        lw_weight *w = &l->items[i];
        LW_TRY(lw_safetensors_require(file, w->name, w->rank, w->dims, err, &w->view));
        if (w->view->dtype == LW_I32) {
            return lw_fail(err, LW_ERR_UNSUPPORTED,
                           "%s: tensor %s: cannot read dtype %s as floating point; expected F32, BF16 or F16",
                           lw_safetensors_path(file), w->name, w->view->dtype_name);
        }
        *bytes += w->view->bytes;
    }
    return LW_OK;
}

static lw_status upload_all(lw_decoder *m, const lw_weight_list *l, lw_weight_reader *reader)
{
    lw_weight_chunk c;
    while (lw_weight_reader_next(reader, &c)) {
        const lw_weight *w = &l->items[c.span];
        size_t element = lw_dtype_bytes(w->view->dtype);
        unsigned char *target = (unsigned char *)w->out + c.offset / element * lw_dtype_bytes(w->type);
        m->dev->ops->upload_as(m->dev, (int64_t)(c.bytes / element), c.data, w->view->dtype, target, w->type);
        lw_beat_tell(&m->dev->beat);
        LW_TRY(lw_signal_check(LW_OK)); // large weights take minutes
    }
    m->fingerprint = lw_weight_reader_hash(reader);
    return LW_OK;
}

static lw_status load_file(lw_decoder *m, const char *dir, lw_weight_list *l, lw_error *err)
{
    lw_safetensors *file = NULL;
    lw_weight_reader *reader = NULL;
    lw_weight_span *spans = calloc((size_t)l->count, sizeof *spans);
    lw_status status = spans == NULL ? lw_fail(err, LW_ERR_MEMORY, "no memory to read weights") : LW_OK;
    if (status == LW_OK) {
        status = lw_safetensors_open(dir, err, &file);
    }
    if (status == LW_OK) {
        status = find_all(file, l, err, &m->loaded.bytes);
    }
    for (int64_t i = 0; status == LW_OK && i < l->count; i++) {
        spans[i] = (lw_weight_span){l->items[i].view->data, l->items[i].view->bytes};
    }
    if (status == LW_OK) {
        status = lw_weight_reader_start(spans, l->count, err, &reader);
    }
    if (status == LW_OK) {
        status = upload_all(m, l, reader);
    }
    lw_weight_reader_stop(&reader);
    lw_safetensors_close(&file);
    free(spans);
    return status;
}

// --- random weights

static lw_status make_random(lw_decoder *m, const lw_weight_list *l, uint64_t seed)
{
    for (int64_t i = 0; i < l->count; i++) {
        const lw_weight *w = &l->items[i];
        m->dev->ops->random_normal(m->dev, w->elements, seed, (uint64_t)(i + 1), w->mean, 0.02F, w->type, w->out);
        lw_beat_tell(&m->dev->beat);
        LW_TRY(lw_signal_check(LW_OK));
    }
    m->fingerprint = XXH3_64bits(&seed, sizeof seed);
    return LW_OK;
}

// --- what was loaded, seen from the device

// An exponent of all ones is infinity or NaN.
static bool is_finite_at(const unsigned char *values, lw_dtype type, int64_t i)
{
    uint32_t bits = 0;
    if (type == LW_BF16) {
        uint16_t half;
        memcpy(&half, values + 2 * i, sizeof half);
        bits = (uint32_t)half << 16;
    } else {
        memcpy(&bits, values + 4 * i, sizeof bits);
    }
    return (bits & 0x7f800000U) != 0x7f800000U;
}

// A look at every element, for the rare tensor whose sum of squares overflows.
static lw_status look_at(lw_device *dev, const lw_weight *w, lw_error *err, bool *finite)
{
    size_t element = lw_dtype_bytes(w->type);
    int64_t most = LW_WEIGHT_CHUNK_BYTES / (int64_t)element;
    unsigned char *host = malloc(LW_WEIGHT_CHUNK_BYTES);
    lw_status status = host == NULL ? lw_fail(err, LW_ERR_MEMORY, "no memory to check weights") : LW_OK;
    *finite = true;
    for (int64_t first = 0; status == LW_OK && *finite && first < w->elements; first += most) {
        int64_t n = w->elements - first < most ? w->elements - first : most;
        dev->ops->download(dev, (const unsigned char *)w->out + (size_t)first * element, (size_t)n * element, host);
        status = dev->ops->sync(dev, err);
        for (int64_t i = 0; status == LW_OK && i < n; i++) {
            *finite = *finite && is_finite_at(host, w->type, i);
        }
    }
    free(host);
    return status;
}

// Sums of squares tell non-finite numbers, and the scale of the embedding table.
static lw_status check_sums(lw_decoder *m, const char *from, const lw_weight_list *l, const float *sums, lw_error *err)
{
    for (int64_t i = 0; i < l->count; i++) {
        bool finite = !isnan(sums[i]);
        if (isinf(sums[i])) {
            LW_TRY(look_at(m->dev, &l->items[i], err, &finite));
        }
        if (!finite) {
            return lw_fail(err, LW_ERR_FORMAT,
                           "%s: tensor %s holds a non-finite number; the file is damaged or was saved from a diverged run",
                           from, l->items[i].name);
        }
    }
    m->embedding_rms = (float)sqrt((double)sums[0] / (double)l->items[0].elements);
    return LW_OK;
}

static lw_status examine(lw_decoder *m, const char *from, const lw_weight_list *l, lw_error *err)
{
    lw_device *dev = m->dev;
    size_t bytes = (size_t)l->count * sizeof(float);
    void *memory = NULL;
    float *sums = malloc(bytes);
    lw_status status = sums == NULL ? lw_fail(err, LW_ERR_MEMORY, "no memory to check weights")
                                    : dev->ops->alloc(dev, bytes, err, &memory);
    float *device_sums = memory;
    for (int64_t i = 0; status == LW_OK && i < l->count; i++) {
        dev->ops->sqnorm(dev, l->items[i].elements, l->items[i].out, l->items[i].type, device_sums + i);
        lw_beat_tell(&dev->beat);
    }
    if (status == LW_OK) {
        dev->ops->download(dev, device_sums, bytes, sums);
        status = dev->ops->sync(dev, err);
    }
    if (status == LW_OK) {
        status = check_sums(m, from, l, sums, err);
    }
    if (memory != NULL) {
        dev->ops->free(dev, memory);
    }
    free(sums);
    return status;
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
    LW_TRY_GOTO(options->random ? make_random(m, &list, options->seed) : load_file(m, dir, &list, err));
    LW_TRY_GOTO(examine(m, options->random ? "random weights" : dir, &list, err));
    LW_TRY_GOTO(upload_rope_table(m, err));
    LW_TRY_GOTO(m->dev->ops->sync(m->dev, err));
    m->loaded.wall_s = lw_now_s() - start_s;
done:
    free(list.items);
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
