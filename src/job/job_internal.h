// job_internal.h: shared by the .c files of this folder. Local.
#ifndef LW_JOB_INTERNAL_H
#define LW_JOB_INTERNAL_H

#include "job/job.h"

// --- llm.c

// tokenizer.json of a model's directory, checked against the model's vocab_size.
lw_status lw_job_open_tokenizer(const char *dir, int64_t vocab, lw_error *err, lw_tokenizer **out);

// The tokenizer of a model, its end token and the BOS that the configuration asks for.
lw_status lw_job_open_text(const lw_job *job, lw_llm *m, lw_error *err);

// --- encoder.c: job->encoder; the first three do nothing for an encoder without a frozen model

// Its shapes and, unless synthetic, its tokenizer. A model that it shares has been read before.
lw_status lw_job_read_encoder(lw_job *job, int what, lw_error *err);
// Its weights, or those of the model that it shares, which has been loaded before. The wire is declared.
lw_status lw_job_load_encoder(lw_job *job, int what, lw_error *err);
void lw_job_close_encoder(lw_job *job); // before the models are closed
// Logs a line about the frozen model. Without one, *shape says what the reader is, in brackets; else it is "".
void lw_job_describe_encoder(const lw_job *job, char *shape, size_t size);

#endif
