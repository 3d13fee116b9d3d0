// command.h: a sub-command of lwmpi describes itself. Each cmd_NAME.c ends in a row, lw_command_NAME: what its help
// prints, its options, and the function that runs it. commands.c lists the rows. Local.
#ifndef LW_COMMAND_H
#define LW_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

typedef struct lw_help_item {
    const char *term; // "75"
    const char *text;
} lw_help_item;

typedef enum lw_option_kind {
    LW_OPTION_SWITCH, // takes no value; stores true in a bool
    LW_OPTION_TEXT,   // stores the word in a const char *
    LW_OPTION_INT     // stores a whole number in [min, max] in an int64_t
} lw_option_kind;

// One option. The parser (options.h) and the help read the same row.
typedef struct lw_option_spec {
    const char *name;     // without the dashes
    const char *argument; // what the help calls its value, "FILE"; NULL for a switch
    const char *help;     // NULL: not shown, since only lwmpi itself passes it
    lw_option_kind kind;
    size_t at; // where the value goes: offset in the command's struct of arguments
    int64_t min, max;
} lw_option_spec;

// Where an option's value goes: a member of the command's struct of arguments, whose type decides what the option
// takes. A member of another type does not compile.
#define LW_OPTION_INTO(struct_type, member) \
    .kind = _Generic(((struct_type *)NULL)->member,           \
                     bool: LW_OPTION_SWITCH,                  \
                     const char *: LW_OPTION_TEXT,            \
                     int64_t: LW_OPTION_INT),                 \
    .at = offsetof(struct_type, member)

typedef struct lw_command lw_command;

// argv[0] is the command's name (or the program's, when `train` was left out), its arguments follow; --help never gets
// here. The exit code is lw_status_exit_code of the result. The caller prints err->text unless it is empty: a command
// that has already reported its failure, as the agreement of the ranks does, leaves it empty. A usage error is printed
// on rank 0 alone.
typedef lw_status lw_command_run(const lw_command *self, int argc, char **argv, lw_error *err);

enum { LW_COMMAND_OPTIONS = 8, LW_HELP_ITEMS = 10 };

struct lw_command {
    const char *name;
    const char *summary;                        // one line for the list of commands
    const char *usage;                          // what follows "lwmpi "; lines of a synopsis
    const char *text;                           // what it does; paragraphs are separated by an empty line
    lw_option_spec options[LW_COMMAND_OPTIONS]; // up to the first without a name
    lw_help_item exits[LW_HELP_ITEMS];          // 0, 1, 2 if they mean more than usual, and other codes
    lw_help_item examples[LW_HELP_ITEMS];       // up to the first without a term
    bool takes_overrides;                       // its words are [CONFIG] [key=value ...]
    bool lists_keys;                            // its help ends with the configuration keys
    lw_command_run *run;
};

// All commands in the order of the help, ended by NULL.
const lw_command *const *lw_commands(void);

// The command of this name; NULL: there is none.
const lw_command *lw_command_find(const char *name);

#endif
