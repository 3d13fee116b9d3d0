// test_command.c: the words of a command line up to the sub-command.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/request.h"
#include "io/install.h"
#include "mpi/comm.h"

static lw_request parse(int argc, char **argv)
{
    lw_error err = {.text = ""};
    lw_request request = {.kind = LW_DO_MAN};
    assert_int_equal(lw_request_parse(argc, argv, &err, &request), LW_OK);
    return request;
}

static void nothing_is_train(void **state)
{
    (void)state;
    char *argv[] = {"lwmpi", NULL};
    lw_request request = parse(1, argv);
    assert_int_equal(request.kind, LW_DO_COMMAND);
    assert_string_equal(request.command->name, "train");
    assert_int_equal(request.argc, 1);
}

static void a_command_takes_what_follows(void **state)
{
    (void)state;
    char *argv[] = {"lwmpi", "eval", "a.cfg", "seed=2", NULL};
    lw_request request = parse(4, argv);
    assert_string_equal(request.command->name, "eval");
    assert_int_equal(request.argc, 3);
    assert_string_equal(request.argv[0], "eval");
    assert_string_equal(request.argv[2], "seed=2");
}

static void configurations_and_overrides_begin_train(void **state)
{
    (void)state;
    char *words[] = {"a.cfg", "dir/config", "seed=3", "train.lr=1e-3"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        char *argv[] = {"lwmpi", words[i], NULL};
        lw_request request = parse(2, argv);
        assert_int_equal(request.kind, LW_DO_COMMAND);
        assert_string_equal(request.command->name, "train");
        assert_int_equal(request.argc, 2);
        assert_string_equal(request.argv[1], words[i]);
    }
}

static void help_is_found_before_two_dashes(void **state)
{
    (void)state;
    char *with[] = {"lwmpi", "tokenize", "dir", "--help", NULL};
    lw_request request = parse(4, with);
    assert_int_equal(request.kind, LW_DO_HELP);
    assert_string_equal(request.command->name, "tokenize");
    char *without[] = {"lwmpi", "tokenize", "--", "--help", NULL};
    assert_int_equal(parse(4, without).kind, LW_DO_COMMAND);
}

static void unknown_words_are_refused(void **state)
{
    (void)state;
    lw_error err = {.text = ""};
    lw_request request = {.kind = LW_DO_MAN};
    char *argv[] = {"lwmpi", "evl", NULL};
    assert_int_equal(lw_request_parse(2, argv, &err, &request), LW_ERR_USAGE);
    assert_non_null(strstr(err.text, "did you mean \"eval\"?"));
    assert_int_equal(request.kind, LW_DO_MAN);
}

static void check_options(const lw_command *c)
{
    for (int i = 0; i < LW_COMMAND_OPTIONS && c->options[i].name != NULL; i++) {
        const lw_option_spec *o = &c->options[i];
        assert_int_equal(o->argument == NULL, o->kind == LW_OPTION_SWITCH);
        assert_true(o->kind != LW_OPTION_INT || o->min < o->max);
        for (int j = 0; j < i; j++) {
            assert_string_not_equal(o->name, c->options[j].name);
        }
    }
}

static void commands_describe_themselves(void **state)
{
    (void)state;
    for (const lw_command *const *c = lw_commands(); *c != NULL; c++) {
        assert_ptr_equal(lw_command_find((*c)->name), *c);
        assert_non_null((*c)->summary);
        assert_non_null((*c)->usage);
        assert_non_null((*c)->text);
        assert_non_null((*c)->run);
        check_options(*c);
    }
    assert_null(lw_command_find("nonsense"));
}

static void launcher_rank_is_read_from_the_environment(void **state)
{
    (void)state;
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"};
    for (size_t i = 0; i < 4; i++) {
        unsetenv(names[i]);
    }
    assert_int_equal(lw_launcher_rank(), 0);
    for (size_t i = 0; i < 4; i++) {
        setenv(names[i], "12", 1);
        assert_int_equal(lw_launcher_rank(), 12);
        unsetenv(names[i]);
    }
}

static void the_default_is_looked_for_in_datadir_first(void **state)
{
    (void)state;
    lw_error err = {.text = ""};
    char *path = NULL;
    const char *before = getenv("LWMPI_DATADIR");
    char *saved = before != NULL ? strdup(before) : NULL;
    setenv("LWMPI_DATADIR", "/nonexistent", 1);
    assert_int_equal(lw_path_default_config(&err, &path), LW_ERR_CONFIG);
    assert_non_null(strstr(err.text, "/nonexistent"));
    assert_null(path);
    unsetenv("LWMPI_DATADIR");
    if (saved != NULL) {
        setenv("LWMPI_DATADIR", saved, 1);
        free(saved);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_train),
        cmocka_unit_test(a_command_takes_what_follows),
        cmocka_unit_test(configurations_and_overrides_begin_train),
        cmocka_unit_test(help_is_found_before_two_dashes),
        cmocka_unit_test(unknown_words_are_refused),
        cmocka_unit_test(commands_describe_themselves),
        cmocka_unit_test(launcher_rank_is_read_from_the_environment),
        cmocka_unit_test(the_default_is_looked_for_in_datadir_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
