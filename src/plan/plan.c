#include "plan/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan/plan_internal.h"
#include "wire/step.h"

static const lw_plan_change unchanged = {"", 1, 1, 1, 1, 1};

// The changes that people ask about first.
static const lw_plan_change changes[LW_PLAN_WHAT_IFS] = {
    {"samples x2", 2, 1, 1, 1, 1}, {"epochs x2", 1, 2, 1, 1, 1},        {"batch x2", 1, 1, 2, 1, 1},
    {"latents x2", 1, 1, 1, 2, 1}, {"answer length x2", 1, 1, 1, 1, 2},
};

double lw_plan_safety(void)
{
    return 0.8; // start, loading, evaluation, checkpoints, and what a prediction is wrong by
}

// --- one layout

// The job as it is after a change; the arena and the schedule see it as if it had been configured so.
typedef struct changed_job {
    lw_config config;
    lw_config views[LW_MAX_PHASES]; // its phases, changed likewise
    lw_phase_config phases[LW_MAX_PHASES];
    lw_job job; // the plan's, with this configuration and a wire of its own
} changed_job;

// wire.ratio for `factor` times the latents; 0: their number is fixed.
static int64_t fewer_tokens(int64_t ratio, int64_t factor)
{
    return ratio > 0 && ratio < factor ? 1 : ratio / factor;
}

static bool is_same(const lw_plan_change *c)
{
    return c->samples == 1 && c->epochs == 1 && c->batch == 1 && c->latents == 1 && c->answer == 1;
}

static void change_config(const lw_plan_change *change, lw_config *c)
{
    c->batch.global *= change->batch;
    c->batch.per_rank *= change->batch;
    c->train.epochs *= change->epochs;
    c->wire.latents *= change->latents;
    c->wire.ratio = fewer_tokens(c->wire.ratio, change->latents);
}

static lw_status change_job(const lw_plan *plan, const lw_plan_change *change, lw_error *err, changed_job *out)
{
    int64_t d[LW_MAX_MODELS];
    out->config = plan->shape_config;
    out->job = plan->job;
    change_config(change, &out->config);
    for (int64_t i = 0; i < out->config.phase_count; i++) {
        out->phases[i] = out->config.phases[i];
        out->views[i] = *out->phases[i].view;
        change_config(change, &out->views[i]);
        out->phases[i].view = &out->views[i];
    }
    out->config.phases = out->phases;
    out->job.config = &out->config;
    if (!plan->from_data) { // data are measured with the changed configuration
        out->job.min_positions += lw_plan_most_of(&out->config).latents - lw_plan_most_of(plan->config).latents;
    }
    for (int64_t j = 0; j < plan->job.llm_count; j++) {
        d[j] = plan->job.llms[j].config.d;
    }
    lw_encoder_backbone backbone;
    return lw_wire_declare(&out->config, d, lw_job_backbone(&out->job, &backbone), err, &out->job.wire);
}

// A step of phase i.
static lw_workload workload(const lw_plan *plan, const changed_job *changed, const lw_plan_change *change,
                            const lw_course *course, int64_t i, int64_t ranks, const lw_hf_config **configs)
{
    const lw_sample_shape *mean = &plan->mean[i];
    lw_workload w = {.wire = &changed->job.wire, .configs = configs, .ranks = ranks, .micro = course->micro};
    w.shape = *mean;
    w.share = (course->global + ranks - 1) / ranks;
    int64_t ratio = lw_config_phase(plan->config, i)->wire.ratio;
    double factor = ratio > 0 ? (double)ratio / (double)course->legs[i].config->wire.ratio : (double)change->latents;
    w.shape.latents *= factor;
    for (int64_t j = 0; j < plan->job.llm_count; j++) {
        configs[j] = &plan->job.llms[j].config;
        w.shape.rows[j] += w.shape.latents - mean->latents;
        w.shape.rows[j] += (double)(change->answer - 1) * mean->answer[j];
        w.shape.answer[j] *= (double)change->answer;
    }
    return w;
}

// The time of a step of a phase, and of its teachers, from the nearest record where there is one. samples: of its data.
static void time_step(const lw_plan *plan, int64_t phase, const lw_workload *w, double samples, lw_plan_layout *l)
{
    double teacher_s = 0.0;
    double read = samples / (double)plan->samples[phase];
    lw_calibration_record target;
    lw_device_rates rates = plan->rates;
    bool exact = false;
    lw_calibration_describe(&plan->rates, w, l->threads, &target);
    const lw_calibration_record *record = lw_calibration_nearest(&plan->calibration, &target, &exact);
    if (record != NULL) {
        rates = record->rates; // what its predictions were made with
        rates.per_node = plan->rates.per_node;
        rates.cores = plan->rates.cores;
    }
    lw_device_rates shared = lw_device_rates_shared(&rates, w->ranks, l->threads);
    l->step = lw_predict_step(&shared, w);
    for (int64_t j = 0; j < plan->job.llm_count; j++) {
        teacher_s += lw_predict_teacher(&shared, w->configs[j], samples, read * plan->teacher[phase][j].tokens,
                                        LW_TEACHER_PASS_ROWS, LW_TEACHER_CHUNK_SAMPLES, w->ranks);
    }
    if (record != NULL) {
        double predicted_s = l->step.total_s;
        l->step = lw_calibration_apply(record, &l->step);
        l->step.total_s = exact ? record->step_s : l->step.total_s;
        teacher_s *= l->step.total_s / predicted_s; // the passes are of the same kind
        l->measured = exact;
        l->calibrated = !exact;
        snprintf(l->record, sizeof l->record, "%s", record->file);
    }
    l->teacher_s += teacher_s;
}

static double rows_of(const lw_workload *w)
{
    double rows = 0.0;
    for (int64_t j = 0; j < w->wire->llm_count; j++) {
        rows += lw_llm_share(&w->shape) * w->shape.rows[j];
    }
    return rows;
}

// The mean of the run's steps, out of the sums over them.
static void mean_step(const lw_step_time *sum, double steps, lw_step_time *out)
{
    for (int p = 0; p < LW_PHASE_COUNT; p++) {
        out->phase_s[p] = sum->phase_s[p] / steps;
    }
    out->total_s = sum->total_s / steps;
}

static void fill_times(const lw_plan *plan, const changed_job *changed, const lw_plan_change *change,
                       const lw_course *course, lw_plan_layout *l)
{
    const lw_hf_config *configs[LW_MAX_MODELS];
    lw_step_time sum = {0};
    double row_steps = 0.0;
    double epoch_steps = 0.0;
    for (int64_t i = 0; i < course->count; i++) {
        lw_workload w = workload(plan, changed, change, course, i, l->gpus, configs);
        double steps = (double)lw_course_overlap(course, i, 0, course->total_steps);
        time_step(plan, i, &w, (double)course->legs[i].schedule.samples, l);
        l->phase_step_s[i] = l->step.total_s;
        l->phase_steps[i] = (int64_t)steps;
        for (int p = 0; p < LW_PHASE_COUNT; p++) {
            sum.phase_s[p] += steps * l->step.phase_s[p];
        }
        sum.total_s += steps * l->step.total_s;
        row_steps += steps * rows_of(&w);
        epoch_steps += (double)course->legs[i].schedule.samples / (double)course->global * l->step.total_s;
    }
    l->steps = course->total_steps;
    if (course->count > 1) { // else it is the step of the only phase
        mean_step(&sum, (double)l->steps, &l->step);
    }
    l->samples_per_s = (double)course->global / l->step.total_s;
    l->tokens_per_s = row_steps / (double)l->steps * l->samples_per_s;
    l->epoch_s = epoch_steps; // once through the data of every phase
    l->total_s = (double)l->steps * l->step.total_s + l->teacher_s;
    l->gpu_hours = l->total_s / 3600.0 * (double)l->gpus;
}

lw_status lw_plan_layout_make(const lw_plan *plan, const lw_plan_change *change, int64_t gpus, lw_error *err,
                              lw_plan_layout *out)
{
    changed_job changed = {0};
    int64_t samples[LW_MAX_PHASES];
    lw_course course;
    lw_error refusal;
    lw_plan_layout l = {.gpus = gpus, .threads = plan->cpu != NULL ? lw_plan_threads(plan, gpus) : 0};
    lw_status status = LW_OK;
    LW_TRY_GOTO(change_job(plan, change, err, &changed));
    for (int64_t i = 0; i < lw_config_phase_count(plan->config); i++) {
        samples[i] = plan->samples[i] * change->samples;
    }
    if (lw_course_make(&changed.config, samples, (int)gpus, &refusal, &course) != LW_OK) {
        snprintf(l.why_not, sizeof l.why_not, "%.255s", refusal.text);
        *out = l;
        goto done;
    }
    status = lw_plan_memory_measure(plan, &changed.job, change->answer, course.micro, gpus, err, &l.memory);
    if (status == LW_ERR_CONFIG && !is_same(change)) { // longer than the models can take
        snprintf(l.why_not, sizeof l.why_not, "%.255s", err->text);
        *out = l;
        status = LW_OK;
        goto done;
    }
    LW_TRY_GOTO(status);
    fill_times(plan, &changed, change, &course, &l);
    double sharers = plan->cpu != NULL ? (double)gpus : 1.0; // ranks of a machine share its memory
    l.fits = (double)l.memory.total * sharers <= plan->rates.memory_bytes * lw_device_memory_margin();
    *out = l;
done:
    lw_wire_free(&changed.job.wire);
    return status;
}

const lw_plan_layout *lw_plan_find(const lw_plan *plan, int64_t gpus)
{
    for (int i = 0; i < plan->layout_count; i++) {
        if (plan->layouts[i].gpus == gpus) {
            return &plan->layouts[i];
        }
    }
    return NULL;
}

// --- the decision

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

static bool usable(const lw_plan_layout *l)
{
    return l->why_not[0] == '\0' && l->fits;
}

static bool meets(const lw_plan *plan, const lw_plan_layout *l)
{
    return usable(l) && l->total_s <= lw_plan_safety() * plan->deadline_s;
}

// Samples per second that each further GPU adds, against those of one GPU of the smallest count.
static double marginal_efficiency(const lw_plan_layout *layouts, int i)
{
    const lw_plan_layout *first = NULL;
    const lw_plan_layout *before = NULL;
    for (int k = 0; k < i; k++) {
        if (usable(&layouts[k])) {
            first = first != NULL ? first : &layouts[k];
            before = &layouts[k];
        }
    }
    if (before == NULL) {
        return 1.0;
    }
    double one = first->samples_per_s / (double)first->gpus;
    return (layouts[i].samples_per_s - before->samples_per_s) / (double)(layouts[i].gpus - before->gpus) / one;
}

static int choose(const lw_plan *plan, const lw_plan_layout *layouts, int count, bool *meets_deadline)
{
    int best = -1;
    *meets_deadline = true;
    for (int i = 0; i < count; i++) {
        if (meets(plan, &layouts[i])) {
            return i;
        }
    }
    *meets_deadline = false;
    for (int i = 0; i < count; i++) {
        if (usable(&layouts[i]) && (best < 0 || marginal_efficiency(layouts, i) >= plan->config->plan.min_efficiency)) {
            best = i;
        }
    }
    return best;
}

static void say_no_fit(const lw_plan *plan, const lw_plan_layout *layouts, int count, lw_plan_decision *out)
{
    const lw_plan_layout *least = NULL;
    char devices[256] = "";
    lw_device_rates row;
    for (int i = 0; i < count; i++) {
        if (layouts[i].why_not[0] == '\0' && (least == NULL || layouts[i].memory.total < least->memory.total)) {
            least = &layouts[i];
        }
    }
    if (least == NULL) {
        snprintf(out->reason, sizeof out->reason, "no count that was asked for can divide the job: %.400s",
                 count > 0 ? layouts[0].why_not : "none was asked for");
        return;
    }
    if (plan->cpu != NULL) { // whose weights are f32: a GPU's need would be another
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

static void reject(const lw_plan *plan, const lw_plan_layout *layouts, int i, const lw_plan_layout *chosen,
                   bool meets_deadline, char *why, size_t size)
{
    const lw_plan_layout *l = &layouts[i];
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
                 100.0 * marginal_efficiency(layouts, i), plan->config->plan.min_efficiency);
    } else if (meets_deadline) {
        snprintf(why, size, "%s, more than the %s that the deadline leaves", lw_plan_time_text(l->total_s).text,
                 lw_plan_time_text(limit_s).text);
    } else {
        snprintf(why, size, "%s: slower, and more GPUs are still worth it", lw_plan_time_text(l->total_s).text);
    }
}

void lw_plan_decide(const lw_plan *plan, const lw_plan_layout *layouts, int count, lw_plan_decision *out)
{
    *out = (lw_plan_decision){0};
    int best = choose(plan, layouts, count, &out->meets_deadline);
    const lw_plan_layout *chosen = best >= 0 ? &layouts[best] : NULL;
    double limit_s = lw_plan_safety() * plan->deadline_s;
    out->gpus = chosen != NULL ? chosen->gpus : 0;
    if (chosen == NULL) {
        say_no_fit(plan, layouts, count, out);
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
            out->rejected[out->rejected_count].gpus = layouts[i].gpus;
            reject(plan, layouts, i, chosen, out->meets_deadline, out->rejected[out->rejected_count].why,
                   sizeof out->rejected[0].why);
            out->rejected_count++;
        }
    }
}

// --- what if

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

// --- all of it

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
