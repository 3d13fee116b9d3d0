// cmd_tokenize.c: `lwmpi tokenize`: texts to token ids, line by line. No MPI.
#include <stdio.h>
#include <stdlib.h>

#include "cli/options.h"
#include "io/files.h"
#include "tokenizer/tokenizer.h"

typedef struct arguments {
    bool special;
} arguments;

static lw_status run(const lw_command *self, int argc, char **argv, lw_error *err)
{
    arguments a = {0};
    int count;
    lw_tokenizer *tokenizer = NULL;
    char *path = NULL;
    lw_status status;
    LW_TRY(lw_options_parse(self, argc, argv, err, &a, &count));
    if (count > 1) {
        return lw_fail(err, LW_ERR_USAGE, "tokenize: one MODEL_DIR, not also %s; texts are read from stdin", argv[2]);
    }
    if (count < 1) {
        return lw_fail(err, LW_ERR_USAGE, "tokenize: MODEL_DIR is missing (see: lwmpi tokenize --help)");
    }
    // What is not a directory is read as the tokenizer.json itself, and the reader says what is wrong with it.
    const char *model = argv[1];
    if (lw_path_is_dir(model)) {
        LW_TRY(lw_path_join(model, "tokenizer.json", err, &path));
    }
    LW_TRY_GOTO(lw_tokenizer_load(path ? path : model, err, &tokenizer));
    LW_TRY_GOTO(lw_tokenizer_encode_lines(tokenizer, a.special, stdin, "stdin", stdout, err));
done:
    lw_tokenizer_destroy(&tokenizer);
    free(path);
    return status;
}

const lw_command lw_command_tokenize = {
    .name = "tokenize",
    .summary = "turn text into token ids",
    .usage = "tokenize MODEL_DIR [--special] < texts.jsonl > ids.jsonl",
    .text = "Reads one JSON object a line, {\"text\": \"...\"}, and writes one a line, {\"ids\": [...]}, with the "
            "tokenizer.json of MODEL_DIR. No special tokens are added.",
    .options = {{"special", NULL, "special-token text in the input becomes that token; without it, it is plain text",
                 LW_OPTION_INTO(arguments, special)}},
    .examples = {{"echo '{\"text\": \"Hello\"}' | lwmpi tokenize configs/tiny/llama", ""}},
    .run = run,
};
