// cmd_plan.c: `lwmpi plan`: prints memory, time and decision for each number of GPUs. No MPI, no GPU, no weights.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/options.h"
#include "plan/plan.h"

// Reads "1,2,4".
static lw_status read_counts(const char *text, lw_error *err, lw_plan_request *out)
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

static lw_status plan(const lw_config *config, const lw_plan_request *request, bool json, lw_error *err)
{
    lw_plan *p = calloc(1, sizeof *p);
    if (p == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for a plan");
    }
    lw_status status = lw_plan_make(config, request, err, p);
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

typedef struct arguments {
    lw_plan_request plan;
    const char *gpus;
    bool json;
} arguments;

static lw_status run(const lw_command *self, int argc, char **argv, lw_error *err)
{
    arguments a = {0};
    int count;
    lw_config *config = NULL;
    LW_TRY(lw_options_parse(self, argc, argv, err, &a, &count));
    if (a.gpus != NULL) {
        LW_TRY(read_counts(a.gpus, err, &a.plan));
    }
    LW_TRY(lw_config_from_words(count, argv + 1, err, &config));
    lw_status status = plan(config, &a.plan, a.json, err);
    lw_config_destroy(&config);
    return status;
}

const lw_command lw_command_plan = {
    .name = "plan",
    .summary = "how many GPUs the job is worth: memory, time, decision",
    .usage = "plan [CONFIG] [key=value ...] [--gpus 1,2,4] [--json]",
    .text = "Computes what the job of CONFIG takes at each number of GPUs: memory, item by item, from the same "
            "layout that train allocates with; time from a roofline of its operators, corrected by the measurements "
            "that bench and train leave in runs/calibration ($LWMPI_CALIBRATION); what doubling samples, epochs, "
            "batch, latents or answers would change; and the smallest count that fits and meets plan.deadline_h, or "
            "the time that is left of a Slurm job. It needs no MPI launch, no GPU and no weights: of the models "
            "their config.json, and where tokenizer or data are missing it says what it assumed instead.\n\n"
            "plan.device names the GPU (h100-sxm, h100-pcie, h200-sxm, a100-40, a100-80, a6000, l40s, v100, rtx4090, "
            "rtx3090), is cpu, or gives the numbers.",
    .options = {{"gpus", "1,2,4", "counts to look at; 1,2,4,8 when left out", LW_OPTION_INTO(arguments, gpus)},
                {"per-node", "N", "GPUs of a node; the device's usual number when left out",
                 LW_OPTION_INTO(arguments, plan.per_node), .max = 1024},
                {"answer", "N", "mean answer tokens, where there is no data to count",
                 LW_OPTION_INTO(arguments, plan.answer_tokens), .max = 1 << 20},
                {"source", "N", "mean bytes that the encoder reads, likewise",
                 LW_OPTION_INTO(arguments, plan.source_bytes), .max = 1 << 26},
                {"json", NULL, "the plan as JSON, the only thing on stdout", LW_OPTION_INTO(arguments, json)}},
    .exits = {{"2", "usage or configuration error, or the job fits no count"}},
    .examples = {{"lwmpi plan configs/llama8b-qwen7b.cfg plan.device=h200-sxm", "the same job on another GPU"}},
    .takes_overrides = true,
    .lists_keys = true,
    .run = run,
};
