// progress.h: progress and messages of a running job on stderr.
//
// On a terminal there is one live line, "step 120/625  loss 1.234  345 samples/s  2:31 left", redrawn at most ten times
// a second and cut to the width; elsewhere (a file, a pipe, TERM=dumb) a plain line every few seconds, and no colour.
// Under mpirun stderr is a pipe to mpirun; where mpirun itself has a terminal the live line is used all the same.
// LWMPI_PROGRESS = live | plain | off overrides. Only rank 0 has one: NULL is accepted everywhere and does nothing.
// All functions are Local.
#ifndef LW_PROGRESS_H
#define LW_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

typedef struct lw_progress lw_progress;

typedef struct lw_progress_options {
    double plain_every_s; // between plain lines; 0: 5 s
} lw_progress_options;

typedef struct lw_progress_state {
    const char *label;    // "step", "eval", "tokens"
    int64_t done, total;  // total 0: unknown
    double loss;          // NAN: not shown
    double samples_per_s; // <= 0: not shown
    double left_s;        // < 0: estimated from the mean pace since the label's first update
} lw_progress_state;

// options may be NULL.
lw_status lw_progress_create(const lw_progress_options *options, lw_error *err, lw_progress **out);
void lw_progress_destroy(lw_progress **progress); // ends the live line

// Cheap enough for every step: draws only when due. done == total draws in any case.
void lw_progress_update(lw_progress *progress, const lw_progress_state *state);
// Ends the live line, leaving its last text in view; the next update starts afresh.
// For tests.
void lw_progress_finish(lw_progress *progress);
// One message on stderr, in one write; the live line is cleared first and drawn again below it.
__attribute__((format(printf, 2, 3))) void lw_progress_message(lw_progress *progress, const char *format, ...);

// For tests.
bool lw_progress_is_live(const lw_progress *progress);
double lw_progress_interval_s(const lw_progress *progress); // between plain lines; the default for NULL
// state->left_s, or the estimate that `update` shows; < 0 where there is none.
double lw_progress_left_s(const lw_progress *progress, const lw_progress_state *state);

// The text of the line, without control characters, cut to `width` columns (0: no limit). For logs and tests.
void lw_progress_format(const lw_progress_state *state, int width, char *out, size_t size);

#endif
