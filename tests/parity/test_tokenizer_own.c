// tokenizer_own: small tokenizer.json (Llama-3, Qwen2, GPT-2, SmolLM2, BERT style) against Hugging Face's ids and
// texts, and the time of a megabyte without a break.
#include <time.h>

#include "tokenizer/golden.h"

static void compare_decoding(const char *path, const lw_tokenizer *tokenizer)
{
    FILE *file = golden_open(path);
    char *line = NULL;
    size_t cap = 0;
    size_t number = 0;
    ssize_t len;
    while ((len = getline(&line, &cap, file)) >= 0) {
        number++;
        json_t *json = json_loadb(line, (size_t)len, JSON_ALLOW_NUL, NULL);
        const json_t *array = json_object_get(json, "ids");
        lw_error err;
        lw_ids ids = {0};
        REQUIRE(json_is_array(array), "%s:%zu: malformed", path, number);
        for (size_t i = 0; i < json_array_size(array); i++) {
            const json_int_t id = json_integer_value(json_array_get(array, i));
            REQUIRE(lw_ids_push(&ids, (int32_t)id, &err) == LW_OK, "%s", err.text);
        }
        for (int skip = 0; skip < 2; skip++) {
            const json_t *wanted = json_object_get(json, skip ? "skip" : "all");
            char *text;
            size_t bytes;
            REQUIRE(lw_tokenizer_decode(tokenizer, ids.data, ids.len, skip != 0, &err, &text, &bytes) == LW_OK,
                    "%s:%zu: %s", path, number, err.text);
            REQUIRE(bytes == json_string_length(wanted) && memcmp(text, json_string_value(wanted), bytes) == 0,
                    "%s:%zu: skip %d: decoded to: %s", path, number, skip, text);
            free(text);
        }
        lw_ids_free(&ids);
        json_decref(json);
    }
    REQUIRE(number > 0, "%s: empty", path);
    free(line);
    fclose(file);
}

// A megabyte of one unit: without a break for the merges, or for the pattern, or for the normaliser. Quadratic time
// would be minutes; the limit leaves room for sanitizers and a busy machine.
static void time_long_texts(const char *name, const lw_tokenizer *tokenizer)
{
    static const char *const units[] = {
        "a", " ",     "\n",          "1", "\U0001F600", "ab", "'", " \n", "e\u0301\u0323", "\u0301\u0323",
        "<", "<|im_", "\u1100\u1161"};
    const double limit_s = 20.0;
    const size_t bytes = (size_t)1 << 20;
    char *text = malloc(bytes);
    REQUIRE(text, "no memory");
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        const size_t unit = strlen(units[i]);
        const size_t len = bytes / unit * unit;
        for (size_t at = 0; at < len; at += unit) {
            memcpy(text + at, units[i], unit);
        }
        lw_ids ids = {0};
        lw_error err;
        const clock_t begin = clock();
        REQUIRE(lw_tokenizer_encode(tokenizer, text, len, true, &err, &ids) == LW_OK, "%s: %s", name, err.text);
        const double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
        REQUIRE(seconds < limit_s, "%s: a megabyte of \"%s\" took %.1f s", name, units[i], seconds);
        lw_ids_free(&ids);
    }
    free(text);
}

int main(void)
{
    static const char *const names[] = {"llama3", "qwen2", "gpt2", "smollm", "bert", "bertcased"};
    const char *source = golden_setting("LWMPI_SOURCE_DIR", ".");
    char path[4096];
    golden_texts texts = {0};
    snprintf(path, sizeof path, "%s/tests/parity/tokenizer/texts.jsonl", source);
    golden_read_texts(path, &texts);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        lw_error err;
        lw_tokenizer *tokenizer = NULL;
        snprintf(path, sizeof path, "%s/tests/parity/tokenizer/%s.json", source, names[i]);
        REQUIRE(lw_tokenizer_load(path, &err, &tokenizer) == LW_OK, "%s", err.text);
        snprintf(path, sizeof path, "%s/tests/parity/tokenizer/%s.golden", source, names[i]);
        golden_compare(path, tokenizer, &texts);
        snprintf(path, sizeof path, "%s/tests/parity/tokenizer/%s.decode.jsonl", source, names[i]);
        compare_decoding(path, tokenizer);
        time_long_texts(names[i], tokenizer);
        lw_tokenizer_destroy(&tokenizer);
    }
    golden_free(&texts);
    return 0;
}
