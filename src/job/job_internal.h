// job_internal.h: shared by the .c files of this folder. Local.
#ifndef LW_JOB_INTERNAL_H
#define LW_JOB_INTERNAL_H

#include "job/encoder.h"
#include "job/llm.h"

// --- encoder.c
void lw_job_close_encoder(lw_job *job); // to be called before the models are closed
// Logs a line about the frozen model. If there is none, *shape describes the reader, in brackets; else it is "".
void lw_job_describe_encoder(const lw_job *job, char *shape, size_t size);

#endif
