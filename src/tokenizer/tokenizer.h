// tokenizer.h: byte-level BPE (the Llama-3, Qwen2 and GPT-2 families) and WordPiece (the BERT family) from a Hugging
// Face tokenizer.json.
//
// Ids equal those of Hugging Face `tokenizers` on the same file, or the file is refused with the name of what is not
// implemented. Read from it: normalizer (none, NFC, a Sequence of these; BertNormalizer), pre_tokenizer (ByteLevel or
// BertPreTokenizer, or a Sequence of Split and Digits ending in it), model (BPE; dropout, subword prefixes and
// byte_fallback only where they change nothing; WordPiece, after BertPreTokenizer), added_tokens, the first and the
// last token of the post_processor, decoder. Not read: truncation and padding (transformers resets both at every call),
// offsets.
//
// Character classes come from the libraries linked. Debian 12's PCRE2 10.42 knows Unicode 14, as does Oniguruma in
// `tokenizers` 0.20; later versions (0.23: Unicode 16) cut at some characters newer than that differently. Digits and
// the single_word flag of added tokens go by utf8proc (2.8: Unicode 15). NFC is Unicode 9's, as in all of these
// versions.
//
// Which file does what: open.c the life of a tokenizer; load.c, pipeline.c, bpe_load.c read tokenizer.json; encode.c
// begins the way from text to ids, which goes on through added.c (added tokens), normalise.c and nfc.c, pretok.c and
// regex.c (pre-tokenizers), words.c, bpe.c or wordpiece.c; decode.c leads back; lines.c serves `lwmpi tokenize`;
// vocab.c and characters.c hold the tables.
//
// A loaded tokenizer never changes and may be used by any number of threads; a scratch belongs to one at a time.
// All functions are Local.
#ifndef LW_TOKENIZER_H
#define LW_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "core/ids.h"
#include "core/status.h"

typedef struct lw_tokenizer lw_tokenizer;

// Working memory and word cache of encoding: about 1.5 MiB, and more where a long text needs it.
typedef struct lw_tokenizer_scratch lw_tokenizer_scratch;

// `path` is a tokenizer.json. Failures name it: LW_ERR_IO (unreadable), LW_ERR_FORMAT (not JSON, missing or mistyped
// keys, bad ids, merges of unknown tokens), LW_ERR_UNSUPPORTED (what would have to be approximated), LW_ERR_MEMORY.
// The caller owns *out: lw_tokenizer_destroy.
lw_status lw_tokenizer_load(const char *path, lw_error *err, lw_tokenizer **out);
void lw_tokenizer_destroy(lw_tokenizer **tokenizer);

// Scratch for `tokenizer`, which must outlive it. The caller owns *out.
lw_status lw_tokenizer_scratch_create(const lw_tokenizer *tokenizer, lw_error *err, lw_tokenizer_scratch **out);
void lw_tokenizer_scratch_destroy(lw_tokenizer_scratch **scratch);

// Appends the ids of text[0 .. bytes) to *out; the post-processor's tokens (BOS) are not added. `text` is UTF-8 and
// may hold NUL; otherwise LW_ERR_FORMAT with the offset of the first bad byte. On failure *out keeps its old ids.
// parse_special: the text of a special token becomes its id when true and is plain text when false (the Python
// attribute encode_special_tokens, reversed). Added tokens that are not special become ids in both cases.
// Time is linear in `bytes` up to a logarithm, whatever the text, for the pre-tokenizers of the three families.
lw_status lw_tokenizer_encode_with(const lw_tokenizer *tokenizer, lw_tokenizer_scratch *scratch, const char *text,
                                   size_t bytes, bool parse_special, lw_error *err, lw_ids *out);

// The same with a scratch of its own: for an occasional text.
lw_status lw_tokenizer_encode(const lw_tokenizer *tokenizer, const char *text, size_t bytes, bool parse_special,
                              lw_error *err, lw_ids *out);

// The text of ids[0 .. count), as Hugging Face decodes it: bytes that are not UTF-8 become U+FFFD, ids that name no
// token (padding rows of a model's vocabulary) give nothing, special tokens give nothing when skip_special.
// LW_ERR_FORMAT for a negative id; LW_ERR_UNSUPPORTED if the file's decoder is neither ByteLevel nor WordPiece.
// *out is UTF-8 with a NUL after its *out_bytes bytes; the caller frees it.
lw_status lw_tokenizer_decode(const lw_tokenizer *tokenizer, const int32_t *ids, size_t count, bool skip_special,
                              lw_error *err, char **out, size_t *out_bytes);

// Highest id + 1, added tokens included: the least number of rows of a model's embedding table.
int64_t lw_tokenizer_vocab_size(const lw_tokenizer *tokenizer);

// Id of a token by its content as tokenizer.json writes it ("<|im_end|>", "\u0120the"); -1 if there is none.
int32_t lw_tokenizer_token_id(const lw_tokenizer *tokenizer, const char *content);

// The token that the post-processor puts before a single text; -1 if it adds none.
int32_t lw_tokenizer_bos_id(const lw_tokenizer *tokenizer);

// The token that the post-processor puts after a single text ([SEP]); -1 if it adds none.
int32_t lw_tokenizer_end_id(const lw_tokenizer *tokenizer);

// XXH64 of the bytes of tokenizer.json: for cache keys.
uint64_t lw_tokenizer_fingerprint(const lw_tokenizer *tokenizer);

// One JSON object per line: {"text": "..."} from `in` becomes {"ids": [1, 2]} on `out`, in order. `name` names `in` in
// messages ("standard input"); nothing has been read from `in` yet. LW_ERR_FORMAT names the first bad line (an empty
// one is bad); the ids of the lines before it have been written. LW_ERR_IO if reading or writing fails.
lw_status lw_tokenizer_encode_lines(const lw_tokenizer *tokenizer, bool parse_special, FILE *in, const char *name,
                                    FILE *out, lw_error *err);

#endif
