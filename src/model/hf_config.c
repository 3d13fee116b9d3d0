// config.json of a Hugging Face model. Keys, defaults and meaning: transformers' LlamaConfig, Qwen2Config and
// rope_scaling / rope_parameters; each struct field of hf_config.h names its key.
#include "model/hf_config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "io/files.h"
#include "io/json.h"

enum { MAX_CONFIG_BYTES = 16 << 20, SHOWN_BYTES = 64 };

// Far above any published model; they keep every product of two sizes within int64 and catch damaged files.
enum {
    MAX_WIDTH = 1 << 20, // hidden_size
    MAX_FFN = 1 << 24,
    MAX_LAYERS = 1 << 12,
    MAX_HEADS = 1 << 12,
    MAX_HEAD_DIM = 1 << 12,
    MAX_VOCAB = 1 << 26,
};
static const int64_t max_positions_limit = (int64_t)1 << 40;

typedef struct family {
    const char *model_type;
    const char *architecture;
    int64_t default_kv_heads; // 0: as many as heads
    int64_t default_max_positions;
    int64_t default_bos, default_eos; // -1: none
    bool biased_qkv;                  // qwen2: always; llama: as attention_bias says, o_proj included
    bool sliding_window;              // knows use_sliding_window
} family;

static const family families[] = {
    {"llama", "LlamaForCausalLM", 0, 2048, 1, 2, false, false},
    {"qwen2", "Qwen2ForCausalLM", 32, 32768, -1, -1, true, true},
};

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
    char shown[SHOWN_BYTES];
    return lw_fail(err, LW_ERR_UNSUPPORTED, "%s: \"architectures\": %s is not supported for model_type %s, only %s is",
                   at->where, lw_printable(first, shown, sizeof shown), f->model_type, f->architecture);
}

static lw_status find_family(const lw_json *at, lw_error *err, const family **out)
{
    const char *model_type = NULL;
    LW_TRY(lw_json_string(at, "model_type", err, &model_type));
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        if (strcmp(families[i].model_type, model_type) == 0) {
            *out = &families[i];
            return check_architectures(at, &families[i], err);
        }
    }
    char shown[SHOWN_BYTES];
    return lw_fail(err, LW_ERR_UNSUPPORTED,
                   "%s: \"model_type\": %s is not supported; supported are llama (LlamaForCausalLM) and qwen2 "
                   "(Qwen2ForCausalLM)",
                   at->where, lw_printable(model_type, shown, sizeof shown));
}

// Factors that other architectures put into the forward pass. The supported families have none, so a value that is
// not neutral means weights this program would run wrongly. `neutral`: what changes nothing.
static lw_status check_neutral_factors(const lw_json *at, lw_error *err)
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

// transformers: the window holds in layers >= max_window_layers, and nowhere without use_sliding_window.
static lw_status check_sliding_window(const lw_json *at, const family *f, int64_t layers, lw_error *err)
{
    if (f->sliding_window) {
        bool use = false;
        int64_t window = 0;
        int64_t first_layer = 0;
        bool off = json_is_null(json_object_get(at->object, "sliding_window"));
        LW_TRY(lw_json_bool_or(at, "use_sliding_window", false, err, &use));
        LW_TRY(lw_json_int_or(at, "sliding_window", 0, max_positions_limit, 4096, err, &window));
        LW_TRY(lw_json_int_or(at, "max_window_layers", 0, INT64_MAX, 28, err, &first_layer));
        if (use && !off && first_layer < layers) {
            return lw_fail(err, LW_ERR_UNSUPPORTED,
                           "%s: \"use_sliding_window\": sliding-window attention (in layers %lld to %lld) is not "
                           "supported",
                           at->where, (long long)first_layer, (long long)layers - 1);
        }
    }
    if (lw_json_has(at, "layer_types")) { // transformers 4.53 and later
        const json_t *types = NULL;
        LW_TRY(lw_json_array(at, "layer_types", err, &types));
        for (size_t i = 0; i < json_array_size(types); i++) {
            const char *type = json_string_value(json_array_get(types, i));
            if (type == NULL || strcmp(type, "full_attention") != 0) {
                char shown[SHOWN_BYTES];
                return lw_fail(err, LW_ERR_UNSUPPORTED,
                               "%s: \"layer_types[%zu]\": %s is not supported, only full_attention", at->where, i,
                               lw_printable(type == NULL ? "a value that is no string" : type, shown, sizeof shown));
            }
        }
    }
    return LW_OK;
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
        char shown[SHOWN_BYTES];
        return lw_fail(err, LW_ERR_UNSUPPORTED, "%s: \"hidden_act\": %s is not supported, only silu", at->where,
                       lw_printable(act, shown, sizeof shown));
    }
    return check_neutral_factors(at, err);
}

// --- sizes

static lw_status read_sizes(const lw_json *at, const family *f, lw_error *err, lw_hf_config *c)
{
    LW_TRY(lw_json_int(at, "hidden_size", 1, MAX_WIDTH, err, &c->d));
    LW_TRY(lw_json_int(at, "num_hidden_layers", 1, MAX_LAYERS, err, &c->layers));
    LW_TRY(lw_json_int(at, "num_attention_heads", 1, MAX_HEADS, err, &c->heads));
    LW_TRY(lw_json_int(at, "intermediate_size", 1, MAX_FFN, err, &c->ffn));
    LW_TRY(lw_json_int(at, "vocab_size", 1, MAX_VOCAB, err, &c->vocab));
    // null means `heads` in both families; absent does so for llama only.
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
    LW_TRY(lw_json_int_or(at, "max_position_embeddings", 1, max_positions_limit, f->default_max_positions, err,
                          &c->max_positions));
    double eps = 0.0;
    LW_TRY(lw_json_double_or(at, "rms_norm_eps", 0.0, 1.0, 1e-6, err, &eps));
    c->rms_eps = (float)eps;
    return LW_OK;
}

static lw_status read_biases(const lw_json *at, const family *f, lw_error *err, lw_hf_config *c)
{
    LW_TRY(lw_json_bool_or(at, "tie_word_embeddings", false, err, &c->tied));
    if (f->biased_qkv) { // these keys do nothing in transformers' Qwen2
        c->qkv_bias = true;
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
    char shown[SHOWN_BYTES];
    return lw_fail(err, LW_ERR_UNSUPPORTED,
                   "%s: \"%s\": %s is not supported; supported are float32, bfloat16 and "
                   "float16",
                   at->where, key, lw_printable(text, shown, sizeof shown));
}

// --- rope

static lw_status read_llama3(const lw_json *scaling, lw_error *err, lw_hf_config *c)
{
    LW_TRY(lw_json_double(scaling, "low_freq_factor", 1e-6, 1e6, err, &c->rope_low_freq_factor));
    LW_TRY(lw_json_double(scaling, "high_freq_factor", 1e-6, 1e6, err, &c->rope_high_freq_factor));
    LW_TRY(lw_json_double(scaling, "original_max_position_embeddings", 1.0, (double)max_positions_limit, err,
                          &c->rope_original_max_positions));
    if (c->rope_high_freq_factor <= c->rope_low_freq_factor) { // the smooth band would divide by zero or turn over
        return lw_fail(err, LW_ERR_FORMAT,
                       "%s: \"%shigh_freq_factor\" (%g) must be greater than \"low_freq_factor\" (%g)", scaling->where,
                       scaling->parent, c->rope_high_freq_factor, c->rope_low_freq_factor);
    }
    return LW_OK;
}

static lw_status read_scaling(const lw_json *scaling, const char *type, lw_error *err, lw_hf_config *c)
{
    LW_TRY(check_neutral_factors(scaling, err));
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)(uintptr_t)scaling->object, key, value)
    { // the macro is not const-correct; it only reads. transformers 5: one object for each type of layer
        if (json_is_object(value)) {
            char shown[SHOWN_BYTES];
            return lw_fail(err, LW_ERR_UNSUPPORTED, "%s: \"%s%s\": rope parameters by type of layer are not supported",
                           scaling->where, scaling->parent, lw_printable(key, shown, sizeof shown));
        }
    }
    if (strcmp(type, "default") == 0) {
        return LW_OK;
    }
    bool linear = strcmp(type, "linear") == 0;
    if (!linear && strcmp(type, "llama3") != 0) {
        char shown[SHOWN_BYTES];
        return lw_fail(err, LW_ERR_UNSUPPORTED,
                       "%s: \"%srope_type\": %s is not supported; supported are default, linear and llama3",
                       scaling->where, scaling->parent, lw_printable(type, shown, sizeof shown));
    }
    c->rope_kind = linear ? LW_ROPE_LINEAR : LW_ROPE_LLAMA3;
    LW_TRY(lw_json_double(scaling, "factor", 1e-6, 1e6, err, &c->rope_factor));
    return linear ? LW_OK : read_llama3(scaling, err, c);
}

// rope_theta and rope_scaling; transformers 5 writes both into rope_parameters.
static lw_status read_rope(const lw_json *at, lw_error *err, lw_hf_config *c)
{
    c->rope_kind = LW_ROPE_DEFAULT;
    c->rope_factor = 1.0;
    LW_TRY(lw_json_double_or(at, "rope_theta", 1e-3, 1e12, 10000.0, err, &c->rope_theta));
    bool old_key = lw_json_has(at, "rope_scaling");
    const char *key = old_key ? "rope_scaling" : "rope_parameters";
    if (!lw_json_has(at, key)) {
        return LW_OK;
    }
    const json_t *value = NULL;
    LW_TRY(lw_json_child(at, key, err, &value));
    const lw_json scaling = {.object = value,
                             .where = at->where,
                             .parent = old_key ? "rope_scaling." : "rope_parameters."};
    double theta = c->rope_theta;
    LW_TRY(lw_json_double_or(&scaling, "rope_theta", 1e-3, 1e12, theta, err, &theta));
    if (lw_json_has(at, "rope_theta") && (theta < c->rope_theta || theta > c->rope_theta)) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: \"rope_theta\" (%g) and \"%srope_theta\" (%g) disagree", at->where,
                       c->rope_theta, scaling.parent, theta);
    }
    c->rope_theta = theta;
    const char *type = NULL;
    const char *type_key = lw_json_has(&scaling, "type") ? "type" : "rope_type"; // "type" wins in transformers
    if (old_key) {
        LW_TRY(lw_json_string(&scaling, type_key, err, &type));
    } else {
        LW_TRY(lw_json_string_or(&scaling, type_key, "default", err, &type));
    }
    return read_scaling(&scaling, type, err, c);
}

// One frequency scaled as "llama3" does: short wavelengths stay, long ones are divided by the factor, and between
// the two limits it goes smoothly from one to the other.
static double llama3_freq(const lw_hf_config *c, double freq)
{
    double wavelength = 6.283185307179586476925286766559 / freq;
    double turns = c->rope_original_max_positions / wavelength; // in the original context
    if (turns < c->rope_low_freq_factor) {
        return freq / c->rope_factor;
    }
    if (turns > c->rope_high_freq_factor) {
        return freq;
    }
    double smooth = (turns - c->rope_low_freq_factor) / (c->rope_high_freq_factor - c->rope_low_freq_factor);
    return freq * ((1.0 - smooth) / c->rope_factor + smooth);
}

void lw_hf_rope_inv_freq(const lw_hf_config *c, double *out)
{
    for (int64_t i = 0; i < c->head_dim / 2; i++) {
        double freq = pow(c->rope_theta, -2.0 * (double)i / (double)c->head_dim);
        switch (c->rope_kind) {
        case LW_ROPE_DEFAULT: break;
        case LW_ROPE_LINEAR: freq /= c->rope_factor; break;
        case LW_ROPE_LLAMA3: freq = llama3_freq(c, freq); break;
        }
        out[i] = freq;
    }
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
static lw_status read_eos(const lw_json *at, lw_error *err, lw_hf_config *c)
{
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

static lw_status read_config(const lw_json *at, lw_error *err, lw_hf_config *c)
{
    const family *f = NULL;
    LW_TRY(find_family(at, err, &f));
    strcpy(c->model_type, f->model_type);
    LW_TRY(check_supported(at, err));
    LW_TRY(read_sizes(at, f, err, c));
    LW_TRY(check_sliding_window(at, f, c->layers, err));
    LW_TRY(read_biases(at, f, err, c));
    LW_TRY(read_dtype(at, err, c));
    LW_TRY(read_rope(at, err, c));
    return read_special_ids(at, f, err, c);
}

// Generation stops at these ids too; instruction-tuned models list theirs only here.
static lw_status read_generation_config(const char *dir, lw_error *err, lw_hf_config *c)
{
    char *path = NULL;
    LW_TRY(lw_path_join(dir, "generation_config.json", err, &path));
    lw_status status = LW_OK;
    if (lw_path_is_file(path)) {
        json_t *root = NULL;
        status = lw_json_read_file(path, MAX_CONFIG_BYTES, 0, err, &root);
        if (status == LW_OK) {
            const lw_json at = {.object = root, .where = path, .parent = ""};
            status = read_eos(&at, err, c);
            json_decref(root);
        }
    }
    free(path);
    return status;
}

lw_status lw_hf_config_read(const char *dir, lw_error *err, lw_hf_config *out)
{
    char *path = NULL;
    json_t *root = NULL;
    lw_hf_config config;
    memset(&config, 0, sizeof config);
    LW_TRY(lw_path_join(dir, "config.json", err, &path));
    lw_status status = lw_json_read_file(path, MAX_CONFIG_BYTES, 0, err, &root);
    if (status == LW_OK) {
        const lw_json at = {.object = root, .where = path, .parent = ""};
        status = read_config(&at, err, &config);
        json_decref(root);
    }
    free(path);
    LW_TRY(status);
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
