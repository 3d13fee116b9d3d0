// An encoder's LLM: how texts are cut into windows, and that windows change nothing but what a token sees.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/devices.h"
#include "wire/encoder.h"

enum { MAX_TOKENS = 64, BOS = 3 };

static const char dir[] = "tests/parity/fixtures/qwen2-gqa";

typedef struct fixture {
    lw_config *config;
    lw_device *dev;
    lw_decoder *decoder;
    lw_params params;
    lw_arena params_memory, memory;
    lw_encoder encoder;
    lw_encoder_buffers buffers;
    lw_encoder_batch batch;
} fixture;

static lw_error err;

static void lay_out(fixture *f, lw_arena *arena, const lw_encoder_limits *limits)
{
    lw_encoder_buffers_free(&f->buffers);
    lw_status status =
        lw_encoder_layout(arena, f->dev, &f->params, &f->encoder, LW_PASS_INFER, limits, &err, &f->buffers);
    assert_int_equal(status, LW_OK);
}

static lw_config *parse(const char *encoder)
{
    char text[512];
    lw_config *config = NULL;
    snprintf(text, sizeof text,
             "models = ({name=\"one\"; path=\"a\";}); batch: { global = 1; }; wire: { latents = 1; d_z = 4; }; "
             "pooler: { kind = \"mean\"; heads = 2; }; encoder: { kind = \"llm\"; share = \"one\"; %s };",
             encoder);
    assert_int_equal(lw_config_parse(text, strlen(text), "test.cfg", 0, NULL, &err, &config), LW_OK);
    return config;
}

static lw_status declare(fixture *f, const char *encoder, int32_t bos)
{
    f->config = parse(encoder);
    const lw_hf_config *llm = lw_decoder_config(f->decoder);
    lw_backbone backbone = {.shapes.llm = *llm, .vocab = llm->vocab, .first = bos, .last = -1, .model = f->decoder};
    lw_status status = lw_encoder_declare(f->config, &backbone, &f->params, &err, &f->encoder);
    if (status == LW_OK) {
        lw_encoder_attach(&f->encoder, &backbone);
    }
    return status;
}

static void load(fixture *f)
{
    *f = (fixture){0};
    assert_int_equal(lw_device_open("cpu", 0, 1, &err, &f->dev), LW_OK);
    lw_decoder_options options = {.max_positions = MAX_TOKENS};
    assert_int_equal(lw_decoder_load(f->dev, dir, &options, &err, &f->decoder), LW_OK);
}

static void start(fixture *f, const char *encoder, int32_t bos, const lw_encoder_limits *limits)
{
    load(f);
    assert_int_equal(declare(f, encoder, bos), LW_OK);
    assert_int_equal(lw_params_place(&f->params, &err), LW_OK);
    lw_arena arena = lw_arena_measure();
    LW_TAKE(&arena, f->params.elements, float);
    assert_int_equal(lw_arena_alloc(f->dev, &arena, "parameters", &err, &f->params_memory), LW_OK);
    f->params.param = (float *)(void *)f->params_memory.base;
    lw_params_init(&f->params, 1, f->params.param);
    arena = lw_arena_measure();
    lay_out(f, &arena, limits);
    assert_int_equal(lw_arena_alloc(f->dev, &arena, "pass", &err, &f->memory), LW_OK);
    memset(f->memory.base, 0xFF, f->memory.size_bytes); // NaN: what is read must have been written
    arena = f->memory;
    lay_out(f, &arena, limits);
    assert_false(arena.overflow);
    assert_int_equal(lw_encoder_buffers_start(f->dev, &f->encoder, &f->buffers, &err), LW_OK);
    assert_int_equal(lw_encoder_batch_create(limits, &f->buffers.on, &err, &f->batch), LW_OK);
}

static void stop(fixture *f)
{
    lw_encoder_batch_free(&f->batch);
    lw_encoder_buffers_free(&f->buffers);
    lw_encoder_free(&f->encoder);
    lw_params_free(&f->params);
    if (f->dev != NULL) {
        lw_arena_free(f->dev, &f->params_memory);
        lw_arena_free(f->dev, &f->memory);
    }
    lw_decoder_destroy(&f->decoder);
    lw_device_close(&f->dev);
    lw_config_destroy(&f->config);
}

static void make_ids(int32_t *ids)
{
    for (int32_t i = 0; i < MAX_TOKENS; i++) {
        ids[i] = (7 * i + 11) % 60;
    }
}

static void upload(fixture *f, const int32_t *ids, const int64_t *lengths, int64_t count)
{
    lw_encoder_batch_clear(&f->batch);
    for (int64_t i = 0; i < count; i++) {
        assert_true(lw_encoder_batch_add(&f->batch, (lw_tokens){ids, lengths[i]}, 1) >= 0);
        ids += lengths[i];
    }
    assert_int_equal(lw_encoder_upload(f->dev, &f->encoder, &f->batch, &err, &f->buffers), LW_OK);
}

// Windows of at most 8 positions, one of them for begin-of-text: as few as possible, of lengths that differ by one at
// most.
static void test_windows(void **state)
{
    (void)state;
    static const int64_t lengths[] = {7, 8, 1, 0, 22};
    static const int64_t windows[] = {7, 4, 4, 1, 5, 6, 5, 6};
    const lw_encoder_limits limits = {.samples = 5, .tokens = 38, .max_tokens = 22, .latents = 5, .max_latents = 1};
    int32_t ids[MAX_TOKENS];
    fixture f;
    make_ids(ids);
    start(&f, "window = 8;", BOS, &limits);
    upload(&f, ids, lengths, 5);
    const lw_packing *p = f.buffers.reader->windows;
    assert_int_equal(p->sequences, 8);
    assert_int_equal(p->rows, 38 + 8);
    assert_int_equal(p->supervised, 38);
    assert_true(p->limits.sequences >= 8 && p->max_q <= p->limits.max_len);
    int64_t token = 0;
    for (int64_t w = 0; w < 8; w++) {
        int64_t first = p->at.start[w];
        assert_int_equal(p->at.start[w + 1] - first, windows[w] + 1);
        assert_int_equal(p->at.token_id[first], BOS);
        for (int64_t i = 0; i < windows[w]; i++) {
            assert_int_equal(p->at.token_id[first + 1 + i], ids[token]);
            assert_int_equal(p->at.position[first + 1 + i], i + 1);
            assert_int_equal(p->at.scored_row[token], first + 1 + i); // its state, and none of begin-of-text
            token++;
        }
    }
    stop(&f);
}

// States (tokens, 4) of the texts; their number.
static int64_t states_of(const char *encoder, int32_t bos, const int32_t *ids, const int64_t *lengths, int64_t count,
                         float *out)
{
    lw_encoder_limits limits = {.samples = count, .latents = count, .max_latents = 1};
    for (int64_t i = 0; i < count; i++) {
        limits.tokens += lengths[i];
        limits.max_tokens = lengths[i] > limits.max_tokens ? lengths[i] : limits.max_tokens;
    }
    fixture f;
    start(&f, encoder, bos, &limits);
    upload(&f, ids, lengths, count);
    lw_encoder_forward(f.dev, &f.params, &f.encoder, &f.batch, &f.buffers);
    assert_int_equal(f.dev->ops->sync(f.dev, &err), LW_OK);
    memcpy(out, f.buffers.x_out, (size_t)(4 * limits.tokens) * sizeof *out);
    stop(&f);
    return limits.tokens;
}

static void assert_close(const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        assert_float_equal(a[i], b[i], 1e-5);
    }
}

// A window is a text of its own.
static void test_windows_are_texts(void **state)
{
    (void)state;
    static const int64_t whole[] = {20, 3};
    static const int64_t parts[] = {6, 7, 7, 3};
    int32_t ids[MAX_TOKENS];
    float a[4 * MAX_TOKENS];
    float b[4 * MAX_TOKENS];
    make_ids(ids);
    for (int causal = 0; causal < 2; causal++) {
        const char *wide = causal != 0 ? "causal = true; lora_rank = 2;" : "causal = false;";
        const char *narrow = causal != 0 ? "causal = true; lora_rank = 2; window = 8;" : "causal = false; window = 8;";
        states_of(narrow, BOS, ids, whole, 2, a);
        int64_t n = states_of(wide, BOS, ids, parts, 4, b);
        assert_close(a, b, 4 * n);
        states_of(wide, BOS, ids, whole, 2, b);
        assert_true(memcmp(a + 4 * 12, b + 4 * 12, 4 * sizeof *a) != 0); // which see more in a wide one
        states_of(wide, -1, ids, whole, 2, a);
        assert_true(memcmp(a, b, 4 * sizeof *a) != 0); // and begin-of-text is seen
    }
}

static void fails(fixture *f, const char *encoder, const char *words)
{
    lw_config_destroy(&f->config);
    assert_int_equal(declare(f, encoder, BOS), LW_ERR_CONFIG);
    assert_non_null(strstr(err.text, words));
}

// The configuration asks for a frozen model exactly where the reader has one.
static void test_kinds(void **state)
{
    (void)state;
    for (int kind = 0; kind < LW_ENCODER_KIND_COUNT; kind++) {
        const lw_reader_ops *ops = lw_reader_of((lw_encoder_kind)kind);
        unsigned keys = lw_encoder_kind_keys((lw_encoder_kind)kind);
        assert_int_equal(ops->backbone != NULL, (keys & LW_USES_PATH) != 0);
        assert_true((keys & LW_USES_PATH) != 0 || (keys & (LW_USES_SHARE | LW_USES_LORA)) == 0);
    }
}

static void test_more_than_the_model_has(void **state)
{
    (void)state;
    fixture f;
    load(&f);
    fails(&f, "layers = 3;", "encoder.layers = 3, but the encoder's LLM has 2");
    fails(&f, "window = 129;", "encoder.window = 129, but max_position_embeddings");
    stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_windows_are_texts),
        cmocka_unit_test(test_more_than_the_model_has),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
