// calibration.h: records of measured steps, small JSON files that correct the planner's predictions. Local.
//
// A record holds the device, the rates that the cost functions were given, their prediction of each phase of a step,
// and the measured times. The ratio of the two corrects predictions of other shapes on the same device.
#ifndef LW_CALIBRATION_H
#define LW_CALIBRATION_H

#include "cost/roofline.h"
#include "wire/step.h"

enum { LW_MAX_CALIBRATIONS = 256 };

typedef struct lw_calibration_record {
    char file[128];
    char source[16]; // "bench", "train"
    char date[32];
    lw_device_rates rates; // the rates that model_s was computed from; rates.name names the device
    int64_t ranks, threads;
    uint64_t models_hash; // of the LLMs' shapes
    uint64_t shape_hash;  // of everything that determines the step's time
    double step_flop;     // of the busiest rank
    double model_s[LW_PHASE_COUNT];
    double measured_s[LW_PHASE_COUNT]; // of the phases; all 0 where only the whole step was timed
    double step_s;                     // of the whole step
    size_t memory_bytes;               // held on the device
} lw_calibration_record;

typedef struct lw_calibration {
    lw_calibration_record *list;
    int count;
} lw_calibration;

// Fills models_hash, shape_hash, step_flop, model_s, ranks and threads from the workload and rates.
void lw_calibration_describe(const lw_device_rates *rates, const lw_workload *work, int64_t threads,
                             lw_calibration_record *out);

// The folder of the records: $LWMPI_CALIBRATION, or runs/calibration beside the default run directories. The string is
// static or the environment's.
const char *lw_calibration_folder(void);

// Writes a record to `folder`, which is made if it is missing. Replaces the record of the same device, shape, ranks and
// source.
lw_status lw_calibration_write(const char *folder, const lw_calibration_record *record, lw_error *err);

// Reads all records of `folder` that this build type and cost version made. A damaged file, or one of another user, is
// skipped. A missing folder gives an empty list.
lw_status lw_calibration_read(const char *folder, lw_error *err, lw_calibration *out);
void lw_calibration_free(lw_calibration *calibration);

// The record of this device that is nearest to `target`, or NULL. *exact: shape, ranks and threads are the same.
const lw_calibration_record *lw_calibration_nearest(const lw_calibration *calibration,
                                                    const lw_calibration_record *target, bool *exact);

// Corrects `time` by the ratio of what `record` measured to what it predicted.
lw_step_time lw_calibration_apply(const lw_calibration_record *record, const lw_step_time *time);

#endif
