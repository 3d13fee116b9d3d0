// tokenizer_json.h: the parts of reading tokenizer.json that are not tokens (tokenizer_config.c).
//
// Each returns LW_ERR_FORMAT for a malformed value and LW_ERR_UNSUPPORTED, with its name, for one whose effect is not
// implemented. All functions are Local.
#ifndef LW_TOKENIZER_JSON_H
#define LW_TOKENIZER_JSON_H

#include "json_util.h"
#include "tokenizer_internal.h"

// The model's flags; to be read before its tokens.
lw_status lw_tokenizer_read_model_options(const lw_json *model, lw_error *err, lw_tokenizer *tokenizer);

// Normalizer, pre-tokenizer and decoder. What was made before a failure is the tokenizer's to free.
lw_status lw_tokenizer_read_pipeline(const lw_json *root, lw_error *err, lw_tokenizer *tokenizer);

// unk_token and byte_fallback, which matter only if the vocabulary lacks a byte; to be called with the tokens read.
lw_status lw_tokenizer_check_unknown(const lw_json *model, lw_error *err, lw_tokenizer *tokenizer);

// The token that the post-processor puts first; to be called with the tokens read.
lw_status lw_tokenizer_read_bos(const lw_json *root, lw_error *err, lw_tokenizer *tokenizer);

#endif
