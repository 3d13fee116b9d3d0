// Damaged and hostile input to the readers of config.json, data rows, manifests, the token cache and references: each
// is refused with a clean message or read as something sound. The sanitizers watch.
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
#include <sys/stat.h>
#include <unistd.h>

#include "cli/command.h"
#include "core/hash.h"
#include "core/utf8.h"
#include "data/dataset.h"
#include "data/token_cache.h"
#include "data/tokens.h"
#include "io/files.h"
#include "model/hf_config.h"
#include "run/checkpoint.h"
#include "run/checkpoint_internal.h"
#include "scratch.h"

enum { VARIANTS = 3000, ROOM = 4096 };

static lw_error err;

// --- variants of a valid text

static uint64_t random_next(uint64_t *state) // SplitMix64 (Steele et al. 2014)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

// Puts another value in the place of the one behind a colon.
static size_t replace_value(char *text, size_t bytes, size_t at, uint64_t which)
{
    static const char *const values[] = {
        "null", "true", "-1", "1e999", "9223372036854775807", "9223372036854775808", "1e18", "0.5",
        "[]",   "{}",   "0",  "\"\"",  "\"\\u0000\"",         "\"\\ud800\"",         "-0.0", "\"\\u001b[2J\"",
    };
    const char *value = values[which % (sizeof values / sizeof values[0])];
    char *colon = memchr(text + at, ':', bytes - at);
    if (colon == NULL) {
        return bytes;
    }
    char *begin = colon + 1;
    char *end = begin;
    while (end < text + bytes && strchr(",}]", *end) == NULL) {
        end++;
    }
    size_t length = strlen(value);
    memmove(begin + length, end, (size_t)(text + bytes - end));
    memcpy(begin, value, length);
    return (size_t)(begin - text) + length + bytes - (size_t)(end - text);
}

// Copies `valid` to `text` and changes one to three places; sometimes cuts the end off. Returns the bytes.
static size_t make_variant(const char *valid, size_t valid_bytes, uint64_t *random, char text[ROOM])
{
    static const char alphabet[] = "0123456789-.eE[]{},:\"\\unltrfas \n\r\xff\xc2\xed";
    size_t bytes = valid_bytes;
    assert_true(bytes + 100 < ROOM);
    memcpy(text, valid, bytes);
    int changes = 1 + (int)(random_next(random) % 3);
    for (int c = 0; c < changes; c++) {
        uint64_t r = random_next(random);
        size_t at = (r >> 8) % bytes;
        switch (r & 3) {
        case 0: text[at] = (char)(text[at] ^ (1 << (r >> 40 & 7))); break;
        case 1: text[at] = (char)(r >> 48); break;
        case 2: text[at] = alphabet[(r >> 40) % (sizeof alphabet - 1)]; break;
        default: bytes = replace_value(text, bytes, at, r >> 40); break;
        }
    }
    return random_next(random) % 6 == 0 ? random_next(random) % (bytes + 1) : bytes;
}

// A message names the file, is valid UTF-8, and holds nothing that a terminal would obey.
static void check_message(const char *text, const char *file)
{
    size_t bytes = strlen(text);
    bool clean = strstr(text, file) != NULL && lw_utf8_first_bad(text, bytes) == bytes;
    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        clean = clean && c >= 0x20 && c != 0x7f && !(c == 0xc2 && (unsigned char)text[i + 1] < 0xa0);
    }
    if (!clean) {
        fail_msg("bad message: %s", text);
    }
}

// Both sides were reached, or the variants test nothing.
static void check_shares(int accepted)
{
    print_message("%d of %d variants accepted\n", accepted, VARIANTS);
    assert_in_range(accepted, VARIANTS / 100, VARIANTS - VARIANTS / 10);
}

// --- config.json

static void test_config(void **state)
{
    (void)state;
    static const char valid[] =
        "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":64,\"intermediate_size\":"
        "160,\"num_hidden_layers\":4,\"num_attention_heads\":8,\"num_key_value_heads\":2,\"vocab_size\":1000,"
        "\"rms_norm_eps\":1e-5,\"rope_theta\":5e5,\"torch_dtype\":\"bfloat16\",\"eos_token_id\":[8,9],\"head_dim\":8,"
        "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
        "\"original_max_position_embeddings\":8192}}";
    char text[ROOM];
    uint64_t random = 1;
    int accepted = 0;
    for (int i = 0; i < VARIANTS; i++) {
        size_t bytes = make_variant(valid, sizeof valid - 1, &random, text);
        scratch_put(scratch_path("config.json"), text, bytes);
        lw_hf_config c;
        lw_status status = lw_hf_config_read(scratch_dir(), &err, &c);
        if (status != LW_OK) {
            assert_true(status == LW_ERR_FORMAT || status == LW_ERR_UNSUPPORTED);
            check_message(err.text, "config.json");
            continue;
        }
        accepted++;
        assert_true(c.heads % c.kv_heads == 0 && c.head_dim % 2 == 0 && c.eos_count <= LW_MAX_EOS);
        assert_true(lw_hf_config_counts(&c).total > 0);
        double *freq = calloc((size_t)c.head_dim, sizeof *freq);
        assert_non_null(freq);
        lw_hf_rope_inv_freq(&c, freq);
        for (int64_t k = 0; k < c.head_dim / 2; k++) {
            assert_true(isfinite(freq[k]) && freq[k] > 0.0);
        }
        free(freq);
    }
    check_shares(accepted);
}

// --- rows of data

static void check_rows(lw_data_format format, const char *name, const char *valid, size_t valid_bytes)
{
    const char *path = scratch_path(name);
    char text[ROOM];
    uint64_t random = 2;
    int accepted = 0;
    for (int i = 0; i < VARIANTS; i++) {
        size_t bytes = make_variant(valid, valid_bytes, &random, text);
        scratch_put(path, text, bytes);
        lw_dataset set = {0};
        lw_status status =
            lw_dataset_read(&(lw_data_source){.path = path, .format = format, .limit = i % 3, .max_bad_rows = i % 4},
                            &err, &set);
        if (status != LW_OK) {
            assert_true(status == LW_ERR_FORMAT || status == LW_ERR_CONFIG);
            assert_null(set.samples);
            check_message(err.text, name);
            continue;
        }
        accepted++;
        assert_true(set.count > 0 && set.bad_rows <= i % 4);
        for (int64_t k = 0; k < set.count; k++) {
            assert_true(set.samples[k].answer_count > 0 && set.samples[k].question[0] != '\0');
        }
        if (set.bad_rows > 0) {
            check_message(set.first_bad_row, name);
        }
        lw_dataset_free(&set);
    }
    check_shares(accepted);
}

static void test_rows(void **state)
{
    (void)state;
    static const char jsonl[] =
        "{\"context\": \"caf\xc3\xa9 \\u00e9\", \"question\": \"q1\", \"answers\": [\"a\", \"b\"]}\n"
        "{\"prompt\": \"p\", \"answer\": \"x\"}\r\n\n"
        "{\"context\": \"\", \"question\": \"q \xe6\x97\xa5\", \"answer\": \"z\"}\n";
    static const char squad[] =
        "{\"data\":[{\"title\":\"t\",\"paragraphs\":[{\"context\":\"c \xc3\xa9\",\"qas\":[{\"id\":\"i1\",\"question\":"
        "\"q1\",\"answers\":[{\"text\":\"a\"},{\"text\":\"b\"}]},{\"id\":\"i2\",\"question\":\"q2\",\"answers\":["
        "{\"text\":\"a\"}]}]}]}]}";
    check_rows(LW_DATA_JSONL, "rows.jsonl", jsonl, sizeof jsonl - 1);
    check_rows(LW_DATA_SQUAD, "squad.json", squad, sizeof squad - 1);
}

static void test_rows_from_a_pipe(void **state)
{
    (void)state;
    const char *path = scratch_path("pipe");
    assert_int_equal(mkfifo(path, 0600), 0);
    lw_dataset set = {0};
    alarm(60); // a reader that waits for a writer ends here
    assert_int_equal(lw_dataset_read(&(lw_data_source){.path = path, .format = LW_DATA_JSONL}, &err, &set), LW_ERR_IO);
    alarm(0);
    assert_non_null(strstr(err.text, "is a pipe, socket or device"));
    assert_int_equal(lw_dataset_read(&(lw_data_source){.path = "/dev/zero", .format = LW_DATA_JSONL}, &err, &set),
                     LW_ERR_IO);
}

// --- manifests

// Makes the manifest's own hash right again, so that what is behind that check is reached too. False for no object.
static bool rehash(char text[ROOM], size_t *bytes)
{
    json_t *root = json_loadb(text, *bytes, 0, NULL);
    if (!json_is_object(root)) {
        json_decref(root);
        return false;
    }
    json_object_del(root, "manifest_xxh64");
    char *rest = json_dumps(root, JSON_COMPACT | JSON_SORT_KEYS);
    assert_non_null(rest);
    char hash[17];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)lw_xxh64(rest, strlen(rest), 0));
    free(rest);
    json_object_set_new(root, "manifest_xxh64", json_string(hash));
    *bytes = json_dumpb(root, text, ROOM, JSON_COMPACT);
    assert_true(*bytes <= ROOM);
    json_decref(root);
    return true;
}

static void test_manifest(void **state)
{
    (void)state;
    char folder[320];
    snprintf(folder, sizeof folder, "%s", scratch_path("step-000005"));
    assert_int_equal(mkdir(folder, 0755), 0);
    scratch_put(scratch_path("step-000005/" LW_CHECKPOINT_STATE), "state", 5);
    lw_checkpoint_file file = {.name = LW_CHECKPOINT_STATE, .bytes = 5, .xxh64 = lw_xxh64("state", 5, 0)};
    lw_checkpoint_info info = {.step = 5, .samples = 20, .epoch = 1, .model_count = 1, .models = {{.name = "a"}}};
    assert_int_equal(lw_manifest_write(folder, &info, &file, 1, &err), LW_OK);
    const char *path = scratch_path("step-000005/" LW_CHECKPOINT_MANIFEST);
    char *valid = NULL;
    size_t valid_bytes = 0;
    assert_int_equal(lw_read_file(path, ROOM, &err, &valid, &valid_bytes), LW_OK);
    assert_int_equal(lw_checkpoint_verify(folder, &err, &info), LW_OK);
    char text[ROOM];
    uint64_t random = 3;
    int accepted = 0;
    for (int i = 0; i < VARIANTS; i++) {
        size_t bytes = make_variant(valid, valid_bytes, &random, text);
        bool whole = i % 8 != 0 && rehash(text, &bytes);
        scratch_put(path, text, bytes);
        lw_status status = lw_checkpoint_verify(folder, &err, &info);
        if (status == LW_OK) {
            accepted += whole;
            assert_true(info.step >= info.skipped && info.skipped >= info.skipped_in_row && info.skipped_in_row >= 0);
            assert_in_range(info.model_count, 0, LW_CHECKPOINT_MAX_MODELS);
        } else {
            assert_true(status == LW_ERR_FORMAT || status == LW_ERR_UNSUPPORTED || status == LW_ERR_IO);
            check_message(err.text, "step-000005");
        }
    }
    free(valid);
    check_shares(accepted);
}

// One model more than there is room for.
static void test_manifest_of_many_models(void **state)
{
    (void)state;
    char folder[320];
    snprintf(folder, sizeof folder, "%s", scratch_path("step-000006"));
    assert_int_equal(mkdir(folder, 0755), 0);
    scratch_put(scratch_path("step-000006/" LW_CHECKPOINT_STATE), "state", 5);
    lw_checkpoint_file file = {.name = LW_CHECKPOINT_STATE, .bytes = 5, .xxh64 = lw_xxh64("state", 5, 0)};
    lw_checkpoint_info info = {.step = 6, .model_count = 1, .models = {{.name = "a"}}};
    assert_int_equal(lw_manifest_write(folder, &info, &file, 1, &err), LW_OK);
    const char *path = scratch_path("step-000006/" LW_CHECKPOINT_MANIFEST);
    for (int models = LW_CHECKPOINT_MAX_MODELS; models <= LW_CHECKPOINT_MAX_MODELS + 1; models++) {
        json_t *root = json_load_file(path, 0, NULL);
        json_t *list = json_object_get(root, "models");
        assert_non_null(list);
        while ((int)json_array_size(list) < models) {
            json_array_append(list, json_array_get(list, 0));
        }
        char text[ROOM];
        size_t bytes = json_dumpb(root, text, ROOM, JSON_COMPACT);
        json_decref(root);
        assert_true(bytes <= ROOM && rehash(text, &bytes));
        scratch_put(path, text, bytes);
        bool fits = models <= LW_CHECKPOINT_MAX_MODELS;
        assert_int_equal(lw_checkpoint_verify(folder, &err, &info), fits ? LW_OK : LW_ERR_FORMAT);
    }
    assert_non_null(strstr(err.text, "18 models, at most 17"));
}

// --- the token cache

// A cache whose hash is right, but whose ids are not those it claims: they would reach past an embedding table.
static void test_token_cache(void **state)
{
    (void)state;
    int64_t start[2] = {0, 1};
    int32_t ids[1] = {900};
    lw_token_list list = {.ids = ids, .start = start};
    lw_token_set set = {.count = 1, .prompt = list, .suffix = list, .answer = list, .vocab = 901};
    lw_token_set got = {0};
    const char *folder = scratch_path("cache");
    assert_int_equal(lw_token_cache_write(folder, 7, &set, &err), LW_OK);
    assert_true(lw_token_cache_read(folder, 7, 1, 1000, &got));
    assert_int_equal(got.vocab, 901);
    lw_token_set_free(&got);
    assert_false(lw_token_cache_read(folder, 7, 1, 900, &got));
    static const int64_t lies[] = {10, 900, 902, -1, INT64_MAX};
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        set.vocab = lies[i];
        assert_int_equal(lw_token_cache_write(folder, 7, &set, &err), LW_OK);
        assert_false(lw_token_cache_read(folder, 7, 1, 1000, &got));
    }
    ids[0] = -1;
    set.vocab = 0;
    assert_int_equal(lw_token_cache_write(folder, 7, &set, &err), LW_OK);
    assert_false(lw_token_cache_read(folder, 7, 1, 1000, &got));
}

// --- references of `lwmpi verify`

#define T(dtype, shape, offsets) "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"
#define REFERENCE(prefix, suffix, answer)                                                                        \
    "{\"prefix\":" T("F32", prefix, "[0,0]") ",\"grad_prefix\":" T("F32", prefix, "[0,0]") ",\"suffix_ids\":" T( \
        "I32", suffix, "[0,0]") ",\"answer_ids\":" T("I32", answer, "[0,0]") ",\"loss\":" T("F32", "[1]", "[0,4]") "}"
#define BIG "9223372036854775807"

// Empty tensors may have sizes that no product or sum may be made of.
static void test_reference(void **state)
{
    (void)state;
    static const char *const headers[] = {
        REFERENCE("[0," BIG ",0]", "[0," BIG "]", "[0," BIG "]"),
        REFERENCE("[1," BIG ",0]", "[1,0]", "[1,0]"),
        REFERENCE("[" BIG ",0,32]", "[" BIG ",0]", "[" BIG ",0]"),
        REFERENCE("[0,4,32]", "[0,1]", "[0,1]"),
        "{\"prefix\":" T("F32", "[1," BIG ",0]", "[0,0]") ",\"grad_prefix\":" T(
            "F32", "[1," BIG ",0]",
            "[0,0]") ",\"suffix_ids\":" T("I32", "[1,0]",
                                          "[0,0]") ",\"answer_ids\":" T("I32", "[1,1]",
                                                                        "[0,4]") ",\"loss\":" T("F32", "[1]",
                                                                                                "[4,8]") "}",
    };
    const char *source = getenv("LWMPI_SOURCE_DIR");
    const lw_command *verify = lw_command_find("verify");
    char model[512];
    snprintf(model, sizeof model, "%s/tests/parity/fixtures/llama-untied", source == NULL ? "." : source);
    alarm(60); // a loop over 2^63 samples ends here
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        const char *path =
            scratch_put_safetensors("reference.safetensors", headers[i], strstr(headers[i], "[4,8]") != NULL ? 8 : 4);
        char *argv[] = {(char[]){"verify"}, model, (char *)(uintptr_t)path, NULL};
        assert_int_equal(verify->run(verify, 3, argv, &err), LW_ERR_FORMAT);
        assert_non_null(strstr(err.text, "nothing to verify"));
    }
    alarm(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_rows_from_a_pipe),
        cmocka_unit_test(test_manifest),
        cmocka_unit_test(test_manifest_of_many_models),
        cmocka_unit_test(test_token_cache),
        cmocka_unit_test(test_reference),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
