// make.c: makes a plan: its inputs, a row for each number of GPUs, the decision, and what simple changes would do.
#include <string.h>

#include "plan/plan_internal.h"

static const lw_plan_change unchanged = {"", 1, 1, 1, 1, 1};

// The changes that people ask about first.
static const lw_plan_change changes[LW_PLAN_WHAT_IFS] = {
    {"samples x2", 2, 1, 1, 1, 1}, {"epochs x2", 1, 2, 1, 1, 1},        {"batch x2", 1, 1, 2, 1, 1},
    {"latents x2", 1, 1, 1, 2, 1}, {"answer length x2", 1, 1, 1, 1, 2},
};

static lw_status make_layouts(const lw_plan *plan, const lw_plan_change *change, lw_error *err, lw_plan_layout *out)
{
    const lw_plan_layout *first = NULL;
    for (int i = 0; i < plan->options.count; i++) {
        LW_TRY(lw_plan_layout_make(plan, change, plan->options.counts[i], err, &out[i]));
        if (out[i].why_not[0] == '\0') {
            first = first != NULL ? first : &out[i];
            // Against one GPU; where one was not asked for, against each GPU of the smallest count.
            out[i].efficiency =
                out[i].samples_per_s / (double)out[i].gpus / (first->samples_per_s / (double)first->gpus);
        }
    }
    return LW_OK;
}

static lw_status make_what_ifs(lw_plan *plan, lw_error *err)
{
    const lw_plan_layout *now = lw_plan_find(plan, plan->decision.gpus);
    lw_plan_layout layouts[LW_PLAN_COUNTS];
    lw_plan_decision decision;
    if (now == NULL) {
        return LW_OK;
    }
    for (int i = 0; i < LW_PLAN_WHAT_IFS; i++) {
        lw_plan_what_if *w = &plan->what_if[plan->what_if_count];
        lw_plan_layout then;
        LW_TRY(lw_plan_layout_make(plan, &changes[i], now->gpus, err, &then));
        LW_TRY(make_layouts(plan, &changes[i], err, layouts));
        lw_plan_decide(plan, layouts, plan->options.count, &decision);
        if (then.why_not[0] != '\0') {
            continue;
        }
        *w = (lw_plan_what_if){.change = changes[i].name,
                               .time_factor = then.total_s / now->total_s,
                               .memory_factor = (double)then.memory.total / (double)now->memory.total,
                               .gpus = decision.gpus};
        plan->what_if_count++;
    }
    return LW_OK;
}

static lw_status check_counts(const lw_plan_options *o, lw_error *err)
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
    LW_TRY(check_counts(&plan->options, err));
    LW_TRY(lw_plan_open(plan, err));
    LW_TRY(make_layouts(plan, &unchanged, err, plan->layouts));
    plan->layout_count = plan->options.count;
    lw_plan_decide(plan, plan->layouts, plan->layout_count, &plan->decision);
    return make_what_ifs(plan, err);
}

lw_status lw_plan_make(const lw_config *config, const lw_plan_options *options, lw_error *err, lw_plan *out)
{
    static const int64_t usual[] = {1, 2, 4, 8};
    *out = (lw_plan){.config = config, .options = *options};
    if (options->count == 0) {
        memcpy(out->options.counts, usual, sizeof usual);
        out->options.count = (int)(sizeof usual / sizeof usual[0]);
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
