// commands.c: the list of the commands, in the order of the help.
#include "cli/command.h"

#include <string.h>

// A command is a row lw_command_NAME, at the end of cmd_NAME.c.
#define COMMANDS(X) \
    X(train)        \
    X(eval)         \
    X(encode)       \
    X(answer)       \
    X(bench)        \
    X(plan)         \
    X(slurm)        \
    X(verify)       \
    X(tokenize)     \
    X(checkpoint)   \
    X(report)       \
    X(doctor)

#define DECLARE(name) extern const lw_command lw_command_##name;
#define POINTER(name) &lw_command_##name,

COMMANDS(DECLARE)

static const lw_command *const commands[] = {COMMANDS(POINTER) NULL};

const lw_command *const *lw_commands(void)
{
    return commands;
}

const lw_command *lw_command_find(const char *name)
{
    for (const lw_command *const *c = commands; *c != NULL; c++) {
        if (strcmp((*c)->name, name) == 0) {
            return *c;
        }
    }
    return NULL;
}
