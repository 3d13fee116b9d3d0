// job_internal.h: shared by the .c files of this folder. Local.
#ifndef LW_JOB_INTERNAL_H
#define LW_JOB_INTERNAL_H

#include "job/job.h"

// --- llm.c

// m->path's tokenizer.json, checked against m->config.
lw_status lw_job_open_tokenizer(lw_llm *m, lw_error *err);

// The same, its end token and the BOS that the configuration asks for.
lw_status lw_job_open_text(const lw_job *job, lw_llm *m, lw_error *err);

// --- encoder.c; all do nothing where the encoder reads without an LLM

// Shape and, unless synthetic, tokenizer of the encoder's LLM, after those of the models.
lw_status lw_job_read_encoder(lw_job *job, int what, lw_error *err);
// Which of the models it shares; -1: none.
int64_t lw_job_encoder_share(const lw_config *config);
// Its weights, after those of the models; the wire is declared.
lw_status lw_job_load_encoder(lw_job *job, int what, lw_error *err);
void lw_job_close_encoder(lw_job *job); // before the models are closed
void lw_job_describe_encoder(const lw_job *job);

#endif
