// llm.h: tokenizer and special tokens of one model, for commands that open models one at a time. Local.
#ifndef LW_LLM_H
#define LW_LLM_H

#include "job/job.h"

// Reads the tokenizer.json in `dir`; the caller owns it. Returns LW_ERR_FORMAT when it has more token ids than `vocab`.
lw_status lw_job_open_tokenizer(const char *dir, int64_t vocab, lw_error *err, lw_tokenizer **out);

// Reads the tokenizer of *m, which then owns it. Sets m->eos from m->config, and m->bos as prompt.bos asks; -1: none.
// Returns LW_ERR_FORMAT when one of them lies outside the vocabulary.
lw_status lw_job_open_text(const lw_job *job, lw_llm *m, lw_error *err);

#endif
