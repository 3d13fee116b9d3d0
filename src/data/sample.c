// sample.c: the length of the sequence that an LLM reads of a sample.
#include "data/sample.h"

int64_t lw_token_sample_rows(const lw_config *config, const lw_token_sample *s, int64_t llm)
{
    return lw_config_latents(config, s->source.count) + lw_task_rows(s->task) + s->suffix[llm].count +
           s->answer[llm].count - 1;
}
