// help.c: --help, --version and the manual page, all from the command table.
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "config/config.h"
#include "core/version.h"
#include "kernels/cuda/device_cuda.h"
#include "mpi/comm.h"
#include "mpi/comm_nccl.h"

enum { TEXT_WIDTH = 88, INDENT = 2, TERM_WIDTH = 18 };

// Prints words of `text` from column `at`, wrapped at TEXT_WIDTH, further lines indented; '\n' breaks a line.
static void print_wrapped(const char *text, int at, int indent, FILE *out)
{
    int column = at;
    bool fresh = true; // nothing on this line yet
    while (*text != '\0') {
        if (*text == '\n') {
            fprintf(out, "\n");
            text++;
            column = 0;
            fresh = true;
            continue;
        }
        int length = (int)strcspn(text, " \n");
        if (!fresh && column + 1 + length > TEXT_WIDTH) {
            fprintf(out, "\n");
            column = 0;
            fresh = true;
        }
        if (column < indent) {
            fprintf(out, "%*s", indent - column, "");
            column = indent;
        }
        fprintf(out, "%s%.*s", fresh ? "" : " ", length, text);
        column += length + (fresh ? 0 : 1);
        fresh = false;
        text += length;
        text += strspn(text, " ");
    }
    fprintf(out, "\n");
}

static void print_items(const char *title, const lw_help_item *items, FILE *out)
{
    if (items[0].term == NULL) {
        return;
    }
    fprintf(out, "\n%s\n", title);
    for (int i = 0; i < LW_HELP_ITEMS && items[i].term != NULL; i++) {
        int width = fprintf(out, "%*s%s", INDENT, "", items[i].term);
        if (items[i].text[0] == '\0') {
            fprintf(out, "\n");
        } else if (width < INDENT + TERM_WIDTH) {
            print_wrapped(items[i].text, width, INDENT + TERM_WIDTH, out);
        } else {
            fprintf(out, "\n");
            print_wrapped(items[i].text, 0, INDENT + TERM_WIDTH, out);
        }
    }
}

static void print_command(const lw_command *c, FILE *out)
{
    fprintf(out, "usage: lwmpi %s\n\n", c->usage);
    print_wrapped(c->text, 0, 0, out);
    print_items("Options:", c->options, out);
    print_items("Exit codes:", c->exits, out);
    print_items("Examples:", c->examples, out);
    if (c->takes_config) {
        fprintf(out, "\nConfiguration keys:\n\n");
        lw_config_help(out);
    }
}

static const char program_text[] =
    "Trains a latent wire: a small encoder turns a text into a few vectors, and one small adapter for each frozen "
    "language model turns those into inputs of that model, so that the same short wire drives them all. Ranks of an "
    "MPI "
    "job share the work.";

static const lw_help_item program_options[LW_HELP_ITEMS] = {
    {"--help, -h", "this text; after a command, that command's help"},
    {"--version", "lwmpi, its libraries and the backends in this build"},
};

static const lw_help_item program_exits[LW_HELP_ITEMS] = {
    {"0", "done"},
    {"1", "failed"},
    {"2", "usage or configuration error"},
    {"75", "stopped by SIGTERM or SIGUSR1, in training after a checkpoint: start it again"},
    {"130", "interrupted (Ctrl-C) after a checkpoint"},
};

static const lw_help_item program_environment[LW_HELP_ITEMS] = {
    {"LWMPI_DATADIR", "where configs/tiny.cfg is looked for first"},
    {"LWMPI_PROGRESS",
     "live: one line that is rewritten; plain: a line now and then; off: neither; else a terminal decides"},
    {"LWMPI_CALIBRATION", "folder of the measurements that correct plans; runs/calibration without it"},
    {"LWMPI_START_TIMEOUT_S",
     "seconds that a rank waits for the others before the configuration is known, 300 without it; "
     "then comm.timeout_s"},
};

void lw_help_print(const lw_command *command, FILE *out)
{
    if (command != NULL) {
        print_command(command, out);
        return;
    }
    fprintf(out, "usage: lwmpi [COMMAND] [ARGUMENT ...]\n\n");
    print_wrapped(program_text, 0, 0, out);
    fprintf(out, "\nCommands:\n");
    for (const lw_command *c = lw_commands(); c->name != NULL; c++) {
        fprintf(out, "%*s%-*s%s\n", INDENT, "", TERM_WIDTH, c->name, c->summary);
    }
    print_items("Options:", program_options, out);
    print_items("Exit codes:", program_exits, out);
    print_items("Environment:", program_environment, out);
    fprintf(out, "\nlwmpi help COMMAND says more; lwmpi help train lists the configuration keys.\n"
                 "mpirun -np 2 lwmpi runs the embedded default on two ranks.\n");
}

// --- the manual page

static void print_roff(const char *text, FILE *out)
{
    bool line_start = true;
    for (; *text != '\0'; text++) {
        if (line_start && (*text == '.' || *text == '\'')) {
            fprintf(out, "\\&");
        }
        line_start = *text == '\n';
        if (*text == '\\') {
            fprintf(out, "\\e");
        } else if (*text == '-') {
            fprintf(out, "\\-");
        } else if (text[0] == '\n' && text[1] == '\n') {
            fprintf(out, "\n.PP\n");
            text++;
        } else {
            fputc(*text, out);
        }
    }
    fprintf(out, "\n");
}

static void print_roff_terms(const lw_help_item *items, FILE *out)
{
    for (int i = 0; i < LW_HELP_ITEMS && items[i].term != NULL; i++) {
        fprintf(out, ".TP\n.B ");
        print_roff(items[i].term, out);
        print_roff(items[i].text, out);
    }
}

static void print_roff_items(const char *title, const lw_help_item *items, FILE *out)
{
    if (items[0].term == NULL) {
        return;
    }
    fprintf(out, ".PP\n%s\n", title);
    print_roff_terms(items, out);
}

static lw_status print_roff_keys(FILE *out, lw_error *err)
{
    char *text = NULL;
    size_t size = 0;
    FILE *memory = open_memstream(&text, &size);
    if (memory != NULL) {
        lw_config_help(memory);
    }
    if (memory == NULL || fclose(memory) != 0) {
        free(text);
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the list of configuration keys");
    }
    fprintf(out, ".SH CONFIGURATION\nA configuration is a libconfig file; every key can be set on the command line as "
                 "key=value.\n.nf\n");
    print_roff(text, out);
    fprintf(out, ".fi\n");
    free(text);
    return LW_OK;
}

lw_status lw_help_man(FILE *out, lw_error *err)
{
    fprintf(out, ".TH LWMPI 1 \"\" \"lwmpi %s\" \"User Commands\"\n", lw_version());
    fprintf(out, ".SH NAME\nlwmpi \\- train a latent wire that drives several frozen language models\n.SH SYNOPSIS\n");
    for (const lw_command *c = lw_commands(); c->name != NULL; c++) {
        fprintf(out, "%s.B lwmpi\n", c == lw_commands() ? "" : ".br\n");
        print_roff(c->usage, out);
    }
    fprintf(out, ".SH DESCRIPTION\n");
    print_roff(program_text, out);
    print_roff_items("Options:", program_options, out);
    fprintf(out, ".SH COMMANDS\n");
    for (const lw_command *c = lw_commands(); c->name != NULL; c++) {
        fprintf(out, ".SS %s\n", c->name);
        print_roff(c->text, out);
        print_roff_items("Options:", c->options, out);
        print_roff_items("Exit codes:", c->exits, out);
        print_roff_items("Examples:", c->examples, out);
    }
    LW_TRY(print_roff_keys(out, err));
    fprintf(out, ".SH EXIT STATUS\n");
    print_roff_terms(program_exits, out);
    fprintf(out, ".SH ENVIRONMENT\n");
    print_roff_terms(program_environment, out);
    return LW_OK;
}

static void print_version(const char *what, void (*text_of)(char *out, size_t size), FILE *out)
{
    char text[256];
    text_of(text, sizeof text);
    fprintf(out, "%-9s %s\n", what, text);
}

void lw_version_print(FILE *out)
{
    char mpi[256];
    lw_comm_version(mpi, sizeof mpi);
    fprintf(out, "lwmpi %s%s%s%s\n", lw_version(), lw_commit()[0] != '\0' ? " (" : "", lw_commit(),
            lw_commit()[0] != '\0' ? ")" : "");
    fprintf(out, "built:    %s, %s\n", lw_compiler(), lw_build_type());
    fprintf(out, "MPI:      %s\n", mpi);
    fprintf(out, "BLAS:     %s\n", lw_blas_text());
    print_version("CUDA:", lw_cuda_version, out);
    print_version("cuBLAS:", lw_cublas_version, out);
    print_version("NCCL:", lw_nccl_version, out);
    if (lw_cuda_built()) {
        print_version("kernels:", lw_cuda_architectures, out);
    }
    fprintf(out, "backends: cpu%s\n", lw_cuda_built() ? ", cuda" : "");
}
