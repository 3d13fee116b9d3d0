// WordPiece tokenizers: what is refused, by name, and ids worked out by hand. Parity with Hugging Face: tests/parity.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "tokenizer/tokenizer.h"

static lw_error err;

static const char base_text[] =
    "{\"normalizer\": {\"type\": \"BertNormalizer\", \"clean_text\": true, \"handle_chinese_chars\": true,"
    "  \"strip_accents\": null, \"lowercase\": true},"
    " \"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"},"
    " \"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"[CLS]\"}},"
    "   {\"Sequence\": {\"id\": \"A\"}}, {\"SpecialToken\": {\"id\": \"[SEP]\"}}],"
    "   \"special_tokens\": {\"[CLS]\": {\"ids\": [1]}, \"[SEP]\": {\"ids\": [2]}}},"
    " \"decoder\": {\"type\": \"WordPiece\", \"prefix\": \"##\", \"cleanup\": true},"
    " \"added_tokens\": [{\"id\": 1, \"content\": \"[CLS]\", \"special\": true}],"
    " \"model\": {\"type\": \"WordPiece\", \"unk_token\": \"[UNK]\", \"continuing_subword_prefix\": \"##\","
    "  \"max_input_chars_per_word\": 6, \"vocab\": {\"[UNK]\": 0, \"[CLS]\": 1, \"[SEP]\": 2, \"a\": 3, \"ab\": 4,"
    "   \"##c\": 5, \"##cd\": 6, \"d\": 7, \".\": 8, \"##d\": 9, \"\\u4e00\": 10, \"[\": 11, \"]\": 12, \"cls\": 13}}}";

static lw_status load(json_t *root, lw_tokenizer **out)
{
    char path[] = "/tmp/lw_wordpiece_XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(json_dumpfd(root, fd, 0), 0);
    close(fd);
    const lw_status status = lw_tokenizer_load(path, &err, out);
    unlink(path);
    json_decref(root);
    return status;
}

static json_t *base(void)
{
    json_t *root = json_loads(base_text, 0, NULL);
    assert_non_null(root);
    return root;
}

static void test_ids(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int32_t ids[8]; // to the first -1
    } cases[] = {
        {"", {-1}},
        {" \t\n\x01 ", {-1}},
        {"ab", {4, -1}},
        {"abcd", {4, 6, -1}},         // the longest piece each time
        {"abcdd", {4, 6, 9, -1}},     //
        {"\u00C1BC", {4, 5, -1}},     // accent and case go
        {"abx", {0, -1}},             // one unknown for the word
        {"d. abc", {7, 8, 4, 5, -1}}, //
        {"abcdcd", {4, 6, 6, -1}},    // six characters
        {"abcdcdd", {0, -1}},         // seven: too long
        {"a\u4e00d", {3, 10, 7, -1}}, // an ideograph is a word
        {"[CLS]", {11, 13, 12, -1}},  // plain text
        {"a\u200Db", {4, -1}},        // format characters vanish
        {"a\u00A0d", {3, 7, -1}},     // white space
    };
    lw_tokenizer *tokenizer = NULL;
    assert_int_equal(load(base(), &tokenizer), LW_OK);
    assert_int_equal(lw_tokenizer_bos_id(tokenizer), 1);
    assert_int_equal(lw_tokenizer_end_id(tokenizer), 2);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lw_ids ids = {0};
        assert_int_equal(lw_tokenizer_encode(tokenizer, cases[i].text, strlen(cases[i].text), false, &err, &ids),
                         LW_OK);
        size_t n = 0;
        for (; cases[i].ids[n] >= 0; n++) {
            assert_true(n < ids.len);
            assert_int_equal(ids.data[n], cases[i].ids[n]);
        }
        assert_int_equal(ids.len, n);
        lw_ids_free(&ids);
    }
    static const int32_t row[] = {1, 4, 5, 8, 7};
    char *text = NULL;
    size_t bytes = 0;
    assert_int_equal(lw_tokenizer_decode(tokenizer, row, 5, true, &err, &text, &bytes), LW_OK);
    assert_string_equal(text, "abc. d");
    free(text);
    lw_tokenizer_destroy(&tokenizer);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b, *value;
        lw_status status;
        const char *says;
    } cases[] = {
        {"model", "unk_token", "\"[X]\"", LW_ERR_FORMAT, "[X]"},
        {"model", "unk_token", "null", LW_ERR_FORMAT, "unk_token"},
        {"model", "continuing_subword_prefix", "null", LW_ERR_FORMAT, "continuing_subword_prefix"},
        {"model", "max_input_chars_per_word", "-1", LW_ERR_FORMAT, "max_input_chars_per_word"},
        {"model", "max_input_chars_per_word", "1000000", LW_ERR_UNSUPPORTED, "max_input_chars_per_word"},
        {"normalizer", "clean_text", "null", LW_ERR_FORMAT, "clean_text"},
        {"normalizer", "strip_accents", "3", LW_ERR_FORMAT, "strip_accents"},
        {"normalizer", "type", "\"Lowercase\"", LW_ERR_UNSUPPORTED, "Lowercase"},
        {"pre_tokenizer", "type", "\"Whitespace\"", LW_ERR_UNSUPPORTED, "Whitespace"},
        {"pre_tokenizer", "type", "\"Digits\"", LW_ERR_UNSUPPORTED, "does not end in BertPreTokenizer"},
        {"decoder", "prefix", "7", LW_ERR_FORMAT, "prefix"},
        {"post_processor", "special_tokens", "{\"[CLS]\": {\"ids\": [1]}, \"[SEP]\": {\"ids\": [77]}}", LW_ERR_FORMAT,
         "post_processor"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *root = base();
        json_t *value = json_loads(cases[i].value, JSON_DECODE_ANY, NULL);
        assert_non_null(value);
        json_object_set_new(json_object_get(root, cases[i].a), cases[i].b, value);
        lw_tokenizer *tokenizer = NULL;
        const lw_status status = load(root, &tokenizer);
        if (status != cases[i].status || strstr(err.text, cases[i].says) == NULL) {
            fail_msg("status %d, wanted %d with \"%s\": %s", status, cases[i].status, cases[i].says, err.text);
        }
    }
    // Two normalizers: only NFC goes with itself.
    json_t *root = base();
    json_t *one = json_object_get(root, "normalizer");
    json_t *both = json_pack("{s:s, s:[O, {s:s}]}", "type", "Sequence", "normalizers", one, "type", "NFC");
    json_object_set_new(root, "normalizer", both);
    lw_tokenizer *tokenizer = NULL;
    assert_int_equal(load(root, &tokenizer), LW_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "must be alone"));
}

// Files of early versions do not name the model.
static void test_without_type(void **state)
{
    (void)state;
    static const int32_t wanted[] = {4, 6};
    for (int prefix_alone = 0; prefix_alone < 2; prefix_alone++) {
        json_t *root = base();
        json_t *model = json_object_get(root, "model");
        json_object_del(model, "type");
        if (prefix_alone) {
            json_object_del(model, "max_input_chars_per_word");
        }
        lw_tokenizer *tokenizer = NULL;
        lw_ids ids = {0};
        const lw_status status = load(root, &tokenizer);
        if (prefix_alone) { // known as WordPiece, so that what is missing is named
            assert_int_equal(status, LW_ERR_FORMAT);
            assert_non_null(strstr(err.text, "max_input_chars_per_word"));
            continue;
        }
        assert_int_equal(status, LW_OK);
        assert_int_equal(lw_tokenizer_encode(tokenizer, "abcd", 4, false, &err, &ids), LW_OK);
        assert_int_equal(ids.len, 2);
        assert_memory_equal(ids.data, wanted, sizeof wanted);
        lw_ids_free(&ids);
        lw_tokenizer_destroy(&tokenizer);
    }
    json_t *root = base();
    json_t *model = json_object_get(root, "model");
    json_object_del(model, "type");
    json_object_set_new(model, "merges", json_array());
    lw_tokenizer *tokenizer = NULL;
    assert_int_not_equal(load(root, &tokenizer), LW_OK); // BPE, with a pre-tokenizer that it is not supported with
    assert_non_null(strstr(err.text, "BPE"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_without_type),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
