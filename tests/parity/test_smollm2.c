// A real model: SmolLM2-135M-Instruct as configs/smollm2/prepare.py makes it. Loss and gradient (lwmpi verify), ids of
// text prompts, and their greedy continuations token for token as transformers has them (make_smollm2.py). The model is
// not in the tree: skipped where $LWMPI_MODELS names no folder that holds it.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/devices.h"
#include "model/generate.h"
#include "tokenizer/tokenizer.h"

enum { NEW = 24, PATH_BYTES = 4096 };

static int failures = 0;

static void must(lw_status status, const lw_error *err, const char *what)
{
    if (status != LW_OK) {
        printf("FAILED: %s: %s\n", what, err->text);
        exit(1);
    }
}

typedef struct lab {
    lw_device *dev;
    lw_decoder *decoder;
    lw_tokenizer *tokenizer;
    lw_generator generator;
    lw_arena memory;
} lab;

static void open_lab(lab *l, const char *dir)
{
    lw_error err = {{0}};
    char path[PATH_BYTES + 32];
    const lw_pass_limits limits = {.sequences = 1, .rows = 256, .supervised = 1, .max_len = 256 + NEW};
    *l = (lab){0};
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    must(lw_tokenizer_load(path, &err, &l->tokenizer), &err, path);
    must(lw_device_open("cpu", 0, 1, &err, &l->dev), &err, "device");
    must(lw_decoder_load(l->dev, dir, &(lw_decoder_options){.max_positions = limits.max_len}, &err, &l->decoder), &err,
         dir);
    lw_arena arena = lw_arena_measure();
    for (int pass = 0; pass < 2; pass++) {
        must(lw_generator_layout(&arena, l->dev, lw_decoder_config(l->decoder), &limits, NEW, &err, &l->generator),
             &err, "layout");
        if (pass == 0) {
            must(lw_arena_alloc(l->dev, &arena, "generation", &err, &l->memory), &err, "memory");
            arena = l->memory;
        }
    }
    must(lw_generator_start(&l->generator, l->decoder, &err), &err, "start");
}

static void close_lab(lab *l)
{
    lw_generator_free(&l->generator);
    lw_arena_free(l->dev, &l->memory);
    lw_decoder_destroy(&l->decoder);
    lw_device_close(&l->dev);
    lw_tokenizer_destroy(&l->tokenizer);
}

static bool same_ids(const json_t *expected, const int32_t *ids, size_t count)
{
    bool same = json_array_size(expected) == count;
    for (size_t i = 0; same && i < count; i++) {
        same = json_integer_value(json_array_get(expected, i)) == ids[i];
    }
    return same;
}

static void check(lab *l, const json_t *row, int number)
{
    lw_error err = {{0}};
    lw_ids prompt = {0};
    char *text = NULL;
    size_t bytes = 0;
    const lw_tokens none = {NULL, 0};
    const json_t *words = json_object_get(row, "prompt");
    must(lw_tokenizer_encode(l->tokenizer, json_string_value(words), json_string_length(words),
                             json_is_true(json_object_get(row, "special")), &err, &prompt),
         &err, "ids");
    if (!same_ids(json_object_get(row, "prompt_ids"), prompt.data, prompt.len)) {
        printf("FAILED: prompt %d: other ids\n", number);
        failures++;
    }
    lw_generator_clear(&l->generator);
    if (!lw_generator_add(&l->generator, 0, 0, (lw_tokens){prompt.data, (int64_t)prompt.len}, none, none)) {
        printf("FAILED: prompt %d does not fit\n", number);
        exit(1);
    }
    must(lw_generator_run(&l->generator, NULL, -1, &err), &err, "generation");
    const lw_generated *g = &l->generator.sequences[0];
    must(lw_tokenizer_decode(l->tokenizer, g->ids, (size_t)g->count, true, &err, &text, &bytes), &err, "text");
    const char *expected = json_string_value(json_object_get(row, "text"));
    if (!same_ids(json_object_get(row, "ids"), g->ids, (size_t)g->count) || strcmp(text, expected) != 0) {
        printf("FAILED: prompt %d goes on with \"%s\", expected \"%s\"\n", number, text, expected);
        failures++;
    }
    free(text);
    lw_ids_free(&prompt);
}

static void verify(const char *dir)
{
    char command[3 * PATH_BYTES];
    snprintf(command, sizeof command, "'%s' verify '%s' tests/parity/smollm2/reference.safetensors",
             getenv("LWMPI_BIN"), dir);
    if (system(command) != 0) {
        printf("FAILED: %s\n", command);
        failures++;
    }
}

int main(void)
{
    char dir[PATH_BYTES];
    const char *models = getenv("LWMPI_MODELS");
    snprintf(dir, sizeof dir, "%s/SmolLM2-135M-Instruct", models != NULL ? models : "models");
    if (access(dir, R_OK) != 0) {
        printf("skipped: %s is not there; configs/smollm2/prepare.py makes it, $LWMPI_MODELS names its folder\n", dir);
        return 77;
    }
    FILE *file = fopen("tests/parity/smollm2/generate.jsonl", "r");
    char *line = NULL;
    size_t capacity = 0;
    int count = 0;
    lab l;
    if (file == NULL) {
        printf("FAILED: tests/parity/smollm2/generate.jsonl cannot be opened\n");
        return 1;
    }
    verify(dir);
    open_lab(&l, dir);
    while (getline(&line, &capacity, file) >= 0) {
        json_t *row = json_loads(line, 0, NULL);
        check(&l, row, ++count);
        json_decref(row);
    }
    close_lab(&l);
    free(line);
    fclose(file);
    printf("%s: %d prompts, %d failures\n", dir, count, failures);
    return failures > 0 || count == 0;
}
