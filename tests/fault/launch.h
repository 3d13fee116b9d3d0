// launch.h: starts the real program, alone or under the launcher, watches and ends its processes.
#ifndef LW_TEST_LAUNCH_H
#define LW_TEST_LAUNCH_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { LAUNCH_MAX_PROCESSES = 32, LAUNCH_MAX_WORDS = 128, LAUNCH_TEXT_BYTES = 1 << 16 };

typedef struct launch_plan {
    int ranks;                  // 0: without the launcher
    const char *const *words;   // arguments of the program, NULL at the end
    const char *const *wrapper; // words in front of the program (a shell that sets a limit); NULL: none
    const char *output;         // file for stdout and stderr
    const char *inject;         // LWMPI_INJECT (inject/inject.h); NULL: nothing goes wrong
    bool trace;                 // write traces of calls
    const char *root;           // LWMPI_INJECT_ROOT, with or without a trace
    const char *notes;          // LWMPI_INJECT_NOTES
} launch_plan;

typedef struct launched {
    pid_t pid; // of the launcher, or of the program
    double start_s;
    char token[48]; // in the environment of every process of this job
} launched;

// One process of a job.
typedef struct launch_process {
    pid_t pid;
    int rank;        // -1: not a rank (the launcher)
    bool is_program; // not a wrapper or launcher
} launch_process;

bool launch_start(const launch_plan *plan, launched *out);
// Waits for the end. *code: the exit code, 128 + signal when it was killed. False, and everything killed, when it did
// not end within timeout_s.
bool launch_wait(const launched *job, double timeout_s, int *code);
bool launch_ended(const launched *job, int *code); // without waiting; once true not to be asked again
// Processes of the job that are there now, in order of rank.
int launch_processes(const launched *job, launch_process out[LAUNCH_MAX_PROCESSES]);
pid_t launch_rank(const launched *job, int rank); // of the program; 0 when it is not there
void launch_kill_all(const launched *job);
// Waits until no process of the job is left; false when some are after grace_s.
bool launch_gone(const launched *job, double grace_s);

// Text of a file, cut to its last LAUNCH_TEXT_BYTES - 1 bytes; "" when it is not there.
const char *launch_text(const char *path, char out[LAUNCH_TEXT_BYTES]);
// The last line of `text` that begins with "lwmpi: "; "" when there is none.
const char *launch_last_message(const char *text, char out[2048]);
// A sanitizer's report or the launcher's report of a signal in `text`; NULL when there is none.
const char *launch_crash_in(const char *text);

bool launch_all(void); // LWMPI_FAULT_ALL=1: the long forms of the tests
bool launch_sanitized(void);
// Longer where the program is slower: under sanitizers, and LWMPI_FAULT_PATIENCE times on a busy machine.
double launch_patience_s(double seconds);
const char *launch_need(const char *name); // an environment variable of tests/CMakeLists.txt; skips the test without it
void launch_sleep_s(double seconds);

#endif
