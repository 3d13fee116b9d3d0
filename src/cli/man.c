// man.c: prints the manual page in roff, from the same texts as --help.
#include <stdbool.h>
#include <stdlib.h>

#include "cli/help_internal.h"
#include "config/config.h"
#include "core/version.h"

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

static void print_roff_command(const lw_command *c, FILE *out)
{
    lw_command_lists lists;
    lw_command_lists_make(c, &lists);
    fprintf(out, ".SS %s\n", c->name);
    print_roff(c->text, out);
    print_roff_items("Options:", lists.options, out);
    print_roff_items("Exit codes:", lists.exits, out);
    print_roff_items("Examples:", c->examples, out);
}

lw_status lw_help_man(FILE *out, lw_error *err)
{
    const lw_program_help *program = &lw_program_help_text;
    fprintf(out, ".TH LWMPI 1 \"\" \"lwmpi %s\" \"User Commands\"\n", lw_version());
    fprintf(out, ".SH NAME\nlwmpi \\- train a latent wire that drives several frozen language models\n.SH SYNOPSIS\n");
    for (const lw_command *const *c = lw_commands(); *c != NULL; c++) {
        fprintf(out, "%s.B lwmpi\n", c == lw_commands() ? "" : ".br\n");
        print_roff((*c)->usage, out);
    }
    fprintf(out, ".SH DESCRIPTION\n");
    print_roff(program->text, out);
    print_roff_items("Options:", program->options, out);
    fprintf(out, ".SH COMMANDS\n");
    for (const lw_command *const *c = lw_commands(); *c != NULL; c++) {
        print_roff_command(*c, out);
    }
    LW_TRY(print_roff_keys(out, err));
    fprintf(out, ".SH EXIT STATUS\n");
    print_roff_terms(program->exits, out);
    fprintf(out, ".SH ENVIRONMENT\n");
    print_roff_terms(program->environment, out);
    return LW_OK;
}
