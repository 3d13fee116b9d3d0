// cmd_plan.c: `lwmpi plan`: no MPI, no GPU, no weights.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/config_words.h"
#include "cli/options.h"
#include "plan/plan.h"

// "1,2,4"
static lw_status read_counts(const char *text, lw_error *err, lw_plan_options *out)
{
    const char *at = text;
    do {
        char word[24];
        size_t length = strcspn(at, ",");
        if (out->count == LW_PLAN_COUNTS) {
            return lw_fail(err, LW_ERR_USAGE, "--gpus: at most %d counts", LW_PLAN_COUNTS);
        }
        if (length >= sizeof word) {
            return lw_fail(err, LW_ERR_USAGE, "--gpus wants counts such as 1,2,4, not \"%.80s\"", text);
        }
        memcpy(word, at, length);
        word[length] = '\0';
        LW_TRY(lw_option_int("gpus", word, 1, 65536, err, &out->counts[out->count]));
        out->count++;
        at += length + (at[length] == ',');
    } while (*at != '\0');
    return LW_OK;
}

static void print_line(void *context, const char *line)
{
    (void)context;
    printf("%s\n", line);
}

static lw_status plan(const lw_config *config, const lw_plan_options *options, bool json, lw_error *err)
{
    lw_plan *p = calloc(1, sizeof *p);
    if (p == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for a plan");
    }
    lw_status status = lw_plan_make(config, options, err, p);
    if (status == LW_OK) {
        if (json) {
            json_t *o = lw_plan_json(p);
            json_dumpf(o, stdout, JSON_INDENT(2));
            printf("\n");
            json_decref(o);
        } else {
            lw_plan_print(p, print_line, NULL);
        }
        if (p->decision.gpus == 0) {
            status = lw_fail(err, LW_ERR_CONFIG, "%s", p->decision.reason);
        }
        lw_plan_free(p);
    }
    free(p);
    return status;
}

lw_status lw_cmd_plan(int argc, char **argv, lw_error *err)
{
    const char *gpus = NULL;
    const char *per_node = "0";
    const char *answer = "0";
    const char *source = "0";
    bool json = false;
    int count;
    const lw_option options[] = {{"gpus", &gpus, NULL},     {"per-node", &per_node, NULL}, {"answer", &answer, NULL},
                                 {"source", &source, NULL}, {"json", NULL, &json},         {NULL, NULL, NULL}};
    lw_plan_options o = {0};
    lw_config *config = NULL;
    LW_TRY(lw_options_parse(options, argc, argv, err, &count));
    if (gpus != NULL) {
        LW_TRY(read_counts(gpus, err, &o));
    }
    LW_TRY(lw_option_int("per-node", per_node, 0, 1024, err, &o.per_node));
    LW_TRY(lw_option_int("answer", answer, 0, 1 << 20, err, &o.answer_tokens));
    LW_TRY(lw_option_int("source", source, 0, 1 << 26, err, &o.source_bytes));
    LW_TRY(lw_config_from_words(count, argv + 1, err, &config));
    lw_status status = plan(config, &o, json, err);
    lw_config_destroy(&config);
    return status;
}
