// tokenizer: bad and hostile tokenizer.json, the pieces that pre-tokenizers cut, added tokens, bad text, JSON lines.
// (Equality with Hugging Face over many texts: tests/parity.)
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "tokenizer/tokenizer.h"
#include "tokenizer/tokenizer_internal.h"

static lw_error err;

// --- files

// A vocabulary of the 256 bytes (id = byte), then `words` (ids from 256), merging nothing. With ignore_merges a word
// comes out as one id exactly if the pre-tokenizer cut it out, so the ids show the pieces.
static json_t *base_file(const char *const *words)
{
    json_t *vocab = json_object();
    for (int byte = 0; byte < 256; byte++) {
        const int32_t c = lw_byte_to_char((unsigned char)byte);
        char key[3] = {(char)c};
        if (c >= 0x80) {
            key[0] = (char)(0xC0 | c >> 6);
            key[1] = (char)(0x80 | (c & 0x3F));
        }
        json_object_set_new(vocab, key, json_integer(byte));
    }
    for (int i = 0; words && words[i]; i++) {
        json_object_set_new(vocab, words[i], json_integer(256 + i));
    }
    return json_pack("{s:s, s:[], s:n, s:{s:s, s:b, s:b}, s:{s:s}, s:{s:s, s:b, s:o, s:[]}}", "version", "1.0",
                     "added_tokens", "normalizer", "pre_tokenizer", "type", "ByteLevel", "add_prefix_space", 0,
                     "use_regex", 1, "decoder", "type", "ByteLevel", "model", "type", "BPE", "ignore_merges", 1,
                     "vocab", vocab, "merges");
}

// Sets root[a][b] (or root[a]) to the JSON text `value`; "" deletes it.
static void put(json_t *root, const char *a, const char *b, const char *value)
{
    json_t *object = b ? json_object_get(root, a) : root;
    const char *key = b ? b : a;
    if (value[0] == '\0') {
        json_object_del(object, key);
        return;
    }
    json_error_t error;
    json_t *json = json_loads(value, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (!json) {
        fail_msg("%s: %s", value, error.text);
    }
    json_object_set_new(object, key, json);
}

static lw_status load_text(const char *text, size_t bytes, lw_tokenizer **out)
{
    char path[] = "/tmp/lw_tokenizer_XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, bytes), bytes);
    close(fd);
    const lw_status status = lw_tokenizer_load(path, &err, out);
    unlink(path);
    if (status != LW_OK && !strstr(err.text, path)) {
        fail_msg("the message does not name the file: %s", err.text);
    }
    return status;
}

// Takes the reference to `root`.
static lw_status load(json_t *root, lw_tokenizer **out)
{
    char *text = json_dumps(root, JSON_COMPACT);
    assert_non_null(text);
    const lw_status status = load_text(text, strlen(text), out);
    free(text);
    json_decref(root);
    return status;
}

static lw_tokenizer *must_load(json_t *root)
{
    lw_tokenizer *tokenizer = NULL;
    if (load(root, &tokenizer) != LW_OK) {
        fail_msg("%s", err.text);
    }
    return tokenizer;
}

static void refused(json_t *root, lw_status wanted, const char *says)
{
    lw_tokenizer *tokenizer = NULL;
    const lw_status status = load(root, &tokenizer);
    if (status != wanted || !strstr(err.text, says)) {
        fail_msg("status %d, wanted %d with \"%s\": %s", status, wanted, says, err.text);
    }
    assert_null(tokenizer);
}

// --- ids

// The ids of a text, shown as words: words[id - 256], or the byte itself; separated by '|'.
static void shows(const lw_tokenizer *tokenizer, const char *text, bool special, const char *wanted)
{
    lw_ids ids = {0};
    char shown[1000] = "";
    if (lw_tokenizer_encode(tokenizer, text, strlen(text), special, &err, &ids) != LW_OK) {
        fail_msg("%s: %s", text, err.text);
    }
    for (size_t i = 0; i < ids.len; i++) {
        char *part;
        size_t bytes;
        assert_int_equal(lw_tokenizer_decode(tokenizer, &ids.data[i], 1, false, &err, &part, &bytes), LW_OK);
        strcat(strcat(shown, i ? "|" : ""), part);
        free(part);
    }
    if (strcmp(shown, wanted) != 0) {
        fail_msg("\"%s\" gives \"%s\", wanted \"%s\"", text, shown, wanted);
    }
    lw_ids_free(&ids);
}

// --- tests

static void test_malformed(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b, *value;
        lw_status status;
        const char *says;
    } cases[] = {
        {"model", NULL, "", LW_ERR_FORMAT, "model"},
        {"model", NULL, "[1]", LW_ERR_FORMAT, "model"},
        {"model", "vocab", "", LW_ERR_FORMAT, "vocab"},
        {"model", "vocab", "[]", LW_ERR_FORMAT, "vocab"},
        {"model", "vocab", "{}", LW_ERR_FORMAT, "empty"},
        {"model", "vocab", "{\"a\": -1}", LW_ERR_FORMAT, "id -1"},
        {"model", "vocab", "{\"a\": 4294967296}", LW_ERR_FORMAT, "4294967296"},
        {"model", "vocab", "{\"a\": 2147483647}", LW_ERR_FORMAT, "2147483647"},
        {"model", "vocab", "{\"a\": 1.5}", LW_ERR_FORMAT, "integer"},
        {"model", "vocab", "{\"a\": \"1\"}", LW_ERR_FORMAT, "integer"},
        {"model", "vocab", "{\"a\": 7, \"b\": 7}", LW_ERR_FORMAT, "both \"a\" and \"b\""},
        {"model", "merges", "", LW_ERR_FORMAT, "merges"},
        {"model", "merges", "{}", LW_ERR_FORMAT, "merges"},
        {"model", "merges", "[\"a b\"]", LW_ERR_FORMAT, "merges[0] needs the token \"ab\""},
        {"model", "merges", "[\"zz b\"]", LW_ERR_FORMAT, "\"zz\""},
        {"model", "merges", "[\"ab\"]", LW_ERR_FORMAT, "merges[0]"},
        {"model", "merges", "[\"a  b\"]", LW_ERR_FORMAT, "merges[0]"},
        {"model", "merges", "[\"\"]", LW_ERR_FORMAT, "merges[0]"},
        {"model", "merges", "[[\"a\"]]", LW_ERR_FORMAT, "merges[0]"},
        {"model", "merges", "[[\"a\", 1]]", LW_ERR_FORMAT, "merges[0]"},
        {"model", "merges", "[7]", LW_ERR_FORMAT, "merges[0]"},
        {"model", "type", "\"Unigram\"", LW_ERR_UNSUPPORTED, "Unigram"},
        {"model", "type", "3", LW_ERR_FORMAT, "type"},
        {"model", "dropout", "0.1", LW_ERR_UNSUPPORTED, "dropout"},
        {"model", "continuing_subword_prefix", "\"##\"", LW_ERR_UNSUPPORTED, "##"},
        {"model", "end_of_word_suffix", "\"</w>\"", LW_ERR_UNSUPPORTED, "</w>"},
        {"model", "ignore_merges", "\"yes\"", LW_ERR_FORMAT, "ignore_merges"},
        {"normalizer", NULL, "{\"type\": \"Lowercase\"}", LW_ERR_UNSUPPORTED, "Lowercase"},
        {"normalizer", NULL, "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFKC\"}]}", LW_ERR_UNSUPPORTED,
         "NFKC"},
        {"normalizer", NULL, "{\"type\": \"Sequence\"}", LW_ERR_FORMAT, "normalizers"},
        {"normalizer", NULL, "{}", LW_ERR_FORMAT, "type"},
        {"normalizer", NULL, "7", LW_ERR_FORMAT, "normalizer"},
        {"pre_tokenizer", NULL, "null", LW_ERR_UNSUPPORTED, "ByteLevel"},
        {"pre_tokenizer", NULL, "{\"type\": \"Metaspace\"}", LW_ERR_UNSUPPORTED, "Metaspace"},
        {"pre_tokenizer", NULL, "{\"type\": \"Digits\"}", LW_ERR_UNSUPPORTED, "ByteLevel"},
        {"pre_tokenizer", NULL, "{\"type\": \"Sequence\", \"pretokenizers\": []}", LW_ERR_UNSUPPORTED, "ByteLevel"},
        {"pre_tokenizer", NULL,
         "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"ByteLevel\", \"add_prefix_space\": false}, "
         "{\"type\": \"Digits\"}]}",
         LW_ERR_UNSUPPORTED, "behind ByteLevel"},
        {"pre_tokenizer", NULL, "{\"type\": \"Split\"}", LW_ERR_FORMAT, "pattern"},
        {"pre_tokenizer", NULL, "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"(\"}, \"behavior\": \"Isolated\"}",
         LW_ERR_UNSUPPORTED, "PCRE2"},
        {"pre_tokenizer", NULL, "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\"}, \"behavior\": \"Isolated\"}",
         LW_ERR_UNSUPPORTED, "empty"},
        {"pre_tokenizer", NULL, "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"a\"}, \"behavior\": \"Odd\"}",
         LW_ERR_UNSUPPORTED, "Odd"},
        {"added_tokens", NULL, "{}", LW_ERR_FORMAT, "added_tokens"},
        {"added_tokens", NULL, "[7]", LW_ERR_FORMAT, "added_tokens"},
        {"added_tokens", NULL, "[{\"id\": 256}]", LW_ERR_FORMAT, "content"},
        {"added_tokens", NULL, "[{\"content\": \"<x>\"}]", LW_ERR_FORMAT, "id"},
        {"added_tokens", NULL, "[{\"content\": \"<x>\", \"id\": -3}]", LW_ERR_FORMAT, "id"},
        {"added_tokens", NULL, "[{\"content\": \"<x>\", \"id\": 300}]", LW_ERR_FORMAT, "makes it 256"},
        {"added_tokens", NULL, "[{\"content\": \"<x>\", \"id\": 65}]", LW_ERR_FORMAT, "makes it 256"},
        {"added_tokens", NULL, "[{\"content\": \"a\", \"id\": 256}]", LW_ERR_FORMAT, "makes it 97"},
        {"added_tokens", NULL, "[{\"content\": \"<x>\", \"id\": 1000000000000}]", LW_ERR_FORMAT, "id"},
        {"added_tokens", NULL, "[{\"content\": \"<x>\", \"id\": 256}, {\"content\": \"<y>\", \"id\": 256}]",
         LW_ERR_FORMAT, "makes it 257"},
        {"added_tokens", NULL, "[{\"content\": \"<x>\", \"id\": 256}, {\"content\": \"<x>\", \"id\": 256}]",
         LW_ERR_FORMAT, "twice"},
        {"added_tokens", NULL, "[{\"content\": \"a\", \"id\": 97}, {\"content\": \"a\", \"id\": 97}]", LW_ERR_FORMAT,
         "twice"},
        {"added_tokens", NULL, "[{\"content\": \"<x>\", \"id\": 256, \"special\": 1}]", LW_ERR_FORMAT, "special"},
        {"post_processor", NULL, "{\"type\": \"TemplateProcessing\"}", LW_ERR_FORMAT, "single"},
        {"post_processor", NULL,
         "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"<s>\"}}], "
         "\"special_tokens\": {}}",
         LW_ERR_FORMAT, "post_processor"},
        {"post_processor", NULL,
         "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"<s>\"}}], "
         "\"special_tokens\": {\"<s>\": {\"ids\": [999]}}}",
         LW_ERR_FORMAT, "vocabulary"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *root = base_file(NULL);
        put(root, cases[i].a, cases[i].b, cases[i].value);
        refused(root, cases[i].status, cases[i].says);
    }
}

static void test_not_json(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "", "{", "[]", "7", "nonsense", "{\"model\": {\"vocab\": {\"a\": 0, \"a\": 1}, \"merges\": []}}", "\xFF\xFE{}",
    };
    lw_tokenizer *tokenizer = NULL;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_int_equal(load_text(texts[i], strlen(texts[i]), &tokenizer), LW_ERR_FORMAT);
    }
    // Deep nesting, as an array and as Sequences.
    const size_t depth = 100000;
    char *deep = malloc(depth);
    assert_non_null(deep);
    memset(deep, '[', depth);
    assert_int_equal(load_text(deep, depth, &tokenizer), LW_ERR_FORMAT);
    free(deep);
    json_t *root = base_file(NULL);
    json_t *nested = json_pack("{s:s}", "type", "NFC");
    for (int i = 0; i < 100; i++) {
        nested = json_pack("{s:s, s:[o]}", "type", "Sequence", "normalizers", nested);
    }
    json_object_set_new(root, "normalizer", nested);
    refused(root, LW_ERR_UNSUPPORTED, "nested");
    // Cut off anywhere.
    char *whole = json_dumps(root = base_file(NULL), 0);
    for (size_t len = 0; len < strlen(whole); len += 97) {
        assert_int_equal(load_text(whole, len, &tokenizer), LW_ERR_FORMAT);
    }
    free(whole);
    json_decref(root);
    assert_int_equal(lw_tokenizer_load("/nonexistent/tokenizer.json", &err, &tokenizer), LW_ERR_IO);
    assert_int_equal(lw_tokenizer_load("/tmp", &err, &tokenizer), LW_ERR_IO);
    assert_null(tokenizer);
}

static void test_refused_patterns(void **state)
{
    (void)state;
    static const char *const patterns[] = {
        "\\w+",        "\\b",           "\\h",      "\\Z",         "\\1",        "\\K",        "\\R",
        "\\X",         "[a[bc]]",       "[a-z&&b]", "[[:alpha:]]", "a{1,3}+",    "a{2}?",      "(?<n>a)",
        "(?m:a)",      "(?s)a",         "(?x) a",   "(?P<n>a)",    "(?i)\\p{L}", "(?i:[a-z])", "(?i)ss",
        "(?i:\u00DF)", "a(?i)b",        "a)",       "[a",          "\\p{L",      "\\pL",       "\\xFF",
        "\\x{110000}", "\\p{Nonsense}", "(?#c)a",   "a\\",         "(*FAIL)",    "\\Qa\\E",
    };
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        pcre2_code *code = NULL;
        const lw_status status = lw_regex_compile("here", patterns[i], false, &err, &code);
        if (status != LW_ERR_UNSUPPORTED || strncmp(err.text, "here: ", 6) != 0 || code) {
            fail_msg("%s: status %d, %s", patterns[i], status, err.text);
        }
    }
}

static lw_tokenizer *with_split(const char *const *words, const char *pattern, const char *behavior, bool invert)
{
    json_t *root = base_file(words);
    json_t *steps = json_pack("{s:s, s:[{s:s, s:{s:s}, s:s, s:b}, {s:s, s:b, s:b}]}", "type", "Sequence",
                              "pretokenizers", "type", "Split", "pattern", "Regex", pattern, "behavior", behavior,
                              "invert", (int)invert, "type", "ByteLevel", "add_prefix_space", 0, "use_regex", 0);
    json_object_set_new(root, "pre_tokenizer", steps);
    return must_load(root);
}

// What Hugging Face's Split makes of "the-final--countdown" with the pattern "-" (its documentation of
// SplitDelimiterBehavior).
static void test_behaviors(void **state)
{
    (void)state;
    static const char *const words[] = {
        "the", "final", "countdown", "the-", "final-", "-final", "-countdown", "--", "the-final--countdown", NULL};
    static const struct {
        const char *behavior;
        bool invert;
        const char *wanted;
    } cases[] = {
        {"Removed", false, "the|final|countdown"},
        {"Isolated", false, "the|-|final|-|-|countdown"},
        {"MergedWithPrevious", false, "the-|final-|-|countdown"},
        {"MergedWithNext", false, "the|-final|-|-countdown"},
        {"Contiguous", false, "the|-|final|--|countdown"},
        {"Removed", true, "-|-|-"},
        {"Isolated", true, "the|-|final|-|-|countdown"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lw_tokenizer *tokenizer = with_split(words, "-", cases[i].behavior, cases[i].invert);
        shows(tokenizer, "the-final--countdown", false, cases[i].wanted);
        lw_tokenizer_destroy(&tokenizer);
    }
}

static void test_patterns(void **state)
{
    (void)state;
    static const char *const words[] = {"ab", "abc", "12", "abab", "\u0120ab", "a12", NULL};
    static const struct {
        const char *pattern, *text, *wanted;
    } cases[] = {
        {"\\s+", "ab ab", "ab| |ab"},
        {"\\S+", "ab ab", "ab| |ab"},
        {"[\\s\\d]", "ab1ab", "ab|1|ab"},
        {"(ab){,2}c?", "ababab", "abab|ab"},
        {"(?i)AB", "abc", "ab|c"},
        {"\\u0062", "abc", "a|b|c"},
        {"\\p{^L}{2}", "ab12ab", "ab|12|ab"},
        {"^ab", "abc", "ab|c"},
        {"(?<=a)12", "a12ab", "a|12|ab"},
        {"x*", "ab", "a|b"},
        {"{", "ab{ab", "ab|{|ab"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lw_tokenizer *tokenizer = with_split(words, cases[i].pattern, "Isolated", false);
        shows(tokenizer, cases[i].text, false, cases[i].wanted);
        lw_tokenizer_destroy(&tokenizer);
    }
}

// A group repeated a million times needs more stack than the machine code has; an exploding pattern must end.
static void test_match_limits(void **state)
{
    (void)state;
    const size_t bytes = 1000000;
    char *text = malloc(bytes);
    assert_non_null(text);
    for (size_t i = 0; i < bytes; i++) {
        text[i] = "ab"[i % 2];
    }
    lw_ids ids = {0};
    lw_tokenizer *tokenizer = with_split(NULL, "(?:a|b\\n?)+", "Isolated", false);
    if (lw_tokenizer_encode(tokenizer, text, bytes, false, &err, &ids) != LW_OK) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(ids.len, bytes);
    lw_tokenizer_destroy(&tokenizer);

    memset(text, 'a', 64);
    tokenizer = with_split(NULL, "(?:a+a*)+[bc]", "Isolated", false);
    assert_int_equal(lw_tokenizer_encode(tokenizer, text, 64, false, &err, &ids), LW_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "pattern"));
    assert_int_equal(ids.len, bytes); // what was there stays
    lw_tokenizer_destroy(&tokenizer);
    lw_ids_free(&ids);
    free(text);
}

static void test_merges(void **state)
{
    (void)state;
    static const char *const words[] = {"ab", "abc", "bc", "cd", "abcd", "aa", "aaaa", NULL};
    json_t *root = base_file(words);
    put(root, "model", "ignore_merges", "false");
    put(root, "model", "merges",
        "[\"#version: 0.2\", \"b c\", [\"a\", \"b\"], \"c d\", \"ab c\", \"a a\", [\"aa\", \"aa\"]]");
    lw_tokenizer *tokenizer = must_load(root);
    shows(tokenizer, "abc", false, "a|bc"); // the lowest rank first, and the whole word is not looked up
    shows(tokenizer, "abd", false, "ab|d");
    shows(tokenizer, "abcd", false, "a|bc|d");
    shows(tokenizer, "aaaaa", false, "aaaa|a"); // the leftmost of equals
    shows(tokenizer, "", false, "");
    // The heap for long words does the same.
    char text[200];
    memset(text, 'a', sizeof text);
    lw_ids ids = {0};
    assert_int_equal(lw_tokenizer_encode(tokenizer, text, 199, false, &err, &ids), LW_OK);
    assert_int_equal(ids.len, 51);
    assert_int_equal(ids.data[48], lw_tokenizer_token_id(tokenizer, "aaaa"));
    assert_int_equal(ids.data[49], lw_tokenizer_token_id(tokenizer, "aa"));
    assert_int_equal(ids.data[50], 'a');
    lw_ids_free(&ids);
    lw_tokenizer_destroy(&tokenizer);
}

static void test_added_tokens(void **state)
{
    (void)state;
    json_t *root = base_file(NULL);
    put(root, "normalizer", NULL, "{\"type\": \"NFC\"}");
    put(root, "added_tokens", NULL,
        "[{\"id\": 256, \"content\": \"<s>\", \"special\": true},"
        " {\"id\": 257, \"content\": \"<s>>\", \"special\": false},"
        " {\"id\": 258, \"content\": \"<L>\", \"special\": false, \"lstrip\": true, \"rstrip\": true},"
        " {\"id\": 259, \"content\": \"<W>\", \"special\": false, \"single_word\": true},"
        " {\"id\": 260, \"content\": \"e\\u0301e\\u0301\", \"special\": false, \"normalized\": true},"
        " {\"id\": 261, \"content\": \"\", \"special\": true}]");
    put(root, "post_processor", NULL,
        "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"<s>\"}}, {\"Sequence\": {}}], "
        "\"special_tokens\": {\"<s>\": {\"ids\": [256]}}}");
    lw_tokenizer *tokenizer = must_load(root);
    assert_int_equal(lw_tokenizer_vocab_size(tokenizer), 262);
    assert_int_equal(lw_tokenizer_bos_id(tokenizer), 256);
    assert_int_equal(lw_tokenizer_token_id(tokenizer, "<s>>"), 257);
    assert_int_equal(lw_tokenizer_token_id(tokenizer, "<t>"), -1);
    shows(tokenizer, "a<s>b", true, "a|<s>|b");
    shows(tokenizer, "a<s>b", false, "a|<|s|>|b");
    shows(tokenizer, "<s>>", false, "<s>>"); // not special: always a token, and the longest match
    shows(tokenizer, "a <L> \n b", false, "a|<L>|b");
    shows(tokenizer, "<W> a<W> <W>.", false, "<W>| |a|<|W|>| |<W>|.");
    shows(tokenizer, "\u00e9e\u0301", false, "e\u0301e\u0301"); // matched in NFC, shown as the file has it
    // Skipped in decoding: the special token, and ids that name nothing.
    const int32_t ids[] = {256, 'a', 257, 261, 5000};
    char *text;
    size_t bytes;
    assert_int_equal(lw_tokenizer_decode(tokenizer, ids, 5, true, &err, &text, &bytes), LW_OK);
    assert_string_equal(text, "a<s>>");
    free(text);
    const int32_t negative[] = {'a', -1};
    assert_int_equal(lw_tokenizer_decode(tokenizer, negative, 2, true, &err, &text, &bytes), LW_ERR_FORMAT);
    assert_int_equal(lw_tokenizer_decode(tokenizer, NULL, 0, true, &err, &text, &bytes), LW_OK);
    assert_int_equal(bytes, 0);
    free(text);
    lw_tokenizer_destroy(&tokenizer);
    lw_tokenizer_destroy(&tokenizer);
}

static void test_bad_text(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t bytes, bad;
        const char *decoded; // each part that is not UTF-8 is one U+FFFD
    } cases[] = {
        {"a\xFF", 2, 1, "a\uFFFD"},
        {"abcdefgh\x80", 9, 8, "abcdefgh\uFFFD"},
        {"\xC0\x80", 2, 0, "\uFFFD\uFFFD"},
        {"\xE2\x82", 2, 0, "\uFFFD"},
        {"\xED\xA0\x80", 3, 0, "\uFFFD\uFFFD\uFFFD"},
        {"\xF0\x9F\x98z", 4, 0, "\uFFFDz"},
        {"\xF4\x90\x80\x80", 4, 0, "\uFFFD\uFFFD\uFFFD\uFFFD"},
    };
    lw_tokenizer *tokenizer = must_load(base_file(NULL));
    lw_ids ids = {0};
    assert_int_equal(lw_ids_push(&ids, 7, &err), LW_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char offset[32];
        snprintf(offset, sizeof offset, "offset %zu", cases[i].bad);
        assert_int_equal(lw_tokenizer_encode(tokenizer, cases[i].text, cases[i].bytes, false, &err, &ids),
                         LW_ERR_FORMAT);
        assert_non_null(strstr(err.text, offset));
        assert_int_equal(ids.len, 1);
        int32_t raw[16];
        for (size_t j = 0; j < cases[i].bytes; j++) {
            raw[j] = (unsigned char)cases[i].text[j];
        }
        char *text;
        size_t bytes;
        assert_int_equal(lw_tokenizer_decode(tokenizer, raw, cases[i].bytes, false, &err, &text, &bytes), LW_OK);
        assert_string_equal(text, cases[i].decoded);
        free(text);
    }
    assert_int_equal(lw_tokenizer_encode(tokenizer, "a\0b", 3, false, &err, &ids), LW_OK);
    assert_int_equal(ids.len, 4);
    assert_int_equal(ids.data[2], 0);
    lw_ids_free(&ids);
    lw_tokenizer_destroy(&tokenizer);
}

// A vocabulary without some bytes: they vanish, or become the unknown token.
static void test_unknown_bytes(void **state)
{
    (void)state;
    for (int unknown = 0; unknown < 3; unknown++) {
        json_t *root = base_file(NULL);
        json_object_del(json_object_get(json_object_get(root, "model"), "vocab"), "b");
        put(root, "model", "unk_token", unknown ? "\"?\"" : "null");
        put(root, "model", "fuse_unk", unknown == 2 ? "true" : "false");
        lw_tokenizer *tokenizer = must_load(root);
        shows(tokenizer, "abba", false, unknown == 0 ? "a|a" : unknown == 1 ? "a|?|?|a" : "a|?|a");
        lw_tokenizer_destroy(&tokenizer);
        root = base_file(NULL);
        json_object_del(json_object_get(json_object_get(root, "model"), "vocab"), "b");
        put(root, "model", "byte_fallback", "true");
        refused(root, LW_ERR_UNSUPPORTED, "byte_fallback");
    }
    json_t *root = base_file(NULL);
    put(root, "model", "byte_fallback", "true"); // nothing to fall back from
    put(root, "model", "unk_token", "\"nowhere\"");
    put(root, "decoder", NULL, "null");
    lw_tokenizer *tokenizer = must_load(root);
    char *text;
    size_t bytes;
    assert_int_equal(lw_tokenizer_decode(tokenizer, NULL, 0, false, &err, &text, &bytes), LW_ERR_UNSUPPORTED);
    lw_tokenizer_destroy(&tokenizer);
}

static void lines(const char *in, lw_status wanted, const char *out, const char *says)
{
    lw_tokenizer *tokenizer = must_load(base_file(NULL));
    FILE *from = tmpfile();
    FILE *to = tmpfile();
    char got[200] = "";
    assert_true(from && to);
    fputs(in, from);
    rewind(from);
    err.text[0] = '\0';
    assert_int_equal(lw_tokenizer_encode_lines(tokenizer, false, from, "texts", to, &err), wanted);
    if (!strstr(err.text, says)) {
        fail_msg("%s", err.text);
    }
    rewind(to);
    got[fread(got, 1, sizeof got - 1, to)] = '\0';
    assert_string_equal(got, out);
    fclose(from);
    fclose(to);
    lw_tokenizer_destroy(&tokenizer);
}

static void test_lines(void **state)
{
    (void)state;
    lines("", LW_OK, "", "");
    lines("{\"text\": \"ab\"}\n{\"id\": 7, \"text\": \"\"}\r\n{\"text\": \"\\u0000\\u00e9\"}", LW_OK,
          "{\"ids\": [97, 98]}\n{\"ids\": []}\n{\"ids\": [0, 195, 169]}\n", "");
    lines("{\"text\": \"a\"}\n{\"text\": 7}\n", LW_ERR_FORMAT, "{\"ids\": [97]}\n", "texts:2");
    lines("{\"text\": \"a\"}\n\n", LW_ERR_FORMAT, "{\"ids\": [97]}\n", "texts:2");
    lines("{\"txt\": \"a\"}\n", LW_ERR_FORMAT, "", "texts:1");
    lines("[\"a\"]\n", LW_ERR_FORMAT, "", "texts:1");
    lines("{\"text\": \"a\"} x\n", LW_ERR_FORMAT, "", "texts:1");
    lines("{\"text\": \"\xFF\"}\n", LW_ERR_FORMAT, "", "texts:1");
    lines("{\"text\": \"\\ud800\"}\n", LW_ERR_FORMAT, "", "texts:1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_not_json),
        cmocka_unit_test(test_refused_patterns),
        cmocka_unit_test(test_behaviors),
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_match_limits),
        cmocka_unit_test(test_merges),
        cmocka_unit_test(test_added_tokens),
        cmocka_unit_test(test_bad_text),
        cmocka_unit_test(test_unknown_bytes),
        cmocka_unit_test(test_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
