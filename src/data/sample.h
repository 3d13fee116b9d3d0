// sample.h: a sample as tokens: what the encoder reads, and what each LLM reads of it. Local.
#ifndef LW_SAMPLE_H
#define LW_SAMPLE_H

#include <stdint.h>

#include "config/config.h"
#include "core/ids.h"

// What an LLM is to do with the latents. Those of a window of text are followed by a learned token for its task.
typedef enum lw_task {
    LW_TASK_ANSWER,   // a question follows as text: there is no task token
    LW_TASK_CONTINUE, // <Cont> of the papers
    LW_TASK_REPEAT,   // <Rec>
    LW_TASK_END
} lw_task;
enum { LW_TASK_TOKENS = LW_TASK_END - 1 }; // the token of `task` is row task - 1 of wire.task

static inline int64_t lw_task_rows(lw_task task)
{
    return task == LW_TASK_ANSWER ? 0 : 1;
}

typedef struct lw_token_sample {     // borrowed
    lw_task task;                    // either all samples of a pass have a task token or none
    lw_tokens source;                // what the encoder reads, in its own alphabet
    lw_tokens prompt[LW_MAX_MODELS]; // per LLM: the text prompt, which its teacher and the evaluation read
    lw_tokens suffix[LW_MAX_MODELS];
    lw_tokens answer[LW_MAX_MODELS];
} lw_token_sample;

// Rows of the sequence that LLM j reads of a sample: latents, task token, suffix, and the answer without its last
// token.
int64_t lw_token_sample_rows(const lw_config *config, const lw_token_sample *sample, int64_t j);

#endif
