// main.c: one call per sub-command.
#include <stdio.h>

#include "cli/command.h"
#include "core/status.h"

static lw_status run(const lw_request *request, lw_error *err)
{
    switch (request->kind) {
    case LW_DO_COMMAND: return request->command->run(request->argc, request->argv, err);
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
    if (status != LW_OK) {
        // Every rank reads the same words: one voice is enough.
        if (lw_launcher_rank() == 0) {
            fprintf(stderr, "lwmpi: %s\n", err.text);
        }
        return lw_status_exit_code(status);
    }
    status = run(&request, &err);
    if (status != LW_OK && err.text[0] != '\0') {
        fprintf(stderr, "lwmpi: %s\n", err.text);
    }
    // Output that did not arrive (a full disk, a closed pipe) is a failure too.
    if (fflush(stdout) != 0 || ferror(stdout)) {
        if (status == LW_OK) {
            fprintf(stderr, "lwmpi: standard output could not be written\n");
            status = LW_ERR_IO;
        }
    }
    return lw_status_exit_code(status);
}
