// checkpoint_writer: the owner goes on while a checkpoint is written; failures are told, tried again, and final.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/clock.h"
#include "io/files.h"
#include "run/checkpoint.h"
#include "run/checkpoint_internal.h"
#include "run/checkpoint_writer.h"
#include "scratch.h"

enum { ELEMENTS = 1 << 16 };

static const double patience_s = 60.0;

typedef struct fixture {
    char run[320];
    float buffers[3][ELEMENTS];
    float loaded[3][ELEMENTS];
    lw_flat_view view;
    lw_checkpoint_writer *writer;
    char warnings[8192];
    int warning_count;
    lw_error err;
} fixture;

#define OK(expression)                        \
    do {                                      \
        if ((expression) != LW_OK) {          \
            print_error("%s\n", f->err.text); \
            fail();                           \
        }                                     \
    } while (0)

static lw_flat_state state_of(fixture *f, float (*buffers)[ELEMENTS])
{
    return (lw_flat_state){.views = &f->view,
                           .view_count = 1,
                           .elements = ELEMENTS,
                           .param = buffers[0],
                           .adam_m = buffers[1],
                           .adam_v = buffers[2]};
}

static void open_writer(fixture *f, double retry_pause_s)
{
    const lw_checkpoint_writer_options options = {
        .run_dir = f->run, .state = state_of(f, f->buffers), .retention = {.keep = 3}, .retry_pause_s = retry_pause_s};
    OK(lw_checkpoint_writer_create(&options, &f->err, &f->writer));
}

static int set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    if (f == NULL || scratch_make(state) != 0) {
        return 1;
    }
    snprintf(f->run, sizeof f->run, "%s", scratch_dir());
    f->view = (lw_flat_view){.name = "weight", .rank = 1, .dims = {ELEMENTS}};
    open_writer(f, 0.0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    lw_checkpoint_writer_destroy(&f->writer);
    free(f);
    return scratch_remove(state);
}

static void warn(void *context, const char *message)
{
    fixture *f = context;
    size_t used = strlen(f->warnings);
    snprintf(f->warnings + used, sizeof f->warnings - used, "%s\n", message);
    f->warning_count++;
}

static void fill(fixture *f, int64_t step)
{
    for (int b = 0; b < 3; b++) {
        for (int i = 0; i < ELEMENTS; i++) {
            f->buffers[b][i] = (float)(step * 10 + b) + (float)i / ELEMENTS;
        }
    }
}

static void start(fixture *f, int64_t step)
{
    const lw_checkpoint_info info = {.step = step, .samples = 8 * step, .lwmpi_version = "test"};
    fill(f, step);
    lw_checkpoint_writer_start(f->writer, &info);
}

static lw_status poll(fixture *f, bool *finished, lw_checkpoint_written *out)
{
    return lw_checkpoint_writer_poll(f->writer, warn, f, &f->err, finished, out);
}

// The newest that verifies, with the contents that were started; -1: none.
static int64_t newest(fixture *f)
{
    const lw_flat_state state = state_of(f, f->loaded);
    const lw_checkpoint_reader reader = {.warn = warn, .context = f};
    lw_checkpoint_info info;
    bool found = false;
    OK(lw_checkpoint_load_newest(f->run, &state, &reader, &f->err, &found, &info, NULL));
    if (!found) {
        return -1;
    }
    for (int b = 0; b < 3; b++) {
        for (int i = 0; i < ELEMENTS; i++) {
            assert_true(f->loaded[b][i] == (float)(info.step * 10 + b) + (float)i / ELEMENTS);
        }
    }
    return info.step;
}

static void test_writes_and_tells_once(void **state)
{
    fixture *f = *state;
    bool finished = true;
    lw_checkpoint_written written;
    assert_true(lw_checkpoint_writer_wait(f->writer, 0.0)); // nothing to do
    OK(poll(f, &finished, &written));
    assert_false(finished);
    for (int64_t step = 1; step <= 20; step++) {
        start(f, step);
        assert_true(lw_checkpoint_writer_wait(f->writer, patience_s));
        OK(poll(f, &finished, &written));
        assert_true(finished && !written.trial && written.step == step && written.write_s > 0.0);
        assert_true(written.bytes > 3 * (int64_t)sizeof f->buffers[0]);
        OK(poll(f, &finished, &written));
        assert_false(finished);
        assert_int_equal(newest(f), step);
    }
    assert_string_equal(f->warnings, "");
}

static void test_destroy_finishes(void **state)
{
    fixture *f = *state;
    start(f, 7);
    lw_checkpoint_writer_destroy(&f->writer);
    assert_null(f->writer);
    assert_int_equal(newest(f), 7);
    lw_checkpoint_writer_destroy(&f->writer); // NULL is fine
}

static void test_second_failure_is_final(void **state)
{
    fixture *f = *state;
    bool finished = true;
    lw_checkpoint_written written;
    start(f, 1);
    assert_true(lw_checkpoint_writer_wait(f->writer, patience_s));
    OK(poll(f, &finished, &written));
    // Every file beyond 4 KiB now fails as on a full disk, in the middle of its data.
    struct rlimit before;
    struct rlimit small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 4096;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    start(f, 2);
    bool idle = lw_checkpoint_writer_wait(f->writer, patience_s);
    lw_status status = poll(f, &finished, &written);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_true(idle);
    assert_int_equal(status, LW_ERR_IO);
    assert_false(finished);
    assert_int_equal(f->warning_count, 1);
    assert_non_null(strstr(f->warnings, "trying once more: checkpoint of step 2 not written"));
    assert_non_null(strstr(f->warnings, "File too large"));
    assert_non_null(strstr(f->err.text, LW_CHECKPOINT_STATE));
    assert_non_null(strstr(f->err.text, "File too large"));
    // The disk is well again, but this writer has failed for good, and what was there is untouched.
    start(f, 3);
    assert_true(lw_checkpoint_writer_wait(f->writer, 0.0));
    assert_int_equal(poll(f, &finished, &written), LW_ERR_IO);
    assert_int_equal(newest(f), 1);
    assert_false(lw_path_is_dir(scratch_path("checkpoints/step-000002.tmp")));
}

static void test_second_try(void **state)
{
    fixture *f = *state;
    bool finished = false;
    lw_checkpoint_written written;
    lw_checkpoint_writer_destroy(&f->writer);
    open_writer(f, 1.0);
    scratch_put(scratch_path("checkpoints"), "in the way", 10);
    start(f, 5);
    double end_s = lw_now_s() + patience_s;
    while (f->warning_count == 0 && lw_now_s() < end_s) {
        OK(poll(f, &finished, &written));
        assert_false(finished);
        usleep(1000);
    }
    assert_int_equal(unlink(scratch_path("checkpoints")), 0);
    assert_false(lw_checkpoint_writer_wait(f->writer, 0.0)); // it waits before it tries again
    assert_true(lw_checkpoint_writer_wait(f->writer, patience_s));
    OK(poll(f, &finished, &written));
    assert_true(finished && written.step == 5);
    assert_int_equal(f->warning_count, 1);
    assert_int_equal(newest(f), 5);
}

static void test_trial(void **state)
{
    fixture *f = *state;
    bool finished = false;
    lw_checkpoint_written written;
    lw_checkpoint_writer_start_trial(f->writer);
    assert_true(lw_checkpoint_writer_wait(f->writer, patience_s));
    OK(poll(f, &finished, &written));
    assert_true(finished && written.trial && written.free_bytes > written.bytes);
    assert_int_equal(newest(f), -1);
    assert_int_equal(rmdir(scratch_path("checkpoints")), 0); // it is empty
    scratch_put(scratch_path("checkpoints"), "in the way", 10);
    lw_checkpoint_writer_start_trial(f->writer);
    assert_true(lw_checkpoint_writer_wait(f->writer, patience_s));
    assert_int_equal(poll(f, &finished, &written), LW_ERR_IO);
    char needed[64];
    snprintf(needed, sizeof needed, "needs %lld bytes", (long long)written.bytes);
    assert_non_null(strstr(f->err.text, needed));
}

// More warnings than the writer holds are counted.
static void test_many_warnings(void **state)
{
    fixture *f = *state;
    bool finished = false;
    lw_checkpoint_written written;
    mkdir(scratch_path("latest"), 0777);
    for (int64_t step = 1; step <= 12; step++) { // never polled in between
        start(f, step);
        assert_true(lw_checkpoint_writer_wait(f->writer, patience_s));
    }
    OK(poll(f, &finished, &written));
    assert_true(finished && written.step == 12);
    assert_int_equal(f->warning_count, 9);
    assert_non_null(strstr(f->warnings, "and 4 more warnings"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_writes_and_tells_once),
        TEST(test_destroy_finishes),
        TEST(test_second_failure_is_final),
        TEST(test_second_try),
        TEST(test_trial),
        TEST(test_many_warnings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
