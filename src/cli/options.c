// options.c: parses the words after a sub-command by the rows of its options.
#include "cli/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io/install.h"

static const lw_option_spec *find(const lw_option_spec *options, const char *name, size_t length)
{
    for (int i = 0; i < LW_COMMAND_OPTIONS && options[i].name != NULL; i++) {
        if (strlen(options[i].name) == length && memcmp(options[i].name, name, length) == 0) {
            return &options[i];
        }
    }
    return NULL;
}

static lw_status store(const lw_option_spec *o, const char *value, lw_error *err, void *arguments)
{
    char *place = (char *)arguments + o->at;
    const bool there = true;
    int64_t number = 0;
    switch (o->kind) {
    case LW_OPTION_SWITCH: memcpy(place, &there, sizeof there); return LW_OK;
    case LW_OPTION_TEXT: memcpy(place, &value, sizeof value); return LW_OK;
    case LW_OPTION_INT:
        LW_TRY(lw_option_int(o->name, value, o->min, o->max, err, &number));
        memcpy(place, &number, sizeof number);
        return LW_OK;
    }
    return lw_fail(err, LW_ERR_INTERNAL, "option --%s has no kind", o->name);
}

static lw_status take(const lw_command *command, int argc, char **argv, int *i, lw_error *err, void *arguments)
{
    const char *word = argv[*i];
    const char *equals = strchr(word, '=');
    size_t length = equals != NULL ? (size_t)(equals - word) : strlen(word);
    // There are no short options: "-x" is none of the command's.
    const lw_option_spec *o = word[1] == '-' ? find(command->options, word + 2, length - 2) : NULL;
    if (o == NULL) {
        return lw_fail(err, LW_ERR_USAGE, "%s: unknown option %.*s; see: lwmpi %s --help", command->name, (int)length,
                       word, command->name);
    }
    if (o->kind == LW_OPTION_SWITCH && equals != NULL) {
        return lw_fail(err, LW_ERR_USAGE, "%s: option --%s takes no value", command->name, o->name);
    }
    if (o->kind == LW_OPTION_SWITCH) {
        return store(o, NULL, err, arguments);
    }
    if (equals == NULL && *i + 1 >= argc) {
        return lw_fail(err, LW_ERR_USAGE, "%s: option --%s needs a value", command->name, o->name);
    }
    return store(o, equals != NULL ? equals + 1 : argv[++*i], err, arguments);
}

lw_status lw_options_parse(const lw_command *command, int argc, char **argv, lw_error *err, void *arguments,
                           int *rest_count)
{
    int rest = 0;
    bool only_words = false; // after "--"
    for (int i = 1; i < argc; i++) {
        if (!only_words && strcmp(argv[i], "--") == 0) {
            only_words = true;
        } else if (!only_words && argv[i][0] == '-' && argv[i][1] != '\0') { // "-" alone is a word
            LW_TRY(take(command, argc, argv, &i, err, arguments));
        } else {
            argv[1 + rest++] = argv[i];
        }
    }
    *rest_count = rest;
    return LW_OK;
}

lw_status lw_option_int(const char *name, const char *text, int64_t min, int64_t max, lw_error *err, int64_t *out)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < min || value > max) {
        return lw_fail(err, LW_ERR_USAGE, "--%s %s: a whole number from %lld to %lld is wanted", name, text,
                       (long long)min, (long long)max);
    }
    *out = value;
    return LW_OK;
}

lw_status lw_config_from_words(int count, char **words, lw_error *err, lw_config **out)
{
    const char *path = NULL;
    char *found = NULL;
    const char **overrides = calloc((size_t)count + 1, sizeof *overrides);
    int64_t n = 0;
    lw_status status = LW_OK;
    if (overrides == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the command line");
    }
    for (int i = 0; i < count; i++) {
        if (strchr(words[i], '=') != NULL) {
            overrides[n++] = words[i];
        } else if (path == NULL) {
            path = words[i];
        } else {
            status = lw_fail(err, LW_ERR_USAGE, "two configurations, %s and %s: one is wanted, and key=value overrides",
                             path, words[i]);
            goto done;
        }
    }
    if (path == NULL) {
        LW_TRY_GOTO(lw_path_default_config(err, &found));
        path = found;
    }
    LW_TRY_GOTO(lw_config_load(path, n, overrides, err, out));
done:
    free(found);
    free(overrides);
    return status;
}
