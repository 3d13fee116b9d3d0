// encoder.h: the frozen model that the encoder of a job reads with, job->encoder. lw_job_open does all of this; a
// command that needs the encoder but not the models calls these functions itself. They do nothing if the encoder reads
// without such a model. Local.
#ifndef LW_JOB_ENCODER_H
#define LW_JOB_ENCODER_H

#include "job/job.h"

// Reads the model's shape and, unless `what` has LW_JOB_SYNTHETIC, its tokenizer. A model that the encoder shares must
// have been read before.
lw_status lw_job_read_encoder(lw_job *job, int what, lw_error *err);

// Loads its weights, or borrows those of the model that it shares, which must have been loaded before. The wire is
// declared.
lw_status lw_job_load_encoder(lw_job *job, int what, lw_error *err);

#endif
