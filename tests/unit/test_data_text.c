// data: HotpotQA items, and plain text cut into windows.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/utf8.h"
#include "data/dataset.h"
#include "io/atomic_file.h"

static lw_error err;
static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/lw-text-XXXXXX");
    return mkdtemp(dir) == NULL;
}

static int remove_dir(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

static const char *put(const char *name, const char *text, size_t bytes)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(lw_write_file_atomic(path, text, bytes, &err), LW_OK);
    return path;
}

static lw_dataset read_source(lw_data_source source)
{
    lw_dataset set = {0};
    lw_status status = lw_dataset_read(&source, &err, &set);
    if (status != LW_OK) {
        print_error("%s\n", err.text);
    }
    assert_int_equal(status, LW_OK);
    return set;
}

static void fails(lw_data_source source, lw_status wanted, const char *a, const char *b)
{
    lw_dataset set = {0};
    lw_status status = lw_dataset_read(&source, &err, &set);
    if (status != wanted || strstr(err.text, a) == NULL || strstr(err.text, b) == NULL) {
        print_error("status %d: %s\n  wanted \"%s\" and \"%s\"\n", (int)status, err.text, a, b);
    }
    assert_int_equal(status, wanted);
    assert_non_null(strstr(err.text, a));
    assert_non_null(strstr(err.text, b));
    assert_null(set.samples);
}

// --- HotpotQA

static void check_hotpot(const lw_dataset *set)
{
    assert_int_equal(set->count, 2);
    assert_int_equal(set->bad_rows, 0);
    assert_string_equal(set->samples[0].id, "lw0001");
    assert_string_equal(set->samples[0].answers[0], "the Wend");
    assert_string_equal(set->samples[0].context,
                        "Ada Thorn: Ada Thorn was a miller. She built Thorn Mill in 1871.\n"
                        "Thorn Mill: Thorn Mill stands on the Wend. It ground oats until 1920.\n"
                        "Wendover Gap: Wendover Gap is a pass between two hills.");
    assert_string_equal(set->samples[1].answers[0], "no");
    assert_string_equal(set->samples[1].context, "Lake Orm: Lake Orm lies in the valley of the Ditch.\n"
                                                 "Lake Sill: Lake Sill lies in Upper Dale. It is \"cold\" [all year].");
}

static void test_hotpot(void **state)
{
    (void)state;
    lw_data_source source = {.path = "tests/unit/fixtures/hotpot.json", .format = LW_DATA_HOTPOT};
    lw_dataset set = read_source(source);
    check_hotpot(&set);
    uint64_t fingerprint = set.fingerprint;
    lw_dataset_free(&set);
    source.path = "tests/unit/fixtures/hotpot_columns.jsonl";
    set = read_source(source);
    check_hotpot(&set);
    assert_true(set.fingerprint == fingerprint); // the same samples in the other layout
    lw_dataset_free(&set);
    source.limit = 1;
    set = read_source(source);
    assert_int_equal(set.count, 1);
    lw_dataset_free(&set);
}

static void hotpot_fails(const char *text, const char *a, const char *b)
{
    fails((lw_data_source){.path = put("rows", text, strlen(text)), .format = LW_DATA_HOTPOT}, LW_ERR_FORMAT, a, b);
}

#define ITEM(context, answer) "{\"question\": \"q\", \"answer\": \"" answer "\", \"context\": " context "}"

static void test_hotpot_bad(void **state)
{
    (void)state;
    hotpot_fails("[" ITEM("[]", "a") ", 3]", "[1]", "expected an object");
    hotpot_fails("[" ITEM("[]", "") "]", "[0]", "an answer is empty");
    hotpot_fails("[{\"question\": \"q\", \"context\": []}]", "[0]", "answer");
    hotpot_fails("[{\"question\": \"q\", \"answer\": \"a\"}]", "[0]", "\"context\" is nothing");
    hotpot_fails("[" ITEM("[[\"t\"]]", "a") "]", "[0]", "expected [title, [sentences]]");
    hotpot_fails("[" ITEM("[[\"t\", [1]]]", "a") "]", "[0]", "a sentence of \"context\" is an integer");
    hotpot_fails("[" ITEM("[[3, []]]", "a") "]", "[0]", "wants a title");
    hotpot_fails("[" ITEM("{\"title\": [\"t\"], \"sentences\": []}", "a") "]", "[0]", "1 titles and 0 lists");
    hotpot_fails("[" ITEM("[]", "\xFF") "]", "[0]", "UTF-8");
    hotpot_fails("[" ITEM("[]", "a") "", "[0]", "is it whole?");
    hotpot_fails("[" ITEM("[]", "a") " " ITEM("[]", "b") "]", "[0]", "neither ',' nor ']'");
    hotpot_fails("[" ITEM("[]", "a") "] x", "rows", "more behind the array");
    hotpot_fails("[" ITEM("[]", "a") ", {\"question\": \"q\"", "[1]", "JSON");
    const char *text = "[" ITEM("[]", "a") ", 3, " ITEM("[[\"t\"]]", "b") ",\n{,}, " ITEM("[]", "c") "]";
    lw_data_source source = {.path = put("rows", text, strlen(text)), .format = LW_DATA_HOTPOT, .max_bad_rows = 3};
    lw_dataset set = read_source(source);
    assert_int_equal(set.count, 2);
    assert_int_equal(set.bad_rows, 3);
    assert_non_null(strstr(set.first_bad_row, "rows: [1]"));
    assert_string_equal(set.samples[1].answers[0], "c");
    assert_non_null(strstr(set.samples[1].id, "[4]"));
    lw_dataset_free(&set);
    source.max_bad_rows = 2;
    fails(source, LW_ERR_FORMAT, "[1]", "more than data.max_bad_rows = 2");
}

// Where the encoder reads the context alone, one that is empty is a row as bad as others: named, counted, passed over.
static void test_no_context(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "[{\"question\": \"q\", \"answer\": \"a\", \"context\": [[\"t\", [\"a\"]]]},"
        " {\"_id\": \"h7\", \"question\": \"q\", \"answer\": \"a\", \"context\": []}]",
        "{\"data\": [{\"paragraphs\": ["
        "{\"context\": \"c\", \"qas\": [{\"question\": \"q\", \"answers\": [{\"text\": \"a\"}]}]},"
        "{\"context\": \" \\n\", \"qas\": [{\"id\": \"h7\", \"question\": \"q\", \"answers\": [{\"text\": "
        "\"a\"}]}]}]}]}",
        "{\"context\": \"c\", \"question\": \"q\", \"answer\": \"a\"}\n{\"prompt\": \"q\", \"answer\": \"a\"}",
    };
    static const lw_data_format formats[] = {LW_DATA_HOTPOT, LW_DATA_SQUAD, LW_DATA_JSONL};
    static const char *const names[] = {"rows: [1]: sample \"h7\"", "paragraphs[1].qas[0]: sample \"h7\"",
                                        "rows:2: sample "};
    for (size_t i = 0; i < 3; i++) {
        lw_data_source source = {.path = put("rows", texts[i], strlen(texts[i])), .format = formats[i]};
        lw_dataset set = read_source(source);
        assert_int_equal(set.count, 2);
        lw_dataset_free(&set);
        source.needs_context = true;
        fails(source, LW_ERR_FORMAT, names[i], "wire.compress");
        source.max_bad_rows = 1;
        set = read_source(source);
        assert_int_equal(set.count, 1);
        assert_int_equal(set.bad_rows, 1);
        assert_non_null(strstr(set.first_bad_row, names[i]));
        lw_dataset_free(&set);
    }
}

// --- text

static lw_data_source text_source(const char *name, const char *text)
{
    return (lw_data_source){
        .path = put(name, text, strlen(text)), .format = LW_DATA_TEXT, .window_bytes = 16, .target_tokens = 2};
}

static void is_window(const lw_sample *s, const char *window, const char *next, const char *id)
{
    assert_int_equal(s->kind, LW_SAMPLE_TEXT);
    assert_string_equal(s->context, window);
    assert_string_equal(s->question, "");
    assert_int_equal(s->answer_count, 1);
    assert_string_equal(s->answers[0], next);
    assert_non_null(strstr(s->id, id));
}

static void test_windows(void **state)
{
    (void)state;
    //                                            0         1         2         3         4
    //                                            0123456789012345678901234567890123456789012345
    lw_dataset set = read_source(text_source("a.txt", "  one two three four five six seven eight nine.\r\n"));
    assert_int_equal(set.count, 3);
    is_window(&set.samples[0], "one two three", " four five six", "a.txt:1#0");
    is_window(&set.samples[1], "four five six", " seven eight", "a.txt:1#14");
    is_window(&set.samples[2], "seven", " eight nine.", "a.txt:1#28"); // the rest is halved
    lw_dataset_free(&set);

    // No white space: between characters of three bytes.
    set = read_source(text_source("b.txt", "\xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E\xE3\x81\xAE\xE6\x96\x87\xE6\x9B\xB8"
                                           "\xE3\x81\xA7\xE3\x81\x99\xE3\x80\x82"));
    assert_int_equal(set.count, 2);
    is_window(&set.samples[0], "\xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E\xE3\x81\xAE\xE6\x96\x87",
              "\xE6\x9B\xB8\xE3\x81\xA7\xE3\x81\x99\xE3\x80\x82", "#0");
    is_window(&set.samples[1], "\xE6\x9B\xB8\xE3\x81\xA7", "\xE3\x81\x99\xE3\x80\x82", "#15");
    lw_dataset_free(&set);
}

static void test_documents(void **state)
{
    (void)state;
    lw_data_source source = text_source("c.txt", "\xEF\xBB\xBFhello world\f\n\n\fa b\nc\r\nd\n\fx\f");
    source.max_bad_rows = 1;
    lw_dataset set = read_source(source);
    assert_int_equal(set.count, 2);
    assert_int_equal(set.bad_rows, 1);
    assert_non_null(strstr(set.first_bad_row, "c.txt:6: the text is one character"));
    is_window(&set.samples[0], "hello", " world", "c.txt:1#0");
    is_window(&set.samples[1], "a b", "\nc\nd", "c.txt:3#0");
    lw_dataset_free(&set);
    source.limit = 1;
    set = read_source(source);
    assert_int_equal(set.count, 1);
    lw_dataset_free(&set);

    source = text_source("d.jsonl", "{\"text\": \"hello world\"}\n{\"text\": \"\"}\n{\"txt\": 3}\n{\"text\": \"a b\"}");
    source.max_bad_rows = 1;
    set = read_source(source);
    assert_int_equal(set.count, 2);
    assert_int_equal(set.bad_rows, 1);
    assert_int_equal(set.blank_rows, 1); // as in plain text: no document
    is_window(&set.samples[1], "a", " b", "d.jsonl:4#0");
    lw_dataset_free(&set);

    source = text_source("e.json", "{\"data\": [{\"paragraphs\": [{\"context\": \"hello world\", \"qas\": [{}, {}]}, "
                                   "{\"context\": \" \\n\"}, {\"context\": \"a b\"}]}]}");
    set = read_source(source);
    assert_int_equal(set.count, 2); // each context once, however many questions it has
    assert_int_equal(set.blank_rows, 1);
    is_window(&set.samples[0], "hello", " world", "data[0].paragraphs[0]#0");
    lw_dataset_free(&set);

    const char bad[] = "good text\fnul\0 here\fmore text";
    source.path = put("f.txt", bad, sizeof bad - 1);
    fails(source, LW_ERR_FORMAT, "f.txt:1", "byte 4 of it is NUL");
    fails(text_source("g.txt", "\n\n\xFF"), LW_ERR_FORMAT, "g.txt:3", "not valid UTF-8");
    fails(text_source("h.txt", " \n\f "), LW_ERR_CONFIG, "h.txt", "no samples");
}

// Whatever the window: windows and what lies between them make up the document but for white space, each is followed
// by its continuation, and no character is split.
static void test_cuts(void **state)
{
    (void)state;
    const char *text =
        "The m\xC3\xBCller \xF0\x9F\x98\x80\xF0\x9F\x98\x80 by the river   grinds\n\noats, and "
        "\xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E\xE3\x81\xAE\xE6\x96\x87\xE6\x9B\xB8 antidisestablishmentarianism.";
    for (int64_t window = 8; window < 120; window++) {
        lw_data_source source = text_source("i.txt", text);
        source.window_bytes = window;
        source.target_tokens = window / 8;
        lw_dataset set = read_source(source);
        const char *at = text;
        for (int64_t i = 0; i < set.count; i++) {
            const lw_sample *s = &set.samples[i];
            size_t bytes = strlen(s->context);
            size_t next = strlen(s->answers[0]);
            at += strspn(at, " \n");
            assert_memory_equal(at, s->context, bytes);
            at += bytes;
            const char *follows = strstr(at, s->answers[0]);
            assert_non_null(follows);
            assert_true(strspn(at, " \n") >= (size_t)(follows - at));
            assert_true(bytes > 0 && bytes <= (size_t)window);
            assert_true(next > 0 && next <= (size_t)(window / 8 * 8));
            assert_int_equal(lw_utf8_first_bad(s->context, bytes), bytes);
            assert_int_equal(lw_utf8_first_bad(s->answers[0], next), next);
        }
        assert_true(strlen(at) <= (size_t)window); // the tail that is target only
        lw_dataset_free(&set);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hotpot),  cmocka_unit_test(test_hotpot_bad), cmocka_unit_test(test_no_context),
        cmocka_unit_test(test_windows), cmocka_unit_test(test_documents),  cmocka_unit_test(test_cuts),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
