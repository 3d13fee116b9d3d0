// make.c: makes a plan: its inputs, a row for each number of GPUs, the decision, and what simple changes would do.
#include <stdlib.h>
#include <string.h>

#include "plan/plan_internal.h"

static const lw_plan_change unchanged = {"", 1, 1, 1, 1, 1};

// The changes that people ask about first.
static const lw_plan_change changes[LW_PLAN_WHAT_IFS] = {
    {"samples x2", 2, 1, 1, 1, 1}, {"epochs x2", 1, 2, 1, 1, 1},        {"batch x2", 1, 1, 2, 1, 1},
    {"latents x2", 1, 1, 1, 2, 1}, {"answer length x2", 1, 1, 1, 1, 2},
};

// A grid with more groups is better only if it is clearly faster. The rates of a CPU are measured at every start and
// vary a little, and the choice must not vary with them.
static bool is_better(const lw_plan_option *a, const lw_plan_option *than)
{
    static const double clearly = 1.05;
    if (than == NULL || a->fits != than->fits) {
        return than == NULL || a->fits;
    }
    return a->fits ? a->samples_per_s > clearly * than->samples_per_s : a->memory.total < than->memory.total;
}

// Makes the options of all grids of one count, beginning with the fewest groups, and marks the best of them.
static lw_status make_grids(const lw_plan *plan, const lw_plan_change *change, int64_t gpus, lw_error *err,
                            lw_plan_option *out, int *count)
{
    int64_t fixed = plan->config->grid.model;
    int64_t most = plan->job.llm_count < gpus ? plan->job.llm_count : gpus;
    lw_plan_option *best = NULL;
    for (int64_t model = 1; model <= most; model++) {
        bool wanted = fixed > 0 ? model == fixed : gpus % model == 0;
        if (!wanted || *count == LW_PLAN_OPTIONS) {
            continue;
        }
        lw_plan_option *l = &out[*count];
        LW_TRY(lw_plan_option_make(plan, change, gpus, model, err, l));
        if (l->why_not[0] == '\0') { // a grid that is not possible was not asked for
            (*count)++;
            best = is_better(l, best) ? l : best;
        }
    }
    if (best == NULL && *count < LW_PLAN_OPTIONS) { // the option then says why
        best = &out[(*count)++];
        LW_TRY(lw_plan_option_make(plan, change, gpus, fixed > 0 ? fixed : 1, err, best));
    }
    if (best != NULL) {
        best->best = true;
    }
    return LW_OK;
}

// Copies the best option of each count; returns how many.
static int pick_best(const lw_plan_option *all, int count, lw_plan_option *out)
{
    int n = 0;
    for (int i = 0; i < count; i++) {
        if (all[i].best && n < LW_PLAN_COUNTS) {
            out[n++] = all[i];
        }
    }
    return n;
}

static lw_status make_options(const lw_plan *plan, const lw_plan_change *change, lw_error *err, lw_plan_option *out,
                              int *count)
{
    const lw_plan_option *first = NULL;
    *count = 0;
    for (int i = 0; i < plan->request.count && *count < LW_PLAN_OPTIONS; i++) {
        LW_TRY(make_grids(plan, change, plan->request.counts[i], err, out, count));
    }
    for (int i = 0; i < *count && first == NULL; i++) {
        first = out[i].best && out[i].why_not[0] == '\0' ? &out[i] : NULL;
    }
    for (int i = 0; i < *count && first != NULL; i++) {
        if (out[i].why_not[0] == '\0') {
            // Relative to one GPU, or to each GPU of the smallest count if one GPU was not asked for.
            out[i].efficiency =
                out[i].samples_per_s / (double)out[i].gpus / (first->samples_per_s / (double)first->gpus);
        }
    }
    return LW_OK;
}

// Decides among the best grids of all counts.
static void decide(const lw_plan *plan, const lw_plan_option *options, int count, lw_plan_decision *out)
{
    lw_plan_option best[LW_PLAN_COUNTS];
    lw_plan_decide(plan, best, pick_best(options, count, best), out);
}

static lw_status make_what_if(lw_plan *plan, const lw_plan_change *change, const lw_plan_option *now,
                              lw_plan_option *options, lw_error *err)
{
    lw_plan_decision decision;
    lw_plan_option then;
    int count = 0;
    LW_TRY(lw_plan_option_make(plan, change, now->gpus, now->grid.model, err, &then));
    LW_TRY(make_options(plan, change, err, options, &count));
    decide(plan, options, count, &decision);
    if (then.why_not[0] == '\0') {
        plan->what_if[plan->what_if_count++] =
            (lw_plan_what_if){.change = change->name,
                              .time_factor = then.total_s / now->total_s,
                              .memory_factor = (double)then.memory.total / (double)now->memory.total,
                              .gpus = decision.gpus};
    }
    return LW_OK;
}

static lw_status make_what_ifs(lw_plan *plan, lw_error *err)
{
    const lw_plan_option *now = lw_plan_find(plan, plan->decision.gpus);
    lw_status status = LW_OK;
    if (now == NULL) {
        return LW_OK;
    }
    lw_plan_option *options = calloc(LW_PLAN_OPTIONS, sizeof *options);
    if (options == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the rows of a plan");
    }
    for (int i = 0; i < LW_PLAN_WHAT_IFS && status == LW_OK; i++) {
        status = make_what_if(plan, &changes[i], now, options, err);
    }
    free(options);
    return status;
}

static lw_status check_counts(const lw_plan_request *o, lw_error *err)
{
    for (int i = 0; i < o->count; i++) {
        if (o->counts[i] < 1 || o->counts[i] > 65536 || (i > 0 && o->counts[i] <= o->counts[i - 1])) {
            return lw_fail(err, LW_ERR_USAGE,
                           "GPU counts are 1 to 65536, each larger than the one before it; %lld is not",
                           (long long)o->counts[i]);
        }
    }
    return LW_OK;
}

static lw_status make(lw_plan *plan, lw_error *err)
{
    LW_TRY(check_counts(&plan->request, err));
    LW_TRY(lw_plan_open(plan, err));
    LW_TRY(make_options(plan, &unchanged, err, plan->options, &plan->option_count));
    decide(plan, plan->options, plan->option_count, &plan->decision);
    return make_what_ifs(plan, err);
}

lw_status lw_plan_make(const lw_config *config, const lw_plan_request *request, lw_error *err, lw_plan *out)
{
    static const int64_t usual[] = {1, 2, 4, 8};
    *out = (lw_plan){.config = config, .request = *request};
    if (request->count == 0) {
        memcpy(out->request.counts, usual, sizeof usual);
        out->request.count = (int)(sizeof usual / sizeof usual[0]);
    }
    lw_status status = make(out, err);
    if (status != LW_OK) {
        lw_plan_free(out);
    }
    return status;
}

void lw_plan_free(lw_plan *plan)
{
    lw_plan_close(plan);
    *plan = (lw_plan){0};
}
