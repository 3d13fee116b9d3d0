// command.h: the sub-commands of lwmpi, their help, and the words before them.
//
// A command is one row of a table: name, help, and one function. `argv[0]` of that function is the command's name (or
// the program's, when `train` was left out), its arguments follow. It returns a status; its exit code is
// lw_status_exit_code. An error text that is not empty is still to be printed: a command that has told its failure
// itself (as the ranks' agreement does) returns an empty one. --help never reaches a command.
#ifndef LW_COMMAND_H
#define LW_COMMAND_H

#include <stdbool.h>
#include <stdio.h>

#include "core/status.h"

typedef lw_status lw_command_run(int argc, char **argv, lw_error *err);

lw_command_run lw_cmd_train;
lw_command_run lw_cmd_eval;
lw_command_run lw_cmd_verify;
lw_command_run lw_cmd_bench;
lw_command_run lw_cmd_tokenize;
lw_command_run lw_cmd_plan;
lw_command_run lw_cmd_slurm;
lw_command_run lw_cmd_checkpoint;
lw_command_run lw_cmd_encode;
lw_command_run lw_cmd_answer;
lw_command_run lw_cmd_report;
lw_command_run lw_cmd_doctor;

typedef struct lw_help_item {
    const char *term; // "--json"
    const char *text;
} lw_help_item;

enum { LW_HELP_ITEMS = 8 };

typedef struct lw_command {
    const char *name;
    const char *summary;                 // one line for the list of commands
    const char *usage;                   // what follows "lwmpi "; lines of a synopsis
    const char *text;                    // what it does; paragraphs are separated by an empty line
    lw_help_item options[LW_HELP_ITEMS]; // up to the first without a term
    lw_help_item exits[LW_HELP_ITEMS];
    lw_help_item examples[LW_HELP_ITEMS];
    bool takes_config; // its help ends with the configuration keys
    lw_command_run *run;
} lw_command;

// The table, ended by a row without a name.
const lw_command *lw_commands(void);

// What the words of a command line ask for.
typedef struct lw_request {
    enum { LW_DO_COMMAND, LW_DO_HELP, LW_DO_VERSION, LW_DO_MAN } kind;
    const lw_command *command; // LW_DO_HELP: NULL is the program's help
    int argc;                  // for command->run
    char **argv;
} lw_request;

// Fails with LW_ERR_USAGE where the first word is neither a command nor a configuration nor an override, naming the
// nearest command. Local.
lw_status lw_request_parse(int argc, char **argv, lw_error *err, lw_request *out);

// Help of one command, or of the program (NULL). Local.
void lw_help_print(const lw_command *command, FILE *out);
// The manual page (roff) of the same texts. Fails with LW_ERR_MEMORY. Local.
lw_status lw_help_man(FILE *out, lw_error *err);
// lwmpi, compiler, MPI, BLAS, CUDA, backends: one line each. Local.
void lw_version_print(FILE *out);

// Rank of this process as its launcher tells it in the environment, before MPI is started; 0 when alone. Rank 0
// speaks for all.
int lw_launcher_rank(void);

#endif
