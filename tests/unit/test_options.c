// test_options.c: the words after a sub-command, parsed by the rows of its options.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/options.h"

typedef struct arguments {
    const char *dir;
    int64_t threads;
    bool json;
} arguments;

static const lw_command command = {
    .name = "eval",
    .options = {{"dir", "DIR", "where", LW_OPTION_INTO(arguments, dir)},
                {"json", NULL, "as JSON", LW_OPTION_INTO(arguments, json)},
                {"threads", "N", "threads", LW_OPTION_INTO(arguments, threads), .min = 1, .max = 16}},
};

typedef struct parsed {
    arguments a;
    int rest;
    char *argv[16];
    lw_error err;
} parsed;

static lw_status parse(parsed *p, const char *const *words)
{
    int argc = 0;
    *p = (parsed){.a.threads = 2, .rest = -1};
    for (; words[argc] != NULL; argc++) {
        p->argv[argc] = (char *)(uintptr_t)words[argc];
    }
    return lw_options_parse(&command, argc, p->argv, &p->err, &p->a, &p->rest);
}

static void test_options_and_words(void **state)
{
    (void)state;
    parsed p;
    assert_int_equal(parse(&p, (const char *const[]){"eval", "a", "--dir", "x", "b", "--json", "c=1", NULL}), LW_OK);
    assert_string_equal(p.a.dir, "x");
    assert_true(p.a.json);
    assert_int_equal(p.a.threads, 2);
    assert_int_equal(p.rest, 3);
    assert_string_equal(p.argv[1], "a");
    assert_string_equal(p.argv[2], "b");
    assert_string_equal(p.argv[3], "c=1");
    assert_int_equal(parse(&p, (const char *const[]){"eval", "--dir=y=z", "--", "--json", NULL}), LW_OK);
    assert_string_equal(p.a.dir, "y=z");
    assert_false(p.a.json);
    assert_int_equal(p.rest, 1);
    assert_string_equal(p.argv[1], "--json");
    assert_int_equal(parse(&p, (const char *const[]){"eval", NULL}), LW_OK);
    assert_int_equal(p.rest, 0);
    assert_null(p.a.dir);
    assert_int_equal(parse(&p, (const char *const[]){"eval", "--threads=16", "-", "--", "-x", NULL}), LW_OK);
    assert_int_equal(p.a.threads, 16);
    assert_int_equal(p.rest, 2);
    assert_string_equal(p.argv[1], "-");
    assert_string_equal(p.argv[2], "-x");
}

static void refuse(const char *const *words, const char *wanted)
{
    parsed p;
    assert_int_equal(parse(&p, words), LW_ERR_USAGE);
    if (strstr(p.err.text, wanted) == NULL) {
        fail_msg("\"%s\" does not hold \"%s\"", p.err.text, wanted);
    }
}

static void test_refusals(void **state)
{
    (void)state;
    refuse((const char *const[]){"eval", "--dri", "x", NULL}, "unknown option --dri");
    refuse((const char *const[]){"eval", "--di", "x", NULL}, "unknown option --di");
    refuse((const char *const[]){"eval", "--dri=x", NULL}, "unknown option --dri");
    refuse((const char *const[]){"eval", "--dir", NULL}, "--dir needs a value");
    refuse((const char *const[]){"eval", "--json=1", NULL}, "--json takes no value");
    refuse((const char *const[]){"eval", "-x", NULL}, "unknown option -x");
    refuse((const char *const[]){"eval", "-dir", "x", NULL}, "unknown option -dir");
    refuse((const char *const[]){"eval", "--threads", "17", NULL}, "--threads 17: a whole number from 1 to 16");
}

static void test_numbers(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "x", "1x", "0", "17", "-1", "99999999999999999999", "1.5", "0x4"};
    int64_t value = -7;
    lw_error err;
    assert_int_equal(lw_option_int("threads", "16", 1, 16, &err, &value), LW_OK);
    assert_int_equal(value, 16);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(lw_option_int("threads", bad[i], 1, 16, &err, &value), LW_ERR_USAGE);
        assert_non_null(strstr(err.text, "--threads"));
        assert_int_equal(value, 16);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options_and_words),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
