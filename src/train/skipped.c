#include "train/skipped.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    SHOWN_IDS = 8,    // on stderr
    LOGGED_IDS = 512, // in log.txt
    IDS_PER_LINE = 8,
};

// "train.jsonl:12" for a row of data.train, whose folder everybody knows; other ids as they are.
static const char *id_of(const lw_job *job, int64_t phase, const lw_schedule *schedule, int64_t position)
{
    const char *id = job->train[phase].data.samples[lw_schedule_sample(schedule, position)].id;
    const char *file = lw_config_phase(job->config, phase)->data.train;
    const char *slash = strrchr(file, '/');
    bool is_row = strncmp(id, file, strlen(file)) == 0;
    return is_row && slash != NULL ? id + (slash + 1 - file) : id;
}

// Ids from position `first` on, as many as fit, `count` at most.
static void list_ids(const lw_job *job, int64_t phase, const lw_schedule *schedule, int64_t first, int64_t count,
                     char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (int64_t i = 0; i < count && used < size; i++) {
        int n = snprintf(out + used, size - used, "%s%.80s", i > 0 ? ", " : "", id_of(job, phase, schedule, first + i));
        used += n > 0 ? (size_t)n : 0;
    }
}

// "loss of llama, gradient": what is not finite.
static void list_causes(const lw_job *job, const double *loss, double grad_norm, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (int64_t j = 0; j < job->llm_count && used < size; j++) {
        if (!isfinite(loss[j])) {
            int n = snprintf(out + used, size - used, "%sloss of %s", used > 0 ? ", " : "", job->llms[j].name);
            used += n > 0 ? (size_t)n : 0;
        }
    }
    if (!isfinite(grad_norm) && used < size) {
        snprintf(out + used, size - used, "%sgradient", used > 0 ? ", " : "");
    }
}

void lw_skipped_log(const lw_job *job, int64_t phase, const lw_schedule *schedule, int64_t step, int64_t first,
                    int64_t count, const double *loss, double grad_norm)
{
    char causes[LW_MAX_MODELS * 80 + 16];
    char ids[IDS_PER_LINE * 84];
    int64_t shown = count < SHOWN_IDS ? count : SHOWN_IDS;
    int64_t logged = count < LOGGED_IDS ? count : LOGGED_IDS;
    list_causes(job, loss, grad_norm, causes, sizeof causes);
    list_ids(job, phase, schedule, first, shown, ids, sizeof ids);
    if (shown < count) {
        lw_log(job->run, "warning: step %lld skipped, not finite: %s; its samples: %s and %lld more, in log.txt",
               (long long)step, causes, ids, (long long)(count - shown));
    } else {
        lw_log(job->run, "warning: step %lld skipped, not finite: %s; its samples: %s", (long long)step, causes, ids);
    }
    for (int64_t i = shown; i < logged; i += IDS_PER_LINE) {
        int64_t n = logged - i < IDS_PER_LINE ? logged - i : IDS_PER_LINE;
        list_ids(job, phase, schedule, first + i, n, ids, sizeof ids);
        lw_log_file(job->run, "samples of step %lld: %s", (long long)step, ids);
    }
    if (logged < count) {
        lw_log_file(job->run, "samples of step %lld: %lld more, not listed", (long long)step,
                    (long long)(count - logged));
    }
}

lw_status lw_skipped_give_up(const lw_job *job, int64_t in_row, int64_t last_saved, lw_error *err)
{
    char kept[80] = "there is no checkpoint yet";
    if (last_saved >= 0) {
        snprintf(kept, sizeof kept, "the checkpoint of step %lld is kept", (long long)last_saved);
    }
    return lw_fail(
        err, LW_ERR_NUMERIC,
        "%lld steps in a row had a loss or gradient that is not finite (train.max_skipped = %lld); %s: lower "
        "train.lr, lengthen train.warmup, or look at the samples named in %s/log.txt",
        (long long)in_row, (long long)job->config->train.max_skipped, kept, job->config->run.dir);
}
