// hf_config.c: reads the config.json of a causal LLM; the table of families is here. Keys, defaults and meaning are
// those of transformers' LlamaConfig, Qwen2Config and MistralConfig; each field of hf_config.h names its key.
#include "model/hf_config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/files.h"
#include "model/hf_config_internal.h"

// Far above any published model; they keep every product of two sizes within int64 and catch damaged files.
enum {
    MAX_WIDTH = 1 << 20, // hidden_size
    MAX_FFN = 1 << 24,
    MAX_LAYERS = 1 << 12,
    MAX_HEADS = 1 << 12,
    MAX_HEAD_DIM = 1 << 12,
    MAX_VOCAB = 1 << 26,
};

// --- families

typedef enum bias_rule {
    BIASES_BY_KEY, // attention_bias (of q, k, v and o) and mlp_bias
    BIASES_OF_QKV, // of q, k and v, always; the keys do nothing
    BIASES_NONE,   // never; the keys do nothing
} bias_rule;

typedef enum window_rule {
    WINDOW_UNKNOWN,   // the family has no such key
    WINDOW_BY_SWITCH, // sliding_window holds where use_sliding_window is true, in layers >= max_window_layers
    WINDOW_BY_SIZE,   // sliding_window holds in all layers, unless it is null; absent, it is 4096
} window_rule;

// What distinguishes the configurations of one family from those of another. A model that differs in anything else (in
// its layers, say) is no row of this table alone: CONTRIBUTING.md.
typedef struct family {
    const char *model_type;
    const char *architecture;
    int64_t default_kv_heads; // where num_key_value_heads is absent; 0: as many as heads
    int64_t default_max_positions;
    int64_t default_bos, default_eos; // -1: none
    bias_rule biases;
    window_rule window;
} family;

static const family families[] = {
    {.model_type = "llama",
     .architecture = "LlamaForCausalLM",
     .default_max_positions = 2048,
     .default_bos = 1,
     .default_eos = 2,
     .biases = BIASES_BY_KEY,
     .window = WINDOW_UNKNOWN},
    {.model_type = "qwen2",
     .architecture = "Qwen2ForCausalLM",
     .default_kv_heads = 32,
     .default_max_positions = 32768,
     .default_bos = -1,
     .default_eos = -1,
     .biases = BIASES_OF_QKV,
     .window = WINDOW_BY_SWITCH},
    {.model_type = "mistral",
     .architecture = "MistralForCausalLM",
     .default_kv_heads = 8,
     .default_max_positions = 131072,
     .default_bos = 1,
     .default_eos = 2,
     .biases = BIASES_NONE,
     .window = WINDOW_BY_SIZE},
};
enum { FAMILIES = sizeof families / sizeof families[0] };

// "llama (LlamaForCausalLM), ... and qwen2 (Qwen2ForCausalLM)"
static const char *list_families(size_t size, char *out)
{
    size_t used = 0;
    out[0] = '\0';
    for (int i = 0; i < FAMILIES && used < size; i++) {
        const char *before = i == 0 ? "" : i == FAMILIES - 1 ? " and " : ", ";
        used += (size_t)snprintf(out + used, size - used, "%s%s (%s)", before, families[i].model_type,
                                 families[i].architecture);
    }
    return out;
}

// --- refusals

static lw_status check_architectures(const lw_json *at, const family *f, lw_error *err)
{
    if (!lw_json_has(at, "architectures")) { // a configuration saved without its model
        return LW_OK;
    }
    const json_t *names = NULL;
    LW_TRY(lw_json_array(at, "architectures", err, &names));
    const char *first = NULL;
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *name = json_string_value(json_array_get(names, i));
        if (name == NULL) {
            return lw_fail(err, LW_ERR_FORMAT, "%s: \"architectures\": expected an array of strings", at->where);
        }
        if (strcmp(name, f->architecture) == 0) {
            return LW_OK;
        }
        first = first == NULL ? name : first;
    }
    if (first == NULL) {
        return LW_OK;
    }
    char shown[LW_HF_SHOWN_BYTES];
    return lw_fail(err, LW_ERR_UNSUPPORTED, "%s: \"architectures\": %s is not supported for model_type %s, only %s is",
                   at->where, lw_printable(first, shown, sizeof shown), f->model_type, f->architecture);
}

static lw_status find_family(const lw_json *at, lw_error *err, const family **out)
{
    const char *model_type = NULL;
    LW_TRY(lw_json_string(at, "model_type", err, &model_type));
    for (int i = 0; i < FAMILIES; i++) {
        if (strcmp(families[i].model_type, model_type) == 0) {
            *out = &families[i];
            return check_architectures(at, &families[i], err);
        }
    }
    char shown[LW_HF_SHOWN_BYTES];
    char known[512];
    return lw_fail(err, LW_ERR_UNSUPPORTED, "%s: \"model_type\": %s is not supported; supported are %s", at->where,
                   lw_printable(model_type, shown, sizeof shown), list_families(sizeof known, known));
}

lw_status lw_hf_check_factors(const lw_json *at, lw_error *err)
{
    static const struct {
        const char *key;
        double neutral;
    } factors[] = {
        {"attention_multiplier", 1.0},
        {"embedding_multiplier", 1.0},
        {"residual_multiplier", 1.0},
        {"logits_scaling", 1.0},
        {"logit_scale", 1.0},
        {"scale_emb", 1.0},
        {"partial_rotary_factor", 1.0},
        {"attn_logit_softcapping", 0.0},
        {"final_logit_softcapping", 0.0},
    };
    for (size_t i = 0; i < sizeof factors / sizeof factors[0]; i++) {
        double value = factors[i].neutral;
        LW_TRY(lw_json_double_or(at, factors[i].key, -HUGE_VAL, HUGE_VAL, value, err, &value));
        if (value < factors[i].neutral || value > factors[i].neutral) {
            return lw_fail(err, LW_ERR_UNSUPPORTED, "%s: \"%s%s\": %g is not supported, only %g or no such key",
                           at->where, at->parent, factors[i].key, value, factors[i].neutral);
        }
    }
    return LW_OK;
}

static lw_status check_window_switch(const lw_json *at, int64_t layers, lw_error *err)
{
    bool use = false;
    int64_t window = 0;
    int64_t first_layer = 0;
    bool off = json_is_null(json_object_get(at->object, "sliding_window"));
    LW_TRY(lw_json_bool_or(at, "use_sliding_window", false, err, &use));
    LW_TRY(lw_json_int_or(at, "sliding_window", 0, LW_HF_MAX_POSITIONS, 4096, err, &window));
    LW_TRY(lw_json_int_or(at, "max_window_layers", 0, INT64_MAX, 28, err, &first_layer));
    if (use && !off && first_layer < layers) {
        return lw_fail(err, LW_ERR_UNSUPPORTED,
                       "%s: \"use_sliding_window\": sliding-window attention (in layers %lld to %lld) is not "
                       "supported",
                       at->where, (long long)first_layer, (long long)layers - 1);
    }
    return LW_OK;
}

// A row sees the last sliding_window rows, itself included: a window of all positions hides nothing.
static lw_status check_window_size(const lw_json *at, int64_t positions, lw_error *err)
{
    if (json_is_null(json_object_get(at->object, "sliding_window"))) {
        return LW_OK;
    }
    int64_t window = 0;
    LW_TRY(lw_json_int_or(at, "sliding_window", 1, LW_HF_MAX_POSITIONS, 4096, err, &window));
    if (window < positions) {
        return lw_fail(
            err, LW_ERR_UNSUPPORTED,
            "%s: \"sliding_window\": sliding-window attention (over %lld positions%s) is not supported, only "
            "null or at least \"max_position_embeddings\" (%lld)",
            at->where, (long long)window, lw_json_has(at, "sliding_window") ? "" : ", the default",
            (long long)positions);
    }
    return LW_OK;
}

// layer_types: of transformers 4.53 and later, in any family.
static lw_status check_layer_types(const lw_json *at, lw_error *err)
{
    if (!lw_json_has(at, "layer_types")) {
        return LW_OK;
    }
    const json_t *types = NULL;
    LW_TRY(lw_json_array(at, "layer_types", err, &types));
    for (size_t i = 0; i < json_array_size(types); i++) {
        const char *type = json_string_value(json_array_get(types, i));
        if (type == NULL || strcmp(type, "full_attention") != 0) {
            char key[48];
            snprintf(key, sizeof key, "layer_types[%zu]", i);
            return lw_hf_refuse(at, key, type == NULL ? "a value that is no string" : type, "full_attention", err);
        }
    }
    return LW_OK;
}

static lw_status check_sliding_window(const lw_json *at, const family *f, const lw_hf_config *c, lw_error *err)
{
    switch (f->window) {
    case WINDOW_UNKNOWN: break;
    case WINDOW_BY_SWITCH: LW_TRY(check_window_switch(at, c->layers, err)); break;
    case WINDOW_BY_SIZE: LW_TRY(check_window_size(at, c->max_positions, err)); break;
    }
    return check_layer_types(at, err);
}

static lw_status check_supported(const lw_json *at, lw_error *err)
{
    static const char *const quantised[] = {"quantization_config", "compression_config"};
    for (size_t i = 0; i < sizeof quantised / sizeof quantised[0]; i++) {
        if (lw_json_has(at, quantised[i])) {
            return lw_fail(err, LW_ERR_UNSUPPORTED,
                           "%s: \"%s\": quantised weights are not supported; use the F32, BF16 or F16 checkpoint",
                           at->where, quantised[i]);
        }
    }
    const char *act = NULL;
    LW_TRY(lw_json_string_or(at, "hidden_act", "silu", err, &act));
    if (strcmp(act, "silu") != 0 && strcmp(act, "swish") != 0) { // two names of one function
        return lw_hf_refuse(at, "hidden_act", act, "silu", err);
    }
    return lw_hf_check_factors(at, err);
}

// --- sizes

static lw_status read_sizes(const lw_json *at, const family *f, lw_error *err, lw_hf_config *c)
{
    LW_TRY(lw_json_int(at, "hidden_size", 1, MAX_WIDTH, err, &c->d));
    LW_TRY(lw_json_int(at, "num_hidden_layers", 1, MAX_LAYERS, err, &c->layers));
    LW_TRY(lw_json_int(at, "num_attention_heads", 1, MAX_HEADS, err, &c->heads));
    LW_TRY(lw_json_int(at, "intermediate_size", 1, MAX_FFN, err, &c->ffn));
    LW_TRY(lw_json_int(at, "vocab_size", 1, MAX_VOCAB, err, &c->vocab));
    // null means `heads` in every family; absent means that only in some.
    bool absent = json_object_get(at->object, "num_key_value_heads") == NULL;
    int64_t kv_default = absent && f->default_kv_heads > 0 ? f->default_kv_heads : c->heads;
    LW_TRY(lw_json_int_or(at, "num_key_value_heads", 1, MAX_HEADS, kv_default, err, &c->kv_heads));
    if (c->heads % c->kv_heads != 0) {
        return lw_fail(err, LW_ERR_FORMAT,
                       "%s: \"num_attention_heads\" (%lld) is not a multiple of \"num_key_value_heads\" (%lld%s)",
                       at->where, (long long)c->heads, (long long)c->kv_heads, absent ? ", the default" : "");
    }
    if (!lw_json_has(at, "head_dim") && c->d % c->heads != 0) {
        return lw_fail(err, LW_ERR_FORMAT,
                       "%s: \"hidden_size\" (%lld) is not a multiple of \"num_attention_heads\" (%lld), and there is "
                       "no \"head_dim\"",
                       at->where, (long long)c->d, (long long)c->heads);
    }
    LW_TRY(lw_json_int_or(at, "head_dim", 1, MAX_HEAD_DIM, c->d / c->heads, err, &c->head_dim));
    if (c->head_dim % 2 != 0 || c->head_dim > MAX_HEAD_DIM) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: \"head_dim\" (%lld) must be even and at most %d", at->where,
                       (long long)c->head_dim, MAX_HEAD_DIM);
    }
    LW_TRY(lw_json_int_or(at, "max_position_embeddings", 1, LW_HF_MAX_POSITIONS, f->default_max_positions, err,
                          &c->max_positions));
    double eps = 0.0;
    LW_TRY(lw_json_double_or(at, "rms_norm_eps", 0.0, 1.0, 1e-6, err, &eps));
    c->rms_eps = (float)eps;
    return LW_OK;
}

static lw_status read_biases(const lw_json *at, const family *f, lw_error *err, lw_hf_config *c)
{
    LW_TRY(lw_json_bool_or(at, "tie_word_embeddings", false, err, &c->tied));
    if (f->biases != BIASES_BY_KEY) {
        c->qkv_bias = f->biases == BIASES_OF_QKV;
        return LW_OK;
    }
    LW_TRY(lw_json_bool_or(at, "attention_bias", false, err, &c->qkv_bias));
    c->o_bias = c->qkv_bias;
    return lw_json_bool_or(at, "mlp_bias", false, err, &c->mlp_bias);
}

static lw_status read_dtype(const lw_json *at, lw_error *err, lw_hf_config *c)
{
    static const struct {
        const char *name;
        lw_dtype dtype;
    } names[] = {{"float32", LW_F32}, {"float", LW_F32}, {"bfloat16", LW_BF16}, {"float16", LW_F16}, {"half", LW_F16}};
    const char *key = lw_json_has(at, "torch_dtype") ? "torch_dtype" : "dtype"; // renamed in transformers 4.56
    const char *text = NULL;
    LW_TRY(lw_json_string_or(at, key, "float32", err, &text));
    const char *name = strncmp(text, "torch.", 6) == 0 ? text + 6 : text;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(names[i].name, name) == 0) {
            c->stored_dtype = names[i].dtype;
            return LW_OK;
        }
    }
    char shown[LW_HF_SHOWN_BYTES];
    return lw_fail(err, LW_ERR_UNSUPPORTED,
                   "%s: \"%s\": %s is not supported; supported are float32, bfloat16 and "
                   "float16",
                   at->where, key, lw_printable(text, shown, sizeof shown));
}

// --- special tokens

static lw_status add_eos(const char *where, int64_t id, lw_error *err, lw_hf_config *c)
{
    for (int i = 0; i < c->eos_count; i++) {
        if (c->eos_id[i] == id) {
            return LW_OK;
        }
    }
    if (c->eos_count == LW_MAX_EOS) {
        return lw_fail(err, LW_ERR_UNSUPPORTED, "%s: \"eos_token_id\": more than %d ids", where, LW_MAX_EOS);
    }
    c->eos_id[c->eos_count++] = id;
    return LW_OK;
}

// An id that the vocabulary does not hold can never be produced and is left out: small models made from the
// configuration of a large one carry such ids.
static lw_status read_eos(const lw_json *at, lw_error *err, void *out)
{
    lw_hf_config *c = out;
    const json_t *value = json_object_get(at->object, "eos_token_id");
    if (value == NULL || json_is_null(value)) {
        return LW_OK;
    }
    size_t n = json_is_array(value) ? json_array_size(value) : 1;
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_is_array(value) ? json_array_get(value, i) : value;
        double number = json_number_value(id); // a vocabulary is far below 2^53
        if (!json_is_number(id) || number != floor(number)) {
            return lw_fail(err, LW_ERR_FORMAT, "%s: \"eos_token_id\": expected an integer or an array of integers",
                           at->where);
        }
        if (number >= 0.0 && number < (double)c->vocab) {
            LW_TRY(add_eos(at->where, (int64_t)number, err, c));
        }
    }
    return LW_OK;
}

static lw_status read_special_ids(const lw_json *at, const family *f, lw_error *err, lw_hf_config *c)
{
    // Absent gives the family's default, null gives none.
    bool no_bos = json_is_null(json_object_get(at->object, "bos_token_id"));
    LW_TRY(lw_json_int_or(at, "bos_token_id", INT64_MIN, INT64_MAX, no_bos ? -1 : f->default_bos, err, &c->bos_id));
    if (c->bos_id < 0 || c->bos_id >= c->vocab) {
        c->bos_id = -1;
    }
    if (json_object_get(at->object, "eos_token_id") == NULL && f->default_eos >= 0 && f->default_eos < c->vocab) {
        LW_TRY(add_eos(at->where, f->default_eos, err, c));
    }
    return read_eos(at, err, c);
}

// --- files

static lw_status read_config(const lw_json *at, lw_error *err, void *out)
{
    lw_hf_config *c = out;
    const family *f = NULL;
    LW_TRY(find_family(at, err, &f));
    strcpy(c->model_type, f->model_type);
    LW_TRY(check_supported(at, err));
    LW_TRY(read_sizes(at, f, err, c));
    LW_TRY(check_sliding_window(at, f, c, err));
    LW_TRY(read_biases(at, f, err, c));
    LW_TRY(read_dtype(at, err, c));
    LW_TRY(lw_hf_read_rope(at, err, c));
    return read_special_ids(at, f, err, c);
}

// Generation stops at these ids too; instruction-tuned models list theirs only here.
static lw_status read_generation_config(const char *dir, lw_error *err, lw_hf_config *c)
{
    static const char name[] = "generation_config.json";
    char *path = NULL;
    LW_TRY(lw_path_join(dir, name, err, &path));
    bool exists = lw_path_is_file(path);
    free(path);
    return exists ? lw_hf_open_config(dir, name, read_eos, err, c) : LW_OK;
}

lw_status lw_hf_config_read(const char *dir, lw_error *err, lw_hf_config *out)
{
    lw_hf_config config;
    memset(&config, 0, sizeof config);
    LW_TRY(lw_hf_open_config(dir, "config.json", read_config, err, &config));
    LW_TRY(read_generation_config(dir, err, &config));
    *out = config;
    return LW_OK;
}

lw_hf_counts lw_hf_config_counts(const lw_hf_config *c)
{
    int64_t q_width = c->heads * c->head_dim;
    int64_t kv_width = c->kv_heads * c->head_dim;
    int64_t attention = c->d * (q_width + 2 * kv_width) + q_width * c->d;
    int64_t attention_biases = (c->qkv_bias ? q_width + 2 * kv_width : 0) + (c->o_bias ? c->d : 0);
    int64_t mlp = 3 * c->d * c->ffn + (c->mlp_bias ? 2 * c->ffn + c->d : 0);
    lw_hf_counts counts = {
        .embedding = c->vocab * c->d,
        .per_layer = attention + attention_biases + mlp + 2 * c->d,
        .final_norm = c->d,
        .lm_head = c->tied ? 0 : c->vocab * c->d,
    };
    counts.total = counts.embedding + c->layers * counts.per_layer + counts.final_norm + counts.lm_head;
    return counts;
}
