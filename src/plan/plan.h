// plan.h: memory and time of a job on each number of GPUs, and which number is recommended. A plan needs neither MPI
// nor a GPU nor weights. Local.
//
// Memory comes from the layout functions that `train` allocates with; time from cost/roofline.h, corrected by the
// nearest calibration record (cost/calibration.h). One rank drives one GPU, or, on the CPU device, `threads` cores;
// "GPUs" below stands for both.
//
// make.c puts a plan together, from its inputs (inputs.c), a row for each count (options.c, memory.c) and the decision
// (decide.c); print.c shows it.
#ifndef LW_PLAN_H
#define LW_PLAN_H

#include <jansson.h>
#include <stdio.h>

#include "cost/calibration.h"
#include "cost/roofline.h"
#include "job/job.h"
#include "train/teacher.h"

enum { LW_PLAN_COUNTS = 16, LW_PLAN_OPTIONS = 96, LW_PLAN_WHAT_IFS = 5 };

typedef struct lw_plan_request {
    int64_t counts[LW_PLAN_COUNTS]; // GPU counts to look at, ascending
    int count;                      // 0: 1, 2, 4, 8
    int64_t per_node;               // GPUs of a node; 0: the device's usual number
    int64_t answer_tokens;          // the mean, for plans without data; 0: the stated guess
    int64_t source_bytes;           // the mean length of the encoder's texts, as above
    const char *device;             // "cpu": replaces plan.device; "cuda": if that is "auto"; NULL: look here
    int64_t cores;                  // CPU device: of the ranks together; 0: those that this process may use
    lw_heartbeat heartbeat;         // for ranks that wait for the plan; all zero: nobody does
    bool caches;                    // tokens may be kept on disk, as a training run does; a plan alone writes nothing
} lw_plan_request;

// A changed job, as factors on what the configuration says.
typedef struct lw_plan_change {
    const char *name; // "batch x2"
    int64_t samples, epochs, batch, latents, answer;
} lw_plan_change;

typedef struct lw_plan_memory { // bytes on one GPU
    size_t llm[LW_MAX_MODELS];  // frozen weights of each LLM
    size_t encoder;             // frozen weights of an encoder's own
    size_t frozen;              // of all
    size_t parameters, gradients, optimizer;
    size_t activations, logits, caches; // the work space of what needs most of it
    size_t runtime;
    size_t total;
    size_t step, evaluation, teacher; // work space of each of these, which use the same memory at different times
} lw_plan_memory;

typedef struct lw_plan_option {
    int64_t gpus;
    lw_grid grid;      // how they divide the job; memory is that of the fullest rank, time that of the slowest
    bool best;         // the fastest of those grids of this count that fit
    int64_t threads;   // of a rank, CPU device
    char why_not[256]; // why the job cannot be divided among so many; "" if it can
    lw_plan_memory memory;
    bool fits;
    bool measured;     // the step was timed with this very shape and count on this device
    bool calibrated;   // the prediction was corrected by a measurement of another shape or count
    char record[256];  // the calibration record that was used; "" for none
    lw_step_time step; // the mean of the run's steps
    double stage_step_s[LW_MAX_PHASES];
    int64_t stage_steps[LW_MAX_PHASES];
    int64_t steps;
    double samples_per_s, tokens_per_s, epoch_s, gpu_hours, efficiency;
    double teacher_s; // once, before the first step
    double total_s;   // steps and teacher
} lw_plan_option;

typedef struct lw_plan_decision {
    int64_t gpus; // 0: none fits
    bool meets_deadline;
    char reason[768];
    struct {
        int64_t gpus;
        char why[320];
    } rejected[LW_PLAN_COUNTS];
    int rejected_count;
} lw_plan_decision;

typedef struct lw_plan_what_if {
    const char *change;
    double time_factor, memory_factor; // at the count of the decision
    int64_t gpus;                      // the decision then
} lw_plan_what_if;

typedef struct lw_plan {
    const lw_config *config; // borrowed
    lw_plan_request request;
    lw_config shape_config; // a copy, its strings borrowed
    lw_job job;             // models' shapes and samples; nothing is loaded
    lw_device *cpu;         // opened if the plan is for the CPU
    lw_shape_device shape;
    lw_device_rates rates;
    lw_calibration calibration;
    bool from_data;                      // sizes of samples come from the data; else from limits and guesses
    int64_t samples[LW_MAX_PHASES];      // training samples of each stage
    lw_sample_shape mean[LW_MAX_PHASES]; // of the unchanged job
    lw_teacher_sizes teacher[LW_MAX_PHASES][LW_MAX_MODELS]; // of each LLM, of the unchanged job; 0: no distillation
    char note[1024];                                        // assumptions in words; "" where everything is known
    double deadline_s;                                      // seconds that are left
    char deadline_text[160];                                // where it is from
    lw_plan_option options[LW_PLAN_OPTIONS];                // by count, then by grid
    int option_count;
    lw_plan_decision decision;
    lw_plan_what_if what_if[LW_PLAN_WHAT_IFS];
    int what_if_count;
} lw_plan;

// Reads models and data, measures or looks up the device, and computes options, decision and what-if rows. A job that
// fits nowhere is a plan too: decision.gpus is 0, and the reason says what would fit. config stays the caller's and
// must outlive the plan.
lw_status lw_plan_make(const lw_config *config, const lw_plan_request *request, lw_error *err, lw_plan *out);
void lw_plan_free(lw_plan *plan);

// Returns the object of `plan --json`, a new reference.
json_t *lw_plan_json(const lw_plan *plan);
// Passes the tables and the decision for people to `line`, line by line, without newlines.
typedef void lw_plan_line(void *context, const char *line);
void lw_plan_print(const lw_plan *plan, lw_plan_line *line, void *context);

// The best option of `gpus`, or NULL.
const lw_plan_option *lw_plan_find(const lw_plan *plan, int64_t gpus);

// --- parts, for tests
// Makes the option of `gpus` GPUs with `model` groups of different LLMs.
lw_status lw_plan_option_make(const lw_plan *plan, const lw_plan_change *change, int64_t gpus, int64_t model,
                              lw_error *err, lw_plan_option *out);
// options: one of each count, ascending in gpus. Deadline, efficiency and device are the plan's.
void lw_plan_decide(const lw_plan *plan, const lw_plan_option *options, int count, lw_plan_decision *out);

// The deadline in seconds, of plan.deadline_h or of Slurm, whichever is sooner, and its source in words.
// For tests.
double lw_plan_deadline_s(const lw_config *config, char *text, size_t size);

// The fraction of the deadline that a predicted run may take.
double lw_plan_safety(void);

#endif
