// report.h: a run directory as one HTML page (well-formed XML, no script, nothing loaded): what was trained, losses and
// rates as plots, figures of the evaluation, F1 against bytes and latents, checkpoints, configuration. Works while the
// run goes on and where files are missing: each section then says what is not there yet. Every text in it is escaped:
// the files of a run directory are untrusted. Local.
#ifndef LW_REPORT_H
#define LW_REPORT_H

#include <jansson.h>
#include <stdio.h>

#include "core/status.h"

// What a run directory holds; NULL where a file is not there.
typedef struct lw_report_input {
    const char *dir;
    char *config;        // config.cfg
    json_t *summary;     // summary.json
    json_t *eval;        // eval.json
    json_t *metrics;     // array of the rows of metrics.jsonl
    int64_t bad_rows;    // of these that are no JSON object; a torn last one, of a run that goes on, is not counted
    json_t *checkpoints; // array of objects: name, step, samples, created, bytes, eval_nll
} lw_report_input;

// LW_ERR_CONFIG where `dir` is no run directory: none of these files is there. The caller frees *out.
lw_status lw_report_read(const char *dir, lw_error *err, lw_report_input *out);
void lw_report_free(lw_report_input *input);

void lw_report_print(const lw_report_input *input, FILE *out);

// Sections of it (figures.c).
void lw_report_print_eval(const lw_report_input *input, FILE *out);

#endif
