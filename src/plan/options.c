// options.c: memory and time of a job, as configured or changed, on one number of GPUs.
#include <stdio.h>

#include "plan/plan_internal.h"
#include "train/schedule.h"
#include "wire/step.h"

// The job after a change. Arena and schedule treat it as if it had been configured that way.
typedef struct changed_job {
    lw_config config;
    lw_config views[LW_MAX_PHASES]; // its phases with the same change
    lw_phase_config phases[LW_MAX_PHASES];
    lw_job job; // the plan's, with this configuration and a wire of its own
} changed_job;

// wire.ratio for `factor` times as many latents; 0: their number is fixed.
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
    if (!plan->from_data) { // sizes of data are measured with the changed configuration
        out->job.min_positions += lw_plan_most_of(&out->config).latents - lw_plan_most_of(plan->config).latents;
    }
    for (int64_t j = 0; j < plan->job.llm_count; j++) {
        d[j] = plan->job.llms[j].config.d;
    }
    return lw_wire_declare(&out->config, d, &out->job.encoder.backbone, err, &out->job.wire);
}

// The workload of a step of stage i.
static lw_workload workload(const lw_plan *plan, const changed_job *changed, const lw_plan_change *change,
                            const lw_run_schedule *schedule, int64_t i)
{
    const lw_sample_shape *mean = &plan->mean[i];
    lw_grid grid = changed->job.grid;
    lw_workload w = {.wire = &changed->job.wire, .ranks = lw_grid_ranks(grid), .micro = schedule->micro};
    w.shape = *mean;
    w.share = (schedule->global + grid.data - 1) / grid.data;
    int64_t ratio = lw_config_phase(plan->config, i)->wire.ratio;
    double factor =
        ratio > 0 ? (double)ratio / (double)schedule->stages[i].config->wire.ratio : (double)change->latents;
    w.shape.latents *= factor;
    for (int64_t j = 0; j < plan->job.llm_count; j++) {
        w.shape.rows[j] += w.shape.latents - mean->latents;
        w.shape.rows[j] += (double)(change->answer - 1) * mean->answer[j];
        w.shape.answer[j] *= (double)change->answer;
    }
    return w;
}

// Predicts the time of a step of a stage, and of its teachers, on a rank with the LLMs of `w`, from the nearest record
// if there is one. samples: number of samples in the data of the stage.
static void time_rank(const lw_plan *plan, int64_t stage, const lw_workload *w, double samples, lw_plan_option *l)
{
    double read = samples / (double)plan->samples[stage];
    lw_calibration_record target;
    lw_device_rates rates = plan->rates;
    bool exact = false;
    lw_calibration_describe(&plan->rates, w, l->threads, &target);
    const lw_calibration_record *record = lw_calibration_nearest(&plan->calibration, &target, &exact);
    if (record != NULL) {
        rates = record->rates; // its predictions were made with these rates
        rates.per_node = plan->rates.per_node;
        rates.cores = plan->rates.cores;
    }
    lw_device_rates shared = lw_device_rates_shared(&rates, w->ranks, l->threads);
    l->step = lw_predict_step(&shared, w);
    l->teacher_s = 0.0;
    for (int64_t j = 0; j < plan->job.llm_count; j++) {
        if (w->configs[j] != NULL) {
            l->teacher_s += lw_predict_teacher(&shared, w->configs[j], samples, read * plan->teacher[stage][j].tokens,
                                               LW_TEACHER_PASS_ROWS, LW_TEACHER_CHUNK_SAMPLES, l->grid.data);
        }
    }
    if (record != NULL) {
        double predicted_s = l->step.total_s;
        l->step = lw_calibration_apply(record, &l->step);
        l->step.total_s = exact ? record->step_s : l->step.total_s;
        // The passes of a teacher are like those of a step, and get the same correction.
        l->teacher_s *= l->step.total_s / predicted_s;
        l->measured = exact;
        l->calibrated = !exact;
        snprintf(l->record, sizeof l->record, "%s", record->file);
    }
}

// The same for the slowest rank, for which the others wait.
static void time_step(const lw_plan *plan, changed_job *changed, int64_t stage, lw_workload *w, double samples,
                      lw_plan_option *l)
{
    const lw_hf_config *configs[LW_MAX_MODELS];
    lw_plan_option slowest = {0};
    double teacher_s = 0.0;
    w->configs = configs;
    for (int m = 0; m < l->grid.model; m++) {
        lw_plan_option one = *l;
        changed->job.place.model = m;
        lw_job_own_configs(&changed->job, configs);
        time_rank(plan, stage, w, samples, &one);
        teacher_s = one.teacher_s > teacher_s ? one.teacher_s : teacher_s;
        if (m == 0 || one.step.total_s > slowest.step.total_s) {
            slowest = one;
        }
    }
    slowest.teacher_s = l->teacher_s + teacher_s;
    *l = slowest;
}

static double rows_of(const lw_workload *w)
{
    double rows = 0.0;
    for (int64_t j = 0; j < w->wire->llm_count; j++) {
        rows += lw_llm_share(&w->shape) * w->shape.rows[j];
    }
    return rows;
}

// Computes the mean of the run's steps from the sums over them.
static void mean_step(const lw_step_time *sum, double steps, lw_step_time *out)
{
    for (int p = 0; p < LW_PHASE_COUNT; p++) {
        out->phase_s[p] = sum->phase_s[p] / steps;
    }
    out->total_s = sum->total_s / steps;
}

static void fill_times(const lw_plan *plan, changed_job *changed, const lw_plan_change *change,
                       const lw_run_schedule *schedule, lw_plan_option *l)
{
    lw_step_time sum = {0};
    double row_steps = 0.0;
    double epoch_steps = 0.0;
    for (int64_t i = 0; i < schedule->count; i++) {
        lw_workload w = workload(plan, changed, change, schedule, i);
        double steps = (double)lw_run_schedule_overlap(schedule, i, 0, schedule->total_steps);
        time_step(plan, changed, i, &w, (double)schedule->stages[i].schedule.samples, l);
        l->stage_step_s[i] = l->step.total_s;
        l->stage_steps[i] = (int64_t)steps;
        for (int p = 0; p < LW_PHASE_COUNT; p++) {
            sum.phase_s[p] += steps * l->step.phase_s[p];
        }
        sum.total_s += steps * l->step.total_s;
        row_steps += steps * rows_of(&w);
        epoch_steps += (double)schedule->stages[i].schedule.samples / (double)schedule->global * l->step.total_s;
    }
    l->steps = schedule->total_steps;
    if (schedule->count > 1) { // else it is the step of the only stage already
        mean_step(&sum, (double)l->steps, &l->step);
    }
    l->samples_per_s = (double)schedule->global / l->step.total_s;
    l->tokens_per_s = row_steps / (double)l->steps * l->samples_per_s;
    l->epoch_s = epoch_steps; // once through the data of every stage
    l->total_s = (double)l->steps * l->step.total_s + l->teacher_s;
    l->gpu_hours = l->total_s / 3600.0 * (double)l->gpus;
}

// Measures the memory of the rank that needs most.
static lw_status measure_memory(const lw_plan *plan, changed_job *changed, const lw_plan_change *change, int64_t micro,
                                lw_error *err, lw_plan_option *l)
{
    for (int m = 0; m < l->grid.model; m++) {
        lw_plan_memory one;
        changed->job.place.model = m;
        LW_TRY(lw_plan_memory_measure(plan, &changed->job, change->answer, micro, l->gpus, err, &one));
        if (m == 0 || one.total > l->memory.total) {
            l->memory = one;
        }
    }
    return LW_OK;
}

lw_status lw_plan_option_make(const lw_plan *plan, const lw_plan_change *change, int64_t gpus, int64_t model,
                              lw_error *err, lw_plan_option *out)
{
    changed_job changed = {0};
    int64_t samples[LW_MAX_PHASES];
    lw_run_schedule schedule;
    lw_error refusal;
    lw_plan_option l = {.gpus = gpus, .threads = plan->cpu != NULL ? lw_plan_threads(plan, gpus) : 0};
    lw_status status = LW_OK;
    LW_TRY_GOTO(change_job(plan, change, err, &changed));
    for (int64_t i = 0; i < lw_config_phase_count(plan->config); i++) {
        samples[i] = plan->samples[i] * change->samples;
    }
    if (lw_job_grid(&changed.config, model, (int)gpus, &refusal, &l.grid) != LW_OK ||
        lw_run_schedule_make(&changed.config, samples, l.grid.data, &refusal, &schedule) != LW_OK) {
        snprintf(l.why_not, sizeof l.why_not, "%.255s", refusal.text);
        *out = l;
        goto done;
    }
    lw_job_set_place(&changed.job, l.grid, 0);
    status = measure_memory(plan, &changed, change, schedule.micro, err, &l);
    if (status == LW_ERR_CONFIG && !is_same(change)) { // its samples are longer than the models can take
        snprintf(l.why_not, sizeof l.why_not, "%.255s", err->text);
        *out = l;
        status = LW_OK;
        goto done;
    }
    LW_TRY_GOTO(status);
    fill_times(plan, &changed, change, &schedule, &l);
    double sharers = plan->cpu != NULL ? (double)gpus : 1.0; // the ranks of a machine share its memory
    l.fits = (double)l.memory.total * sharers <= plan->rates.memory_bytes * lw_device_memory_margin();
    *out = l;
done:
    lw_wire_free(&changed.job.wire);
    return status;
}
