// prompts, token sets and their cache. The tokenizer is the embedded one, configs/tiny/llama.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/utf8.h"
#include "data/dataset.h"
#include "data/prompt.h"
#include "data/token_set.h"
#include "io/atomic_file.h"
#include "io/files.h"

static lw_error err;

// --- a scratch folder

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/lw-data-XXXXXX");
    return mkdtemp(dir) == NULL;
}

static int remove_dir(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

static const char *put_bytes(const char *text, size_t bytes)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/rows", dir);
    assert_int_equal(lw_write_file_atomic(path, text, bytes, &err), LW_OK);
    return path;
}

static lw_dataset read_as(lw_data_format format, const char *text, int64_t limit, int64_t max_bad)
{
    lw_dataset set = {0};
    lw_status status = lw_dataset_read(&(lw_data_source){.path = put_bytes(text, strlen(text)),
                                                         .format = format,
                                                         .limit = limit,
                                                         .max_bad_rows = max_bad},
                                       &err, &set);
    if (status != LW_OK) {
        print_error("%s\n", err.text);
    }
    assert_int_equal(status, LW_OK);
    return set;
}

#define ROW(c, q, a) "{\"context\": \"" c "\", \"question\": \"" q "\", \"answers\": [\"" a "\"]}"

// --- prompts and tokens

static lw_config *config_with(int64_t count, const char *const *overrides)
{
    const char *text = "models = ( { name = \"m\"; path = \"x\"; } ); batch: { global = 1; };";
    lw_config *config = NULL;
    assert_int_equal(lw_config_parse(text, strlen(text), "x.cfg", count, overrides, &err, &config), LW_OK);
    return config;
}

static lw_sample sample_of(char *context, char *question, char **answers)
{
    static char id[] = "the-id";
    return (lw_sample){.id = id, .context = context, .question = question, .answers = answers, .answer_count = 1};
}

static void takes(char *text, const char *wanted)
{
    assert_string_equal(text, wanted);
    free(text);
}

static void test_prompts(void **state)
{
    (void)state;
    char context[] = "Sun is hot.";
    char empty[] = "";
    char question[] = "Hot? {context}";
    char answer[] = "sun";
    char *answers[] = {answer};
    char *text;
    int64_t bytes;
    bool cut;
    lw_sample sample = sample_of(context, question, answers);
    lw_sample bare = sample_of(empty, question, answers);
    lw_config *config = config_with(0, NULL);
    assert_int_equal(lw_prompt_text(config, &sample, &err, &text), LW_OK);
    takes(text, "Sun is hot.\nQuestion: Hot? {context}\nAnswer:");
    assert_int_equal(lw_prompt_text(config, &bare, &err, &text), LW_OK);
    takes(text, "Question: Hot? {context}\nAnswer:");
    assert_int_equal(lw_prompt_suffix(config, &sample, &err, &text), LW_OK);
    takes(text, "Answer:");
    assert_int_equal(lw_prompt_answer(config, &sample, &err, &text), LW_OK);
    takes(text, " sun");
    assert_int_equal(lw_prompt_source(config, &sample, &err, &text, &bytes, &cut), LW_OK);
    assert_int_equal(bytes, strlen(text));
    assert_false(cut);
    takes(text, "Sun is hot.\nQuestion: Hot? {context}\n");
    assert_int_equal(lw_prompt_answer_bytes(config, "sun, of course", 14), 14); // nothing behind {answer}
    lw_config_destroy(&config);

    const char *const overrides[] = {"wire.compress=context", "prompt.answer=<{answer}>\n"};
    config = config_with(2, overrides);
    assert_int_equal(lw_prompt_suffix(config, &sample, &err, &text), LW_OK);
    takes(text, "Question: Hot? {context}\nAnswer:");
    assert_int_equal(lw_prompt_answer_bytes(config, "sun>\nQuestion: Why?>\n", 21), 3);
    assert_int_equal(lw_prompt_answer_bytes(config, "sun> or moon", 12), 12);
    assert_int_equal(lw_prompt_answer_bytes(config, "", 0), 0);
    assert_int_equal(lw_prompt_source(config, &sample, &err, &text, &bytes, &cut), LW_OK);
    takes(text, "Sun is hot.\n");
    assert_int_equal(lw_prompt_source(config, &bare, &err, &text, &bytes, &cut), LW_ERR_CONFIG);
    assert_non_null(strstr(err.text, "the-id"));
    assert_non_null(strstr(err.text, "wire.compress"));
    lw_config_destroy(&config);
}

// At every limit: valid text, the whole question, at most `limit` bytes, and not shorter than needed.
static void test_source_is_cut_in_the_context(void **state)
{
    (void)state;
    char context[] = "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z";
    char question[] = "why\xC3\xA9";
    char answer[] = "x";
    char *answers[] = {answer};
    lw_sample sample = sample_of(context, question, answers);
    const char *tail = "Question: why\xC3\xA9\n";
    for (int limit = 1; limit < 40; limit++) {
        char setting[64];
        snprintf(setting, sizeof setting, "prompt.max_source_bytes=%d", limit);
        const char *const overrides[] = {setting};
        lw_config *config = config_with(1, overrides);
        char *text;
        int64_t bytes;
        bool cut;
        lw_status status = lw_prompt_source(config, &sample, &err, &text, &bytes, &cut);
        if (limit < (int)strlen(tail)) {
            assert_int_equal(status, LW_ERR_CONFIG);
            assert_non_null(strstr(err.text, "prompt.max_source_bytes"));
        } else {
            assert_int_equal(status, LW_OK);
            assert_true(bytes <= limit && bytes >= (int64_t)strlen(tail));
            assert_int_equal(lw_utf8_first_bad(text, (size_t)bytes), bytes);
            assert_string_equal(text + bytes - strlen(tail), tail);
            assert_int_equal(cut, limit < (int)(strlen(context) + 1 + strlen(tail)));
            assert_true(!cut || bytes == (int64_t)strlen(tail) || limit - bytes < 4);
            free(text);
        }
        lw_config_destroy(&config);
    }
}

static lw_tokenizer *tokenizer;

static int load_tokenizer(void **state)
{
    (void)make_dir(state);
    const char *root = getenv("LWMPI_SOURCE_DIR");
    char path[1024];
    snprintf(path, sizeof path, "%s/configs/tiny/llama/tokenizer.json", root == NULL ? "." : root);
    if (lw_tokenizer_load(path, &err, &tokenizer) != LW_OK) {
        print_error("%s\n", err.text);
        return 1;
    }
    return 0;
}

static int unload_tokenizer(void **state)
{
    lw_tokenizer_destroy(&tokenizer);
    return remove_dir(state);
}

static void same_ids(const lw_token_list *list, int64_t i, int32_t first, const char *text, int32_t last)
{
    lw_ids wanted = {0};
    if (first >= 0) {
        assert_int_equal(lw_ids_push(&wanted, first, &err), LW_OK);
    }
    assert_int_equal(lw_tokenizer_encode(tokenizer, text, strlen(text), false, &err, &wanted), LW_OK);
    if (last >= 0) {
        assert_int_equal(lw_ids_push(&wanted, last, &err), LW_OK);
    }
    assert_int_equal(list->start[i + 1] - list->start[i], wanted.len);
    assert_memory_equal(list->ids + list->start[i], wanted.data, wanted.len * sizeof(int32_t));
    lw_ids_free(&wanted);
}

static void test_token_set(void **state)
{
    (void)state;
    lw_dataset set = read_as(LW_DATA_JSONL,
                             ROW("The lamp is in the library.", "Where is the lamp?",
                                 "library") "\n" ROW("", "Where?", "in the <|end_of_text|>") "\n",
                             0, 0);
    lw_config *config = config_with(0, NULL);
    lw_token_set tokens = {0};
    assert_int_equal(lw_token_set_make(config, &set, tokenizer, 1, 2, NULL, &err, &tokens), LW_OK);
    assert_int_equal(tokens.count, 2);
    same_ids(&tokens.prompt, 0, 1, "The lamp is in the library.\nQuestion: Where is the lamp?\nAnswer:", -1);
    same_ids(&tokens.prompt, 1, 1, "Question: Where?\nAnswer:", -1);
    same_ids(&tokens.suffix, 0, 1, "Answer:", -1);
    same_ids(&tokens.answer, 0, -1, " library", 2);
    int64_t largest = 2;
    const lw_token_list *lists[] = {&tokens.prompt, &tokens.suffix, &tokens.answer};
    for (int i = 0; i < 3; i++) {
        for (int64_t j = 0; j < lists[i]->start[2]; j++) {
            largest = lists[i]->ids[j] > largest ? lists[i]->ids[j] : largest;
        }
    }
    assert_int_equal(tokens.vocab, largest + 1);
    assert_int_equal(tokens.cut_prompts, 0);
    assert_false(tokens.from_cache);
    lw_token_set_free(&tokens);

    // No BOS, no end token, no anchor: a suffix may be empty.
    const char *const overrides[] = {"prompt.anchor=", "prompt.max_answer_tokens=1"};
    lw_config_destroy(&config);
    config = config_with(2, overrides);
    assert_int_equal(lw_token_set_make(config, &set, tokenizer, -1, -1, dir, &err, &tokens), LW_OK);
    assert_int_equal(tokens.suffix.start[2], 0);
    assert_int_equal(tokens.answer.start[2], 2);
    assert_true(tokens.cut_answers >= 1);
    lw_token_set_free(&tokens);
    assert_int_equal(lw_token_set_make(config, &set, tokenizer, -1, -1, dir, &err, &tokens), LW_OK);
    assert_true(tokens.from_cache);
    lw_token_set_free(&tokens);
    lw_config_destroy(&config);
    lw_dataset_free(&set);
}

// For each limit: the prompt is that of a beginning of the context, it fits, and the next character would not.
static void test_prompts_are_cut_in_the_context(void **state)
{
    (void)state;
    const char *context = "Olga lives in Z\xC3\xBCrich \xE2\x82\xAC. The \xF0\x9F\x98\x80 lamp";
    lw_dataset set =
        read_as(LW_DATA_JSONL, ROW("Olga lives in Z\xC3\xBCrich \xE2\x82\xAC. The \xF0\x9F\x98\x80 lamp", "Who?", "x"),
                0, 0);
    for (int limit = 2; limit < 60; limit++) {
        char setting[64];
        snprintf(setting, sizeof setting, "prompt.max_prompt_tokens=%d", limit);
        const char *const overrides[] = {setting};
        lw_config *config = config_with(1, overrides);
        lw_token_set tokens = {0};
        lw_status status = lw_token_set_make(config, &set, tokenizer, 1, 2, NULL, &err, &tokens);
        if (status != LW_OK) {
            assert_int_equal(status, LW_ERR_CONFIG);
            assert_non_null(strstr(err.text, "rows:1: the question alone"));
            lw_config_destroy(&config);
            continue;
        }
        assert_true(tokens.prompt.start[1] <= limit);
        char *text;
        size_t bytes;
        assert_int_equal(lw_tokenizer_decode(tokenizer, tokens.prompt.ids + 1, (size_t)tokens.prompt.start[1] - 1, true,
                                             &err, &text, &bytes),
                         LW_OK);
        const char *question = strstr(text, "Question: Who?\nAnswer:");
        assert_non_null(question);
        size_t kept = question == text ? 0 : (size_t)(question - text) - 1;
        assert_memory_equal(text, context, kept);
        assert_int_equal(tokens.cut_prompts, kept < strlen(context));
        if (kept < strlen(context)) {
            char *longer;
            lw_ids ids = {0};
            size_t next = lw_utf8_ceiling(context, strlen(context), kept + 1);
            assert_int_equal(lw_prompt_text_cut(config, &set.samples[0], next, &err, &longer), LW_OK);
            assert_int_equal(lw_tokenizer_encode(tokenizer, longer, strlen(longer), false, &err, &ids), LW_OK);
            assert_true((int64_t)ids.len + 1 > limit);
            lw_ids_free(&ids);
            free(longer);
        }
        free(text);
        lw_token_set_free(&tokens);
        lw_config_destroy(&config);
    }
    lw_dataset_free(&set);
}

static void same_sets(const lw_token_set *a, const lw_token_set *b)
{
    const lw_token_list *x[] = {&a->prompt, &a->suffix, &a->answer};
    const lw_token_list *y[] = {&b->prompt, &b->suffix, &b->answer};
    assert_int_equal(a->count, b->count);
    assert_int_equal(a->vocab, b->vocab);
    assert_int_equal(a->cut_answers, b->cut_answers);
    for (int i = 0; i < 3; i++) {
        assert_memory_equal(x[i]->start, y[i]->start, (size_t)(a->count + 1) * sizeof(int64_t));
        assert_memory_equal(x[i]->ids, y[i]->ids, (size_t)x[i]->start[a->count] * sizeof(int32_t));
    }
}

// The one file of the cache.
static void cache_file(char *path, size_t size)
{
    char command[256];
    snprintf(command, sizeof command, "ls %s/cache/tokens-*.bin", dir);
    FILE *list = popen(command, "r");
    assert_non_null(list);
    assert_non_null(fgets(path, (int)size, list));
    assert_int_equal(pclose(list), 0);
    path[strcspn(path, "\n")] = '\0';
}

static void test_cache(void **state)
{
    (void)state;
    lw_dataset set = read_as(LW_DATA_JSONL, ROW("ctx", "q?", "aa bb") "\n" ROW("", "q2?", "c") "\n", 0, 0);
    lw_config *config = config_with(0, NULL);
    char cache[128];
    char path[256];
    snprintf(cache, sizeof cache, "%s/cache", dir);
    lw_token_set first = {0};
    lw_token_set second = {0};
    assert_int_equal(lw_token_set_make(config, &set, tokenizer, 1, 2, cache, &err, &first), LW_OK);
    assert_false(first.from_cache);
    assert_string_equal(first.cache_note, "");
    assert_int_equal(lw_token_set_make(config, &set, tokenizer, 1, 2, cache, &err, &second), LW_OK);
    assert_true(second.from_cache);
    same_sets(&first, &second);
    lw_token_set_free(&second);

    // Each byte damaged in turn, and each shorter file: never used, always made again.
    cache_file(path, sizeof path);
    char *bytes;
    size_t size;
    assert_int_equal(lw_read_file(path, 1 << 20, &err, &bytes, &size), LW_OK);
    for (size_t i = 0; i < 2 * size; i += i < size ? 1 : 7) {
        if (i < size) {
            bytes[i] = (char)(bytes[i] ^ 0x41);
        }
        assert_int_equal(lw_write_file_atomic(path, bytes, i < size ? size : i - size, &err), LW_OK);
        if (i < size) {
            bytes[i] = (char)(bytes[i] ^ 0x41);
        }
        assert_int_equal(lw_token_set_make(config, &set, tokenizer, 1, 2, cache, &err, &second), LW_OK);
        assert_false(second.from_cache);
        same_sets(&first, &second);
        lw_token_set_free(&second);
    }
    free(bytes);

    // Another end token, template or data set has a file of its own.
    assert_int_equal(lw_token_set_make(config, &set, tokenizer, 1, 3, cache, &err, &second), LW_OK);
    assert_false(second.from_cache);
    lw_token_set_free(&second);
    lw_token_set_free(&first);

    // A cache that cannot be is no failure.
    assert_int_equal(lw_token_set_make(config, &set, tokenizer, 1, 2, "/dev/null/x", &err, &first), LW_OK);
    assert_false(first.from_cache);
    assert_non_null(strstr(first.cache_note, "/dev/null"));
    lw_token_set_free(&first);
    lw_config_destroy(&config);
    lw_dataset_free(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prompts),   cmocka_unit_test(test_source_is_cut_in_the_context),
        cmocka_unit_test(test_token_set), cmocka_unit_test(test_prompts_are_cut_in_the_context),
        cmocka_unit_test(test_cache),
    };
    return cmocka_run_group_tests(tests, load_tokenizer, unload_tokenizer);
}
