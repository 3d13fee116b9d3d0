// decide.c: which of the counts that were looked at is recommended, and why each of the others is not.
#include <stdio.h>
#include <string.h>

#include "plan/plan_internal.h"

double lw_plan_safety(void)
{
    return 0.8; // the rest is for start, loading, evaluation, checkpoints, and the error of the prediction
}

const lw_plan_option *lw_plan_find(const lw_plan *plan, int64_t gpus)
{
    for (int i = 0; i < plan->option_count; i++) {
        if (plan->options[i].gpus == gpus && plan->options[i].best) {
            return &plan->options[i];
        }
    }
    return NULL;
}

lw_plan_time lw_plan_time_text(double s)
{
    lw_plan_time t;
    if (s < 120.0) {
        snprintf(t.text, sizeof t.text, "%.1f s", s);
    } else if (s < 7200.0) {
        snprintf(t.text, sizeof t.text, "%.1f min", s / 60.0);
    } else {
        snprintf(t.text, sizeof t.text, "%.2f h", s / 3600.0);
    }
    return t;
}

static bool usable(const lw_plan_option *l)
{
    return l->why_not[0] == '\0' && l->fits;
}

static bool meets(const lw_plan *plan, const lw_plan_option *l)
{
    return usable(l) && l->total_s <= lw_plan_safety() * plan->deadline_s;
}

// Samples per second that each further GPU adds, relative to one GPU of the smallest count.
static double marginal_efficiency(const lw_plan_option *options, int i)
{
    const lw_plan_option *first = NULL;
    const lw_plan_option *before = NULL;
    for (int k = 0; k < i; k++) {
        if (usable(&options[k])) {
            first = first != NULL ? first : &options[k];
            before = &options[k];
        }
    }
    if (before == NULL) {
        return 1.0;
    }
    double one = first->samples_per_s / (double)first->gpus;
    return (options[i].samples_per_s - before->samples_per_s) / (double)(options[i].gpus - before->gpus) / one;
}

static int choose(const lw_plan *plan, const lw_plan_option *options, int count, bool *meets_deadline)
{
    int best = -1;
    *meets_deadline = true;
    for (int i = 0; i < count; i++) {
        if (meets(plan, &options[i])) {
            return i;
        }
    }
    *meets_deadline = false;
    for (int i = 0; i < count; i++) {
        if (usable(&options[i]) && (best < 0 || marginal_efficiency(options, i) >= plan->config->plan.min_efficiency)) {
            best = i;
        }
    }
    return best;
}

static void say_no_fit(const lw_plan *plan, const lw_plan_option *options, int count, lw_plan_decision *out)
{
    const lw_plan_option *least = NULL;
    char devices[256] = "";
    lw_device_rates row;
    for (int i = 0; i < count; i++) {
        if (options[i].why_not[0] == '\0' && (least == NULL || options[i].memory.total < least->memory.total)) {
            least = &options[i];
        }
    }
    if (least == NULL) {
        snprintf(out->reason, sizeof out->reason, "no count that was asked for can divide the job: %.400s",
                 count > 0 ? options[0].why_not : "none was asked for");
        return;
    }
    if (plan->cpu != NULL) { // the CPU holds weights in f32, so its need says nothing about GPUs
        snprintf(devices, sizeof devices, "a machine with %.0f GB for each rank",
                 1e-9 * (double)least->memory.total / lw_device_memory_margin());
    }
    for (int i = 0; plan->cpu == NULL && lw_device_table_row(i, &row); i++) {
        if ((double)least->memory.total <= row.memory_bytes * lw_device_memory_margin()) {
            (void)strncat(devices, devices[0] == '\0' ? "" : ", ", sizeof devices - strlen(devices) - 1);
            (void)strncat(devices, row.name, sizeof devices - strlen(devices) - 1);
        }
    }
    double frozen_share = (double)least->memory.frozen / (double)least->memory.total;
    snprintf(out->reason, sizeof out->reason,
             "the job fits no count on %.100s: a rank needs %.1f GB, %.0f %% of it frozen weights, which data "
             "parallelism does not divide, and %.1f GB may be filled; it would fit %s%s",
             plan->rates.name, 1e-9 * (double)least->memory.total, 100.0 * frozen_share,
             1e-9 * plan->rates.memory_bytes * lw_device_memory_margin(),
             devices[0] != '\0' ? devices : "no GPU of the table",
             frozen_share < 0.7 ? "; or lower batch.micro or eval.batch" : "; or take one model out of `models`");
}

static void reject(const lw_plan *plan, const lw_plan_option *options, int i, const lw_plan_option *chosen,
                   bool meets_deadline, char *why, size_t size)
{
    const lw_plan_option *l = &options[i];
    double limit_s = lw_plan_safety() * plan->deadline_s;
    if (l->why_not[0] != '\0') {
        snprintf(why, size, "%s", l->why_not);
    } else if (!l->fits) {
        double sharers = plan->cpu != NULL ? (double)l->gpus : 1.0;
        snprintf(why, size, "needs %.1f GB of memory, %.1f GB may be filled", 1e-9 * sharers * (double)l->memory.total,
                 1e-9 * plan->rates.memory_bytes * lw_device_memory_margin());
    } else if (chosen != NULL && meets_deadline && l->gpus > chosen->gpus) {
        snprintf(why, size,
                 "%lld already meet%s the deadline; %s instead of %s would cost %.3g GPU-hours instead of %.3g",
                 (long long)chosen->gpus, chosen->gpus == 1 ? "s" : "", lw_plan_time_text(l->total_s).text,
                 lw_plan_time_text(chosen->total_s).text, l->gpu_hours, chosen->gpu_hours);
    } else if (chosen != NULL && l->gpus > chosen->gpus) {
        snprintf(why, size, "each further GPU adds %.0f %% of one GPU's rate, less than plan.min_efficiency = %g",
                 100.0 * marginal_efficiency(options, i), plan->config->plan.min_efficiency);
    } else if (meets_deadline) {
        snprintf(why, size, "%s, more than the %s that the deadline leaves", lw_plan_time_text(l->total_s).text,
                 lw_plan_time_text(limit_s).text);
    } else {
        snprintf(why, size, "%s: slower, and more GPUs are still worth it", lw_plan_time_text(l->total_s).text);
    }
}

void lw_plan_decide(const lw_plan *plan, const lw_plan_option *options, int count, lw_plan_decision *out)
{
    *out = (lw_plan_decision){0};
    int best = choose(plan, options, count, &out->meets_deadline);
    const lw_plan_option *chosen = best >= 0 ? &options[best] : NULL;
    double limit_s = lw_plan_safety() * plan->deadline_s;
    out->gpus = chosen != NULL ? chosen->gpus : 0;
    if (chosen == NULL) {
        say_no_fit(plan, options, count, out);
    } else if (out->meets_deadline) {
        snprintf(
            out->reason, sizeof out->reason,
            "%lld is the smallest count that fits and ends in time: %s of at most %s (%s, less a margin of %.0f %%)",
            (long long)chosen->gpus, lw_plan_time_text(chosen->total_s).text, lw_plan_time_text(limit_s).text,
            plan->deadline_text, 100.0 * (1.0 - lw_plan_safety()));
    } else {
        snprintf(
            out->reason, sizeof out->reason,
            "no count ends in time: the best, %lld, takes %s and only %s are there (%s, less a margin of %.0f %%); "
            "%lld is the largest whose GPUs each add at least %g of one GPU's rate. A larger batch, fewer epochs, or "
            "a deadline of %s would help",
            (long long)chosen->gpus, lw_plan_time_text(chosen->total_s).text, lw_plan_time_text(limit_s).text,
            plan->deadline_text, 100.0 * (1.0 - lw_plan_safety()), (long long)chosen->gpus,
            plan->config->plan.min_efficiency, lw_plan_time_text(chosen->total_s / lw_plan_safety()).text);
    }
    for (int i = 0; i < count; i++) {
        if (i != best) {
            out->rejected[out->rejected_count].gpus = options[i].gpus;
            reject(plan, options, i, chosen, out->meets_deadline, out->rejected[out->rejected_count].why,
                   sizeof out->rejected[0].why);
            out->rejected_count++;
        }
    }
}
