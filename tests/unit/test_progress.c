// progress: the text of the line, and what reaches stderr live and plain.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <math.h>

#include "run/progress.h"

static void expect_line(lw_progress_state state, int width, const char *expected)
{
    char line[256];
    lw_progress_format(&state, width, line, sizeof line);
    assert_string_equal(line, expected);
}

static void test_format(void **state)
{
    (void)state;
    lw_progress_state s = {"step", 120, 625, 1.234, 345.4, 151};
    expect_line(s, 0, "step 120/625  loss 1.234  345 samples/s  2:31 left");
    expect_line(s, 12, "step 120/625");
    expect_line(s, 7, "step 12");
    s = (lw_progress_state){"eval", 3, 0, NAN, 0, -1};
    expect_line(s, 0, "eval 3");
    s = (lw_progress_state){"step", 1, 2, 0.5, 3.456, 3599.6};
    expect_line(s, 0, "step 1/2  loss 0.5000  3.46 samples/s  1:00:00 left");
    s = (lw_progress_state){"step", 1, 2, 12.3456, 34.56, 90061};
    expect_line(s, 0, "step 1/2  loss 12.35  34.6 samples/s  1d 01:01:01 left");
    s.left_s = 1e300;
    expect_line(s, 0, "step 1/2  loss 12.35  34.6 samples/s  11574d 01:46:40 left");
    s.left_s = INFINITY;
    expect_line(s, 0, "step 1/2  loss 12.35  34.6 samples/s");
    char small[6];
    lw_progress_format(&s, 0, small, sizeof small);
    assert_string_equal(small, "step ");
}

// What a progress display in `mode` writes for three updates and a message.
static void record(const char *mode, char *out, size_t size)
{
    lw_error err;
    lw_progress *p = NULL;
    FILE *file = tmpfile();
    int saved = dup(STDERR_FILENO);
    setenv("LWMPI_PROGRESS", mode, 1);
    dup2(fileno(file), STDERR_FILENO);
    assert_int_equal(lw_progress_create(NULL, &err, &p), LW_OK);
    lw_progress_state s = {"step", 1, 3, 0.5, 10, 60};
    lw_progress_update(p, &s);
    s.done = 2; // too soon to be drawn
    lw_progress_update(p, &s);
    lw_progress_message(p, "note %d", 7);
    s.done = 3;
    s.left_s = 0;
    lw_progress_update(p, &s);
    lw_progress_destroy(&p);
    dup2(saved, STDERR_FILENO);
    close(saved);
    unsetenv("LWMPI_PROGRESS");
    rewind(file);
    out[fread(out, 1, size - 1, file)] = '\0';
    fclose(file);
}

static void test_output(void **state)
{
    (void)state;
    char text[1024];
    record("plain", text, sizeof text);
    assert_string_equal(text, "step 1/3  loss 0.5000  10.0 samples/s  1:00 left\nnote 7\n"
                              "step 3/3  loss 0.5000  10.0 samples/s  0:00 left\n");
    record("live", text, sizeof text);
    assert_string_equal(text, "\rstep 1/3  loss 0.5000  10.0 samples/s  1:00 left\033[K"
                              "\r\033[Knote 7\nstep 1/3  loss 0.5000  10.0 samples/s  1:00 left"
                              "\rstep 3/3  loss 0.5000  10.0 samples/s  0:00 left\033[K\n");
    record("off", text, sizeof text);
    assert_string_equal(text, "note 7\n");
}

static void test_estimate(void **state)
{
    (void)state;
    lw_error err;
    lw_progress *p = NULL;
    setenv("LWMPI_PROGRESS", "off", 1);
    assert_int_equal(lw_progress_create(NULL, &err, &p), LW_OK);
    unsetenv("LWMPI_PROGRESS");
    lw_progress_state s = {"step", 100, 120, NAN, 0, -1}; // a resumed run starts at 100
    lw_progress_update(p, &s);
    assert_true(lw_progress_left_s(p, &s) < 0);
    usleep(50000);
    s.done = 110;
    lw_progress_update(p, &s);
    double left_s = lw_progress_left_s(p, &s);
    assert_true(left_s >= 0.05 && left_s < 30.0);
    s.left_s = 7;
    assert_true(lw_progress_left_s(p, &s) == 7);
    lw_progress_destroy(&p);
    lw_progress_update(NULL, &s);
    lw_progress_message(NULL, "nothing");
    lw_progress_finish(NULL);
    assert_false(lw_progress_is_live(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_output),
        cmocka_unit_test(test_estimate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
