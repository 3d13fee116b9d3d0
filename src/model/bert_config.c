// bert_config.c: reads the config.json of a BERT. Keys and defaults: transformers' BertConfig.
#include "model/bert_config.h"

#include <string.h>

#include "model/hf_json.h"

// Far above any published model; they keep every product of two sizes within int64.
enum { MAX_WIDTH = 1 << 16, MAX_FFN = 1 << 20, MAX_LAYERS = 1 << 10, MAX_VOCAB = 1 << 24, MAX_POSITIONS = 1 << 24 };

static lw_status read_words(const lw_json *at, lw_error *err, lw_bert_config *c)
{
    const char *type;
    const char *positions;
    const char *act;
    LW_TRY(lw_json_string(at, "model_type", err, &type));
    if (strcmp(type, "bert") != 0) {
        return lw_hf_refuse(at, "model_type", type, "bert (for an encoder of kind \"bert\")", err);
    }
    LW_TRY(lw_json_string_or(at, "position_embedding_type", "absolute", err, &positions));
    if (strcmp(positions, "absolute") != 0) {
        return lw_hf_refuse(at, "position_embedding_type", positions, "absolute", err);
    }
    LW_TRY(lw_json_string_or(at, "hidden_act", "gelu", err, &act));
    c->gelu_erf = strcmp(act, "gelu") == 0;
    if (!c->gelu_erf && strcmp(act, "gelu_new") != 0 && strcmp(act, "gelu_pytorch_tanh") != 0) {
        return lw_hf_refuse(at, "hidden_act", act, "gelu, gelu_new and gelu_pytorch_tanh", err);
    }
    return LW_OK;
}

static lw_status check_supported(const lw_json *at, lw_error *err)
{
    bool decoder;
    bool cross;
    LW_TRY(lw_json_bool_or(at, "is_decoder", false, err, &decoder));
    LW_TRY(lw_json_bool_or(at, "add_cross_attention", false, err, &cross));
    if (decoder || cross) {
        return lw_hf_refuse(at, decoder ? "is_decoder" : "add_cross_attention", "true", "false", err);
    }
    if (lw_json_has(at, "quantization_config")) {
        return lw_hf_refuse(at, "quantization_config", "a quantised model", "weights of F32, BF16 or F16", err);
    }
    return LW_OK;
}

static lw_status read_config(const lw_json *at, lw_error *err, void *out)
{
    lw_bert_config *c = out;
    double eps;
    LW_TRY(read_words(at, err, c));
    LW_TRY(check_supported(at, err));
    LW_TRY(lw_json_int_or(at, "hidden_size", 1, MAX_WIDTH, 768, err, &c->d));
    LW_TRY(lw_json_int_or(at, "num_hidden_layers", 1, MAX_LAYERS, 12, err, &c->layers));
    LW_TRY(lw_json_int_or(at, "num_attention_heads", 1, MAX_WIDTH, 12, err, &c->heads));
    LW_TRY(lw_json_int_or(at, "intermediate_size", 1, MAX_FFN, 3072, err, &c->ffn));
    LW_TRY(lw_json_int_or(at, "vocab_size", 1, MAX_VOCAB, 30522, err, &c->vocab));
    LW_TRY(lw_json_int_or(at, "max_position_embeddings", 1, MAX_POSITIONS, 512, err, &c->max_positions));
    LW_TRY(lw_json_int_or(at, "type_vocab_size", 1, MAX_VOCAB, 2, err, &c->types));
    LW_TRY(lw_json_double_or(at, "layer_norm_eps", 0.0, 1.0, 1e-12, err, &eps));
    c->eps = (float)eps;
    if (c->d % c->heads != 0) {
        return lw_fail(err, LW_ERR_FORMAT,
                       "%s: \"hidden_size\" (%lld) is not a multiple of \"num_attention_heads\" (%lld)", at->where,
                       (long long)c->d, (long long)c->heads);
    }
    c->head_dim = c->d / c->heads;
    return LW_OK;
}

lw_status lw_bert_config_read(const char *dir, lw_error *err, lw_bert_config *out)
{
    lw_bert_config config = {0};
    LW_TRY(lw_hf_open_config(dir, "config.json", read_config, err, &config));
    *out = config;
    return LW_OK;
}

lw_bert_config lw_bert_config_first(const lw_bert_config *config, int64_t layers)
{
    lw_bert_config c = *config;
    c.layers = layers > 0 && layers < c.layers ? layers : c.layers;
    return c;
}

int64_t lw_bert_config_parameters(const lw_bert_config *c)
{
    int64_t embeddings = (c->vocab + c->max_positions + c->types + 2) * c->d;
    int64_t attention = 4 * c->d * (c->d + 1);
    int64_t mlp = 2 * c->d * c->ffn + c->ffn + c->d;
    return embeddings + c->layers * (attention + mlp + 4 * c->d);
}
