// endpoint.h: what the two endpoints of a wire have in common: `lwmpi encode`, the sender, and `lwmpi answer`, the
// receiver. Each is one process, which holds its own side's parameters of a checkpoint and nothing of the other side.
#ifndef LW_ENDPOINT_H
#define LW_ENDPOINT_H

#include <stdio.h>

#include "io/safetensors.h"
#include "job/job.h"
#include "run/checkpoint.h"

typedef struct lw_endpoint {
    lw_comm *comm;
    lw_job job; // configuration and device; each endpoint fills in its part of the rest
    lw_checkpoint_info info;
    lw_safetensors *state; // the parameters of the checkpoint, verified
} lw_endpoint;

// words: [CONFIG] [key=value ...]. checkpoint: as lw_checkpoint_resolve takes it; NULL takes the newest one of run.dir.
// Opens the device that the configuration asks for. LW_ERR_USAGE when a launcher started more than one rank.
// Collective.
lw_status lw_endpoint_open(int count, char **words, const char *checkpoint, lw_error *err, lw_endpoint *out);
void lw_endpoint_close(lw_endpoint *e);

// LW_ERR_CONFIG when `loaded`, read from `path`, is not the model of this name that the checkpoint was trained with.
// Local.
lw_status lw_endpoint_same_model(const lw_endpoint *e, const lw_checkpoint_model *loaded, const char *path,
                                 lw_error *err);

// Gives the declared parameters device memory and the checkpoint's values. The caller frees *memory. Local.
lw_status lw_endpoint_load(lw_endpoint *e, lw_params *params, lw_error *err, lw_arena *memory);

// --- JSON lines, which both read
typedef struct lw_text_line {
    char *id;       // the line's "id", else its number
    bool named;     // the line has an "id"
    char *context;  // "context", or ""
    char *question; // "question" or "prompt", or ""
} lw_text_line;

typedef struct lw_text_lines {
    lw_text_line *list;
    int64_t count, capacity;
} lw_text_lines;

// Reads all lines: {"id": ..., "context": ..., "question": ...}, all optional, "prompt" in place of "question"; other
// keys and blank lines are skipped. "id" may be a string or an integer. LW_ERR_FORMAT names the line that is wrong, or
// says that there is none. The caller frees *out. Local.
lw_status lw_text_lines_read(FILE *in, const char *name, lw_error *err, lw_text_lines *out);
void lw_text_lines_free(lw_text_lines *lines);

#endif
