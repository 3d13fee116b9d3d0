// The list `phases`: what a phase says itself and what it has from the common keys, overrides, dump, hash, differences.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config/config.h"
#include "config/keys.h"

#define COMMON                                                  \
    "models = ( { name = \"llama\"; path = \"m/llama\"; } );\n" \
    "batch: { global = 8; };\n"                                 \
    "data: { train = \"qa.jsonl\"; };\n"                        \
    "train: { epochs = 3; max_steps = 700; lr = 2e-4; warmup = 0.1; };\n"
#define TWO                                                                                          \
    COMMON "phases = (\n"                                                                            \
           "  { name = \"text\"; data = \"sub/t.jsonl\"; steps = 500; lr = 1e-3; warmup = 0.2; },\n" \
           "  { name = \"qa\"; encoder_lr = 5e-5; }\n"                                               \
           ");\n"

static lw_error err;

static lw_config *parse(const char *text, int64_t count, const char *const *overrides)
{
    lw_config *config = NULL;
    err = (lw_error){.text = ""};
    if (lw_config_parse(text, strlen(text), "conf/x.cfg", count, overrides, &err, &config) != LW_OK) {
        fail_msg("%s", err.text);
    }
    return config;
}

static void fails(const char *text, const char *override, const char *message)
{
    lw_config *config = NULL;
    lw_error e = {.text = ""};
    lw_status status = lw_config_parse(text, strlen(text), "conf/x.cfg", override != NULL, &override, &e, &config);
    if (status != LW_ERR_CONFIG || strstr(e.text, message) == NULL) {
        fail_msg("status %d, \"%s\", wanted \"%s\"", (int)status, e.text, message);
    }
}

static void test_a_phase_is_its_keys_over_the_common_ones(void **state)
{
    (void)state;
    lw_config *c = parse(TWO, 0, NULL);
    const lw_config *text = lw_config_phase(c, 0);
    const lw_config *qa = lw_config_phase(c, 1);
    assert_int_equal(lw_config_phase_count(c), 2);
    assert_string_equal(lw_config_phase_name(c, 0), "text");
    assert_string_equal(lw_config_phase_name(c, 1), "qa");
    assert_string_equal(text->data.train, "conf/sub/t.jsonl");
    assert_int_equal(text->train.max_steps, 500);
    assert_int_equal(text->train.epochs, 1000000); // as often as the steps take
    assert_true(text->train.lr == 1e-3 && text->train.warmup == 0.2 && text->train.encoder_lr == 0.0);
    assert_string_equal(qa->data.train, "conf/qa.jsonl");
    assert_int_equal(qa->train.max_steps, 0); // that of all is the end of the run, not of a phase
    assert_int_equal(qa->train.epochs, 3);
    assert_true(qa->train.lr == 2e-4 && qa->train.warmup == 0.1 && qa->train.encoder_lr == 5e-5);
    assert_int_equal(qa->batch.global, 8);
    assert_int_equal(qa->model_count, 1);
    assert_string_equal(qa->models[0].name, "llama");
    assert_string_equal(qa->run.dir, "runs/x");
    assert_int_equal(qa->encoder.ffn, 4 * qa->encoder.width); // what is resolved is inherited so
    assert_int_equal(c->train.max_steps, 700);
    lw_config_destroy(&c);
}

static void test_no_phases_is_one(void **state)
{
    (void)state;
    static const char *const none = "phases=()";
    lw_config *c = parse(COMMON, 0, NULL);
    assert_int_equal(lw_config_phase_count(c), 1);
    assert_ptr_equal(lw_config_phase(c, 0), c);
    assert_string_equal(lw_config_phase_name(c, 0), "");
    lw_config_destroy(&c);
    c = parse(TWO, 1, &none);
    assert_int_equal(c->phase_count, 0);
    lw_config_destroy(&c);
}

static void test_overrides(void **state)
{
    (void)state;
    static const char *const overrides[] = {
        "phases.[0].steps=10",    "phases.qa.steps=20",      "phases.text.data=here.txt",
        "phases.qa.format=squad", "phases.[1].name=answers", "phases.answers.lr=3e-3",
        "train.lr=7e-4"};
    static const char *const list[] = {"phases=({name=\"a\";steps=4;},{name=\"b\";epochs=2;})", "phases.b.lr=1e-2"};
    lw_config *c = parse(TWO, sizeof overrides / sizeof *overrides, overrides);
    const lw_config *text = lw_config_phase(c, 0);
    const lw_config *qa = lw_config_phase(c, 1);
    assert_int_equal(text->train.max_steps, 10);
    assert_string_equal(text->data.train, "here.txt"); // an override starts at the working directory
    assert_true(text->train.lr == 1e-3);
    assert_int_equal(qa->train.max_steps, 20);
    assert_int_equal(qa->data.format, LW_DATA_SQUAD);
    assert_true(qa->train.lr == 3e-3);
    assert_string_equal(lw_config_phase_name(c, 1), "answers");
    lw_config_destroy(&c);
    c = parse(TWO, 2, list);
    assert_int_equal(lw_config_phase_count(c), 2);
    assert_string_equal(lw_config_phase(c, 0)->data.train, "conf/qa.jsonl");
    assert_int_equal(lw_config_phase(c, 1)->train.epochs, 2);
    assert_true(lw_config_phase(c, 0)->train.lr == 2e-4 && lw_config_phase(c, 1)->train.lr == 1e-2);
    lw_config_destroy(&c);
}

static void test_messages(void **state)
{
    (void)state;
    fails(COMMON "phases = ( { steps = 4; } );", NULL, "phases.[0] has no name");
    fails(COMMON "phases = ( { name = \"a\"; }, { name = \"a\"; } );", NULL, "both named \"a\"");
    fails(COMMON "phases = ( { name = \"a b\"; } );", NULL, "conf/x.cfg:5: phases.[0].name = \"a b\"");
    fails(COMMON "phases = ( { name = 3; } );", NULL, "phases.[0].name wants a string");
    fails(COMMON "phases = ( { name = \"a\"; stepz = 4; } );", NULL, "conf/x.cfg:5: phases.[0].stepz: unknown key");
    fails(COMMON "phases = ( { name = \"a\"; seed = 4; } );", NULL, "phases.[0].seed: unknown key");
    fails(COMMON "phases = ( { name = \"a\"; lr = -1.0; } );", NULL,
          "conf/x.cfg:5: phases.[0].lr = -1 is out of range");
    fails(COMMON "phases = ( { name = \"a\"; steps = \"x\"; } );", NULL, "phases.[0].steps wants");
    fails(COMMON "phases = ( 3 );", NULL, "phases.[0] wants a group");
    fails(COMMON "phases = { name = \"a\"; };", NULL, "phases wants a list");
    fails(TWO, "phases.text.steps=many", "override phases.[0].steps wants");
    fails(TWO, "phases.other.steps=4", "no such phase; the 2 in conf/x.cfg: text, qa");
    fails(TWO, "phases.[2].steps=4", "no such phase");
    fails(TWO, "phases.text=4", "write phases.NAME.steps=N");
    fails(TWO, "phases=text", "wants a list");
    fails(TWO, "phases.qa.ratio=4", "phases.qa.ratio = 4, but learned queries");
    fails(COMMON, "phasse=1", "did you mean phases?");
}

// Two keys of one name within a phase could not be told apart.
static void test_names_within_a_phase_are_distinct(void **state)
{
    (void)state;
    int count = 0;
    for (int i = 0; i < lw_key_count(); i++) {
        const lw_key *key = lw_key_at(i);
        if ((key->flags & LW_KEY_PHASE) != 0) {
            assert_int_equal(lw_key_find_phase(lw_key_phase_name(key)), i);
            assert_string_not_equal(lw_key_phase_name(key), "name");
            count++;
        }
    }
    assert_true(count > 10);
    assert_int_equal(lw_key_find_phase("data"), lw_key_find("data.train"));
    assert_int_equal(lw_key_find_phase("steps"), lw_key_find("train.max_steps"));
    assert_int_equal(lw_key_find_phase("dir"), -1);
}

static void test_dump_reads_back(void **state)
{
    (void)state;
    lw_config *first = parse(TWO, 0, NULL);
    char *text;
    char *again;
    char *differences;
    uint64_t hashes[3];
    assert_int_equal(lw_config_text(first, &err, &text), LW_OK);
    lw_config *second = parse(text, 0, NULL);
    assert_int_equal(lw_config_text(second, &err, &again), LW_OK);
    assert_string_equal(text, again);
    assert_int_equal(lw_config_differences(first, second, &err, &differences), LW_OK);
    assert_string_equal(differences, "");
    lw_config *plain = parse(COMMON, 0, NULL);
    assert_int_equal(lw_config_hash(first, &err, &hashes[0]), LW_OK);
    assert_int_equal(lw_config_hash(second, &err, &hashes[1]), LW_OK);
    assert_int_equal(lw_config_hash(plain, &err, &hashes[2]), LW_OK);
    assert_true(hashes[0] == hashes[1] && hashes[0] != hashes[2]);
    free(text);
    free(again);
    free(differences);
    lw_config_destroy(&first);
    lw_config_destroy(&second);
    lw_config_destroy(&plain);
}

static void check_differences(const char *override, const char *wanted)
{
    lw_config *before = parse(TWO, 0, NULL);
    lw_config *now = parse(TWO, 1, &override);
    char *differences;
    assert_int_equal(lw_config_differences(before, now, &err, &differences), LW_OK);
    assert_string_equal(differences, wanted);
    free(differences);
    lw_config_destroy(&before);
    lw_config_destroy(&now);
}

static void test_differences(void **state)
{
    (void)state;
    check_differences("phases.text.lr=2e-3", "  phases.text.lr: 0.001 before, 0.002 now\n");
    check_differences("phases.text.steps=600", "  phases.text.steps: 500 before, 600 now\n"); // would move what follows
    check_differences("phases.qa.epochs=9", "");                                              // the last may go on
    check_differences("phases.qa.epochs=2", "  phases.qa.epochs: 3 before, 2 now\n");
    check_differences("train.max_steps=900", "");
    check_differences("train.max_steps=600", "  train.max_steps: 700 before, 600 now\n");
    check_differences("train.lr=3e-4", "  phases.qa.lr: 0.0002 before, 0.0003 now\n"); // that of `text` is its own
    check_differences("phases.text.warmup=0.2", "");
    check_differences("phases.qa.warmup=0.1", ""); // said twice is not changed
    check_differences("phases.[0].name=other", "  phases: text, qa before, other, qa now\n");
    check_differences("seed=3", "  seed: 1 before, 3 now\n");
    check_differences("phases=()", "  phases: text, qa before, none now\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_phase_is_its_keys_over_the_common_ones),
        cmocka_unit_test(test_no_phases_is_one),
        cmocka_unit_test(test_overrides),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_names_within_a_phase_are_distinct),
        cmocka_unit_test(test_dump_reads_back),
        cmocka_unit_test(test_differences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
