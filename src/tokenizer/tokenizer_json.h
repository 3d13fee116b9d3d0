// tokenizer_json.h: the parts of reading tokenizer.json that are not tokens (pipeline.c).
//
// Each returns LW_ERR_FORMAT for a malformed value and LW_ERR_UNSUPPORTED, with its name, for one whose effect is not
// implemented. All functions are Local.
#ifndef LW_TOKENIZER_JSON_H
#define LW_TOKENIZER_JSON_H

#include "io/json.h"
#include "tokenizer/tokenizer_internal.h"

// Reads which model it is, and its flags. Comes before its tokens.
lw_status lw_tokenizer_read_model(const lw_json *model, lw_error *err, lw_tokenizer *tokenizer);

// Reads normalizer, pre-tokenizer and decoder; the model is known by then. What was made before a failure belongs to
// the tokenizer, which frees it.
lw_status lw_tokenizer_read_pipeline(const lw_json *root, lw_error *err, lw_tokenizer *tokenizer);

// Reads the tokens that the post-processor puts first and last. Comes after the tokens.
lw_status lw_tokenizer_read_template(const lw_json *root, lw_error *err, lw_tokenizer *tokenizer);

// The functions of lw_token_model for BPE (bpe_load.c).
lw_status lw_bpe_read_options(const lw_json *model, lw_error *err, lw_tokenizer *tokenizer);
lw_status lw_bpe_read_rest(const lw_json *model, lw_error *err, lw_tokenizer *tokenizer);

enum { LW_SHOWN_BYTES = 60 };

// A token in a message: quoted, cut short.
#define LW_SHOWN(len) ((int)((len) < LW_SHOWN_BYTES ? (len) : LW_SHOWN_BYTES))

#endif
