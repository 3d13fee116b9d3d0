// config_words.h: the configuration that the words of a command line name: [CONFIG] [key=value ...]. Local.
#ifndef LW_CONFIG_WORDS_H
#define LW_CONFIG_WORDS_H

#include "config/config.h"

// Words with '=' are overrides, in order; at most one other word is the file. Without a file: the embedded default.
lw_status lw_config_from_words(int count, char **words, lw_error *err, lw_config **out);

#endif
