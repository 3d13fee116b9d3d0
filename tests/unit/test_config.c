// config: parsing, messages, overrides, dump, hash, differences.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "config/config.h"
#include "config/keys.h"
#include "io/atomic_file.h"

#define MODELS "models = ( { name = \"llama\"; path = \"m/llama\"; }, { name = \"qwen\"; path = \"/abs/qwen\"; } );\n"
#define GOOD MODELS "batch: { global = 8; };\n"

static lw_error err;

static lw_config *parse(const char *text, int64_t count, const char *const *overrides)
{
    lw_config *config = NULL;
    lw_status status = lw_config_parse(text, strlen(text), "conf/tiny.cfg", count, overrides, &err, &config);
    if (status != LW_OK) {
        print_error("%s\n", err.text);
    }
    assert_int_equal(status, LW_OK);
    return config;
}

static lw_config *parse_with(const char *text, const char *override)
{
    return parse(text, 1, &override);
}

// Parsing must fail with `wanted` and a message that holds each of the texts, NULL at the end.
static void fails_with(const char *text, const char *override, lw_status wanted, const char *a, const char *b)
{
    lw_config *config = NULL;
    lw_error e = {.text = ""};
    lw_status status = lw_config_parse(text, strlen(text), "conf/tiny.cfg", override != NULL, &override, &e, &config);
    if (status != wanted || strstr(e.text, a) == NULL || strstr(e.text, b) == NULL) {
        print_error("status %d, message: %s\n  wanted: \"%s\" and \"%s\"\n", (int)status, e.text, a, b);
    }
    assert_int_equal(status, wanted);
    assert_non_null(strstr(e.text, a));
    assert_non_null(strstr(e.text, b));
    assert_null(config);
}

static void file_fails(const char *text, const char *a, const char *b)
{
    fails_with(text, NULL, LW_ERR_CONFIG, a, b);
}

static void override_fails(const char *override, const char *a, const char *b)
{
    fails_with(GOOD, override, LW_ERR_CONFIG, a, b);
}

static void test_defaults(void **state)
{
    (void)state;
    lw_config *c = parse(GOOD, 0, NULL);
    assert_string_equal(c->name, "tiny");
    assert_string_equal(c->dir, "conf");
    assert_string_equal(c->run.dir, "runs/tiny");
    assert_int_equal(c->model_count, 2);
    assert_string_equal(c->models[0].name, "llama");
    assert_string_equal(c->models[0].path, "conf/m/llama");
    assert_string_equal(c->models[1].path, "/abs/qwen");
    assert_int_equal(c->models[0].init, LW_MODEL_INIT_LOAD);
    assert_int_equal(c->batch.global, 8);
    assert_int_equal(c->batch.per_rank, 0);
    assert_int_equal(c->gpus, LW_GPUS_ALL);
    assert_int_equal(c->wire.latents, 32);
    assert_int_equal(c->encoder.ffn, 1024);
    assert_int_equal(c->encoder.layers, 2); // auto, of the byte encoder
    assert_int_equal(c->pooler.ffn, 1024);
    assert_int_equal(c->adapter.hidden, 1024);
    assert_true(c->train.lr == 1e-4);
    assert_true(c->data.cache);
    assert_string_equal(c->prompt.context, "{context}\n");
    assert_string_equal(c->data.train, "");
    lw_config_destroy(&c);
    assert_null(c);
    lw_config_destroy(&c);
}

static void test_values(void **state)
{
    (void)state;
    lw_config *c = parse("\xEF\xBB\xBF" MODELS "# comment with 99999999999 and \"\n"
                         "device = \"cpu\"; gpus = 4; seed = 3000000000; /* @include \"x\" */\n"
                         "batch: { per_rank = 4; micro = 2; };\n"
                         "train: { lr = 1; clip = 0.5; warmup = 0; };\n"
                         "data: { train = \"a.jsonl\"; cache = false; format = \"squad\"; };\n"
                         "prompt: { anchor = \"A\\n\\\"\\x41\" \"b\"; };\n",
                         0, NULL);
    assert_int_equal(c->device, LW_DEVICE_CPU);
    assert_int_equal(c->gpus, 4);
    assert_true(c->seed == INT64_C(3000000000)); // libconfig 1.5 alone would wrap it
    assert_int_equal(c->batch.per_rank, 4);
    assert_true(c->train.lr == 1.0);
    assert_string_equal(c->data.train, "conf/a.jsonl");
    assert_false(c->data.cache);
    assert_int_equal(c->data.format, LW_DATA_SQUAD);
    assert_string_equal(c->prompt.anchor, "A\n\"Ab");
    lw_config_destroy(&c);
    c = parse(GOOD "seed = 0x7FFFFFFFFFFFFFFFL; wire: { d_z = 0x80; };", 0, NULL);
    assert_true(c->seed == INT64_MAX);
    assert_int_equal(c->wire.d_z, 128);
    lw_config_destroy(&c);
}

static void test_bad_files(void **state)
{
    (void)state;
    file_fails(GOOD "trian: { lr = 1.0; };", "conf/tiny.cfg:3: trian", "did you mean train?");
    file_fails(GOOD "train: {\n learning_rate = 1.0; };", "conf/tiny.cfg:4: train.learning_rate: unknown key",
               "--help");
    file_fails(GOOD "train: { epoch = 1; };", "train.epoch", "did you mean train.epochs?");
    file_fails(GOOD "epochs = 3;", ":3: epochs", "did you mean train.epochs?");
    file_fails(GOOD "model = 3;", ":3: model", "did you mean models?");
    file_fails(GOOD "train = 3;", "train wants a group", "an integer");
    file_fails(GOOD "seed: { a = 1; };", "seed wants an integer", "a group");
    file_fails(GOOD "seed = 1.5;", ":3: seed wants an integer", "fraction");
    file_fails(GOOD "seed = -1;", ":3: seed = -1 is out of range", "at least 0");
    file_fails(GOOD "seed = 99999999999999999999;", ":3:", "does not fit 64 bits");
    file_fails(GOOD "train: { lr = \"x\"; };", "train.lr wants a number in [0, 100]", "a string");
    file_fails(GOOD "train: { lr = 1e999; };", "train.lr = inf is out of range", "[0, 100]");
    file_fails(GOOD "train: { beta1 = 1.0; };", "train.beta1 = 1 is out of range", "[0, 1)");
    file_fails(GOOD "train: { eps = 0; };", "train.eps = 0 is out of range", "(0, 1]");
    file_fails(GOOD "gpus = 0;", "gpus = 0 is out of range", "\"auto\" or");
    file_fails(GOOD "gpus = \"two\";", "gpus wants \"all\", \"auto\" or an integer", "\"two\"");
    file_fails(GOOD "device = \"gpu\";", "device wants one of \"auto\", \"cpu\", \"cuda\"", "\"gpu\"");
    file_fails(GOOD "data: { cache = 1; };", "data.cache wants true or false", "an integer");
    file_fails(GOOD "seed = 1;\nseed = 2;", "conf/tiny.cfg:4: duplicate", "libconfig");
    file_fails(GOOD "train.lr = 1;", "conf/tiny.cfg:3: syntax error", "train: {");
    file_fails(GOOD "data: { train = \"a\\x00b\"; };", "conf/tiny.cfg:3:", "NUL");
    file_fails(GOOD "data: { train = \"\\xff\"; };", "data.train", "not valid UTF-8");
    file_fails(GOOD "data: { train = \"\xff\"; };", "conf/tiny.cfg:3:", "not UTF-8");
    file_fails(GOOD "@include \"other.cfg\"", "conf/tiny.cfg:3: @include", "copy the settings here");
    fails_with("x\0y", NULL, LW_ERR_CONFIG, "syntax error", "");
    lw_config *config = NULL;
    lw_error e;
    assert_int_equal(lw_config_parse("seed\0=1;", 8, "f.cfg", 0, NULL, &e, &config), LW_ERR_CONFIG);
    assert_non_null(strstr(e.text, "f.cfg:1: a NUL byte"));
}

static void test_cross_checks(void **state)
{
    (void)state;
    file_fails("batch: { global = 1; };", "no models", "add  models");
    file_fails(MODELS, "no batch size", "batch.per_rank");
    file_fails(GOOD "batch2: {};", "batch2", "did you mean batch?");
    file_fails(MODELS "batch: { global = 1;\n per_rank = 1; };", "tiny.cfg:2: batch.global",
               "tiny.cfg:3: batch.per_rank");
    file_fails(MODELS "batch: { global = 0; };", "batch.global = 0 is out of range", "at least 1");
    file_fails(GOOD "encoder: { width = 250; heads = 4; };", "encoder.heads = 4", "encoder.width = 250");
    file_fails(GOOD "encoder: { kind = \"llm\"; };", "encoder.kind = \"llm\"", "encoder.path");
    file_fails(GOOD "encoder: { kind = \"llm\"; path = \"a\"; share = \"a\"; };", "encoder.share", "not both");
    file_fails(GOOD "encoder: { kind = \"llm\"; share = \"nobody\"; };", "encoder.share = \"nobody\"",
               "no entry of models");
    file_fails(GOOD "encoder: { kind = \"llm\"; path = \"a\"; layers = 0; };", "encoder.layers = 0",
               "at least one layer");
    file_fails(GOOD "encoder: { lora_rank = 4; };", "encoder.lora_rank = 4", "not \"llm\"");
    file_fails(GOOD "encoder: { kind = \"llm\"; path = \"a\"; window = 7; };", "encoder.window = 7", "at least 8");
    file_fails(GOOD "wire: { d_z = 12; }; pooler: { heads = 4; };", "pooler.heads = 4", "even");
    file_fails(GOOD "prompt: { question = \"Q\"; };", "prompt.question = \"Q\"", "{question} exactly once");
    file_fails(GOOD "prompt: { answer = \"{answer}{answer}\"; };", "prompt.answer", "exactly once");
    file_fails(GOOD "encoder: { kind = \"bert\"; };", "encoder.kind = \"bert\"", "encoder.path");
    fails_with(GOOD "data: { format = \"text\"; window_bytes = 4096; };", NULL, LW_ERR_CONFIG,
               "data.window_bytes = 4096", "max_source_bytes");
    fails_with(GOOD "data: { format = \"text\"; };\n", "loss.kd_weight=0.5", LW_ERR_CONFIG,
               "override loss.kd_weight = 0.5", "no teacher");
    fails_with(GOOD "loss: { k = 0; };\n", "loss.kd_weight=0.5", LW_ERR_CONFIG, "override loss.kd_weight = 0.5",
               "set loss.k");
}

static void test_bad_models(void **state)
{
    (void)state;
#define B "batch: { global = 8; };\n"
    file_fails(B "models = \"x\";", ":2: models wants a list", "a string");
    file_fails(B "models = ();", "holds 0 models", "1 to 16");
    file_fails(B "models = ( 3 );", "models.[0] wants a group", "an integer");
    file_fails(B "models = ( { name = \"a\"; } );", "models.[0] has no path", "path =");
    file_fails(B "models = ( { path = \"a\"; } );", "models.[0] has no name", "name =");
    file_fails(B "models = ( { name = \"a b\"; path = \"a\"; } );", "\"a b\"", "A-Z");
    file_fails(B "models = ( { name = 3; path = \"a\"; } );", "models.[0].name wants a string", "integer");
    file_fails(B "models = ( { name = \"a\"; path = \"a\"; },\n { name = \"a\"; path = \"b\"; } );", "both named \"a\"",
               "");
    file_fails(B "models = ( { name = \"a\"; pth = \"a\"; } );", ":2: models.[0].pth: unknown key", "path");
    file_fails(B "models = ( { name = \"a\"; path = \"a\"; init = \"zero\"; } );", "models.[0].init", "\"random\"");
#undef B
}

static void test_overrides(void **state)
{
    (void)state;
    const char *const many[] = {"train.lr=3e-4",
                                "batch.per_rank=4",
                                "device=cpu",
                                "gpus=auto",
                                "run.dir=out/x",
                                "data.train=data/t.jsonl",
                                "models.llama.path=other",
                                "models.[1].init=random",
                                "models.[1].name=second",
                                "prompt.anchor=\"A:\\n\"",
                                "prompt.question=Q {question} # http://x",
                                "seed = 5000000000",
                                "train.lr=5e-4",
                                "eval={batch=7; at_end=false;}",
                                "plan.device=7"};
    lw_config *c = parse(GOOD, (int64_t)(sizeof many / sizeof many[0]), many);
    assert_true(c->train.lr == 5e-4); // the last one wins
    assert_int_equal(c->batch.per_rank, 4);
    assert_int_equal(c->batch.global, 0); // replaced
    assert_int_equal(c->device, LW_DEVICE_CPU);
    assert_string_equal(c->run.dir, "out/x");
    assert_string_equal(c->data.train, "data/t.jsonl"); // from the working directory
    assert_string_equal(c->models[0].path, "other");
    assert_int_equal(c->models[1].init, LW_MODEL_INIT_RANDOM);
    assert_string_equal(c->models[1].name, "second");
    assert_string_equal(c->prompt.anchor, "A:\n");
    assert_string_equal(c->prompt.question, "Q {question} # http://x");
    assert_true(c->seed == INT64_C(5000000000));
    assert_int_equal(c->eval.batch, 7);
    assert_string_equal(c->plan.device, "7");
    lw_config_destroy(&c);

    c = parse_with(GOOD, "models=({name=\"x\"; path=\"y\";})");
    assert_int_equal(c->model_count, 1);
    assert_string_equal(c->models[0].path, "y");
    lw_config_destroy(&c);
    c = parse_with(GOOD, "batch={per_rank=3;}");
    assert_int_equal(c->batch.global, 0);
    lw_config_destroy(&c);
    c = parse_with(GOOD, "data.eval=true");
    assert_string_equal(c->data.eval, "true");
    lw_config_destroy(&c);
}

static void test_bad_overrides(void **state)
{
    (void)state;
    override_fails("train.lr", "\"train.lr\"", "KEY=VALUE");
    override_fails("=3", "\"=3\"", "KEY=VALUE");
    override_fails("train.lrr=3", "override train.lrr: unknown key", "train.lr?");
    override_fails("train.lr=fast", "override train.lr wants a number", "\"fast\"");
    override_fails("train.epochs=1.5", "override train.epochs wants an integer", "fraction");
    override_fails("train.epochs=1; seed=2", "override train.epochs wants an integer", "\"1; seed=2\"");
    override_fails("train.epochs=5#x", "override train.epochs", "\"5#x\"");
    override_fails("train.epochs=", "override train.epochs", "wants an integer");
    override_fails("train.epochs=99999999999999999999", "override train.epochs", "wants an integer");
    override_fails("device=gpu", "override device wants one of", "\"gpu\"");
    override_fails("models.gpt.path=x", "override models.gpt.path: no such model", "llama, qwen");
    override_fails("models.[2].path=x", "no such model", "llama, qwen");
    override_fails("models.llama.size=x", "models.[0].size: unknown key", "name, path and init");
    override_fails("models.llama=x", "override models.llama", "models.NAME.path=DIR");
    override_fails("models={", "override models wants a list", "\"{\"");
    override_fails("train=3", "train wants a group", "an integer");
    override_fails("data.train=\xff", "override data.train", "UTF-8");
    const char *const both[] = {"batch.global=2", "batch.per_rank=2"};
    lw_config *config = NULL;
    assert_int_equal(lw_config_parse(GOOD, strlen(GOOD), "x.cfg", 2, both, &err, &config), LW_ERR_CONFIG);
    assert_non_null(strstr(err.text, "override batch.global and override batch.per_rank"));
}

static void test_dump(void **state)
{
    (void)state;
    const char *const overrides[] = {"prompt.anchor=tab\there \"q\" \\ \x01 \xC3\xA9 {question}",
                                     "train.lr=0.1",
                                     "train.eps=1.2345678901234567e-9",
                                     "seed=9223372036854775807",
                                     "threads=3",
                                     "data.train=./x/y.jsonl"};
    lw_config *first = parse(GOOD, 6, overrides);
    char *text;
    char *again;
    uint64_t hash1;
    uint64_t hash2;
    char *differences;
    assert_int_equal(lw_config_text(first, &err, &text), LW_OK);
    lw_config *second = NULL;
    assert_int_equal(lw_config_parse(text, strlen(text), "elsewhere/config.cfg", 0, NULL, &err, &second), LW_OK);
    assert_int_equal(lw_config_text(second, &err, &again), LW_OK);
    assert_string_equal(text, again);
    assert_string_equal(first->prompt.anchor, second->prompt.anchor);
    assert_true(first->train.eps == second->train.eps);
    assert_true(second->seed == INT64_MAX);
    assert_int_equal(second->data.train[0], '/');
    assert_null(strstr(text, "/./"));
    assert_int_equal(lw_config_hash(first, &err, &hash1), LW_OK);
    assert_int_equal(lw_config_hash(second, &err, &hash2), LW_OK);
    assert_true(hash1 == hash2);
    assert_int_equal(lw_config_differences(first, second, &err, &differences), LW_OK);
    assert_string_equal(differences, "");
    free(differences);

    // Every key of the table is in the dump.
    for (int i = 0; i < lw_key_count(); i++) {
        const char *dot = strrchr(lw_key_at(i)->path, '.');
        if ((lw_key_at(i)->flags & LW_KEY_UNSET) == 0) {
            assert_non_null(strstr(text, dot == NULL ? lw_key_at(i)->path : dot + 1));
        }
    }
    FILE *file = tmpfile();
    assert_non_null(file);
    assert_int_equal(lw_config_write(first, file, &err), LW_OK);
    fclose(file);
    free(text);
    free(again);
    lw_config_destroy(&first);
    lw_config_destroy(&second);
}

static void test_hash_and_differences(void **state)
{
    (void)state;
    lw_config *base = parse(GOOD, 0, NULL);
    uint64_t hash;
    assert_int_equal(lw_config_hash(base, &err, &hash), LW_OK);
    static const struct {
        const char *override;
        const char *difference; // NULL: free to change
    } cases[] = {
        {"train.lr=0.5", "  train.lr: 0.0001 before, 0.5 now\n"},
        {"seed=2", "  seed: 1 before, 2 now\n"},
        {"batch.global=9", "  batch.global: 8 before, 9 now\n"},
        {"wire.compress=context", "  wire.compress: \"prompt\" before, \"context\" now\n"},
        {"models.llama.path=m/other", "  models: llama = \"llama\", qwen = \"qwen\" before, llama = \"other\", "
                                      "qwen = \"qwen\" now\n"},
        {"models.llama.path=/moved/to/llama/", NULL},
        {"device=cpu", NULL},
        {"run.dir=x", NULL},
        {"log.every_steps=3", NULL},
        {"threads=2", NULL},
        {"batch.micro=2", NULL},
        {"run.accept_changes=true", NULL},
        {"checkpoint.keep_best=false", NULL},
        {"eval.at_end=false", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        lw_config *other = parse_with(GOOD, cases[i].override);
        uint64_t other_hash;
        char *text;
        assert_int_equal(lw_config_hash(other, &err, &other_hash), LW_OK);
        assert_int_equal(lw_config_differences(base, other, &err, &text), LW_OK);
        assert_string_equal(text, cases[i].difference == NULL ? "" : cases[i].difference);
        assert_int_equal(hash == other_hash, cases[i].difference == NULL);
        free(text);
        lw_config_destroy(&other);
    }
    // Longer than before is no difference, shorter is. 0 steps is no limit, so the most.
    static const struct {
        const char *before, *now, *difference;
    } lengths[] = {
        {"train.epochs=2", "train.epochs=3", ""},
        {"train.epochs=3", "train.epochs=2", "  train.epochs: 3 before, 2 now\n"},
        {"train.max_steps=50", "train.max_steps=60", ""},
        {"train.max_steps=50", "train.max_steps=0", ""},
        {"train.max_steps=0", "train.max_steps=50", "  train.max_steps: 0 before, 50 now\n"},
        {"train.max_steps=50", "train.max_steps=40", "  train.max_steps: 50 before, 40 now\n"},
    };
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        lw_config *before = parse_with(GOOD, lengths[i].before);
        lw_config *now = parse_with(GOOD, lengths[i].now);
        char *differences;
        assert_int_equal(lw_config_differences(before, now, &err, &differences), LW_OK);
        assert_string_equal(differences, lengths[i].difference);
        free(differences);
        lw_config_destroy(&before);
        lw_config_destroy(&now);
    }
    lw_config *other = parse_with(GOOD, "batch.per_rank=2");
    char *text;
    assert_int_equal(lw_config_differences(base, other, &err, &text), LW_OK);
    assert_non_null(strstr(text, "batch.global: 8 before, not set now"));
    free(text);
    lw_config_destroy(&other);
    lw_config_destroy(&base);
}

static void test_files(void **state)
{
    (void)state;
    char dir[] = "/tmp/lw-config-XXXXXX";
    assert_non_null(mkdtemp(dir));
    char path[128];
    snprintf(path, sizeof path, "%s/my.cfg", dir);
    lw_config *c = NULL;
    assert_int_equal(lw_config_load(path, 0, NULL, &err, &c), LW_ERR_CONFIG);
    assert_non_null(strstr(err.text, path));
    assert_int_equal(lw_config_load(dir, 0, NULL, &err, &c), LW_ERR_CONFIG); // a directory
    assert_int_equal(lw_write_file_atomic(path, GOOD, strlen(GOOD), &err), LW_OK);
    assert_int_equal(lw_config_load(path, 0, NULL, &err, &c), LW_OK);
    assert_string_equal(c->name, "my");
    assert_string_equal(c->dir, dir);
    lw_config_destroy(&c);
    unlink(path);
    rmdir(dir);
}

// Whatever is in the file: a message or a config, never a crash (the sanitizers watch).
static void test_mangled_text(void **state)
{
    (void)state;
    const char *good = GOOD "seed = 3000000000; # c\ntrain: { lr = 1e-4; };\nprompt: { anchor = \"a\\n\"; }; /* x */\n";
    size_t size = strlen(good);
    char *copy = malloc(size + 1);
    uint32_t random = 12345;
    for (int i = 0; i < 4000; i++) {
        memcpy(copy, good, size + 1);
        size_t length = size;
        for (int j = 0; j < 3; j++) {
            random = random * 1664525u + 1013904223u;
            copy[(random >> 8) % size] = "\"\\{}();=,#/*@x\n0L-+."[(random >> 3) % 20];
        }
        if (i % 2 == 0) {
            length = (random >> 4) % size;
        }
        lw_config *config = NULL;
        lw_status status = lw_config_parse(copy, length, "f.cfg", 0, NULL, &err, &config);
        assert_true(status == LW_OK || status == LW_ERR_CONFIG || status == LW_ERR_UNSUPPORTED);
        lw_config_destroy(&config);
    }
    free(copy);
}

static void test_table(void **state)
{
    (void)state;
    for (int i = 0; i < lw_key_count(); i++) {
        const lw_key *key = lw_key_at(i);
        assert_int_equal(lw_key_find(key->path), i); // no path twice
        assert_false(lw_key_is_group(key->path));
        assert_true(key->help[0] != '\0');
    }
    assert_true(lw_key_is_group("train"));
    assert_false(lw_key_is_group("trai"));
    assert_int_equal(lw_edit_distance("train", "trian"), 1);
    assert_int_equal(lw_edit_distance("", "abc"), 3);
    char near[64];
    assert_true(lw_key_suggest("train.learnrate", near, sizeof near) == false);
    assert_false(lw_key_suggest("zzzzzzzz", near, sizeof near));
    const double values[] = {0.1, 1.0, 1e-8, 1e22, 123456789.0, 5e-324, 1.7976931348623157e308, -2.0, 1e100};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        char text[64];
        lw_format_double(values[i], text, sizeof text);
        assert_true(strtod(text, NULL) == values[i]);
        assert_non_null(strpbrk(text, ".e"));
    }
    FILE *file = tmpfile();
    lw_config_help(file);
    assert_true(ftell(file) > 1000);
    fclose(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_cross_checks),
        cmocka_unit_test(test_bad_models),
        cmocka_unit_test(test_overrides),
        cmocka_unit_test(test_bad_overrides),
        cmocka_unit_test(test_dump),
        cmocka_unit_test(test_hash_and_differences),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_mangled_text),
        cmocka_unit_test(test_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
