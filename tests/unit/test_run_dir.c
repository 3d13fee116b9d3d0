// run_dir: the lock, the log, rows of metrics and their cut at a resume, whole files; and signals as flags.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>

#include "core/signals.h"
#include "io/files.h"
#include "io/json.h"
#include "run/checkpoint_internal.h"
#include "run/run_dir.h"

enum { PATH_BYTES = 512 };

typedef struct fixture {
    char root[64];
    char path[PATH_BYTES]; // of the run: below a directory that is not there yet
    lw_run_dir *run;
    lw_error err;
} fixture;

#define OK(expression)                        \
    do {                                      \
        if ((expression) != LW_OK) {          \
            print_error("%s\n", f->err.text); \
            fail();                           \
        }                                     \
    } while (0)

static int set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    snprintf(f->root, sizeof f->root, "/tmp/lwmpi-test-XXXXXX");
    assert_non_null(mkdtemp(f->root));
    snprintf(f->path, sizeof f->path, "%s/runs/first", f->root);
    OK(lw_run_dir_open(f->path, NULL, &f->err, &f->run));
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    lw_run_dir_close(&f->run);
    lw_remove_tree(f->root, &f->err);
    free(f);
    return 0;
}

static void reopen(fixture *f)
{
    lw_run_dir_close(&f->run);
    OK(lw_run_dir_open(f->path, NULL, &f->err, &f->run));
}

// The caller frees.
static char *contents(fixture *f, const char *name)
{
    char path[PATH_BYTES + 64];
    char *text = NULL;
    size_t bytes = 0;
    snprintf(path, sizeof path, "%s/%s", f->path, name);
    OK(lw_read_file(path, 1 << 20, &f->err, &text, &bytes));
    return text;
}

static void append_raw(fixture *f, const char *name, const char *text)
{
    char path[PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/%s", f->path, name);
    FILE *file = fopen(path, "a");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void log_step(fixture *f, int64_t step, double loss)
{
    const lw_metric row[] = {LW_METRIC_COUNT("step", step), LW_METRIC_NUMBER("loss", loss)};
    OK(lw_run_dir_metrics(f->run, row, 2, &f->err));
}

static void test_lock(void **state)
{
    fixture *f = *state;
    lw_run_dir *second = NULL;
    assert_int_equal(lw_run_dir_open(f->path, NULL, &f->err, &second), LW_ERR_CONFIG);
    char pid[32];
    snprintf(pid, sizeof pid, "pid %ld", (long)getpid());
    assert_non_null(strstr(f->err.text, "another job is using it"));
    assert_non_null(strstr(f->err.text, pid));
    assert_non_null(strstr(f->err.text, "run.dir=PATH"));
    reopen(f); // given back by close

    // A process that dies with the lock gives it back.
    lw_run_dir_close(&f->run);
    pid_t child = fork();
    if (child == 0) {
        lw_status status = lw_run_dir_open(f->path, NULL, &f->err, &second);
        kill(getpid(), status == LW_OK ? SIGKILL : SIGTERM);
    }
    int how = 0;
    waitpid(child, &how, 0);
    assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
    OK(lw_run_dir_open(f->path, NULL, &f->err, &f->run));
    // And the next job says so, once: its own orderly end leaves no name in the file.
    char *text = contents(f, "log.txt");
    snprintf(pid, sizeof pid, "pid %ld", (long)child);
    assert_non_null(strstr(text, "note: the last job in this directory did not end in order: host "));
    assert_non_null(strstr(text, pid));
    size_t bytes = strlen(text);
    free(text);
    reopen(f);
    text = contents(f, "log.txt");
    assert_int_equal(strlen(text), bytes);
    free(text);
}

// A lock file that is removed while it is held (by hand, or by a start that failed) is not the one to hold.
static void test_lock_is_of_the_file(void **state)
{
    fixture *f = *state;
    char path[PATH_BYTES + 64];
    lw_run_dir *second = NULL;
    snprintf(path, sizeof path, "%s/lock", f->path);
    assert_int_equal(unlink(path), 0);
    OK(lw_run_dir_open(f->path, NULL, &f->err, &second));
    lw_run_dir_close(&f->run); // the old one's end does not touch the new one's file
    char *text = contents(f, "lock");
    assert_non_null(strstr(text, "pid "));
    free(text);
    assert_int_equal(lw_run_dir_open(f->path, NULL, &f->err, &f->run), LW_ERR_CONFIG);
    lw_run_dir_close(&second);
}

static void test_abandon(void **state)
{
    fixture *f = *state;
    struct stat file;
    lw_run_dir_abandon(&f->run); // made by this start, and nothing in it
    assert_null(f->run);
    assert_int_not_equal(stat(f->path, &file), 0);
    OK(lw_run_dir_open(f->path, NULL, &f->err, &f->run));
    OK(lw_run_dir_write_config(f->run, "x = 1;\n", &f->err));
    lw_run_dir_abandon(&f->run); // something in it
    assert_int_equal(stat(f->path, &file), 0);
    free(contents(f, "config.cfg"));
    free(contents(f, "log.txt"));
    OK(lw_run_dir_open(f->path, NULL, &f->err, &f->run));
    char path[PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/config.cfg", f->path);
    assert_int_equal(unlink(path), 0);
    lw_run_dir_abandon(&f->run); // not made by this start
    assert_int_equal(stat(f->path, &file), 0);
    lw_run_dir_abandon(&f->run); // NULL is fine
}

static void test_unusable(void **state)
{
    fixture *f = *state;
    lw_run_dir *run = NULL;
    char path[PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/log.txt/below", f->path);
    assert_int_equal(lw_run_dir_open(path, NULL, &f->err, &run), LW_ERR_CONFIG);
    assert_non_null(strstr(f->err.text, "cannot be used"));
    assert_int_equal(lw_run_dir_open("/proc/lwmpi-run", NULL, &f->err, &run), LW_ERR_CONFIG);
    assert_null(run);
}

static void test_log(void **state)
{
    fixture *f = *state;
    lw_log(f->run, "first %d", 1);
    lw_log(f->run, "two\nlines");
    lw_log_warning(f->run, "careful");
    append_raw(f, "log.txt", "2025-01-01T00:00:00Z torn");
    reopen(f);
    lw_log_file(f->run, "after");
    lw_log(NULL, "nothing");
    char *text = contents(f, "log.txt");
    static const char *const expected[] = {"first 1", "two", "lines", "warning: careful", "torn", "after"};
    char *rest = text;
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        char *line = strsep(&rest, "\n");
        assert_non_null(line);
        assert_true(strlen(line) > 21 && line[10] == 'T' && line[19] == 'Z' && line[20] == ' ');
        assert_string_equal(line + 21, expected[i]);
    }
    assert_string_equal(rest, "");
    free(text);
}

static void test_metrics(void **state)
{
    fixture *f = *state;
    const double numbers[] = {0.1, 1.0 / 3.0, 5.0, -0.0, 1e-310, 1.7976931348623157e308, 3.0000001192092896};
    const lw_metric odd[] = {
        LW_METRIC_COUNT("step", INT64_MAX),
        LW_METRIC_NUMBER("nan", NAN),
        LW_METRIC_NUMBER("inf", -INFINITY),
        LW_METRIC_STRING("text \"q\"\n", "a\\b\t\xc3\xa9"),
    };
    OK(lw_run_dir_metrics(f->run, odd, 4, &f->err));
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        log_step(f, (int64_t)i, numbers[i]);
    }
    char *text = contents(f, "metrics.jsonl");
    char *rest = text;
    json_t *row = json_loads(strsep(&rest, "\n"), 0, NULL);
    assert_non_null(row);
    assert_true(json_integer_value(json_object_get(row, "step")) == INT64_MAX);
    assert_true(json_is_null(json_object_get(row, "nan")) && json_is_null(json_object_get(row, "inf")));
    assert_string_equal(json_string_value(json_object_get(row, "text \"q\"\n")), "a\\b\t\xc3\xa9");
    json_decref(row);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        row = json_loads(strsep(&rest, "\n"), 0, NULL);
        double back = json_real_value(json_object_get(row, "loss"));
        assert_memory_equal(&back, &numbers[i], sizeof back);
        json_decref(row);
    }
    free(text);
    lw_metric many[400];
    for (int i = 0; i < 400; i++) {
        many[i] = LW_METRIC_STRING("a key of some length", "and a value of at least forty characters");
    }
    assert_int_equal(lw_run_dir_metrics(f->run, many, 400, &f->err), LW_ERR_INTERNAL);
}

static void test_resume_metrics(void **state)
{
    fixture *f = *state;
    OK(lw_run_dir_resume_metrics(f->run, 0, &f->err)); // nothing there
    for (int64_t step = 1; step <= 6; step++) {
        log_step(f, step, (double)step);
    }
    append_raw(f, "metrics.jsonl", "{\"event\": \"eval\"}\n{\"step\": 4, \"lo");
    reopen(f);
    OK(lw_run_dir_resume_metrics(f->run, 4, &f->err));
    log_step(f, 5, 0.5);
    char *text = contents(f, "metrics.jsonl");
    assert_string_equal(text,
                        "{\"step\": 1, \"loss\": 1.0}\n{\"step\": 2, \"loss\": 2.0}\n{\"step\": 3, \"loss\": 3.0}\n"
                        "{\"step\": 4, \"loss\": 4.0}\n{\"event\": \"eval\"}\n{\"step\": 5, \"loss\": 0.5}\n");
    free(text);
    assert_int_equal(lw_run_dir_resume_metrics(f->run, 4, &f->err), LW_ERR_INTERNAL); // it is open
    reopen(f);
    OK(lw_run_dir_resume_metrics(f->run, 5, &f->err));
    text = contents(f, "metrics.jsonl");
    assert_non_null(strstr(text, "0.5"));
    free(text);
    reopen(f);
    OK(lw_run_dir_resume_metrics(f->run, 0, &f->err));
    text = contents(f, "metrics.jsonl");
    assert_string_equal(text, "");
    free(text);
}

static void test_extend_metrics(void **state)
{
    fixture *f = *state;
    const lw_metric more[] = {LW_METRIC_NUMBER("eval_nll", 0.25), LW_METRIC_COUNT("n", 7)};
    OK(lw_run_dir_resume_metrics(f->run, 0, &f->err));
    log_step(f, 1, 1.0);
    log_step(f, 2, 2.0);
    OK(lw_run_dir_extend_metrics(f->run, 1, more, 2, &f->err)); // not the last row: left alone
    OK(lw_run_dir_extend_metrics(f->run, 2, more, 2, &f->err));
    OK(lw_run_dir_extend_metrics(f->run, 2, more, 2, &f->err)); // has it already
    log_step(f, 3, 3.0);
    char *text = contents(f, "metrics.jsonl");
    assert_string_equal(text, "{\"step\": 1, \"loss\": 1.0}\n"
                              "{\"step\": 2, \"loss\": 2.0, \"eval_nll\": 0.25, \"n\": 7}\n"
                              "{\"step\": 3, \"loss\": 3.0}\n");
    free(text);
}

static void test_files(void **state)
{
    fixture *f = *state;
    OK(lw_run_dir_write_config(f->run, "seed = 1;\n", &f->err));
    OK(lw_run_dir_write_config(f->run, "seed = 2;\n", &f->err));
    char *text = contents(f, "config.cfg");
    assert_string_equal(text, "seed = 2;\n");
    free(text);
    json_t *value = json_pack("{s:o, s:o}", "f1", lw_json_number(0.25), "nll", lw_json_number(NAN));
    OK(lw_run_dir_write_json(f->run, "eval.json", value, &f->err));
    text = contents(f, "eval.json");
    assert_string_equal(text, "{\n  \"f1\": 0.25,\n  \"nll\": null\n}\n");
    free(text);
    assert_int_equal(lw_run_dir_write_json(f->run, "../eval.json", value, &f->err), LW_ERR_INTERNAL);
    json_decref(value);
    // What a kill in the middle of a replacement leaves is gone at the next start; other files are not.
    append_raw(f, "eval.json.tmp.77", "half");
    append_raw(f, "notes.tmp.txt", "mine");
    reopen(f);
    char path[PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/eval.json.tmp.77", f->path);
    assert_false(lw_path_is_file(path));
    snprintf(path, sizeof path, "%s/notes.tmp.txt", f->path);
    assert_true(lw_path_is_file(path));
}

static void test_full_disk(void **state)
{
    fixture *f = *state;
    // /dev/full takes no byte: what a full disk answers.
    char path[PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/metrics.jsonl", f->path);
    if (symlink("/dev/full", path) != 0 || access("/dev/full", W_OK) != 0) {
        skip();
    }
    const lw_metric row = LW_METRIC_COUNT("step", 1);
    assert_int_equal(lw_run_dir_metrics(f->run, &row, 1, &f->err), LW_ERR_IO);
    assert_non_null(strstr(f->err.text, "No space left"));
}

static void test_signals(void **state)
{
    fixture *f = *state;
    OK(lw_signals_install(&f->err));
    assert_int_equal(lw_signal_pending(), LW_SIGNAL_NONE);
    raise(SIGPIPE);
    raise(SIGTERM);
    assert_int_equal(lw_signal_pending(), LW_SIGNAL_TERM);
    raise(SIGUSR1);
    assert_int_equal(lw_signal_pending(), LW_SIGNAL_TERM); // the worst stays
    assert_int_equal(lw_signal_to_status(lw_signal_pending()), LW_REQUEUE);
    raise(SIGINT);
    assert_int_equal(lw_signal_pending(), LW_SIGNAL_INT);
    assert_int_equal(lw_signal_to_status(lw_signal_pending()), LW_INTERRUPTED);
    pid_t child = fork();
    if (child == 0) {
        raise(SIGINT); // the second one
        _exit(0);
    }
    int how = 0;
    waitpid(child, &how, 0);
    assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 130);
    lw_signals_clear();
    assert_int_equal(lw_signal_pending(), LW_SIGNAL_NONE);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_lock),
        TEST(test_lock_is_of_the_file),
        TEST(test_abandon),
        TEST(test_unusable),
        TEST(test_log),
        TEST(test_metrics),
        TEST(test_resume_metrics),
        TEST(test_extend_metrics),
        TEST(test_files),
        TEST(test_full_disk),
        TEST(test_signals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
