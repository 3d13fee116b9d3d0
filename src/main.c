// main.c: runs the sub-command that the words name, and turns its result into a message and an exit code.
#include <stdbool.h>
#include <stdio.h>

#include "cli/help.h"
#include "cli/request.h"
#include "core/status.h"
#include "mpi/comm.h"

static lw_status run(const lw_request *request, lw_error *err)
{
    switch (request->kind) {
    case LW_DO_COMMAND: return request->command->run(request->command, request->argc, request->argv, err);
    case LW_DO_MAN: return lw_help_man(stdout, err);
    case LW_DO_HELP:
        if (lw_launcher_rank() == 0) {
            lw_help_print(request->command, stdout);
        }
        return LW_OK;
    case LW_DO_VERSION:
        if (lw_launcher_rank() == 0) {
            lw_version_print(stdout);
        }
        return LW_OK;
    }
    return lw_fail(err, LW_ERR_INTERNAL, "request %d is not known", (int)request->kind);
}

int main(int argc, char **argv)
{
    lw_error err = {.text = ""};
    lw_request request = {.kind = LW_DO_HELP};
    lw_status status = lw_request_parse(argc, argv, &err, &request);
    if (status == LW_OK) {
        status = run(&request, &err);
    }
    // A usage error lies in the words, and every rank reads the same words: rank 0 alone reports it.
    bool reports = status != LW_ERR_USAGE || lw_launcher_rank() == 0;
    if (status != LW_OK && err.text[0] != '\0' && reports) {
        fprintf(stderr, "lwmpi: %s\n", err.text);
    }
    // Output that could not be written (a full disk, a closed pipe) is a failure too.
    if (fflush(stdout) != 0 || ferror(stdout)) {
        if (status == LW_OK) {
            fprintf(stderr, "lwmpi: standard output could not be written\n");
            status = LW_ERR_IO;
        }
    }
    return lw_status_exit_code(status);
}
