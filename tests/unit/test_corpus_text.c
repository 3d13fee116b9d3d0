// corpus: windows of text as samples of the step. The tokenizer is the embedded one, configs/tiny/llama.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cost/flops.h"
#include "data/corpus.h"
#include "data/sample.h"
#include "io/atomic_file.h"

enum { BOS = 1, EOS = 2 };

static lw_error err;
static char dir[64];
static lw_tokenizer *tokenizer;

static int set_up(void **state)
{
    (void)state;
    const char *root = getenv("LWMPI_SOURCE_DIR");
    char path[1024];
    strcpy(dir, "/tmp/lw-corpus-XXXXXX");
    snprintf(path, sizeof path, "%s/configs/tiny/llama/tokenizer.json", root == NULL ? "." : root);
    return mkdtemp(dir) == NULL || lw_tokenizer_load(path, &err, &tokenizer) != LW_OK;
}

static int tear_down(void **state)
{
    (void)state;
    char command[128];
    lw_tokenizer_destroy(&tokenizer);
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

static lw_config *make_config(const char *share, const char *target_tokens)
{
    static const char text[] = "models = ( { name = \"m\"; path = \"x\"; } ); batch: { global = 1; };\n"
                               "data: { format = \"text\"; window_bytes = 24; };";
    const char *const overrides[] = {share, target_tokens};
    lw_config *config = NULL;
    assert_int_equal(lw_config_parse(text, strlen(text), "x.cfg", 2, overrides, &err, &config), LW_OK);
    return config;
}

// Three windows: "The lamp is in the" (of 24 bytes at most), ...
static const char document[] = "The lamp is in the library. Olga lives in Rome. The stamp is pink. Henry is a doctor.";

static lw_corpus read_corpus(const lw_config *config, int32_t bos, const char *cache)
{
    char path[128];
    lw_corpus corpus = {0};
    lw_llm_text text = {.tokenizer = tokenizer, .bos = bos, .eos = EOS};
    snprintf(path, sizeof path, "%s/document.txt", dir);
    assert_int_equal(lw_write_file_atomic(path, document, strlen(document), &err), LW_OK);
    lw_data_source source = lw_data_source_of(config, path, 0);
    lw_status status = lw_corpus_read(config, &source, NULL, &text, cache, &err, &corpus);
    if (status != LW_OK) {
        print_error("%s\n", err.text);
    }
    assert_int_equal(status, LW_OK);
    return corpus;
}

// `tokens` are the first of `text`, at most `most`.
static void are_first(lw_tokens tokens, const char *text, size_t most)
{
    lw_ids ids = {0};
    assert_int_equal(lw_tokenizer_encode(tokenizer, text, strlen(text), false, &err, &ids), LW_OK);
    assert_int_equal(tokens.count, ids.len < most ? ids.len : most);
    assert_memory_equal(tokens.ids, ids.data, (size_t)tokens.count * sizeof *ids.data);
    lw_ids_free(&ids);
}

static void check_windows(const lw_corpus *c, int32_t bos, size_t most)
{
    assert_true(c->count >= 3);
    assert_int_equal(c->view_count, 2 * c->count);
    for (int64_t i = 0; i < c->count; i++) {
        const lw_sample *text = &c->data.samples[i];
        const lw_token_sample *continued = &c->samples[i];
        const lw_token_sample *repeated = &c->samples[c->count + i];
        assert_int_equal(continued->task, LW_TASK_CONTINUE);
        assert_int_equal(repeated->task, LW_TASK_REPEAT);
        are_first(continued->answer[0], text->answers[0], most); // without an end token
        are_first(repeated->answer[0], text->context, most);
        assert_int_equal(continued->suffix[0].count, 0);
        assert_int_equal(repeated->suffix[0].count, 0);
        // The encoder reads the window as it is, in bytes; the text prompt is the window too.
        assert_int_equal(continued->source.count, strlen(text->context));
        for (int64_t k = 0; k < continued->source.count; k++) {
            assert_int_equal(continued->source.ids[k], (unsigned char)text->context[k]);
        }
        assert_ptr_equal(continued->source.ids, repeated->source.ids);
        lw_tokens prompt = continued->prompt[0];
        if (bos >= 0) {
            assert_int_equal(prompt.ids[0], bos);
            prompt = (lw_tokens){prompt.ids + 1, prompt.count - 1};
        }
        are_first(prompt, text->context, 1000);
    }
}

static void test_views(void **state)
{
    (void)state;
    lw_config *config = make_config("loss.reconstruct_share=0.25", "data.target_tokens=4");
    for (int32_t bos = -1; bos <= BOS; bos += 2) {
        for (int time = 0; time < 2; time++) { // made, and from the cache
            lw_corpus corpus = read_corpus(config, bos, dir);
            assert_int_equal(corpus.tokens[0].from_cache, time == 1);
            check_windows(&corpus, bos, 4);
            lw_corpus_free(&corpus);
        }
    }
    lw_config_destroy(&config);
    config = make_config("loss.reconstruct_share=0.25", "data.target_tokens=7");
    lw_corpus corpus = read_corpus(config, BOS, dir);
    assert_false(corpus.tokens[0].from_cache); // other targets: not those tokens
    check_windows(&corpus, BOS, 7);
    lw_corpus_free(&corpus);
    lw_config_destroy(&config);
}

static void test_shares(void **state)
{
    (void)state;
    enum { PLACES = 20000 };
    lw_config *config = make_config("loss.reconstruct_share=0.2", "data.target_tokens=4");
    lw_corpus corpus = read_corpus(config, BOS, NULL);
    int64_t repeated = 0;
    int64_t differ = 0;
    for (int64_t i = 0; i < PLACES; i++) {
        const lw_token_sample *s = lw_corpus_sample(&corpus, i % corpus.count, 5, i);
        assert_ptr_equal(s, lw_corpus_sample(&corpus, i % corpus.count, 5, i));
        assert_ptr_equal(s->source.ids, corpus.samples[i % corpus.count].source.ids);
        repeated += s->task == LW_TASK_REPEAT;
        differ += s != lw_corpus_sample(&corpus, i % corpus.count, 6, i);
    }
    assert_in_range(repeated, 3800, 4200); // 4000, standard deviation 57
    assert_in_range(differ, 6000, 6800);   // 2 x 0.2 x 0.8 = 0.32 of them
    lw_corpus_free(&corpus);
    lw_config_destroy(&config);

    static const char *const shares[] = {"loss.reconstruct_share=0", "loss.reconstruct_share=1"};
    static const lw_task tasks[] = {LW_TASK_CONTINUE, LW_TASK_REPEAT};
    for (int k = 0; k < 2; k++) {
        config = make_config(shares[k], "data.target_tokens=4");
        corpus = read_corpus(config, BOS, NULL);
        assert_int_equal(corpus.view_count, corpus.count);
        for (int64_t i = 0; i < 100; i++) {
            assert_int_equal(lw_corpus_sample(&corpus, i % corpus.count, 5, i)->task, tasks[k]);
        }
        lw_corpus_free(&corpus);
        lw_config_destroy(&config);
    }
}

// Mean sizes are those of what is trained.
static void test_shape(void **state)
{
    (void)state;
    lw_config *config = make_config("loss.reconstruct_share=0.25", "data.target_tokens=4");
    lw_corpus c = read_corpus(config, BOS, NULL);
    double answer = 0.0;
    for (int64_t i = 0; i < c.count; i++) {
        answer += 0.75 * (double)c.samples[i].answer[0].count + 0.25 * (double)c.samples[c.count + i].answer[0].count;
    }
    lw_sample_shape shape = lw_corpus_shape(config, &c);
    assert_true(fabs(shape.answer[0] - answer / (double)c.count) < 1e-9);
    // Latents, the task token, and the answer but for its last token.
    assert_true(fabs(shape.rows[0] - (double)config->wire.latents - shape.answer[0]) < 1e-9);
    assert_true(lw_corpus_max_positions(&c, config, 0) > config->wire.latents + 1 + 4);
    lw_corpus_free(&c);
    lw_config_destroy(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_views),
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_shape),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
