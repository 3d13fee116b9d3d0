// test_child.c: child programs that end, fail, talk too much or hang.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/child.h"

static void takes_output_and_exit_code(void **state)
{
    (void)state;
    lw_error err = {.text = ""};
    char output[64];
    int code = -1;
    char *const argv[] = {"sh", "-c", "echo out; echo err >&2; read -r line; exit 3", NULL};
    assert_int_equal(lw_child_run(argv, 20.0, &err, output, sizeof output, &code), LW_OK);
    assert_int_equal(code, 3);
    assert_string_equal(output, "out\nerr\n");
}

static void keeps_the_beginning_of_long_output(void **state)
{
    (void)state;
    lw_error err = {.text = ""};
    char output[8];
    int code = -1;
    char *const argv[] = {"sh", "-c", "i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done", NULL};
    assert_int_equal(lw_child_run(argv, 60.0, &err, output, sizeof output, &code), LW_OK);
    assert_int_equal(code, 0);
    assert_string_equal(output, "0123456");
}

static void stops_at_the_deadline(void **state)
{
    (void)state;
    lw_error err = {.text = ""};
    char output[8];
    int code = -1;
    char *const argv[] = {"sh", "-c", "sleep 600; true", NULL};
    assert_int_equal(lw_child_run(argv, 0.2, &err, output, sizeof output, &code), LW_ERR_TIMEOUT);
    assert_non_null(strstr(err.text, "did not end"));
    assert_int_equal(code, -1);
}

static void tells_signals_and_absence(void **state)
{
    (void)state;
    lw_error err = {.text = ""};
    char output[256];
    int code = -1;
    char *const killed[] = {"sh", "-c", "kill -TERM $$", NULL};
    assert_int_equal(lw_child_run(killed, 20.0, &err, output, sizeof output, &code), LW_OK);
    assert_int_equal(code, 128 + 15);
    char *const absent[] = {"/nonexistent/program", NULL};
    assert_int_equal(lw_child_run(absent, 20.0, &err, output, sizeof output, &code), LW_OK);
    assert_int_equal(code, 127);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_output_and_exit_code),
        cmocka_unit_test(keeps_the_beginning_of_long_output),
        cmocka_unit_test(stops_at_the_deadline),
        cmocka_unit_test(tells_signals_and_absence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
