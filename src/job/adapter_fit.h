// adapter_fit.h: initial values of the adapters by least squares, for adapter.start = "embeddings" and pooler.kind =
// "mean".
//
// A latent vector stands for a span of the encoder's tokens. Its soft token is fitted to the mean embedding of the
// LLM's own tokens of the same part of the text. An LLM then reads something close to the text itself from the first
// step on, and training goes on from there. The adapter starts linear: `skip` is the solution (ridge.h), `down` is 0.
#ifndef LW_ADAPTER_FIT_H
#define LW_ADAPTER_FIT_H

#include "job/job.h"
#include "wire/step.h"

// Fits the adapters on as many texts of `corpus` as it takes, in a random order. config: the job's or that of the stage
// which the corpus belongs to. step is started; its buffers are used. Logs how much of the embeddings' variance the fit
// explains. All ranks end with the same values. Collective.
lw_status lw_adapter_fit(lw_job *job, lw_step *step, const lw_config *config, const lw_corpus *corpus, lw_error *err);

#endif
