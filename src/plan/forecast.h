// forecast.h: what a training run is expected to take, compared with what it took, and the calibration record that it
// leaves. Rank 0. Local.
#ifndef LW_FORECAST_H
#define LW_FORECAST_H

#include <jansson.h>

#include "cost/calibration.h"
#include "job/job.h"
#include "run/checkpoint.h"
#include "train/schedule.h"

typedef struct lw_forecast {
    const lw_job *job;               // borrowed
    const lw_run_schedule *schedule; // borrowed
    bool known;                      // false: this device has no rates (a GPU that the table does not list)
    const lw_hf_config *configs[LW_MAX_MODELS];
    lw_calibration_record record;       // of this run; measurements to come
    double stage_step_s[LW_MAX_PHASES]; // of each stage
    double step_s, samples_per_s;       // of the steps that are left
    bool measured;                      // the prediction is an earlier measurement of this very job
    char source[160];                   // calibration record that the prediction was corrected by; "" for none
    size_t device_bytes;
    int64_t first_step; // of this process, which may have resumed an earlier one
    double first_train_s;
} lw_forecast;

// Predicts the steps after `state`, from which the run begins or resumes. device_bytes: predicted. Logs the prediction.
lw_status lw_forecast_make(const lw_job *job, const lw_run_schedule *schedule, const lw_checkpoint_info *state,
                           size_t device_bytes, lw_error *err, lw_forecast *out);

// Adds "predicted", "measured" and "prediction_error" (predicted / measured - 1) to summary.json, of the steps up to
// `state`. Adds nothing if no step was done.
void lw_forecast_summary(const lw_forecast *f, const lw_checkpoint_info *state, json_t *summary);

// Writes a calibration record if the run was long enough. A failure is a warning in the log.
void lw_forecast_leave_record(lw_forecast *f, const lw_checkpoint_info *state);

// Predicts the time of a step by the roofline, corrected by the nearest record of the calibration folder. `record`
// describes the workload (lw_calibration_describe with these rates). source: the file of the nearest record, "" for
// none. *measured: that record is of this very shape.
lw_status lw_forecast_step(const lw_device_rates *rates, const lw_workload *work, const lw_calibration_record *record,
                           lw_error *err, double *step_s, char source[160], bool *measured);

// Rates of the device that a job runs on: measured on a CPU, looked up for a GPU. *known: the device has rates.
lw_status lw_forecast_rates(const lw_job *job, lw_error *err, lw_device_rates *out, bool *known);

#endif
