// options.h: the words after a sub-command: its options ("--name", "--name VALUE", "--name=VALUE"), the configuration,
// and others. Local.
#ifndef LW_OPTIONS_H
#define LW_OPTIONS_H

#include "cli/command.h"
#include "config/config.h"

// Stores the options of `command` that the words name in *arguments, the command's struct, which holds the defaults
// before; NULL for a command without options. argv[0] is skipped; the words that belong to no option are moved to the
// front of argv[1..] and counted in *rest_count. After "--" no word is an option. LW_ERR_USAGE names the option that is
// unknown, lacks its value, or has a wrong one.
lw_status lw_options_parse(const lw_command *command, int argc, char **argv, lw_error *err, void *arguments,
                           int *rest_count);

// A whole number in [min, max] from `text`. LW_ERR_USAGE names the option.
lw_status lw_option_int(const char *name, const char *text, int64_t min, int64_t max, lw_error *err, int64_t *out);

// The configuration that words name: those with '=' are overrides, in their order; at most one other word is the file.
// Without a file, the embedded default. The caller destroys *out.
lw_status lw_config_from_words(int count, char **words, lw_error *err, lw_config **out);

#endif
