// data: rows of JSONL and SQuAD files.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "data/dataset.h"
#include "io/atomic_file.h"
#include "io/files.h"

static lw_error err;

// --- a scratch folder

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/lw-data-XXXXXX");
    return mkdtemp(dir) == NULL;
}

static int remove_dir(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

static const char *put_bytes(const char *text, size_t bytes)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/rows", dir);
    assert_int_equal(lw_write_file_atomic(path, text, bytes, &err), LW_OK);
    return path;
}

static lw_dataset read_as(lw_data_format format, const char *text, int64_t limit, int64_t max_bad)
{
    lw_dataset set = {0};
    lw_status status = lw_dataset_read(&(lw_data_source){.path = put_bytes(text, strlen(text)),
                                                         .format = format,
                                                         .limit = limit,
                                                         .max_bad_rows = max_bad},
                                       &err, &set);
    if (status != LW_OK) {
        print_error("%s\n", err.text);
    }
    assert_int_equal(status, LW_OK);
    return set;
}

static void fails_bytes(lw_data_format format, const char *text, size_t bytes, int64_t max_bad, lw_status wanted,
                        const char *a, const char *b)
{
    lw_dataset set = {0};
    lw_status status =
        lw_dataset_read(&(lw_data_source){.path = put_bytes(text, bytes), .format = format, .max_bad_rows = max_bad},
                        &err, &set);
    if (status != wanted || strstr(err.text, a) == NULL || strstr(err.text, b) == NULL) {
        print_error("status %d: %s\n  wanted \"%s\" and \"%s\"\n", (int)status, err.text, a, b);
    }
    assert_int_equal(status, wanted);
    assert_non_null(strstr(err.text, a));
    assert_non_null(strstr(err.text, b));
    assert_null(set.samples);
}

static void row_fails(const char *row, const char *reason)
{
    fails_bytes(LW_DATA_JSONL, row, strlen(row), 0, LW_ERR_FORMAT, "rows:1: ", reason);
}

#define ROW(c, q, a) "{\"context\": \"" c "\", \"question\": \"" q "\", \"answers\": [\"" a "\"]}"

// --- rows

static void test_jsonl(void **state)
{
    (void)state;
    lw_dataset set =
        read_as(LW_DATA_JSONL,
                "\xEF\xBB\xBF" ROW("c1", "q1",
                                   "a1") "\r\n"
                                         "\n  \t\n"
                                         "{\"context\": \"\", \"question\": \"q2\", \"answer\": \"a2\", \"other\": 1}\n"
                                         "{\"prompt\": \"p3\", \"answers\": [\"a3\", \"b3\"]}",
                0, 0);
    assert_int_equal(set.count, 3);
    assert_int_equal(set.bad_rows, 0);
    assert_null(set.first_bad_row);
    assert_string_equal(set.samples[0].context, "c1");
    assert_string_equal(set.samples[1].question, "q2");
    assert_string_equal(set.samples[1].answers[0], "a2");
    assert_string_equal(set.samples[2].context, "");
    assert_string_equal(set.samples[2].question, "p3");
    assert_int_equal(set.samples[2].answer_count, 2);
    assert_non_null(strstr(set.samples[2].id, "rows:5"));
    uint64_t fingerprint = set.fingerprint;
    lw_dataset_free(&set);
    lw_dataset_free(&set);

    set = read_as(LW_DATA_JSONL, ROW("c", "q", "a") "\n" ROW("c", "q", "a") "\nnot JSON\n", 2, 0);
    assert_int_equal(set.count, 2); // the limit ends the reading
    assert_true(set.fingerprint != fingerprint);
    lw_dataset_free(&set);
}

static void test_bad_rows(void **state)
{
    (void)state;
    row_fails("{\"context\": \"c\", ", "column");
    row_fails("[1]", "expected");
    row_fails("{\"question\": \"q\", \"answer\": \"a\"}", "context");
    row_fails("{\"context\": \"c\", \"answer\": \"a\"}", "question");
    row_fails("{\"context\": \"c\", \"question\": \"q\"}", "\"answers\" (or \"answer\") is missing");
    row_fails("{\"context\": 3, \"question\": \"q\", \"answer\": \"a\"}", "context");
    row_fails("{\"prompt\": \"q\", \"answers\": \"a\"}", "answers");
    row_fails("{\"prompt\": \"q\", \"answers\": [\"a\", 3]}", "holds an integer");
    row_fails("{\"prompt\": \"q\", \"answers\": []}", "no answer");
    row_fails("{\"prompt\": \"q\", \"answer\": \" \"}", "an answer is empty");
    row_fails("{\"prompt\": \"\", \"answer\": \"a\"}", "the question is empty");
    row_fails("{\"prompt\": \"q\\u0000\", \"answer\": \"a\"}", "rows:1");
    row_fails("{\"prompt\": \"\xFF\", \"answer\": \"a\"}", "UTF-8");
    row_fails("{\"prompt\": \"\\ud800\", \"answer\": \"a\"}", "rows:1");
    const char nul[] = "{\"prompt\": \"q\", \"answer\": \"a\"}\0\n";
    fails_bytes(LW_DATA_JSONL, nul, sizeof nul - 1, 0, LW_ERR_FORMAT, "rows:1", "JSON");
    row_fails("x", "data.max_bad_rows");
}

static void test_tolerated_rows(void **state)
{
    (void)state;
    const char *text = ROW("c", "q", "a") "\nfirst bad\n" ROW("c", "q", "b") "\nbad too\n" ROW("c", "q", "c") "\n";
    lw_dataset set = read_as(LW_DATA_JSONL, text, 0, 2);
    assert_int_equal(set.count, 3);
    assert_int_equal(set.bad_rows, 2);
    assert_non_null(strstr(set.first_bad_row, "rows:2: "));
    lw_dataset_free(&set);
    fails_bytes(LW_DATA_JSONL, text, strlen(text), 1, LW_ERR_FORMAT, "rows:2: ", "more than data.max_bad_rows = 1");
    fails_bytes(LW_DATA_JSONL, "", 0, 0, LW_ERR_CONFIG, "rows", "no samples");
    fails_bytes(LW_DATA_JSONL, "bad\n", 4, 9, LW_ERR_CONFIG, "1 malformed rows", "rows:1");
}

static void test_files(void **state)
{
    (void)state;
    lw_dataset set = {0};
    assert_int_equal(
        lw_dataset_read(&(lw_data_source){.path = "/nowhere/x.jsonl", .format = LW_DATA_JSONL}, &err, &set), LW_ERR_IO);
    assert_non_null(strstr(err.text, "/nowhere/x.jsonl"));
    assert_int_equal(lw_dataset_read(&(lw_data_source){.path = dir, .format = LW_DATA_JSONL}, &err, &set), LW_ERR_IO);
    assert_int_equal(lw_dataset_read(&(lw_data_source){.path = "", .format = LW_DATA_JSONL}, &err, &set),
                     LW_ERR_CONFIG);
    assert_int_equal(lw_dataset_read(&(lw_data_source){.path = "/nowhere/x.json", .format = LW_DATA_SQUAD}, &err, &set),
                     LW_ERR_IO);
}

// Rows longer than the read buffer, and rows that end at its borders.
static void test_long_lines(void **state)
{
    (void)state;
    const size_t context_bytes[] = {1, 262144 - 60, 262144, 700000, 5, 1 << 20};
    size_t total = 0;
    size_t rows = sizeof context_bytes / sizeof context_bytes[0];
    char *text = malloc(4 << 20);
    for (size_t i = 0; i < rows; i++) {
        total += (size_t)sprintf(text + total, "{\"context\": \"");
        memset(text + total, 'a' + (int)i, context_bytes[i]);
        total += context_bytes[i];
        total += (size_t)sprintf(text + total, "\", \"question\": \"q\", \"answer\": \"a\"}\n");
    }
    lw_dataset set = {0};
    assert_int_equal(
        lw_dataset_read(&(lw_data_source){.path = put_bytes(text, total), .format = LW_DATA_JSONL}, &err, &set), LW_OK);
    assert_int_equal(set.count, rows);
    for (size_t i = 0; i < rows; i++) {
        assert_int_equal(strlen(set.samples[i].context), context_bytes[i]);
        assert_int_equal(set.samples[i].context[context_bytes[i] - 1], 'a' + (int)i);
    }
    lw_dataset_free(&set);
    free(text);
}

#define QA(id, q, answers) "{\"id\": \"" id "\", \"question\": \"" q "\", \"answers\": [" answers "]}"
#define PARAGRAPH(c, qas) "{\"context\": \"" c "\", \"qas\": [" qas "]}"
#define SQUAD(paragraphs) "{\"version\": \"1.1\", \"data\": [{\"title\": \"t\", \"paragraphs\": [" paragraphs "]}]}"
#define TEXT(a) "{\"text\": \"" a "\", \"answer_start\": 0}"

static void test_squad(void **state)
{
    (void)state;
    const char *text =
        SQUAD(PARAGRAPH("c1", QA("i1", "q1", TEXT("a") "," TEXT("b")) "," QA("i2", "q2", "")) "," PARAGRAPH(
            "c2", QA("i3", "q3", TEXT("c"))) ", {\"qas\": []}");
    lw_dataset set = read_as(LW_DATA_SQUAD, text, 0, 2);
    assert_int_equal(set.count, 2);
    assert_int_equal(set.bad_rows, 2);
    assert_non_null(strstr(set.first_bad_row, "data[0].paragraphs[0].qas[1]: no answer"));
    assert_string_equal(set.samples[0].id, "i1");
    assert_string_equal(set.samples[0].answers[1], "b");
    assert_string_equal(set.samples[1].context, "c2");
    lw_dataset_free(&set);
    set = read_as(LW_DATA_SQUAD, text, 1, 0);
    assert_int_equal(set.count, 1);
    lw_dataset_free(&set);
    fails_bytes(LW_DATA_SQUAD, text, strlen(text), 1, LW_ERR_FORMAT, "qas[1]: no answer", "more than");
    fails_bytes(LW_DATA_SQUAD, "{}", 2, 5, LW_ERR_FORMAT, "data", "rows");
    fails_bytes(LW_DATA_SQUAD, "{\"data\": [3]}", 13, 0, LW_ERR_FORMAT, "data[0]", "rows");
    fails_bytes(LW_DATA_SQUAD, "{\"data\": [", 10, 5, LW_ERR_FORMAT, "rows", "JSON");
}

static void test_xquad(void **state)
{
    (void)state;
    const char *shared = getenv("LWMPI_SHARED_DIR");
    static const char *const languages[] = {"de", "en", "es", "ro", "vi", "zh"};
    for (size_t i = 0; i < 6; i++) {
        char path[1024];
        snprintf(path, sizeof path, "%s/data/xquad/xquad.%s.json", shared == NULL ? "../shared" : shared, languages[i]);
        if (!lw_path_is_file(path)) {
            print_message("no %s: skipped\n", path);
            skip();
        }
        lw_dataset set = {0};
        assert_int_equal(lw_dataset_read(&(lw_data_source){.path = path, .format = LW_DATA_SQUAD}, &err, &set), LW_OK);
        assert_int_equal(set.count, 1190);
        lw_dataset_free(&set);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_jsonl), cmocka_unit_test(test_bad_rows),   cmocka_unit_test(test_tolerated_rows),
        cmocka_unit_test(test_files), cmocka_unit_test(test_long_lines), cmocka_unit_test(test_squad),
        cmocka_unit_test(test_xquad),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
