// wire_end.h: what the two ends of a wire have in common: `lwmpi encode`, the sender, and `lwmpi answer`, the receiver.
// One process each, which holds the parameters of its side of a checkpoint and nothing of the other's.
#ifndef LW_WIRE_END_H
#define LW_WIRE_END_H

#include <stdio.h>

#include "io/safetensors.h"
#include "job/job.h"
#include "run/checkpoint.h"

typedef struct lw_wire_end {
    lw_comm *comm;
    lw_job job; // configuration and device; each end fills in its part of the rest
    lw_checkpoint_info info;
    lw_safetensors *state; // of the checkpoint, verified
} lw_wire_end;

// words: [CONFIG] [key=value ...]. checkpoint NULL: the newest of run.dir. Opens the device that the configuration asks
// for. LW_ERR_USAGE where a launcher started more than one rank. Collective.
lw_status lw_wire_end_open(int count, char **words, const char *checkpoint, lw_error *err, lw_wire_end *out);
void lw_wire_end_close(lw_wire_end *end);

// LW_ERR_CONFIG where `model` is not the one of this name that the checkpoint was trained with. Local.
lw_status lw_wire_end_same_model(const lw_wire_end *end, const lw_llm *model, lw_error *err);

// Gives the declared parameters device memory and the checkpoint's values. The caller frees *memory. Local.
lw_status lw_wire_end_load(lw_wire_end *end, lw_params *params, lw_error *err, lw_arena *memory);

// --- what both read: JSON lines
typedef struct lw_text_line {
    char *id;       // the line's "id", else its number
    bool named;     // it had one
    char *context;  // "context", or ""
    char *question; // "question" or "prompt", or ""
} lw_text_line;

typedef struct lw_text_lines {
    lw_text_line *list;
    int64_t count, capacity;
} lw_text_lines;

// Reads all lines: {"id": ..., "context": ..., "question": ...}, all optional, "prompt" in place of "question"; other
// keys are ignored, and so are blank lines. "id" may be a string or an integer. LW_ERR_FORMAT names the line; no line
// at all is LW_ERR_FORMAT too. Nothing has been read from `in` yet. The caller frees *out. Local.
lw_status lw_text_lines_read(FILE *in, const char *name, lw_error *err, lw_text_lines *out);
void lw_text_lines_free(lw_text_lines *lines);

#endif
