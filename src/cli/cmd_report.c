// cmd_report.c: `lwmpi report`: writes a run directory as one HTML page. No MPI.
#include <stdlib.h>
#include <string.h>

#include "cli/options.h"
#include "io/atomic_file.h"
#include "io/files.h"
#include "report/report.h"

static lw_status make_page(const lw_report_input *input, lw_error *err, char **out, size_t *out_bytes)
{
    FILE *memory = open_memstream(out, out_bytes);
    if (memory != NULL) {
        lw_report_print(input, memory);
    }
    if (memory == NULL || fclose(memory) != 0) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the report");
    }
    return LW_OK;
}

static lw_status write_page(const char *dir, const char *wanted, const char *page, size_t bytes, lw_error *err)
{
    char *path = NULL;
    if (wanted != NULL && strcmp(wanted, "-") == 0) {
        fwrite(page, 1, bytes, stdout); // main() reports what could not be written
        return LW_OK;
    }
    LW_TRY(wanted != NULL ? lw_path_join("", wanted, err, &path) : lw_path_join(dir, "report.html", err, &path));
    lw_status status = lw_write_file_atomic(path, page, bytes, err);
    if (status == LW_OK) {
        printf("%s\n", path);
    }
    free(path);
    return status;
}

typedef struct arguments {
    const char *output;
} arguments;

static lw_status run(const lw_command *self, int argc, char **argv, lw_error *err)
{
    arguments a = {0};
    int count;
    lw_report_input input;
    LW_TRY(lw_options_parse(self, argc, argv, err, &a, &count));
    if (count != 1) {
        return lw_fail(err, LW_ERR_USAGE, "lwmpi report wants one run directory, such as runs/tiny");
    }
    char *page = NULL;
    size_t bytes = 0;
    LW_TRY(lw_report_read(argv[1], err, &input));
    lw_status status = make_page(&input, err, &page, &bytes);
    if (status == LW_OK) {
        status = write_page(argv[1], a.output, page, bytes, err);
    }
    free(page);
    lw_report_free(&input);
    return status;
}

const lw_command lw_command_report = {
    .name = "report",
    .summary = "a run as one HTML page with plots",
    .usage = "report RUN_DIR [--output FILE]",
    .text = "Writes RUN_DIR/report.html: what was trained, with its configuration and checkpoints; losses and rates "
            "over the steps; the figures of the evaluation, F1 against bytes and against latents where they were "
            "measured. One file that needs no network and no script. Works while the run goes on; what is missing is "
            "named.",
    .options = {{"output", "FILE", "there instead; - is standard output", LW_OPTION_INTO(arguments, output)}},
    .examples = {{"lwmpi report runs/tiny", ""}},
    .run = run,
};
