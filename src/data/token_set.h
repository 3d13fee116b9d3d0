// token_set.h: tokenises a data set for one LLM, or takes the tokens from a cache on disk. Local.
#ifndef LW_TOKEN_SET_H
#define LW_TOKEN_SET_H

#include <stdint.h>

#include "config/config.h"
#include "core/status.h"
#include "data/dataset.h"
#include "data/tokens.h"
#include "tokenizer/tokenizer.h"

// The tokens of `dataset`, read from the directory cache_dir where that has them, else made and kept there. The file is
// named by a hash of content, templates and tokenizer and is written atomically; a damaged one is replaced. The
// directory is made where it is missing. cache_dir NULL: no cache.
//
// bos, eos: ids, or -1 for none. Prompt, suffix and answer are each tokenised as one string, in which the text of a
// special token is plain text. LW_ERR_CONFIG names the sample whose question alone exceeds prompt.max_prompt_tokens.
// The caller owns *out: lw_token_set_free.
lw_status lw_token_set_make(const lw_config *config, const lw_dataset *dataset, const lw_tokenizer *tokenizer,
                            int32_t bos, int32_t eos, const char *cache_dir, lw_error *err, lw_token_set *out);

#endif
