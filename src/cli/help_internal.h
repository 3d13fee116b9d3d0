// help_internal.h: the texts that --help and the manual page have in common. Implemented in help.c. Local.
#ifndef LW_HELP_INTERNAL_H
#define LW_HELP_INTERNAL_H

#include "cli/help.h"

// Each list ends with its first item without a term.
typedef struct lw_program_help {
    const char *text;
    lw_help_item options[LW_HELP_ITEMS], exits[LW_HELP_ITEMS], environment[LW_HELP_ITEMS];
} lw_program_help;

// What the help says of the program as a whole.
extern const lw_program_help lw_program_help_text;

typedef struct lw_command_lists {
    lw_help_item options[LW_HELP_ITEMS], exits[LW_HELP_ITEMS];
    char terms[LW_COMMAND_OPTIONS][64]; // of options: "--steps N"
} lw_command_lists;

// The lists that the help of `command` prints: its options and the usual key=value, its exit codes and the usual ones.
// *out must stay where it is: its items point into it.
void lw_command_lists_make(const lw_command *command, lw_command_lists *out);

#endif
