// request.c: finds the command that the first words of a command line name, or the help that they ask for.
#include "cli/request.h"

#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "config/keys.h"

static lw_status fail_unknown(const char *word, lw_error *err)
{
    const char *nearest = NULL;
    int nearest_distance = INT_MAX;
    char list[256] = "";
    for (const lw_command *const *c = lw_commands(); *c != NULL; c++) {
        const char *name = (*c)->name;
        int distance = lw_edit_distance(word, name);
        if (distance < nearest_distance) {
            nearest_distance = distance;
            nearest = name;
        }
        (void)strncat(list, list[0] == '\0' ? "" : ", ", sizeof list - strlen(list) - 1);
        (void)strncat(list, name, sizeof list - strlen(list) - 1);
    }
    if (nearest_distance <= 2) {
        return lw_fail(err, LW_ERR_USAGE,
                       "\"%.100s\" is neither a command nor a file; did you mean \"%s\"? Commands: %s. A configuration "
                       "file is named by its path",
                       word, nearest, list);
    }
    return lw_fail(
        err, LW_ERR_USAGE,
        "\"%.100s\" is neither a command nor a file. Commands: %s. A configuration file is named by its path", word,
        list);
}

// A first word that is not a command may still begin `lwmpi [CONFIG] [key=value ...]`.
static bool starts_train(const char *word)
{
    struct stat info;
    return strpbrk(word, "=/.") != NULL || (stat(word, &info) == 0 && !S_ISDIR(info.st_mode));
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

// lwmpi help [COMMAND]
static lw_status parse_help(int argc, char **argv, lw_error *err, lw_request *out)
{
    const lw_command *about = argc > 2 ? lw_command_find(argv[2]) : NULL;
    if (argc > 2 && about == NULL) {
        return fail_unknown(argv[2], err);
    }
    *out = (lw_request){.kind = LW_DO_HELP, .command = about};
    return LW_OK;
}

// lwmpi [COMMAND] [ARGUMENT ...]; without a command, `train`.
static lw_status parse_command(int argc, char **argv, lw_error *err, lw_request *out)
{
    const char *word = argc > 1 ? argv[1] : "";
    const lw_command *command = lw_command_find(word);
    if (command == NULL && word[0] == '-') {
        return lw_fail(err, LW_ERR_USAGE, "unknown option \"%.100s\"; lwmpi --help lists commands and options", word);
    }
    if (command == NULL && argc > 1 && !starts_train(word)) {
        return fail_unknown(word, err);
    }
    int skip = command == NULL ? 0 : 1;
    command = command == NULL ? lw_command_find("train") : command;
    *out = (lw_request){.kind = LW_DO_COMMAND, .command = command, .argc = argc - skip, .argv = argv + skip};
    for (int i = 1; i < out->argc && strcmp(out->argv[i], "--") != 0; i++) {
        if (is_help(out->argv[i])) {
            out->kind = LW_DO_HELP;
        }
    }
    return LW_OK;
}

lw_status lw_request_parse(int argc, char **argv, lw_error *err, lw_request *out)
{
    const char *word = argc > 1 ? argv[1] : "";
    if (is_help(word)) {
        *out = (lw_request){.kind = LW_DO_HELP};
        return LW_OK;
    }
    if (strcmp(word, "--version") == 0) {
        *out = (lw_request){.kind = LW_DO_VERSION};
        return LW_OK;
    }
    if (strcmp(word, "--man") == 0) {
        *out = (lw_request){.kind = LW_DO_MAN};
        return LW_OK;
    }
    return strcmp(word, "help") == 0 ? parse_help(argc, argv, err, out) : parse_command(argc, argv, err, out);
}
