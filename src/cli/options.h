// options.h: the words after a sub-command: options "--name", "--name VALUE", "--name=VALUE", and the rest. Local.
#ifndef LW_OPTIONS_H
#define LW_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

typedef struct lw_option {
    const char *name;   // without the dashes; the last row of a table has NULL
    const char **value; // set to the option's value; NULL: a switch
    bool *present;      // set to true when the option is there; may be NULL
} lw_option;

// argv[0] is the command and is passed over. Words that are no options are moved to the front of argv[1..] and counted
// in *rest_count. LW_ERR_USAGE names the word and, where there is one, the nearest option.
lw_status lw_options_parse(const lw_option *options, int argc, char **argv, lw_error *err, int *rest_count);

// A whole number in [min, max] from `text`. LW_ERR_USAGE names the option.
lw_status lw_option_int(const char *name, const char *text, int64_t min, int64_t max, lw_error *err, int64_t *out);

#endif
