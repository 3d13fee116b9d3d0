// What files, names and other users may not do: leave a directory, write to the terminal, be written by everybody, be
// believed, or cost more than their size.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/config.h"
#include "core/child.h"
#include "core/utf8.h"
#include "cost/calibration.h"
#include "data/dataset.h"
#include "data/token_cache.h"
#include "data/tokens.h"
#include "io/atomic_file.h"
#include "io/files.h"
#include "scratch.h"
#include "tokenizer/tokenizer.h"

static lw_error err;

// --- messages

static void test_messages(void **state)
{
    (void)state;
    assert_int_equal(lw_fail(&err, LW_ERR_IO, "%s: %s", "a\nb", "\x1b]0;x\x07\xff\xe2\x80\xae"), LW_ERR_IO);
    assert_string_equal(err.text, "a\\x0ab: \\x1b]0;x\\x07\\xff\\xe2\\x80\\xae");
    // Escapes are not escaped again, and the arguments may be the message itself.
    lw_fail(&err, LW_ERR_IO, "again: %s", err.text);
    assert_string_equal(err.text, "again: a\\x0ab: \\x1b]0;x\\x07\\xff\\xe2\\x80\\xae");
    lw_fail(&err, LW_ERR_IO, "inner");
    lw_fail_in(&err, LW_ERR_IO, "outer\r");
    assert_string_equal(err.text, "outer\\x0d: inner");
    lw_fail_lines(&err, LW_ERR_IO, "  one\n  t\x1bwo");
    assert_string_equal(err.text, "outer\\x0d: inner:\n  one\n  t\\x1bwo");
    lw_fail_errno(&err, LW_ERR_IO, 2, "%s", "x\x7f");
    assert_string_equal(err.text, "x\\x7f: No such file or directory");
    // What is too long ends at a character.
    char text[4096];
    for (size_t i = 0; i + 2 < sizeof text; i += 2) {
        memcpy(text + i, "\xc3\xa9", 3);
    }
    for (int shift = 0; shift < 2; shift++) {
        lw_fail(&err, LW_ERR_IO, "%s%s", shift == 0 ? "" : "x", text);
        assert_int_equal(lw_utf8_first_bad(err.text, strlen(err.text)), strlen(err.text));
        assert_non_null(strstr(err.text, "..."));
        lw_fail_in(&err, LW_ERR_IO, "%s", shift == 0 ? "c" : "cc");
        assert_int_equal(lw_utf8_first_bad(err.text, strlen(err.text)), strlen(err.text));
        assert_true(strlen(err.text) < sizeof err.text);
    }
}

// --- names

static void test_names(void **state)
{
    (void)state;
    char longest[300];
    memset(longest, 'n', sizeof longest);
    longest[255] = '\0';
    assert_true(lw_path_is_plain_name("model-00001-of-00002.safetensors"));
    assert_true(lw_path_is_plain_name("...") && lw_path_is_plain_name(".x") && lw_path_is_plain_name(longest));
    static const char *const bad[] = {"", ".", "..", "/", "/etc/passwd", "a/b", "../a", "a/", "a\n", "\x1b[2J", "\xff"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(lw_path_is_plain_name(bad[i]));
    }
    longest[255] = 'n';
    longest[256] = '\0';
    assert_false(lw_path_is_plain_name(longest));
}

// Paths of a configuration end up in logs, JSON and job scripts.
static void test_config_paths(void **state)
{
    (void)state;
    static const char good[] = "models = ( { name = \"m\"; path = \"d\"; } ); batch: { global = 1; };";
    static const char *const bad[] = {
        "models = ( { name = \"m\"; path = \"d\\n\"; } ); batch: { global = 1; };",
        "models = ( { name = \"m\"; path = \"d\"; } ); batch: { global = 1; }; run: { dir = \"\\x1b[2J\"; };",
        "models = ( { name = \"m\"; path = \"d\"; } ); batch: { global = 1; }; data: { train = \"a\\rb\"; };",
    };
    lw_config *config = NULL;
    assert_int_equal(lw_config_parse(good, strlen(good), "x\n#SBATCH --uid=0.cfg", 0, NULL, &err, &config),
                     LW_ERR_CONFIG);
    assert_non_null(strstr(err.text, "x\\x0a#SBATCH"));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(lw_config_parse(bad[i], strlen(bad[i]), "c.cfg", 0, NULL, &err, &config), LW_ERR_CONFIG);
        assert_non_null(strstr(err.text, "control characters"));
    }
    const char *override = "models.m.path=a\nb";
    assert_int_equal(lw_config_parse(good, strlen(good), "c.cfg", 1, &override, &err, &config), LW_ERR_CONFIG);
    assert_int_equal(lw_config_parse(good, strlen(good), "caf\xc3\xa9 1.cfg", 0, NULL, &err, &config), LW_OK);
    lw_config_destroy(&config);
}

// --- who may write, and who is believed

static unsigned mode_of(const char *path)
{
    struct stat st;
    assert_int_equal(lstat(path, &st), 0);
    return (unsigned)st.st_mode & 07777;
}

static void test_modes(void **state)
{
    (void)state;
    static const struct {
        mode_t mask;
        unsigned file, dir;
    } cases[] = {{0, 0664, 0775}, {022, 0644, 0755}, {077, 0600, 0700}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char name[32];
        snprintf(name, sizeof name, "m%zu/sub", i);
        const char *dir = scratch_path(name);
        mode_t before = umask(cases[i].mask);
        assert_int_equal(lw_mkdir_p(dir, &err), LW_OK);
        char *path = NULL;
        assert_int_equal(lw_path_join(dir, "file", &err, &path), LW_OK);
        assert_int_equal(lw_write_file_atomic(path, "x", 1, &err), LW_OK);
        umask(before);
        assert_int_equal(mode_of(path), cases[i].file);
        assert_int_equal(mode_of(dir), cases[i].dir);
        free(path);
    }
}

static void test_own_files(void **state)
{
    (void)state;
    const char *path = scratch_path("own");
    char *text = NULL;
    size_t bytes = 0;
    scratch_put(path, "mine", 4);
    assert_int_equal(lw_read_own_file(path, 100, &err, &text, &bytes), LW_OK);
    free(text);
    assert_int_equal(chmod(path, 0666), 0);
    assert_int_equal(lw_read_own_file(path, 100, &err, &text, &bytes), LW_ERR_IO);
    assert_non_null(strstr(err.text, "can be written by everybody"));
    assert_int_equal(chmod(path, 0664), 0);
    assert_int_equal(lw_read_own_file(path, 100, &err, &text, &bytes), LW_OK);
    free(text);
    if (geteuid() != 0) {
        return; // only root can give a file away
    }
    assert_int_equal(chown(path, 12345, (gid_t)-1), 0);
    assert_int_equal(lw_read_own_file(path, 100, &err, &text, &bytes), LW_ERR_IO);
    assert_non_null(strstr(err.text, "another user"));
}

// A token cache and a calibration record that everybody can write are made again, not believed.
static void test_caches(void **state)
{
    (void)state;
    int64_t start[2] = {0, 1};
    int32_t ids[1] = {3};
    lw_token_list list = {.ids = ids, .start = start};
    lw_token_set set = {.count = 1, .prompt = list, .suffix = list, .answer = list, .vocab = 4};
    lw_token_set got = {0};
    const char *folder = scratch_path("tokens");
    assert_int_equal(lw_token_cache_write(folder, 7, &set, &err), LW_OK);
    assert_true(lw_token_cache_read(folder, 7, 1, 10, &got));
    lw_token_set_free(&got);
    assert_int_equal(chmod(scratch_path("tokens/tokens-0000000000000007.bin"), 0666), 0);
    assert_false(lw_token_cache_read(folder, 7, 1, 10, &got));
    assert_int_equal(lw_token_cache_write(folder, 7, &set, &err), LW_OK);
    assert_true(lw_token_cache_read(folder, 7, 1, 10, &got));
    lw_token_set_free(&got);

    lw_calibration_record record = {.source = "bench", .ranks = 1, .threads = 1, .step_flop = 1e9, .step_s = 1.0};
    record.rates = (lw_device_rates){
        .name = "x", .matrix_flop_per_s = 1e9, .f32_flop_per_s = 1e9, .bytes_per_s = 1e9, .cores_per_rank = 1.0};
    lw_calibration all = {0};
    folder = scratch_path("records");
    assert_int_equal(lw_calibration_write(folder, &record, &err), LW_OK);
    assert_int_equal(lw_calibration_read(folder, &err, &all), LW_OK);
    assert_int_equal(all.count, 1);
    char *path = NULL;
    assert_int_equal(lw_path_join(folder, all.list[0].file, &err, &path), LW_OK);
    lw_calibration_free(&all);
    assert_int_equal(chmod(path, 0666), 0);
    free(path);
    assert_int_equal(lw_calibration_read(folder, &err, &all), LW_OK);
    assert_int_equal(all.count, 0);
    lw_calibration_free(&all);
}

// Descriptors of /dev/null beyond the three streams that this process itself passes on.
static int inherited_nulls(void)
{
    int count = 0;
    for (int fd = 3; fd < 1024; fd++) {
        char name[32];
        char target[16] = "";
        snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
        int flags = fcntl(fd, F_GETFD);
        count += flags >= 0 && (flags & FD_CLOEXEC) == 0 && readlink(name, target, sizeof target - 1) == 9 &&
                 strcmp(target, "/dev/null") == 0;
    }
    return count;
}

// A program that is started gets its three streams and no file that this one has open.
static void test_children(void **state)
{
    (void)state;
    lw_atomic_file *file = NULL;
    assert_int_equal(lw_atomic_open(scratch_path("open"), &err, &file), LW_OK);
    char output[4096];
    int code = -1;
    char *const argv[] = {"sh", "-c", "for f in /proc/$$/fd/*; do readlink $f; done; true", NULL};
    assert_int_equal(lw_child_run(argv, 20.0, &err, output, sizeof output, &code), LW_OK);
    lw_atomic_abort(&file);
    assert_int_equal(code, 0);
    assert_non_null(strstr(output, "pipe:"));
    assert_null(strstr(output, scratch_dir()));
    int nulls = 0;
    for (const char *at = strstr(output, "/dev/null\n"); at != NULL; at = strstr(at + 1, "/dev/null\n")) {
        nulls++;
    }
    assert_int_equal(nulls, 1 + inherited_nulls()); // the empty stdin
}

// --- what costs more than its size

// One long context under many questions is held once.
static void test_shared_context(void **state)
{
    (void)state;
    enum { QUESTIONS = 2000, CONTEXT_BYTES = 100000 };
    char *text = malloc(QUESTIONS * 64 + 2 * CONTEXT_BYTES + 200);
    assert_non_null(text);
    char *at = text + sprintf(text, "{\"data\":[{\"paragraphs\":[");
    for (int paragraph = 0; paragraph < 2; paragraph++) {
        at += sprintf(at, "%s{\"context\":\"", paragraph == 0 ? "" : ",");
        memset(at, 'a' + paragraph, CONTEXT_BYTES);
        at += CONTEXT_BYTES;
        at += sprintf(at, "\",\"qas\":[{\"question\":3}");
        for (int i = 0; i < QUESTIONS / 2; i++) {
            at += sprintf(at, ",{\"question\":\"q\",\"answers\":[{\"text\":\"x\"}]}");
        }
        at += sprintf(at, "]}");
    }
    at += sprintf(at, "]}]}");
    const char *path = scratch_path("many.json");
    scratch_put(path, text, (size_t)(at - text));
    free(text);
    lw_dataset set = {0};
    assert_int_equal(lw_dataset_read(&(lw_data_source){.path = path, .format = LW_DATA_SQUAD, .max_bad_rows = 2}, &err,
                                     &set),
                     LW_OK);
    assert_int_equal(set.count, QUESTIONS);
    for (int64_t i = 0; i < set.count; i++) {
        assert_ptr_equal(set.samples[i].context, set.samples[i < QUESTIONS / 2 ? 0 : QUESTIONS / 2].context);
    }
    assert_int_equal(set.samples[0].context[0], 'a');
    assert_int_equal(set.samples[QUESTIONS - 1].context[0], 'b');
    lw_dataset_free(&set);
}

#define TOKENIZER(pretokenizer, vocab) \
    "{\"pre_tokenizer\":" pretokenizer ",\"model\":{\"vocab\":{" vocab "},\"merges\":[]}}"
#define BYTE_LEVEL "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}"

static void test_high_id(void **state)
{
    (void)state;
    static const char text[] = TOKENIZER(BYTE_LEVEL, "\"a\":0,\"b\":4194303");
    lw_tokenizer *tokenizer = NULL;
    scratch_put(scratch_path("high.json"), text, sizeof text - 1);
    assert_int_equal(lw_tokenizer_load(scratch_path("high.json"), &err, &tokenizer), LW_ERR_FORMAT);
    assert_non_null(strstr(err.text, "most ids would name nothing"));
}

// A pattern that looks at the whole rest of the text from every place.
static void test_slow_pattern(void **state)
{
    (void)state;
    enum { TEXT_BYTES = 50000 };
    static const char json[] =
        TOKENIZER("{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":"
                  "{\"Regex\":\"a(?=(?:[^z]|y)*$)\"}}," BYTE_LEVEL "]}",
                  "\"a\":0");
    lw_tokenizer *tokenizer = NULL;
    lw_ids ids = {0};
    char *text = malloc(TEXT_BYTES);
    assert_non_null(text);
    memset(text, 'a', TEXT_BYTES);
    scratch_put(scratch_path("slow.json"), json, sizeof json - 1);
    assert_int_equal(lw_tokenizer_load(scratch_path("slow.json"), &err, &tokenizer), LW_OK);
    assert_int_equal(lw_tokenizer_encode(tokenizer, text, TEXT_BYTES, false, &err, &ids), LW_ERR_UNSUPPORTED);
    assert_int_equal(ids.len, 0);
    print_message("%s\n", err.text);
    lw_ids_free(&ids);
    free(text);
    lw_tokenizer_destroy(&tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages),       cmocka_unit_test(test_names),     cmocka_unit_test(test_config_paths),
        cmocka_unit_test(test_modes),          cmocka_unit_test(test_own_files), cmocka_unit_test(test_caches),
        cmocka_unit_test(test_children),       cmocka_unit_test(test_high_id),   cmocka_unit_test(test_slow_pattern),
        cmocka_unit_test(test_shared_context),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
