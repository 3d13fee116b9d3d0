// request.h: what the words of a command line ask for. Local.
#ifndef LW_REQUEST_H
#define LW_REQUEST_H

#include "cli/command.h"

typedef struct lw_request {
    enum { LW_DO_COMMAND, LW_DO_HELP, LW_DO_VERSION, LW_DO_MAN } kind;
    const lw_command *command; // LW_DO_HELP: NULL is the program's help
    int argc;                  // for command->run
    char **argv;
} lw_request;

// LW_ERR_USAGE when the first word is neither a command nor a configuration nor an override; the message names the
// nearest command.
lw_status lw_request_parse(int argc, char **argv, lw_error *err, lw_request *out);

#endif
