// config.json of Hugging Face models: the committed fixtures, defaults, every refusal, RoPE frequencies, counts.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <unistd.h>

#include "model/hf_config.h"
#include "scratch.h"

static lw_error err;

static void check_near(double got, double expected, double tolerance)
{
    if (!(fabs(got - expected) <= tolerance * fabs(expected))) {
        fail_msg("got %.17g, expected %.17g", got, expected);
    }
}

// --- configurations: a base with changes

static const char llama_base[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":64,\"intermediate_size\":160,"
    "\"num_hidden_layers\":4,\"num_attention_heads\":8,\"num_key_value_heads\":2,\"vocab_size\":1000,"
    "\"hidden_act\":\"silu\",\"rms_norm_eps\":1e-5,\"rope_theta\":500000.0,\"torch_dtype\":\"bfloat16\","
    "\"bos_token_id\":7,\"eos_token_id\":8,\"max_position_embeddings\":4096,\"tie_word_embeddings\":false}";
static const char qwen2_base[] =
    "{\"architectures\":[\"Qwen2ForCausalLM\"],\"model_type\":\"qwen2\",\"hidden_size\":64,\"intermediate_size\":160,"
    "\"num_hidden_layers\":4,\"num_attention_heads\":8,\"num_key_value_heads\":2,\"vocab_size\":1000,"
    "\"torch_dtype\":\"float16\",\"tie_word_embeddings\":true}";

// As of Mistral-Nemo, but for its sizes.
static const char mistral_base[] =
    "{\"architectures\":[\"MistralForCausalLM\"],\"model_type\":\"mistral\",\"hidden_size\":64,\"head_dim\":10,"
    "\"intermediate_size\":160,\"num_hidden_layers\":4,\"num_attention_heads\":8,\"num_key_value_heads\":2,"
    "\"vocab_size\":1000,\"rms_norm_eps\":1e-5,\"rope_theta\":1000000.0,\"max_position_embeddings\":4096,"
    "\"sliding_window\":null,\"torch_dtype\":\"bfloat16\",\"tie_word_embeddings\":false}";

// Writes config.json: `base` with the keys of `changes` on top; a key with the value "<absent>" is taken away.
static void put_config(const char *base, const char *changes)
{
    json_t *config = json_loads(base, 0, NULL);
    json_t *other = json_loads(changes, 0, NULL);
    assert_non_null(config);
    assert_non_null(other);
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(other, key, value)
    {
        if (json_is_string(value) && strcmp(json_string_value(value), "<absent>") == 0) {
            json_object_del(config, key);
        } else {
            json_object_set(config, key, value);
        }
    }
    char *text = json_dumps(config, 0);
    assert_non_null(text);
    scratch_put(scratch_path("config.json"), text, strlen(text));
    free(text);
    json_decref(config);
    json_decref(other);
}

static lw_hf_config read_good(const char *dir)
{
    lw_hf_config config;
    if (lw_hf_config_read(dir, &err, &config) != LW_OK) {
        fail_msg("%s", err.text);
    }
    return config;
}

static lw_hf_config accept(const char *base, const char *changes)
{
    put_config(base, changes);
    return read_good(scratch_dir());
}

static void refuse(const char *base, const char *changes, lw_status status, const char *words)
{
    put_config(base, changes);
    lw_hf_config config;
    memset(&config, 0x5a, sizeof config);
    err.text[0] = '\0';
    lw_status got = lw_hf_config_read(scratch_dir(), &err, &config);
    if (got != status || strstr(err.text, words) == NULL || strstr(err.text, "/config.json: ") == NULL) {
        fail_msg("%s: expected %s with \"%s\", got %s: %s", changes, lw_status_name(status), words, lw_status_name(got),
                 err.text);
    }
    assert_int_equal(config.d, 0x5a5a5a5a5a5a5a5a); // untouched
}

// --- what is read

static void test_all_keys(void **state)
{
    (void)state;
    lw_hf_config c = accept(llama_base, "{}");
    assert_string_equal(c.model_type, "llama");
    assert_int_equal(c.d, 64);
    assert_int_equal(c.ffn, 160);
    assert_int_equal(c.layers, 4);
    assert_int_equal(c.heads, 8);
    assert_int_equal(c.kv_heads, 2);
    assert_int_equal(c.head_dim, 8);
    assert_int_equal(c.vocab, 1000);
    assert_int_equal(c.max_positions, 4096);
    check_near((double)c.rms_eps, 1e-5, 1e-7);
    check_near(c.rope_theta, 5e5, 0.0);
    assert_int_equal(c.rope_kind, LW_ROPE_DEFAULT);
    assert_int_equal(c.stored_dtype, LW_BF16);
    assert_false(c.tied || c.qkv_bias || c.o_bias || c.mlp_bias);
    assert_int_equal(c.bos_id, 7);
    assert_int_equal(c.eos_count, 1);
    assert_int_equal(c.eos_id[0], 8);

    c = accept(llama_base, "{\"attention_bias\":true,\"mlp_bias\":true,\"head_dim\":10,\"tie_word_embeddings\":true,"
                           "\"pretraining_tp\":4,\"hidden_act\":\"swish\",\"rope_scaling\":null,\"x\":[1]}");
    assert_true(c.tied && c.qkv_bias && c.o_bias && c.mlp_bias);
    assert_int_equal(c.head_dim, 10);
    c = accept(qwen2_base, "{\"attention_bias\":false,\"mlp_bias\":true}"); // its biases are the family's
    assert_true(c.tied && c.qkv_bias && !c.o_bias && !c.mlp_bias);
    assert_int_equal(c.stored_dtype, LW_F16);
    c = accept(mistral_base, "{\"attention_bias\":true,\"mlp_bias\":true}"); // these keys do nothing there
    assert_string_equal(c.model_type, "mistral");
    assert_false(c.tied || c.qkv_bias || c.o_bias || c.mlp_bias);
    assert_int_equal(c.head_dim, 10);
    assert_int_equal(c.kv_heads, 2);
    check_near(c.rope_theta, 1e6, 0.0);
    assert_int_equal(c.bos_id, 1);
    assert_int_equal(c.eos_count, 1);
    assert_int_equal(c.eos_id[0], 2);
}

// As transformers' LlamaConfig, Qwen2Config and MistralConfig fill them in.
static void test_defaults(void **state)
{
    (void)state;
    static const char llama[] = "{\"model_type\":\"llama\",\"hidden_size\":64,\"intermediate_size\":160,"
                                "\"num_hidden_layers\":4,\"num_attention_heads\":32,\"vocab_size\":1000}";
    lw_hf_config c = accept(llama, "{}");
    assert_int_equal(c.kv_heads, 32);
    assert_int_equal(c.head_dim, 2);
    assert_int_equal(c.max_positions, 2048);
    check_near((double)c.rms_eps, 1e-6, 1e-7);
    check_near(c.rope_theta, 1e4, 0.0);
    assert_int_equal(c.rope_kind, LW_ROPE_DEFAULT);
    assert_int_equal(c.stored_dtype, LW_F32);
    assert_false(c.tied || c.qkv_bias || c.o_bias || c.mlp_bias);
    assert_int_equal(c.bos_id, 1);
    assert_int_equal(c.eos_count, 1);
    assert_int_equal(c.eos_id[0], 2);
    c = accept(llama, "{\"model_type\":\"qwen2\",\"num_attention_heads\":64,\"hidden_size\":128}");
    assert_int_equal(c.kv_heads, 32); // Qwen2Config's own, when the key is absent ...
    assert_int_equal(c.max_positions, 32768);
    assert_true(c.qkv_bias && !c.o_bias && !c.tied);
    assert_int_equal(c.bos_id, -1);
    assert_int_equal(c.eos_count, 0);
    c = accept(llama, "{\"model_type\":\"qwen2\",\"num_attention_heads\":8,\"num_key_value_heads\":null}");
    assert_int_equal(c.kv_heads, 8); // ... and all heads when it is null
    c = accept(llama, "{\"model_type\":\"mistral\",\"sliding_window\":null}");
    assert_int_equal(c.kv_heads, 8);
    assert_int_equal(c.max_positions, 131072);
    c = accept(llama, "{\"model_type\":\"mistral\",\"sliding_window\":null,\"num_key_value_heads\":null}");
    assert_int_equal(c.kv_heads, 32);
    // A vocabulary too small for the default ids.
    c = accept(llama, "{\"vocab_size\":1}");
    assert_int_equal(c.bos_id, -1);
    assert_int_equal(c.eos_count, 0);
}

static void test_dtypes(void **state)
{
    (void)state;
    assert_int_equal(accept(llama_base, "{\"torch_dtype\":\"float32\"}").stored_dtype, LW_F32);
    assert_int_equal(accept(llama_base, "{\"torch_dtype\":\"torch.float16\"}").stored_dtype, LW_F16);
    assert_int_equal(accept(llama_base, "{\"torch_dtype\":null}").stored_dtype, LW_F32);
    assert_int_equal(accept(llama_base, "{\"torch_dtype\":\"<absent>\",\"dtype\":\"float16\"}").stored_dtype, LW_F16);
}

static void test_special_ids(void **state)
{
    (void)state;
    lw_hf_config c = accept(llama_base, "{\"bos_token_id\":null,\"eos_token_id\":null}");
    assert_int_equal(c.bos_id, -1);
    assert_int_equal(c.eos_count, 0);
    // Ids the vocabulary does not hold are left out.
    c = accept(llama_base, "{\"bos_token_id\":1000,\"eos_token_id\":[999,1000,-1,5,5]}");
    assert_int_equal(c.bos_id, -1);
    assert_int_equal(c.eos_count, 2);
    assert_int_equal(c.eos_id[0], 999);
    assert_int_equal(c.eos_id[1], 5);
    // A number beyond 64 bits anywhere in a file turns its integers into reals (io/json.h).
    c = accept(llama_base, "{\"eos_token_id\":[3.0,1e30]}");
    assert_int_equal(c.eos_count, 1);
    assert_int_equal(c.eos_id[0], 3);
    refuse(llama_base, "{\"eos_token_id\":2.5}", LW_ERR_FORMAT, "\"eos_token_id\"");
    refuse(llama_base, "{\"eos_token_id\":\"</s>\"}", LW_ERR_FORMAT, "\"eos_token_id\"");
    refuse(llama_base, "{\"eos_token_id\":[1,\"2\"]}", LW_ERR_FORMAT, "\"eos_token_id\"");
    refuse(llama_base, "{\"bos_token_id\":[1]}", LW_ERR_FORMAT, "\"bos_token_id\"");
    refuse(llama_base, "{\"eos_token_id\":[1,2,3,4,5,6,7,8,9]}", LW_ERR_UNSUPPORTED, "more than 8 ids");

    // generation_config.json adds to them.
    const char *path = scratch_path("generation_config.json");
    static const char more[] = "{\"eos_token_id\":[8,11]}";
    scratch_put(path, more, sizeof more - 1);
    c = accept(llama_base, "{}");
    assert_int_equal(c.eos_count, 2);
    assert_int_equal(c.eos_id[0], 8);
    assert_int_equal(c.eos_id[1], 11);
    scratch_put(path, "{", 1);
    assert_int_equal(lw_hf_config_read(scratch_dir(), &err, &c), LW_ERR_FORMAT);
    assert_non_null(strstr(err.text, "generation_config.json: not valid JSON"));
    assert_int_equal(unlink(path), 0);
}

// --- what is refused

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *changes;
        lw_status status;
        const char *words;
    } cases[] = {
        // another architecture
        {"{\"model_type\":\"gemma2\"}", LW_ERR_UNSUPPORTED,
         "\"model_type\": gemma2 is not supported; supported are llama (LlamaForCausalLM), qwen2 (Qwen2ForCausalLM) "
         "and mistral (MistralForCausalLM)"},
        {"{\"model_type\":\"<absent>\"}", LW_ERR_FORMAT, "\"model_type\" is missing"},
        {"{\"model_type\":5}", LW_ERR_FORMAT, "\"model_type\": expected a string, got 5"},
        {"{\"architectures\":[\"LlamaForSequenceClassification\"]}", LW_ERR_UNSUPPORTED,
         "LlamaForSequenceClassification is not supported"},
        {"{\"architectures\":[\"Qwen2ForCausalLM\"]}", LW_ERR_UNSUPPORTED, "Qwen2ForCausalLM is not supported for"},
        {"{\"architectures\":\"LlamaForCausalLM\"}", LW_ERR_FORMAT, "\"architectures\": expected an array"},
        {"{\"architectures\":[1]}", LW_ERR_FORMAT, "\"architectures\": expected an array of strings"},
        // what would be approximated
        {"{\"quantization_config\":{\"bits\":4}}", LW_ERR_UNSUPPORTED, "\"quantization_config\""},
        {"{\"compression_config\":{}}", LW_ERR_UNSUPPORTED, "\"compression_config\""},
        {"{\"logits_scaling\":8}", LW_ERR_UNSUPPORTED, "\"logits_scaling\": 8"},
        {"{\"hidden_act\":\"gelu\"}", LW_ERR_UNSUPPORTED, "\"hidden_act\": gelu"},
        {"{\"attention_multiplier\":0.5}", LW_ERR_UNSUPPORTED, "\"attention_multiplier\": 0.5"},
        {"{\"partial_rotary_factor\":0.5}", LW_ERR_UNSUPPORTED, "\"partial_rotary_factor\""},
        {"{\"final_logit_softcapping\":30}", LW_ERR_UNSUPPORTED, "\"final_logit_softcapping\""},
        {"{\"layer_types\":[\"full_attention\",\"sliding_attention\"]}", LW_ERR_UNSUPPORTED, "layer_types[1]"},
        {"{\"torch_dtype\":\"float8_e4m3fn\"}", LW_ERR_UNSUPPORTED, "\"torch_dtype\": float8_e4m3fn"},
        {"{\"torch_dtype\":\"float64\"}", LW_ERR_UNSUPPORTED, "\"torch_dtype\": float64"},
        {"{\"torch_dtype\":16}", LW_ERR_FORMAT, "\"torch_dtype\": expected a string"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        refuse(llama_base, cases[i].changes, cases[i].status, cases[i].words);
    }
}

static void test_refused_sizes(void **state)
{
    (void)state;
    static const struct {
        const char *changes;
        lw_status status;
        const char *words;
    } cases[] = {
        // missing and mistyped
        {"{\"hidden_size\":\"<absent>\"}", LW_ERR_FORMAT, "\"hidden_size\" is missing"},
        {"{\"intermediate_size\":\"<absent>\"}", LW_ERR_FORMAT, "\"intermediate_size\" is missing"},
        {"{\"num_hidden_layers\":\"<absent>\"}", LW_ERR_FORMAT, "\"num_hidden_layers\" is missing"},
        {"{\"num_attention_heads\":null}", LW_ERR_FORMAT, "\"num_attention_heads\" is null"},
        {"{\"vocab_size\":\"<absent>\"}", LW_ERR_FORMAT, "\"vocab_size\" is missing"},
        {"{\"hidden_size\":\"64\"}", LW_ERR_FORMAT, "\"hidden_size\": expected an integer, got the string \"64\""},
        {"{\"hidden_size\":64.5}", LW_ERR_FORMAT, "\"hidden_size\": expected an integer, got 64.5"},
        {"{\"hidden_size\":true}", LW_ERR_FORMAT, "\"hidden_size\": expected an integer, got true"},
        {"{\"tie_word_embeddings\":1}", LW_ERR_FORMAT, "\"tie_word_embeddings\": expected true or false"},
        {"{\"attention_bias\":\"yes\"}", LW_ERR_FORMAT, "\"attention_bias\": expected true or false"},
        {"{\"rms_norm_eps\":\"1e-5\"}", LW_ERR_FORMAT, "\"rms_norm_eps\": expected a number"},
        // absurd
        {"{\"hidden_size\":0}", LW_ERR_FORMAT, "\"hidden_size\": 0 is out of range"},
        {"{\"hidden_size\":-64}", LW_ERR_FORMAT, "\"hidden_size\": -64 is out of range"},
        {"{\"num_hidden_layers\":0}", LW_ERR_FORMAT, "\"num_hidden_layers\": 0"},
        {"{\"vocab_size\":9223372036854775807}", LW_ERR_FORMAT, "\"vocab_size\": 9223372036854775807"},
        {"{\"intermediate_size\":1000000000}", LW_ERR_FORMAT, "\"intermediate_size\": 1000000000"},
        {"{\"hidden_size\":1048577}", LW_ERR_FORMAT, "\"hidden_size\": 1048577"},
        {"{\"num_hidden_layers\":4097}", LW_ERR_FORMAT, "\"num_hidden_layers\": 4097"},
        {"{\"num_attention_heads\":4098}", LW_ERR_FORMAT, "\"num_attention_heads\": 4098"},
        {"{\"max_position_embeddings\":1e13}", LW_ERR_FORMAT, "\"max_position_embeddings\": 10000000000000"},
        {"{\"head_dim\":0}", LW_ERR_FORMAT, "\"head_dim\": 0 is out of range"},
        {"{\"head_dim\":4098}", LW_ERR_FORMAT, "\"head_dim\": 4098 is out of range"},
        {"{\"hidden_size\":65536}", LW_ERR_FORMAT, "\"head_dim\" (8192) must be even and at most 4096"},
        {"{\"rms_norm_eps\":-1e-5}", LW_ERR_FORMAT, "\"rms_norm_eps\": -1e-05 is out of range"},
        {"{\"rope_theta\":0}", LW_ERR_FORMAT, "\"rope_theta\": 0 is out of range"},
        // not going together
        {"{\"num_key_value_heads\":3}", LW_ERR_FORMAT, "\"num_attention_heads\" (8) is not a multiple of"},
        {"{\"num_key_value_heads\":16}", LW_ERR_FORMAT, "is not a multiple of \"num_key_value_heads\" (16)"},
        {"{\"num_key_value_heads\":0}", LW_ERR_FORMAT, "\"num_key_value_heads\": 0"},
        {"{\"hidden_size\":60}", LW_ERR_FORMAT, "\"hidden_size\" (60) is not a multiple"},
        {"{\"hidden_size\":4}", LW_ERR_FORMAT, "\"hidden_size\" (4) is not a multiple"},
        {"{\"head_dim\":7}", LW_ERR_FORMAT, "\"head_dim\" (7) must be even"},
        {"{\"hidden_size\":72}", LW_ERR_FORMAT, "\"head_dim\" (9) must be even"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        refuse(llama_base, cases[i].changes, cases[i].status, cases[i].words);
    }
}

static void test_sliding_window(void **state)
{
    (void)state;
    refuse(qwen2_base, "{\"use_sliding_window\":true,\"sliding_window\":128,\"max_window_layers\":3}",
           LW_ERR_UNSUPPORTED, "sliding-window attention (in layers 3 to 3)");
    refuse(qwen2_base, "{\"use_sliding_window\":true,\"max_window_layers\":0}", LW_ERR_UNSUPPORTED, "layers 0 to 3");
    refuse(qwen2_base, "{\"use_sliding_window\":1}", LW_ERR_FORMAT, "\"use_sliding_window\"");
    // Set, but in no layer:
    accept(qwen2_base, "{\"use_sliding_window\":false,\"sliding_window\":128,\"max_window_layers\":0}");
    accept(qwen2_base, "{\"use_sliding_window\":true,\"sliding_window\":128,\"max_window_layers\":4}");
    accept(qwen2_base, "{\"use_sliding_window\":true,\"sliding_window\":null,\"max_window_layers\":0}");
    accept(qwen2_base, "{\"layer_types\":[\"full_attention\",\"full_attention\"]}");

    // Mistral has no switch: the window holds unless it is null, or as long as all positions.
    accept(mistral_base, "{\"sliding_window\":4096}");
    accept(mistral_base, "{\"sliding_window\":8192,\"use_sliding_window\":true}");
    accept(mistral_base, "{\"sliding_window\":\"<absent>\"}"); // 4096
    refuse(mistral_base, "{\"sliding_window\":4095}", LW_ERR_UNSUPPORTED,
           "\"sliding_window\": sliding-window attention (over 4095 positions) is not supported, only null or at least "
           "\"max_position_embeddings\" (4096)");
    refuse(mistral_base, "{\"sliding_window\":\"<absent>\",\"max_position_embeddings\":32768}", LW_ERR_UNSUPPORTED,
           "(over 4096 positions, the default) is not supported");
    refuse(mistral_base, "{\"sliding_window\":0}", LW_ERR_FORMAT, "\"sliding_window\": 0 is out of range");
    accept(llama_base, "{\"sliding_window\":16}"); // no key of this family
}

static void test_files(void **state)
{
    (void)state;
    lw_hf_config c;
    assert_int_equal(lw_hf_config_read(scratch_path("absent"), &err, &c), LW_ERR_IO);
    assert_non_null(strstr(err.text, "absent/config.json: cannot open"));
    const char *path = scratch_path("config.json");
    scratch_put(path, "", 0);
    assert_int_equal(lw_hf_config_read(scratch_dir(), &err, &c), LW_ERR_FORMAT);
    scratch_put(path, "[1]", 3);
    assert_int_equal(lw_hf_config_read(scratch_dir(), &err, &c), LW_ERR_FORMAT);
    assert_non_null(strstr(err.text, "expected a JSON object, got an array"));
}

// --- rope

#define LLAMA3                                                                                  \
    "\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0," \
    "\"original_max_position_embeddings\":8192"

static void test_rope_keys(void **state)
{
    (void)state;
    lw_hf_config c = accept(llama_base, "{\"rope_scaling\":{" LLAMA3 "}}");
    assert_int_equal(c.rope_kind, LW_ROPE_LLAMA3);
    check_near(c.rope_factor, 8.0, 0.0);
    check_near(c.rope_low_freq_factor, 1.0, 0.0);
    check_near(c.rope_high_freq_factor, 4.0, 0.0);
    check_near(c.rope_original_max_positions, 8192.0, 0.0);
    c = accept(llama_base, "{\"rope_scaling\":{\"type\":\"linear\",\"factor\":4}}"); // the old name of the key
    assert_int_equal(c.rope_kind, LW_ROPE_LINEAR);
    check_near(c.rope_factor, 4.0, 0.0);
    c = accept(llama_base, "{\"rope_scaling\":{\"rope_type\":\"default\"}}");
    assert_int_equal(c.rope_kind, LW_ROPE_DEFAULT);
    // transformers 5: rope_parameters, with theta inside and the type optional.
    c = accept(llama_base, "{\"rope_theta\":\"<absent>\",\"rope_parameters\":{\"rope_theta\":12345.0," LLAMA3 "}}");
    assert_int_equal(c.rope_kind, LW_ROPE_LLAMA3);
    check_near(c.rope_theta, 12345.0, 0.0);
    c = accept(llama_base, "{\"rope_theta\":\"<absent>\",\"rope_parameters\":{\"rope_theta\":7.5}}");
    assert_int_equal(c.rope_kind, LW_ROPE_DEFAULT);
    check_near(c.rope_theta, 7.5, 0.0);
    c = accept(qwen2_base, "{\"rope_scaling\":{\"type\":\"linear\",\"factor\":4}}");
    assert_int_equal(c.rope_kind, LW_ROPE_LINEAR);
}

static void test_rope_refused(void **state)
{
    (void)state;
    static const struct {
        const char *changes;
        lw_status status;
        const char *words;
    } cases[] = {
        {"{\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4.0}}", LW_ERR_UNSUPPORTED,
         "\"rope_scaling.rope_type\": yarn is not supported"},
        {"{\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":4.0}}", LW_ERR_UNSUPPORTED, "dynamic is not supported"},
        {"{\"rope_scaling\":{\"type\":\"mrope\"}}", LW_ERR_UNSUPPORTED, "mrope is not supported"},
        {"{\"rope_scaling\":{\"factor\":4.0}}", LW_ERR_FORMAT, "\"rope_scaling.rope_type\" is missing"},
        {"{\"rope_scaling\":{\"type\":\"linear\"}}", LW_ERR_FORMAT, "\"rope_scaling.factor\" is missing"},
        {"{\"rope_scaling\":{\"type\":\"linear\",\"factor\":0}}", LW_ERR_FORMAT, "\"rope_scaling.factor\": 0"},
        {"{\"rope_scaling\":{\"type\":\"linear\",\"factor\":\"4\"}}", LW_ERR_FORMAT, "expected a number"},
        {"{\"rope_scaling\":\"linear\"}", LW_ERR_FORMAT, "\"rope_scaling\": expected an object"},
        {"{\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0}"
         "}",
         LW_ERR_FORMAT, "\"rope_scaling.original_max_position_embeddings\" is missing"},
        {"{\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_factor\":1.0,"
         "\"original_max_position_embeddings\":64}}",
         LW_ERR_FORMAT, "\"rope_scaling.high_freq_factor\" is missing"},
        {"{\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_factor\":4.0,\"high_freq_factor\":4.0,"
         "\"original_max_position_embeddings\":64}}",
         LW_ERR_FORMAT, "must be greater than"},
        {"{\"rope_parameters\":{\"full_attention\":{\"rope_type\":\"linear\",\"factor\":2}}}", LW_ERR_UNSUPPORTED,
         "\"rope_parameters.full_attention\": rope parameters by type of layer"},
        {"{\"rope_parameters\":{\"rope_theta\":1.5e4}}", LW_ERR_FORMAT, "disagree"},
        {"{\"rope_parameters\":{\"partial_rotary_factor\":0.5}}", LW_ERR_UNSUPPORTED,
         "\"rope_parameters.partial_rotary_factor\": 0.5"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        refuse(llama_base, cases[i].changes, cases[i].status, cases[i].words);
    }
}

// Against ROPE_INIT_FUNCTIONS of transformers 4.46.3 (float32) for Llama-3.1-8B: theta 5e5, head_dim 128.
static void test_inverse_frequencies(void **state)
{
    (void)state;
    static const struct {
        int i;
        double llama3;
    } expected[] = {
        {0, 1.0},                    // short wavelengths: as they are
        {1, 0.8146172165870667},     //
        {20, 0.016560440883040428},  //
        {28, 0.0032114461064338684}, // the last of them
        {29, 0.0021665706299245358}, // the smooth band
        {30, 0.0013718936825171113}, //
        {32, 0.0005248460220173001}, //
        {34, 0.0001785077911335975}, //
        {35, 9.556212171446532e-05}, // long ones: divided by 8
        {36, 7.784655463183299e-05}, //
        {40, 3.428102354519069e-05}, //
        {63, 3.068925877869333e-07},
    };
    static const double linear[4][2] = {
        {0, 0.4000000059604645}, {1, 0.3258468806743622}, {30, 0.0008524478180333972}, {63, 9.820562354434514e-07}};
    double freq[64];
    lw_hf_config c = accept(llama_base, "{\"head_dim\":128,\"rope_scaling\":{" LLAMA3 "}}");
    lw_hf_rope_inv_freq(&c, freq);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        check_near(freq[expected[i].i], expected[i].llama3, 1e-6);
    }
    c = accept(llama_base, "{\"head_dim\":128,\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":2.5}}");
    lw_hf_rope_inv_freq(&c, freq);
    for (size_t i = 0; i < 4; i++) {
        check_near(freq[(int)linear[i][0]], linear[i][1], 1e-6);
    }
    c = accept(llama_base, "{\"head_dim\":128}");
    lw_hf_rope_inv_freq(&c, freq);
    check_near(freq[32], 1.0 / sqrt(500000.0), 1e-12); // theta^(-64/128)
    check_near(freq[64 - 1], pow(500000.0, -126.0 / 128.0), 1e-12);
}

// --- the real models, and the fixtures

static void test_counts(void **state)
{
    (void)state;
    lw_hf_config c = accept(llama_base, "{\"hidden_size\":4096,\"num_hidden_layers\":32,\"num_attention_heads\":32,"
                                        "\"num_key_value_heads\":8,\"intermediate_size\":14336,\"vocab_size\":128256}");
    lw_hf_counts n = lw_hf_config_counts(&c);
    assert_int_equal(n.total, 8030261248); // as published for Llama-3.1-8B
    assert_int_equal(n.lm_head, 128256LL * 4096);
    assert_int_equal(n.embedding, 128256LL * 4096);
    assert_int_equal(n.final_norm, 4096);
    c = accept(qwen2_base, "{\"hidden_size\":3584,\"num_hidden_layers\":28,\"num_attention_heads\":28,"
                           "\"num_key_value_heads\":4,\"intermediate_size\":18944,\"vocab_size\":152064,"
                           "\"tie_word_embeddings\":false}");
    assert_int_equal(lw_hf_config_counts(&c).total, 7615616512); // Qwen2.5-7B
    c.tied = true;
    assert_int_equal(lw_hf_config_counts(&c).total, 7615616512 - 152064LL * 3584);
    assert_int_equal(lw_hf_config_counts(&c).lm_head, 0);
    c = accept(llama_base, "{\"attention_bias\":true,\"mlp_bias\":true}");
    int64_t with = lw_hf_config_counts(&c).per_layer;
    c = accept(llama_base, "{}");
    assert_int_equal(with - lw_hf_config_counts(&c).per_layer, (64 + 16 + 16) + 64 + 2 * 160 + 64);
}

static void test_fixtures(void **state)
{
    (void)state;
    const char *source = getenv("LWMPI_SOURCE_DIR");
    static const struct {
        const char *name;
        lw_hf_config expected; // fields compared below
    } fixtures[] = {
        {"llama-untied", {.d = 32, .kv_heads = 4, .head_dim = 8, .stored_dtype = LW_F32, .eos_count = 3}},
        {"llama-tied", {.d = 32, .kv_heads = 2, .head_dim = 8, .stored_dtype = LW_BF16, .tied = true, .eos_count = 1}},
        {"llama-gqa-headdim", {.d = 32, .kv_heads = 2, .head_dim = 10, .stored_dtype = LW_F16, .eos_count = 1}},
        {"llama-biases",
         {.d = 32,
          .kv_heads = 2,
          .head_dim = 8,
          .stored_dtype = LW_F16,
          .qkv_bias = true,
          .o_bias = true,
          .mlp_bias = true,
          .eos_count = 1}},
        {"llama-rope-llama3",
         {.d = 32, .kv_heads = 1, .head_dim = 16, .stored_dtype = LW_F16, .rope_kind = LW_ROPE_LLAMA3, .eos_count = 1}},
        {"llama-rope-linear",
         {.d = 32, .kv_heads = 2, .head_dim = 8, .stored_dtype = LW_BF16, .rope_kind = LW_ROPE_LINEAR, .eos_count = 1}},
        {"llama-rope-parameters",
         {.d = 32, .kv_heads = 2, .head_dim = 8, .stored_dtype = LW_F16, .rope_kind = LW_ROPE_LLAMA3, .eos_count = 1}},
        {"llama-defaults", {.d = 32, .kv_heads = 4, .head_dim = 8, .stored_dtype = LW_F32, .eos_count = 1}},
        {"qwen2-tied", {.d = 32, .kv_heads = 2, .head_dim = 8, .stored_dtype = LW_F16, .tied = true, .qkv_bias = true}},
        {"qwen2-window-unused", {.d = 32, .kv_heads = 2, .head_dim = 8, .stored_dtype = LW_BF16, .qkv_bias = true}},
        {"mistral-headdim", {.d = 32, .kv_heads = 2, .head_dim = 10, .stored_dtype = LW_BF16, .eos_count = 1}},
        {"mistral-window-unused", {.d = 32, .kv_heads = 2, .head_dim = 8, .stored_dtype = LW_F16, .eos_count = 1}},
    };
    for (size_t i = 0; i < sizeof fixtures / sizeof fixtures[0]; i++) {
        char dir[512];
        snprintf(dir, sizeof dir, "%s/tests/parity/fixtures/%s", source == NULL ? "." : source, fixtures[i].name);
        const lw_hf_config *e = &fixtures[i].expected;
        lw_hf_config c = read_good(dir);
        bool same = c.d == e->d && c.kv_heads == e->kv_heads && c.head_dim == e->head_dim && c.tied == e->tied &&
                    c.qkv_bias == e->qkv_bias && c.o_bias == e->o_bias && c.mlp_bias == e->mlp_bias &&
                    c.stored_dtype == e->stored_dtype && c.rope_kind == e->rope_kind && c.eos_count == e->eos_count;
        if (!same) {
            fail_msg("%s is read differently than expected", fixtures[i].name);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_keys),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_dtypes),
        cmocka_unit_test(test_special_ids),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_refused_sizes),
        cmocka_unit_test(test_sliding_window),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_rope_keys),
        cmocka_unit_test(test_rope_refused),
        cmocka_unit_test(test_inverse_frequencies),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_fixtures),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
