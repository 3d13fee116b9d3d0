// forecast.c: predicts a run when it starts, and compares the prediction with what it took.
#include "plan/forecast.h"

#include <stdio.h>
#include <string.h>

#include "cost/flops.h"
#include "io/json.h"
#include "kernels/devices.h"
#include "run/run_dir.h"

// A run of fewer steps leaves no record: start-up would be too large a part of what was measured.
enum { LW_RECORD_STEPS = 20 };

lw_status lw_forecast_rates(const lw_job *job, lw_error *err, lw_device_rates *out, bool *known)
{
    *known = true;
    if (strcmp(job->dev->ops->name, "cpu") != 0) {
        *known = lw_device_table_row(lw_device_table_match(job->dev->description), out);
        return LW_OK;
    }
    lw_device *dev = NULL; // a second device, since the job's counts what the job allocates
    LW_TRY(lw_device_open("cpu", 0, job->threads, err, &dev));
    lw_status status = lw_device_rates_cpu(dev, job->threads, err, out);
    lw_device_close(&dev);
    // A launcher may have bound this rank to a few cores, and the other ranks to other cores.
    int64_t cores = (int64_t)job->threads * job->ranks;
    out->cores = status == LW_OK && cores > out->cores ? cores : out->cores;
    return status;
}

static lw_workload workload(int64_t stage, lw_forecast *f)
{
    const lw_job *job = f->job;
    lw_job_own_configs(job, f->configs);
    return (lw_workload){.wire = &job->wire,
                         .configs = f->configs,
                         .shape = lw_corpus_shape(f->schedule->stages[stage].config, &job->train[stage]),
                         .share = (f->schedule->global + job->grid.data - 1) / job->grid.data,
                         .micro = f->schedule->micro,
                         .ranks = job->ranks};
}

lw_status lw_forecast_step(const lw_device_rates *rates, const lw_workload *w, const lw_calibration_record *record,
                           lw_error *err, double *step_s, char source[160], bool *measured)
{
    lw_calibration calibration = {0};
    LW_TRY(lw_calibration_read(lw_calibration_folder(), err, &calibration));
    const lw_calibration_record *nearest = lw_calibration_nearest(&calibration, record, measured);
    lw_device_rates base = nearest != NULL ? nearest->rates : *rates;
    base.cores = rates->cores;
    lw_device_rates shared = lw_device_rates_shared(&base, w->ranks, record->threads);
    lw_step_time time = lw_predict_step(&shared, w);
    source[0] = '\0';
    *step_s = time.total_s;
    if (nearest != NULL) {
        *step_s = *measured ? nearest->step_s : lw_calibration_apply(nearest, &time).total_s;
        snprintf(source, 160, "%s", nearest->file);
    }
    lw_calibration_free(&calibration);
    return LW_OK;
}

// Predicted seconds of the run's steps from .. to.
static double steps_s(const lw_forecast *f, int64_t from, int64_t to)
{
    double s = 0.0;
    for (int64_t i = 0; i < f->schedule->count; i++) {
        s += f->stage_step_s[i] * (double)lw_run_schedule_overlap(f->schedule, i, from, to);
    }
    return s;
}

// Predicts a step of each stage; `measured` and `source` are of the last one.
static lw_status forecast_stages(const lw_device_rates *rates, lw_error *err, lw_forecast *out)
{
    for (int64_t i = 0; i < out->schedule->count; i++) {
        lw_workload w = workload(i, out);
        lw_calibration_describe(rates, &w, out->job->threads, &out->record);
        LW_TRY(lw_forecast_step(rates, &w, &out->record, err, &out->stage_step_s[i], out->source, &out->measured));
    }
    return LW_OK;
}

lw_status lw_forecast_make(const lw_job *job, const lw_run_schedule *schedule, const lw_checkpoint_info *state,
                           size_t device_bytes, lw_error *err, lw_forecast *out)
{
    lw_device_rates rates;
    *out = (lw_forecast){.job = job,
                         .schedule = schedule,
                         .device_bytes = device_bytes,
                         .first_step = state->step,
                         .first_train_s = state->train_s};
    LW_TRY(lw_forecast_rates(job, err, &rates, &out->known));
    if (!out->known) {
        return LW_OK;
    }
    LW_TRY(forecast_stages(&rates, err, out));
    double train_s = steps_s(out, state->step, schedule->total_steps);
    int64_t steps = schedule->total_steps - state->step;
    out->step_s = steps > 0 ? train_s / (double)steps : out->stage_step_s[0];
    out->samples_per_s = (double)schedule->global / out->step_s;
    lw_log(job->run, "expected: %.1f samples/s, %.0f s of training (%s%s)", out->samples_per_s, train_s,
           out->measured            ? "measured before: "
           : out->source[0] != '\0' ? "predicted, calibrated by "
                                    : "predicted, uncalibrated",
           out->source);
    return LW_OK;
}

static int64_t steps_done(const lw_forecast *f, const lw_checkpoint_info *state)
{
    return state->step - f->first_step;
}

static double seconds(const lw_forecast *f, const lw_checkpoint_info *state)
{
    return state->train_s - f->first_train_s;
}

static json_t *figures(double step_s, double samples_per_s, double train_s, size_t bytes)
{
    json_t *o = json_object();
    lw_json_put_f64(o, "step_s", step_s);
    lw_json_put_f64(o, "samples_per_s", samples_per_s);
    lw_json_put_f64(o, "train_s", train_s);
    lw_json_put_i64(o, "device_bytes", (int64_t)bytes);
    return o;
}

void lw_forecast_summary(const lw_forecast *f, const lw_checkpoint_info *state, json_t *summary)
{
    int64_t steps = steps_done(f, state);
    if (steps <= 0) {
        return;
    }
    double train_s = seconds(f, state);
    double step_s = train_s / (double)steps;
    size_t bytes = f->job->dev->allocated_bytes;
    json_t *error = json_object();
    lw_json_put_f64(error, "memory", (double)f->device_bytes / (double)bytes - 1.0);
    if (f->known) {
        double predicted_s = steps_s(f, f->first_step, state->step);
        json_t *predicted =
            figures(predicted_s / (double)steps, (double)f->schedule->global * (double)steps / predicted_s, predicted_s,
                    f->device_bytes);
        lw_json_put_text(predicted, "source", f->measured ? "measured" : "predicted");
        json_object_set_new(predicted, "calibration", f->source[0] != '\0' ? json_string(f->source) : json_null());
        json_object_set_new(summary, "predicted", predicted);
        lw_json_put_f64(error, "time", predicted_s / train_s - 1.0);
    }
    json_object_set_new(summary, "measured", figures(step_s, (double)f->schedule->global / step_s, train_s, bytes));
    json_object_set_new(summary, "prediction_error", error);
}

void lw_forecast_leave_record(lw_forecast *f, const lw_checkpoint_info *state)
{
    lw_error err;
    int64_t steps = steps_done(f, state);
    if (!f->known || steps < LW_RECORD_STEPS || f->schedule->count > 1) { // a mean over stages is the time of no shape
        return;
    }
    f->record.step_s = seconds(f, state) / (double)steps;
    f->record.memory_bytes = f->job->dev->allocated_bytes;
    snprintf(f->record.source, sizeof f->record.source, "train");
    if (lw_calibration_write(lw_calibration_folder(), &f->record, &err) != LW_OK) {
        lw_log(f->job->run, "warning: no calibration record: %s", err.text);
    }
}
