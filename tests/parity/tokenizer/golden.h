// golden.h: comparing ids with the golden files of this folder (see make_goldens.py). For test programs only: a failure
// ends the program.
#ifndef LW_TEST_GOLDEN_H
#define LW_TEST_GOLDEN_H

#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer/tokenizer.h"

#define REQUIRE(condition, ...)  \
    do {                         \
        if (!(condition)) {      \
            printf(__VA_ARGS__); \
            printf("\n");        \
            exit(1);             \
        }                        \
    } while (0)

// A text read back from a JSON string; NUL is allowed in it.
typedef struct golden_text {
    char *data;
    size_t bytes;
} golden_text;

typedef struct golden_texts {
    golden_text *items;
    size_t count, cap;
} golden_texts;

static inline void golden_add(golden_texts *texts, const char *data, size_t bytes)
{
    if (texts->count == texts->cap) {
        texts->cap = texts->cap ? 2 * texts->cap : 1024;
        texts->items = realloc(texts->items, texts->cap * sizeof *texts->items);
        REQUIRE(texts->items, "no memory for the texts");
    }
    char *copy = malloc(bytes + 1);
    REQUIRE(copy, "no memory for a text");
    memcpy(copy, data, bytes);
    copy[bytes] = '\0';
    texts->items[texts->count++] = (golden_text){copy, bytes};
}

static inline void golden_free(golden_texts *texts)
{
    for (size_t i = 0; i < texts->count; i++) {
        free(texts->items[i].data);
    }
    free(texts->items);
    *texts = (golden_texts){0};
}

static inline FILE *golden_open(const char *path)
{
    FILE *file = fopen(path, "rb");
    REQUIRE(file, "%s: cannot open", path);
    return file;
}

// The texts of texts.jsonl.
static inline void golden_read_texts(const char *path, golden_texts *texts)
{
    FILE *file = golden_open(path);
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;
    while ((len = getline(&line, &cap, file)) >= 0) {
        json_t *json = json_loadb(line, (size_t)len, JSON_ALLOW_NUL, NULL);
        const json_t *text = json_object_get(json, "text");
        REQUIRE(json_is_string(text), "%s: line %zu is not a text", path, texts->count + 1);
        golden_add(texts, json_string_value(text), json_string_length(text));
        json_decref(json);
    }
    free(line);
    fclose(file);
}

// CRC-32 of zlib, over the ids as little-endian int32.
static inline uint32_t golden_crc(const lw_ids *ids)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < ids->len; i++) {
        for (int byte = 0; byte < 4; byte++) {
            crc ^= (uint32_t)ids->data[i] >> (8 * byte) & 0xFF;
            for (int bit = 0; bit < 8; bit++) {
                crc = crc >> 1 ^ (UINT32_C(0xEDB88320) & (0 - (crc & 1)));
            }
        }
    }
    return ~crc;
}

// Encodes every text in both ways and compares with the lines of `path`.
static inline void golden_compare(const char *path, const lw_tokenizer *tokenizer, const golden_texts *texts)
{
    lw_error err;
    lw_tokenizer_scratch *scratch;
    REQUIRE(lw_tokenizer_scratch_create(tokenizer, &err, &scratch) == LW_OK, "%s", err.text);
    FILE *file = golden_open(path);
    lw_ids ids = {0};
    char line[100];
    size_t wrong = 0;
    for (size_t i = 0; i < texts->count; i++) {
        size_t count[2];
        uint32_t crc[2];
        REQUIRE(fgets(line, sizeof line, file), "%s: ends at line %zu of %zu", path, i + 1, texts->count);
        const int got = sscanf(line, "%zu:%" SCNx32 " %zu:%" SCNx32, &count[0], &crc[0], &count[1], &crc[1]);
        REQUIRE(got == 2 || got == 4, "%s:%zu: malformed", path, i + 1);
        for (int special = 0; special < 2; special++) {
            const int column = got == 4 ? special : 0;
            ids.len = 0;
            REQUIRE(lw_tokenizer_encode_with(tokenizer, scratch, texts->items[i].data, texts->items[i].bytes,
                                             special != 0, &err, &ids) == LW_OK,
                    "%s:%zu: %s", path, i + 1, err.text);
            if (ids.len != count[column] || golden_crc(&ids) != crc[column]) {
                printf("%s:%zu: special %d: %zu ids where %zu are wanted, or others, for the text: %.200s\n", path,
                       i + 1, special, ids.len, count[column], texts->items[i].data);
                wrong++;
            }
        }
    }
    REQUIRE(!fgets(line, sizeof line, file), "%s: has more lines than there are texts", path);
    REQUIRE(wrong == 0, "%s: %zu of %zu comparisons failed", path, wrong, 2 * texts->count);
    printf("%s: %zu texts, both ways\n", path, texts->count);
    fclose(file);
    lw_ids_free(&ids);
    lw_tokenizer_scratch_destroy(&scratch);
}

// getenv with a default for runs by hand.
static inline const char *golden_setting(const char *name, const char *otherwise)
{
    const char *value = getenv(name);
    return value && value[0] ? value : otherwise;
}

#endif
