// job.h: the small training job of the fault tests: its inputs and run directories in a scratch folder, and what must
// hold of them after something went wrong.
#ifndef LW_TEST_JOB_H
#define LW_TEST_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "launch.h"

enum { JOB_MAX_EXTRA = 16 };

typedef struct job {
    char root[256];  // the scratch folder: inputs, run directories, notes; goes with job_remove
    char run[320];   // root/run: the run directory that is worked on
    char notes[320]; // root/notes
    char output[320];
    const char *const *wrapper;       // as in launch.h
    const char *extra[JOB_MAX_EXTRA]; // further key=value words of every start, NULL at the end
} job;

// Makes the folder with models, data and configuration. Ends the program when that fails.
void job_make(job *j);
void job_remove(job *j);

// Starts it on j->run. `inject` as in launch.h, or NULL.
bool job_start(job *j, int ranks, const char *inject, launched *out);
// Starts it and waits; *code as in launch_wait. False after a deadline, with the reason on stdout.
bool job_run(job *j, int ranks, const char *inject, bool trace, double timeout_s, int *code);

// Folders below root by name.
void job_copy(const job *j, const char *from, const char *to); // replaces `to`
void job_clear(const job *j, const char *name);
void job_clear_notes(job *j);
// Takes away the checkpoints of `name` after `step`: the run as a kill would have left it then.
void job_cut_back(const job *j, const char *name, int64_t step);

// Step of the newest checkpoint of `name` that verifies, -1: none. Every directory that looks like a checkpoint must
// verify: *broken counts those that do not.
int64_t job_verified_step(const job *j, const char *name, int *broken);
int64_t job_promised_step(const job *j, const char *name);             // that `latest` names; -1: none
int64_t job_state_bytes(const job *j, const char *name, int64_t step); // of one checkpoint; -1: there is none
int64_t job_last_step(const job *j, const char *name);                 // of metrics.jsonl, 0: none

// The same parameters, moments and metrics (apart from times) to the bit; else says on stdout what differs.
bool job_same(const job *j, const char *a, const char *b);

// Prints "FAILED: ..." and what the program said, and counts.
__attribute__((format(printf, 2, 3))) void job_fail(const job *j, const char *format, ...);
int job_failures(void);

#endif
