// Greedy generation: token for token what transformers generates; and the cache, batches and scoring against plain
// passes over the whole sequence.
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/safetensors.h"
#include "kernels/devices.h"
#include "model/generate.h"

static const char fixtures[] = "tests/parity/fixtures";
static int failures = 0;

__attribute__((format(printf, 1, 2))) static void complain(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("FAILED: ");
    vprintf(format, args);
    printf("\n");
    va_end(args);
    failures++;
}

static void must(lw_status status, const lw_error *err, const char *what)
{
    if (status != LW_OK) {
        printf("FAILED: %s: %s\n", what, err->text);
        exit(1);
    }
}

static void *room(int64_t count, size_t size)
{
    void *memory = calloc((size_t)count + 1, size);
    if (memory == NULL) {
        printf("FAILED: no memory\n");
        exit(1);
    }
    return memory;
}

// --- a model and a generator over it

typedef struct lab {
    const char *name;
    lw_device *dev;
    lw_decoder *decoder;
    lw_hf_config config; // without end tokens: the references do not stop at one
    lw_generator generator;
    lw_arena memory;
    float *soft; // (samples * prefix, d) on the device
} lab;

static void lab_open(lab *l, const char *name, const char *dir)
{
    lw_error err = {{0}};
    *l = (lab){.name = name};
    must(lw_device_open("cpu", 0, 1, &err, &l->dev), &err, "device");
    must(lw_decoder_load(l->dev, dir, &(lw_decoder_options){.max_positions = 128}, &err, &l->decoder), &err, dir);
    l->config = *lw_decoder_config(l->decoder);
    l->config.eos_count = 0;
}

static void lab_size(lab *l, int64_t sequences, int64_t rows, int64_t prefix_rows, int64_t supervised, int64_t max_len,
                     int64_t max_new)
{
    lw_error err = {{0}};
    lw_pass_limits limits = {.sequences = sequences,
                             .rows = rows,
                             .prefix_rows = prefix_rows,
                             .supervised = supervised > sequences ? supervised : sequences,
                             .max_len = max_len};
    lw_arena_free(l->dev, &l->memory);
    lw_arena arena = lw_arena_measure();
    must(lw_generator_layout(&arena, l->dev, &l->config, &limits, max_new, &err, &l->generator), &err, "layout");
    must(lw_arena_alloc(l->dev, &arena, "generation", &err, &l->memory), &err, "memory");
    memset(l->memory.base, 0xFF, l->memory.size_bytes); // NaN: what is read must have been written
    arena = l->memory;
    must(lw_generator_layout(&arena, l->dev, &l->config, &limits, max_new, &err, &l->generator), &err, "layout");
    must(lw_generator_start(&l->generator, l->decoder, &err), &err, "start");
}

static void lab_close(lab *l)
{
    lw_generator_free(&l->generator);
    lw_arena_free(l->dev, &l->memory);
    lw_decoder_destroy(&l->decoder);
    lw_device_close(&l->dev);
}

static const lw_tokens none = {NULL, 0};

static void run(lab *l, int32_t eos)
{
    lw_error err = {{0}};
    must(lw_generator_run(&l->generator, l->soft, eos, &err), &err, "generation");
}

// --- against transformers

typedef struct golden {
    lw_safetensors *file;
    int64_t batch, prefix, d, suffix, count;
    float *soft;         // (batch * prefix, d)
    int32_t *suffix_ids; // (batch, suffix)
    int32_t *out_ids;    // (batch, count)
} golden;

static int32_t *copy_ids(const lw_safetensors *file, const char *name, int64_t rows, int64_t *columns)
{
    lw_error err = {{0}};
    const lw_tensor_view *view;
    must(lw_safetensors_require(file, name, 2, (int64_t[]){rows, -1}, &err, &view), &err, name);
    int32_t *ids = room(view->elements, sizeof *ids);
    *columns = view->dims[1];
    memcpy(ids, view->data, (size_t)view->elements * sizeof *ids);
    return ids;
}

static void golden_open(golden *g, const char *path)
{
    lw_error err = {{0}};
    const lw_tensor_view *view;
    *g = (golden){0};
    must(lw_safetensors_open(path, &err, &g->file), &err, path);
    must(lw_safetensors_require(g->file, "prefix", 3, (int64_t[]){-1, -1, -1}, &err, &view), &err, "prefix");
    g->batch = view->dims[0];
    g->prefix = view->dims[1];
    g->d = view->dims[2];
    g->soft = room(view->elements, sizeof *g->soft);
    must(lw_tensor_to_f32(view, &err, g->soft), &err, "prefix");
    g->suffix_ids = copy_ids(g->file, "suffix_ids", g->batch, &g->suffix);
    g->out_ids = copy_ids(g->file, "out_ids", g->batch, &g->count);
}

static void golden_close(golden *g)
{
    lw_safetensors_close(&g->file);
    free(g->soft);
    free(g->suffix_ids);
    free(g->out_ids);
}

static lw_tokens suffix_of(const golden *g, int64_t b)
{
    return (lw_tokens){g->suffix_ids + b * g->suffix, g->suffix};
}

static void expect_ids(const lab *l, const char *what, int64_t at, const int32_t *ids, int64_t count,
                       const int32_t *expected, int64_t expected_count)
{
    if (count != expected_count) {
        complain("%s, %s, sample %lld: %lld tokens, expected %lld", l->name, what, (long long)at, (long long)count,
                 (long long)expected_count);
        return;
    }
    for (int64_t t = 0; t < count; t++) {
        if (ids[t] != expected[t]) {
            complain("%s, %s, sample %lld: token %lld is %d, expected %d", l->name, what, (long long)at, (long long)t,
                     ids[t], expected[t]);
            return;
        }
    }
}

static void compare_with_transformers(lab *l, const golden *g)
{
    int64_t length = g->prefix + g->suffix;
    lab_size(l, g->batch, g->batch * length, g->batch * g->prefix, 0, length + g->count, g->count);
    for (int pass = 0; pass < 2; pass++) { // the second time over the remains of the first
        lw_generator_clear(&l->generator);
        for (int64_t b = 0; b < g->batch; b++) {
            if (!lw_generator_add(&l->generator, b * g->prefix, g->prefix, suffix_of(g, b), none, none)) {
                complain("%s: sample %lld does not fit", l->name, (long long)b);
                return;
            }
        }
        run(l, -1);
        for (int64_t b = 0; b < g->batch; b++) {
            const lw_generated *s = &l->generator.sequences[b];
            expect_ids(l, "transformers", b, s->ids, s->count, g->out_ids + b * g->count, g->count);
        }
    }
}

// --- without a cache: the likeliest token after the whole sequence, from a pass for each

static int32_t next_without_cache(lab *l, int64_t prefix_first, int64_t prefix_count, const int32_t *ids, int64_t count,
                                  float *nll, int32_t target)
{
    lw_error err = {{0}};
    lw_pass_limits limits = {.sequences = 1,
                             .rows = prefix_count + count,
                             .prefix_rows = prefix_count,
                             .supervised = 1,
                             .max_len = prefix_count + count};
    lw_decoder_buffers buffers = {0};
    lw_packing packing;
    lw_arena memory = {0};
    lw_arena arena = lw_arena_measure();
    void *indices = NULL;
    int32_t best;
    for (int pass = 0; pass < 2; pass++) {
        lw_decoder_buffers_free(&buffers);
        indices = lw_arena_take(&arena, (int64_t)lw_packing_device_bytes(&limits), 1);
        must(lw_decoder_pass_layout(&arena, l->dev, &l->config, NULL, &(lw_decoder_pass){.mode = LW_PASS_INFER},
                                    &limits, &err, &buffers),
             &err, "layout");
        if (pass == 0) {
            must(lw_arena_alloc(l->dev, &arena, "a pass", &err, &memory), &err, "memory");
            arena = memory;
        }
    }
    must(lw_packing_create(&limits, indices, &err, &packing), &err, "packing");
    lw_packing_clear(&packing);
    lw_packing_add(&packing, prefix_first, prefix_count, ids, count, 0);
    lw_packing_score(&packing, packing.rows - 1, target, 1.0F);
    lw_packing_upload(&packing, l->dev);
    lw_decoder_forward(l->decoder, &packing, l->soft, NULL, &buffers);
    lw_decoder_logits(l->decoder, &packing, &buffers);
    lw_decoder_loss(l->decoder, &packing, false, &buffers);
    l->dev->ops->download(l->dev, buffers.argmax, sizeof best, &best);
    l->dev->ops->download(l->dev, buffers.nll, sizeof *nll, nll);
    must(l->dev->ops->sync(l->dev, &err), &err, "sync");
    lw_packing_free(&packing);
    lw_decoder_buffers_free(&buffers);
    lw_arena_free(l->dev, &memory);
    return best;
}

enum { CASES = 6, MAX_IDS = 64, NEW = 9 };

// Sequences of unequal lengths: with and without prefix, split before/after, with and without a scored answer.
typedef struct sequence {
    int64_t prefix_first, prefix_count;
    lw_tokens before, after, answer;
} sequence;

static void add(lab *l, const sequence *s)
{
    if (!lw_generator_add(&l->generator, s->prefix_first, s->prefix_count, s->before, s->after, s->answer)) {
        complain("%s: a sequence does not fit its limits", l->name);
        exit(1);
    }
}

static void check_against_plain_passes(lab *l, const sequence *s, int64_t at, const lw_generated *got)
{
    int32_t ids[MAX_IDS];
    int64_t n = 0;
    float nll;
    double sum = 0.0;
    for (int64_t i = 0; i < s->before.count; i++) {
        ids[n++] = s->before.ids[i];
    }
    for (int64_t i = 0; i < s->after.count; i++) {
        ids[n++] = s->after.ids[i];
    }
    int64_t start = n;
    int32_t expected[NEW];
    for (int64_t t = 0; t < NEW; t++) {
        expected[t] = next_without_cache(l, s->prefix_first, s->prefix_count, ids, n, &nll, 0);
        ids[n++] = expected[t];
    }
    expect_ids(l, "without a cache", at, got->ids, got->count, expected, NEW);
    if (got->first_token != expected[0]) {
        complain("%s, sequence %lld: the first token is %d, expected %d", l->name, (long long)at, got->first_token,
                 expected[0]);
    }
    n = start;
    for (int64_t t = 0; t < s->answer.count; t++) {
        next_without_cache(l, s->prefix_first, s->prefix_count, ids, n, &nll, s->answer.ids[t]);
        sum += (double)nll;
        ids[n++] = s->answer.ids[t];
    }
    if (s->answer.count > 0 && !(fabs(got->nll - sum) <= 2e-6 * sum)) {
        complain("%s, sequence %lld: the answer has nll %.9g, expected %.9g", l->name, (long long)at, got->nll, sum);
    }
}

static void compare_with_plain_passes(lab *l, const golden *g)
{
    int32_t ids[MAX_IDS];
    for (int i = 0; i < MAX_IDS; i++) {
        ids[i] = (int32_t)((i * 29 + 3) % l->config.vocab);
    }
    int64_t p = g->prefix;
    const sequence all[CASES] = {
        {0, p, {ids, 2}, {ids + 2, 1}, {ids + 10, 4}},
        {0, 0, {ids + 4, 1}, none, {ids + 20, 1}}, // text alone, as short as it can be
        {p, p, none, none, none},                  // latents alone, nothing scored
        {0, 0, {ids + 5, 17}, {ids + 30, 3}, {ids + 7, 6}},
        {p - 1, 1, {ids + 1, 5}, none, {ids + 2, 2}},
        {0, p, none, {ids + 3, 2}, none},
    };
    lw_generated alone[CASES];
    int32_t alone_ids[CASES][NEW];
    // Each one by itself, in buffers of its own size...
    for (int64_t i = 0; i < CASES; i++) {
        const sequence *s = &all[i];
        int64_t rows = s->prefix_count + s->before.count + s->after.count;
        int64_t answer = s->answer.count > 1 ? s->answer.count - 1 : 0;
        lab_size(l, 1, rows + answer, s->prefix_count, s->answer.count, rows + (answer > NEW ? answer : NEW), NEW);
        lw_generator_clear(&l->generator);
        add(l, s);
        run(l, -1);
        alone[i] = l->generator.sequences[0];
        memcpy(alone_ids[i], alone[i].ids, sizeof alone_ids[i]);
        alone[i].ids = alone_ids[i];
        check_against_plain_passes(l, s, i, &alone[i]);
    }
    // ... and all together, in another order.
    lab_size(l, CASES, 120, 4 * p + 1, 20, 60, NEW);
    lw_generator_clear(&l->generator);
    for (int64_t i = 0; i < CASES; i++) {
        add(l, &all[CASES - 1 - i]);
    }
    run(l, -1);
    for (int64_t i = 0; i < CASES; i++) {
        const lw_generated *s = &l->generator.sequences[i];
        const lw_generated *e = &alone[CASES - 1 - i];
        expect_ids(l, "all together", CASES - 1 - i, s->ids, s->count, e->ids, e->count);
        if (all[CASES - 1 - i].answer.count > 0 && !(fabs(s->nll - e->nll) <= 2e-6 * e->nll)) {
            complain("%s: a batch scores sequence %lld with %.9g, alone it has %.9g", l->name,
                     (long long)(CASES - 1 - i), s->nll, e->nll);
        }
    }
    // An end token ends one sequence and leaves the others alone.
    int32_t eos = alone[0].ids[2];
    int64_t before_eos = 0;
    while (alone[0].ids[before_eos] != eos) {
        before_eos++;
    }
    lw_generator_clear(&l->generator);
    add(l, &all[0]);
    add(l, &all[3]);
    run(l, eos);
    expect_ids(l, "up to an end token", 0, l->generator.sequences[0].ids, l->generator.sequences[0].count, alone[0].ids,
               before_eos);
    int64_t rest = 0;
    while (rest < NEW && alone[3].ids[rest] != eos) {
        rest++;
    }
    expect_ids(l, "beside one that ended", 3, l->generator.sequences[1].ids, l->generator.sequences[1].count,
               alone[3].ids, rest);
    // The model's own end tokens count too.
    l->config.eos_count = 1;
    l->config.eos_id[0] = eos;
    lw_generator_clear(&l->generator);
    add(l, &all[0]);
    run(l, -1);
    expect_ids(l, "up to the model's end token", 0, l->generator.sequences[0].ids, l->generator.sequences[0].count,
               alone[0].ids, before_eos);
    l->config.eos_count = 0;
}

// --- all fixtures

static void check(const char *name)
{
    char dir[512];
    char path[640];
    struct stat info;
    lab l;
    golden g;
    lw_error err = {{0}};
    snprintf(dir, sizeof dir, "%s/%s", fixtures, name);
    snprintf(path, sizeof path, "%s/generate.safetensors", dir);
    if (stat(path, &info) != 0) {
        return;
    }
    int before = failures;
    lab_open(&l, name, dir);
    golden_open(&g, path);
    if (g.d != l.config.d) {
        complain("%s: prefix of width %lld for a model of %lld", path, (long long)g.d, (long long)l.config.d);
        exit(1);
    }
    int64_t elements = g.batch * g.prefix * g.d;
    void *soft;
    must(l.dev->ops->alloc(l.dev, (size_t)elements * sizeof(float), &err, &soft), &err, "soft tokens");
    l.dev->ops->upload(l.dev, g.soft, (size_t)elements * sizeof(float), soft);
    l.soft = soft;
    compare_with_transformers(&l, &g);
    compare_with_plain_passes(&l, &g);
    printf("%s %s: %lld samples of %lld + %lld, %lld tokens\n", failures == before ? "ok" : "FAILED", name,
           (long long)g.batch, (long long)g.prefix, (long long)g.suffix, (long long)g.count);
    l.dev->ops->free(l.dev, soft);
    golden_close(&g);
    lab_close(&l);
}

static int is_name(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

int main(void)
{
    struct dirent **entries;
    int count = scandir(fixtures, &entries, is_name, alphasort);
    if (count <= 0) {
        printf("FAILED: no fixtures in %s\n", fixtures);
        return 1;
    }
    for (int i = 0; i < count; i++) {
        check(entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    return failures > 0;
}
