// help.c: prints --help and --version from the rows of the commands.
#include <stdio.h>
#include <string.h>

#include "cli/help_internal.h"
#include "config/config.h"
#include "core/version.h"
#include "kernels/cuda/device_cuda.h"
#include "mpi/comm.h"
#include "mpi/comm_nccl.h"

const lw_program_help lw_program_help_text = {
    .text =
        "Trains a latent wire: a small encoder turns a text into a few vectors, and one small adapter for each frozen "
        "language model turns those into inputs of that model, so that the same short wire drives them all. Ranks "
        "of an MPI job share the work.",
    .options = {{"--help, -h", "this text; after a command, that command's help"},
                {"--version", "lwmpi, its libraries and the backends in this build"}},
    .exits = {{"0", "done"},
              {"1", "failed"},
              {"2", "usage or configuration error"},
              {"75", "stopped by SIGTERM or SIGUSR1, in training after a checkpoint: start it again"},
              {"130", "interrupted (Ctrl-C) after a checkpoint"}},
    .environment =
        {{"LWMPI_DATADIR", "where configs/tiny.cfg is looked for first"},
         {"LWMPI_PROGRESS",
          "live: one line that is rewritten; plain: a line now and then; off: neither; else a terminal decides"},
         {"LWMPI_CALIBRATION", "folder of the measurements that correct plans; runs/calibration without it"},
         {"LWMPI_START_TIMEOUT_S",
          "seconds that a rank waits for the others before the configuration is known, 300 without it; "
          "then comm.timeout_s"}},
};

// --- the lists of a command

static const lw_help_item *find(const lw_help_item *items, const char *term)
{
    for (int i = 0; i < LW_HELP_ITEMS && items[i].term != NULL; i++) {
        if (strcmp(items[i].term, term) == 0) {
            return &items[i];
        }
    }
    return NULL;
}

static void list_options(const lw_command *c, lw_command_lists *out)
{
    int n = 0;
    for (int i = 0; i < LW_COMMAND_OPTIONS && c->options[i].name != NULL; i++) {
        const lw_option_spec *o = &c->options[i];
        if (o->help != NULL) {
            snprintf(out->terms[i], sizeof out->terms[i], "--%s%s%s", o->name, o->argument != NULL ? " " : "",
                     o->argument != NULL ? o->argument : "");
            out->options[n++] = (lw_help_item){out->terms[i], o->help};
        }
    }
    if (c->takes_overrides) {
        out->options[n] =
            (lw_help_item){"key=value", "sets a configuration key, last one wins: a libconfig value or a bare word"};
    }
}

static void list_exits(const lw_command *c, lw_command_lists *out)
{
    static const lw_help_item usual[LW_HELP_ITEMS] = {
        {"0", "done"},
        {"1", "failed; the message on stderr says what, where, and what to do"},
        {"2", "usage or configuration error"},
    };
    int n = 0;
    for (; usual[n].term != NULL; n++) {
        const lw_help_item *own = find(c->exits, usual[n].term);
        out->exits[n] = own != NULL ? *own : usual[n];
    }
    for (int i = 0; i < LW_HELP_ITEMS && c->exits[i].term != NULL; i++) {
        if (n < LW_HELP_ITEMS && find(usual, c->exits[i].term) == NULL) {
            out->exits[n++] = c->exits[i];
        }
    }
}

void lw_command_lists_make(const lw_command *command, lw_command_lists *out)
{
    *out = (lw_command_lists){0};
    list_options(command, out);
    list_exits(command, out);
}

// --- printing

enum { TEXT_WIDTH = 88, INDENT = 2, TERM_WIDTH = 18 };

// Prints `text` from column `at`, wrapped at TEXT_WIDTH; further lines are indented. '\n' breaks a line.
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
    lw_command_lists lists;
    lw_command_lists_make(c, &lists);
    fprintf(out, "usage: lwmpi %s\n\n", c->usage);
    print_wrapped(c->text, 0, 0, out);
    print_items("Options:", lists.options, out);
    print_items("Exit codes:", lists.exits, out);
    print_items("Examples:", c->examples, out);
    if (c->lists_keys) {
        fprintf(out, "\nConfiguration keys:\n\n");
        lw_config_help(out);
    }
}

void lw_help_print(const lw_command *command, FILE *out)
{
    const lw_program_help *program = &lw_program_help_text;
    if (command != NULL) {
        print_command(command, out);
        return;
    }
    fprintf(out, "usage: lwmpi [COMMAND] [ARGUMENT ...]\n\n");
    print_wrapped(program->text, 0, 0, out);
    fprintf(out, "\nCommands:\n");
    for (const lw_command *const *c = lw_commands(); *c != NULL; c++) {
        fprintf(out, "%*s%-*s%s\n", INDENT, "", TERM_WIDTH, (*c)->name, (*c)->summary);
    }
    print_items("Options:", program->options, out);
    print_items("Exit codes:", program->exits, out);
    print_items("Environment:", program->environment, out);
    fprintf(out, "\nlwmpi help COMMAND says more; lwmpi help train lists the configuration keys.\n"
                 "mpirun -np 2 lwmpi runs the embedded default on two ranks.\n");
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
