// BERT: last hidden states against transformers (make_bert.py). bert/768 is too large for the tree and is written here,
// from its formula.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bert_lab.h"
#include "io/files.h"
#include "io/safetensors.h"
#include "scratch.h"

static uint64_t splitmix(uint64_t x)
{
    x += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

// zlib's.
static uint32_t crc32(const char *text)
{
    uint32_t crc = UINT32_MAX;
    for (; *text != '\0'; text++) {
        crc ^= (unsigned char)*text;
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (UINT32_C(0xEDB88320) & (0 - (crc & 1)));
        }
    }
    return ~crc;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text);
    size_t m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

enum { MOST_TENSORS = 64, LAYERS = 2, D = 768, FFN = 512, VOCAB = 64, POSITIONS = 16 };

typedef struct model {
    lw_tensor_source tensors[MOST_TENSORS];
    int64_t count;
} model;

// Element i of a tensor: mean + scale u, u in [-1, 1) of 24 bits. columns 0: a vector.
static void make(model *m, const char *name, int64_t rows, int64_t columns)
{
    int64_t n = rows * (columns > 0 ? columns : 1);
    float *data = malloc((size_t)n * sizeof *data);
    char *copy = strdup(name);
    if (m->count == MOST_TENSORS || data == NULL || copy == NULL) {
        printf("FAILED: no room for %s\n", name);
        exit(1);
    }
    double mean = ends_with(name, "LayerNorm.weight") ? 1.0 : 0.0;
    bool wide = strstr(name, "embeddings") != NULL || strstr(name, "LayerNorm") != NULL || ends_with(name, "bias");
    double scale = wide ? 0.25 : 0.0625;
    uint64_t first = (uint64_t)crc32(name) << 32;
    for (int64_t i = 0; i < n; i++) {
        double u = (double)(splitmix(first + (uint64_t)i) >> 40) / 8388608.0 - 1.0;
        data[i] = (float)(mean + scale * u);
    }
    m->tensors[m->count++] = (lw_tensor_source){
        .name = copy, .dtype = LW_F32, .rank = columns > 0 ? 2 : 1, .dims = {rows, columns}, .data = data};
}

static void make_layer(model *m, int layer)
{
    static const struct {
        const char *name;
        int64_t out, in; // in 0: a LayerNorm
    } parts[] = {
        {"attention.self.query", D, D},   {"attention.self.key", D, D},         {"attention.self.value", D, D},
        {"attention.output.dense", D, D}, {"attention.output.LayerNorm", D, 0}, {"intermediate.dense", FFN, D},
        {"output.dense", D, FFN},         {"output.LayerNorm", D, 0},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char name[128];
        snprintf(name, sizeof name, "encoder.layer.%d.%s.weight", layer, parts[i].name);
        make(m, name, parts[i].out, parts[i].in);
        snprintf(name, sizeof name, "encoder.layer.%d.%s.bias", layer, parts[i].name);
        make(m, name, parts[i].out, 0);
    }
}

static void write_wide(const char *source)
{
    lw_error err = {{0}};
    model m = {.count = 0};
    char path[512];
    char *text = NULL;
    size_t bytes = 0;
    make(&m, "embeddings.word_embeddings.weight", VOCAB, D);
    make(&m, "embeddings.position_embeddings.weight", POSITIONS, D);
    make(&m, "embeddings.token_type_embeddings.weight", 2, D);
    make(&m, "embeddings.LayerNorm.weight", D, 0);
    make(&m, "embeddings.LayerNorm.bias", D, 0);
    for (int i = 0; i < LAYERS; i++) {
        make_layer(&m, i);
    }
    snprintf(path, sizeof path, "%s/tests/parity/bert/768/config.json", source);
    if (lw_read_file(path, 1 << 16, &err, &text, &bytes) != LW_OK ||
        lw_safetensors_write(scratch_path("model.safetensors"), m.tensors, m.count, NULL, &err) != LW_OK) {
        printf("FAILED: %s\n", err.text);
        exit(1);
    }
    scratch_put(scratch_path("config.json"), text, bytes);
    free(text);
    for (int64_t i = 0; i < m.count; i++) {
        free((void *)(uintptr_t)m.tensors[i].name);
        free((void *)(uintptr_t)m.tensors[i].data);
    }
}

int main(void)
{
    const char *source = getenv("LWMPI_SOURCE_DIR");
    char dir[400];
    char reference[512];
    source = source != NULL ? source : ".";
    snprintf(dir, sizeof dir, "%s/tests/parity/bert/tiny", source);
    snprintf(reference, sizeof reference, "%s/reference.safetensors", dir);
    bert_lab_compare(dir, reference);
    if (scratch_make(NULL) != 0) {
        printf("FAILED: no folder in /tmp\n");
        return 1;
    }
    write_wide(source);
    snprintf(reference, sizeof reference, "%s/tests/parity/bert/768/reference.safetensors", source);
    bert_lab_compare(scratch_dir(), reference);
    return scratch_remove(NULL);
}
