// adapter_fit.h: first values of the adapters by least squares, for adapter.start = "embeddings" and pooler.kind =
// mean.
//
// A latent vector stands for a span of the encoder's tokens. Its soft token is fitted to the mean embedding of the
// LLM's own tokens of the same piece of text, so that from the first step on an LLM reads something near to the text
// itself, and training changes it from there. The adapter starts linear: `skip` is the solution (ridge.h), `down` is 0.
#ifndef LW_ADAPTER_FIT_H
#define LW_ADAPTER_FIT_H

#include "job/job.h"
#include "wire/step.h"

// From the texts of `corpus` in a random order, as many as it takes. step: started, and configured for that corpus; its
// buffers are used. Says in the log how much of the embeddings' variance is explained. All ranks end with the same
// values. Collective.
lw_status lw_adapter_fit(lw_job *job, lw_step *step, const lw_config *config, const lw_corpus *corpus, lw_error *err);

#endif
