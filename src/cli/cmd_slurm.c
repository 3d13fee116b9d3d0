// cmd_slurm.c: `lwmpi slurm`: prints a ready sbatch script, sized by the plan.
#include <ctype.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/options.h"
#include "io/files.h"
#include "io/install.h"
#include "plan/plan.h"

// Minutes for the start, loading weights and the evaluation, in addition to the training steps.
static const double START_MIN = 10.0;
static const double LEAST_MIN = 15.0;

typedef struct lw_slurm_job {
    const lw_plan *plan;
    const lw_plan_option *option;
    int64_t nodes, per_node; // ranks of a node
    char *config;            // absolute
    char *folder;            // of job.sh
    int word_count;
    char **words; // overrides
} lw_slurm_job;

// Prints text in single quotes for a shell.
static void print_quoted(const char *text)
{
    putchar('\'');
    for (; *text != '\0'; text++) {
        if (*text == '\'') {
            fputs("'\\''", stdout);
        } else {
            putchar(*text);
        }
    }
    putchar('\'');
}

// Prints the configuration's name in a line that Slurm reads as options, so that nothing in it is taken for an option
// and no % for a pattern.
static void print_name(const char *before, const char *name, const char *after)
{
    fputs(before, stdout);
    for (; *name != '\0'; name++) {
        putchar(isalnum((unsigned char)*name) || strchr("._-", *name) != NULL ? *name : '_');
    }
    puts(after);
}

// Host memory of a node: the weights pass through its page cache once; each rank stages parameters and both moments for
// checkpoints, and holds the samples, MPI and CUDA (4 GB). The CPU device keeps everything in host memory.
static int64_t host_memory_gb(const lw_slurm_job *j)
{
    const lw_plan_memory *m = &j->option->memory;
    double rank = 4e9 + (double)m->parameters + (double)m->optimizer;
    double node = (double)j->per_node * (j->plan->cpu != NULL ? rank + (double)m->total : rank) + (double)m->frozen;
    return (int64_t)ceil(1.1 * node / 1e9);
}

// The predicted time with the planner's margin, rounded up to five minutes.
static int64_t limit_min(const lw_slurm_job *j)
{
    double minutes = j->option->total_s / 60.0 / lw_plan_safety() + START_MIN;
    return 5 * (int64_t)ceil((minutes > LEAST_MIN ? minutes : LEAST_MIN) / 5.0);
}

static void print_script(const lw_slurm_job *j)
{
    const lw_config *c = j->plan->config;
    int64_t minutes = limit_min(j);
    printf("#!/usr/bin/env bash\n");
    printf("# Written by lwmpi slurm for %s: %lld rank%s of %s.\n", c->path, (long long)j->option->gpus,
           j->option->gpus == 1 ? "" : "s", j->plan->rates.name);
    printf("# %s%s. Predicted: %.2f h at %.1f samples/s, %.1f GB a rank.\n",
           j->option->measured ? "Measured" : "Computed", j->option->calibrated ? " and calibrated" : "",
           j->option->total_s / 3600.0, j->option->samples_per_s, 1e-9 * (double)j->option->memory.total);
    printf("# Submit with slurm/submit.sh, or: mkdir -p runs && sbatch THIS_FILE\n");
    print_name("#SBATCH --job-name=lwmpi-", c->name, "");
    printf("#SBATCH --nodes=%lld\n#SBATCH --ntasks-per-node=%lld\n", (long long)j->nodes, (long long)j->per_node);
    if (j->plan->cpu == NULL) {
        printf("#SBATCH --gres=gpu:%lld\n#SBATCH --cpus-per-task=4\n", (long long)j->per_node);
    } else {
        printf("#SBATCH --cpus-per-task=%lld\n", (long long)j->option->threads);
    }
    printf("#SBATCH --mem=%lldG\n", (long long)host_memory_gb(j));
    printf("#SBATCH --time=%02lld:%02lld:00\n", (long long)(minutes / 60), (long long)(minutes % 60));
    print_name("#SBATCH --output=runs/", c->name, "_%j.log");
    printf("#SBATCH --open-mode=append\n#SBATCH --signal=B:USR1@120\n#SBATCH --requeue\n");
    printf("set -uo pipefail\ndir=${LWMPI_SLURM_DIR:-");
    print_quoted(j->folder);
    printf("}\n. \"$dir/job.sh\"\nlwmpi_job ");
    print_quoted(j->config);
    for (int i = 0; i < j->word_count; i++) {
        putchar(' ');
        print_quoted(j->words[i]);
    }
    printf("\n");
}

// Finds the folder slurm/ beside configs/.
static lw_status find_folder(lw_error *err, char **out)
{
    char *config = NULL;
    char *configs = NULL;
    char *root = NULL;
    lw_status status = LW_OK;
    LW_TRY_GOTO(lw_path_default_config(err, &config));
    LW_TRY_GOTO(lw_path_parent(config, err, &configs));
    LW_TRY_GOTO(lw_path_parent(configs, err, &root));
    LW_TRY_GOTO(lw_path_join(root, "slurm", err, out));
done:
    free(config);
    free(configs);
    free(root);
    return status;
}

static lw_status place(const lw_plan *plan, int64_t nodes, lw_error *err, lw_slurm_job *out)
{
    const lw_plan_option *l = plan->decision.gpus > 0 ? lw_plan_find(plan, plan->decision.gpus) : NULL;
    if (l == NULL) {
        return lw_fail(err, LW_ERR_CONFIG, "%s", plan->decision.reason);
    }
    int64_t per_node = plan->rates.per_node > 0 ? plan->rates.per_node : l->gpus;
    nodes = nodes > 0 ? nodes : (l->gpus + per_node - 1) / per_node;
    if (l->gpus % nodes != 0) {
        return lw_fail(err, LW_ERR_USAGE, "%lld ranks cannot be spread evenly over %lld nodes; give --nodes a divisor",
                       (long long)l->gpus, (long long)nodes);
    }
    out->option = l;
    out->nodes = nodes;
    out->per_node = l->gpus / nodes;
    if (plan->rates.per_node > 0 && out->per_node > plan->rates.per_node) {
        return lw_fail(err, LW_ERR_USAGE,
                       "%lld ranks on %lld nodes are %lld to a node, which has %lld GPUs (--per-node)",
                       (long long)l->gpus, (long long)nodes, (long long)out->per_node, (long long)plan->rates.per_node);
    }
    return LW_OK;
}

static lw_status print(const lw_config *config, const lw_plan_request *request, int64_t nodes, int count, char **words,
                       lw_error *err)
{
    lw_slurm_job job = {0};
    char absolute[PATH_MAX];
    lw_plan *plan = calloc(1, sizeof *plan);
    char **overrides = calloc((size_t)count + 1, sizeof *overrides);
    lw_status status = LW_OK;
    if (plan == NULL || overrides == NULL) {
        free(plan);
        free(overrides);
        return lw_fail(err, LW_ERR_MEMORY, "no memory for a plan");
    }
    LW_TRY_GOTO(lw_plan_make(config, request, err, plan));
    job.plan = plan;
    job.words = overrides;
    for (int i = 0; i < count; i++) {
        if (strchr(words[i], '=') != NULL) {
            overrides[job.word_count++] = words[i];
        }
    }
    job.config = realpath(config->path, absolute) != NULL ? absolute : config->path;
    status = find_folder(err, &job.folder);
    if (status == LW_OK) {
        status = place(plan, nodes, err, &job);
    }
    if (status == LW_OK) {
        print_script(&job);
    }
    lw_plan_free(plan);
done:
    free(job.folder);
    free(overrides);
    free(plan);
    return status;
}

typedef struct arguments {
    int64_t gpus, nodes; // 0: not given
    int64_t per_node;
} arguments;

static lw_status run(const lw_command *self, int argc, char **argv, lw_error *err)
{
    arguments a = {0};
    int count;
    lw_config *config = NULL;
    LW_TRY(lw_options_parse(self, argc, argv, err, &a, &count));
    const lw_plan_request o = {.counts = {a.gpus}, .count = a.gpus > 0 ? 1 : 0, .per_node = a.per_node};
    LW_TRY(lw_config_from_words(count, argv + 1, err, &config));
    lw_status status = print(config, &o, a.nodes, count, argv + 1, err);
    lw_config_destroy(&config);
    return status;
}

const lw_command lw_command_slurm = {
    .name = "slurm",
    .summary = "print a ready sbatch script",
    .usage = "slurm [CONFIG] [key=value ...] [--gpus N] [--nodes N]",
    .text = "Prints an sbatch script for the job of CONFIG: as many GPUs as the plan decides on, or --gpus; host "
            "memory from what is loaded; a time limit from the predicted time and its margin. The script checks the "
            "configuration with a dry run, starts the ranks with srun or mpirun, passes the warning before the time "
            "limit on to them, and goes back into the queue when they have written a checkpoint. Account, partition "
            "and modules are in slurm/site.sh.",
    .options = {{"gpus", "N", "ranks of the job; the plan's decision when left out", LW_OPTION_INTO(arguments, gpus),
                 .min = 1, .max = 65536},
                {"nodes", "N", "nodes; as few as hold the GPUs when left out", LW_OPTION_INTO(arguments, nodes),
                 .min = 1, .max = 65536},
                {"per-node", "N", "GPUs of a node; the device's usual number when left out",
                 LW_OPTION_INTO(arguments, per_node), .max = 1024}},
    .exits = {{"2", "usage or configuration error, or the job fits no count"}},
    .examples = {{"lwmpi slurm my.cfg > my.sbatch && mkdir -p runs && sbatch my.sbatch", ""}},
    .takes_overrides = true,
    .lists_keys = true,
    .run = run,
};
