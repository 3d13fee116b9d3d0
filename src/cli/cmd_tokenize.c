// cmd_tokenize.c: lwmpi tokenize MODEL_DIR [--special] < texts.jsonl > ids.jsonl
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "io/files.h"
#include "tokenizer/tokenizer.h"

typedef struct lw_tokenize_arguments {
    const char *model; // a model's directory, or a tokenizer.json itself
    bool special;
} lw_tokenize_arguments;

static lw_status read_arguments(int argc, char **argv, lw_error *err, lw_tokenize_arguments *out)
{
    lw_tokenize_arguments arguments = {0};
    bool options = true;
    for (int i = 1; i < argc; i++) {
        if (options && strcmp(argv[i], "--") == 0) {
            options = false;
        } else if (options && strcmp(argv[i], "--special") == 0) {
            arguments.special = true;
        } else if (options && argv[i][0] == '-' && argv[i][1] != '\0') {
            return lw_fail(err, LW_ERR_USAGE, "tokenize: unknown option %s (see: lwmpi tokenize --help)", argv[i]);
        } else if (arguments.model) {
            return lw_fail(err, LW_ERR_USAGE, "tokenize: one MODEL_DIR, not also %s; texts are read from stdin",
                           argv[i]);
        } else {
            arguments.model = argv[i];
        }
    }
    if (!arguments.model) {
        return lw_fail(err, LW_ERR_USAGE, "tokenize: MODEL_DIR is missing (see: lwmpi tokenize --help)");
    }
    *out = arguments;
    return LW_OK;
}

lw_status lw_cmd_tokenize(int argc, char **argv, lw_error *err)
{
    lw_tokenize_arguments arguments = {0};
    lw_tokenizer *tokenizer = NULL;
    char *path = NULL;
    lw_status status;
    LW_TRY(read_arguments(argc, argv, err, &arguments));
    // A path that is neither is read as a file, which tells what is wrong with it.
    if (lw_path_is_dir(arguments.model)) {
        LW_TRY(lw_path_join(arguments.model, "tokenizer.json", err, &path));
    }
    LW_TRY_GOTO(lw_tokenizer_load(path ? path : arguments.model, err, &tokenizer));
    LW_TRY_GOTO(lw_tokenizer_encode_lines(tokenizer, arguments.special, stdin, "stdin", stdout, err));
done:
    lw_tokenizer_destroy(&tokenizer);
    free(path);
    return status;
}
