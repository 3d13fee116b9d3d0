// dataset.h: question-answering samples, their order, and their tokens for one LLM.
#ifndef LW_DATA_H
#define LW_DATA_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "core/heartbeat.h"
#include "core/status.h"
#include "tokenizer/tokenizer.h"

// --- samples
typedef enum lw_sample_kind {
    LW_SAMPLE_QUESTION, // a question with answers, perhaps about a context
    LW_SAMPLE_TEXT      // a window of text, to be continued or repeated
} lw_sample_kind;

typedef struct lw_sample {
    lw_sample_kind kind;
    char *id;      // the file's, or "FILE:LINE" or the like
    char *context; // "" where a row has only a prompt; one text for the samples of a paragraph, which follow each other
    char *question;       // "" of a window of text
    char **answers;       // all gold answers; the first one is the training target. Of a window: what follows it
    int64_t answer_count; // >= 1
} lw_sample;

typedef struct lw_dataset {
    lw_sample *samples;
    int64_t count;
    int64_t bad_rows;      // malformed rows passed over (at most data.max_bad_rows)
    char *first_bad_row;   // "FILE:LINE: reason" of the first of them, for the log; NULL where there is none
    int64_t blank_rows;    // format `text`: rows with a blank document, which is none
    uint64_t fingerprint;  // of the samples' content, in order
    int64_t target_tokens; // the source's for windows of text, else 0
    double repeated;
    lw_beat beat; // the source's; told of every sample whose tokens are made
} lw_dataset;

// What is read. `limit` samples at most (0: all; reading ends there), max_bad_rows malformed rows passed over at most.
typedef struct lw_data_source {
    const char *path; // borrowed
    lw_data_format format;
    int64_t limit, max_bad_rows;
    bool needs_context;    // the encoder reads the context alone: a sample without one is a malformed row
    int64_t window_bytes;  // format `text`: longest window; at least 8
    int64_t target_tokens; // format `text`: longest continuation or repetition that is trained
    double repeated;       // format `text`: share of the windows that are repeated, the others are continued; 0 .. 1
    lw_beat beat;          // told of every sample that is read
} lw_data_source;

// `path` as the configuration's `data` says: its format and its limits. Local.
lw_data_source lw_data_source_of(const lw_config *config, const char *path, int64_t limit);

// Reads a data file. Local.
//
// jsonl: an object a line, {"context", "question"} or {"prompt"} (a question without context), with "answers": [...] or
// "answer": "..."; other keys are ignored. Read as a stream, lines of at most 64 MiB; CRLF, a BOM, blank lines and a
// missing last newline are fine. Pipes and devices are refused, as every rank reads the file.
// squad: the v1.1 layout; a question without answers (v2) is a malformed row, "no answer".
// hotpot: HotpotQA, an array of items, or items one after another (a line each): {"_id" or "id", "question", "answer",
// "context": [[title, [sentence, ...]], ...] or {"title": [...], "sentences": [[...], ...]}}; other keys, the
// supporting facts among them, are ignored. The context is a line a paragraph, "Title: sentences", a space between two
// sentences that have none. text: documents, cut into windows. A file *.jsonl holds one a line, {"text": ...}; a file
// *.json is in SQuAD's layout and each of its contexts is one; any other file is plain text, one document, or several
// with form feeds between them. While more than one and a half windows of window_bytes are left of a document, a window
// is cut from it; what is left then is halved: its first half is the last window. Cuts are before white space where
// there is some in the second half of a window, else between any two characters. A window has no white space around it;
// its answer is what follows it in the document, 8 bytes for each of target_tokens.
//
// A blank document is none, in all three.
//
// Malformed in all: bad JSON, a missing key or wrong type, an empty question or answer or a text of one character, NUL
// or bad UTF-8, and a blank context where the source needs one. More than max_bad_rows malformed rows: LW_ERR_FORMAT
// naming file, line and reason of the first. No sample at all, or path "": LW_ERR_CONFIG. LW_ERR_IO, LW_ERR_MEMORY.
lw_status lw_dataset_read(const lw_data_source *source, lw_error *err, lw_dataset *out);
void lw_dataset_free(lw_dataset *dataset);

// --- order: a function, not a state. The index of the sample at `position` (0 .. count-1) of `epoch`: a keyed
// permutation of 0 .. count-1 (Feistel network with cycle walking). shuffle off: the identity is the caller's choice.
int64_t lw_order_index(uint64_t seed, int64_t epoch, int64_t position, int64_t count);

// --- prompts
// The context part is prompt.context with its placeholder replaced, and nothing at all for an empty context; the
// question part is prompt.question likewise. Of a window of text the context part is the window itself, its answer is
// what follows it, and it has neither question part nor anchor.
//
// Text that the encoder reads: the prompt's context part, and the question part with wire.compress = "prompt"; at most
// prompt.max_source_bytes, cut at a UTF-8 boundary at the end of the context, never in the question. malloc'd.
// LW_ERR_CONFIG naming the sample where the question part alone is too long, or where nothing is left to read.
lw_status lw_prompt_source(const lw_config *config, const lw_sample *sample, lw_error *err, char **out,
                           int64_t *out_bytes, bool *out_cut);
// The full text prompt of the `text` mode: context part, question part, anchor. malloc'd.
lw_status lw_prompt_text(const lw_config *config, const lw_sample *sample, lw_error *err, char **out);
// What an LLM reads after the latents: the question part with wire.compress = "context", then the anchor. malloc'd.
lw_status lw_prompt_suffix(const lw_config *config, const lw_sample *sample, lw_error *err, char **out);
// The first `context_bytes` bytes of the context only, as lw_prompt_text otherwise: the cut text prompt. malloc'd.
lw_status lw_prompt_text_cut(const lw_config *config, const lw_sample *sample, size_t context_bytes, lw_error *err,
                             char **out);
// The answer as it is trained: prompt.answer around the first gold answer. malloc'd.
lw_status lw_prompt_answer(const lw_config *config, const lw_sample *sample, lw_error *err, char **out);
// How much of a generated text is the answer: the bytes in front of what prompt.answer has behind {answer} (a closing
// quote, a line end). An LLM that was not trained on the template writes on there, and must not look worse for it.
size_t lw_prompt_answer_bytes(const lw_config *config, const char *text, size_t bytes);

// --- tokens of a data set for one LLM, packed
typedef struct lw_token_list { // sample i owns ids[start[i] .. start[i+1])
    int32_t *ids;
    int64_t *start; // (count + 1)
} lw_token_list;

typedef struct lw_token_set {
    int64_t count;        // samples
    lw_token_list prompt; // [bos] text prompt, at most prompt.max_prompt_tokens: a longer one is the prompt of the
                          // longest beginning of the context that bisection over its bytes finds to fit
    lw_token_list suffix; // [bos] suffix; empty for a window of text
    lw_token_list answer; // first gold answer, then the end token; the first prompt.max_answer_tokens of these. Of a
                          // window of text: what follows it, without an end token, the first target_tokens
    int64_t bos;          // tokens of each prompt before its text: 1 or 0
    int64_t cut_prompts, cut_answers;
    int64_t vocab;        // one more than the largest id used
    bool from_cache;      // read, not tokenised
    char cache_note[512]; // why the tokens could not be cached ("" when they were): for the log, no failure
} lw_token_set;

// Tokenises `dataset`, or reads the result from the cache directory (a file named by a hash of content, templates and
// tokenizer; written atomically; a damaged file is made again). cache_dir NULL: no cache; it is made where it is
// missing. Local.
// bos, eos: ids or -1 for none. Prompt, suffix and answer are each tokenised as one string; the text of a special token
// is plain text. LW_ERR_CONFIG names the sample whose question alone exceeds prompt.max_prompt_tokens.
lw_status lw_token_set_make(const lw_config *config, const lw_dataset *dataset, const lw_tokenizer *tokenizer,
                            int32_t bos, int32_t eos, const char *cache_dir, lw_error *err, lw_token_set *out);
void lw_token_set_free(lw_token_set *set);

#endif
