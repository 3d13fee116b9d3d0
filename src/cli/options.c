#include "cli/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const lw_option *find(const lw_option *options, const char *name, size_t length)
{
    for (; options->name != NULL; options++) {
        if (strlen(options->name) == length && memcmp(options->name, name, length) == 0) {
            return options;
        }
    }
    return NULL;
}

static lw_status take(const lw_option *options, int argc, char **argv, int *i, lw_error *err)
{
    const char *word = argv[*i];
    const char *name = word + 2;
    const char *equals = strchr(name, '=');
    size_t length = equals != NULL ? (size_t)(equals - name) : strlen(name);
    const lw_option *o = find(options, name, length);
    if (o == NULL) {
        return lw_fail(err, LW_ERR_USAGE, "%s: unknown option %.*s; see: lwmpi %s --help", argv[0], (int)(length + 2),
                       word, argv[0]);
    }
    if (o->present != NULL) {
        *o->present = true;
    }
    if (o->value == NULL) {
        return equals == NULL ? LW_OK : lw_fail(err, LW_ERR_USAGE, "%s: option --%s takes no value", argv[0], o->name);
    }
    if (equals == NULL && *i + 1 >= argc) {
        return lw_fail(err, LW_ERR_USAGE, "%s: option --%s needs a value", argv[0], o->name);
    }
    *o->value = equals != NULL ? equals + 1 : argv[++*i];
    return LW_OK;
}

lw_status lw_options_parse(const lw_option *options, int argc, char **argv, lw_error *err, int *rest_count)
{
    int rest = 0;
    bool only_words = false; // after "--"
    for (int i = 1; i < argc; i++) {
        if (!only_words && strcmp(argv[i], "--") == 0) {
            only_words = true;
        } else if (!only_words && strncmp(argv[i], "--", 2) == 0) {
            LW_TRY(take(options, argc, argv, &i, err));
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
