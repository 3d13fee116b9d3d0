// help.h: --help, --version and the manual page, from the rows of the commands. Implemented in help.c and man.c. Local.
#ifndef LW_HELP_H
#define LW_HELP_H

#include <stdio.h>

#include "cli/command.h"

// Help of one command, or of the program (NULL).
void lw_help_print(const lw_command *command, FILE *out);
// The manual page (roff) of the same texts. Fails with LW_ERR_MEMORY.
lw_status lw_help_man(FILE *out, lw_error *err);
// lwmpi, compiler, MPI, BLAS, CUDA, backends: one line each.
void lw_version_print(FILE *out);

#endif
