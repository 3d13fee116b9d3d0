// corpus.h: a data set made ready for the training step. Local.
//
// From a file to the step, a sample takes five forms:
//   raw sample    lw_sample        context, question and answers as text, as one row of the file gives them (dataset.h)
//   data set      lw_dataset       all raw samples of a file (dataset.h); prompt.h makes them the texts to be read
//   token set     lw_token_set     prompts, suffixes and answers of all samples as tokens of one LLM (tokens.h)
//   corpus        lw_corpus        a data set, the token sets of all LLMs, and what the encoder reads (this file)
//   token sample  lw_token_sample  views of one sample's tokens in a corpus: what the step takes (sample.h)
#ifndef LW_CORPUS_H
#define LW_CORPUS_H

#include "data/dataset.h"
#include "data/sample.h"
#include "data/token_set.h"

// How one LLM's text is made into tokens.
typedef struct lw_llm_text {
    const lw_tokenizer *tokenizer; // borrowed
    int32_t bos, eos;              // -1: none
} lw_llm_text;

typedef struct lw_corpus {
    lw_dataset data;
    int64_t count;
    lw_token_list source; // what the encoder reads, in its alphabet
    int64_t source_bytes; // total length of the same as text
    int64_t cut_sources;  // sources that had to be cut to prompt.max_source_bytes
    int64_t llm_count;
    lw_token_set tokens[LW_MAX_MODELS];
    lw_token_sample *samples; // (view_count) views into the lists above
    // `count`; twice that where windows of text are both continued and repeated: first all windows to be continued,
    // then all windows to be repeated.
    int64_t view_count;
} lw_corpus;

// Reads and tokenises a data file. encoder: the tokenizer of the encoder's alphabet; NULL: its tokens are bytes.
// cache_dir NULL: no token cache. *out is empty after a failure.
lw_status lw_corpus_read(const lw_config *config, const lw_data_source *source, const lw_tokenizer *encoder,
                         const lw_llm_text *llms, const char *cache_dir, lw_error *err, lw_corpus *out);
void lw_corpus_free(lw_corpus *corpus);

// Sample `index` as it is trained at position `counter` of the run, borrowed. Whether a window is continued or repeated
// is a function of seed and counter, so that it does not depend on the number of ranks or on restarts.
const lw_token_sample *lw_corpus_sample(const lw_corpus *corpus, int64_t index, uint64_t seed, int64_t counter);

// Appends to *ids what the encoder reads of one sample (lw_prompt_source), in its alphabet: bytes where `encoder` is
// NULL, else its tokens, made with `scratch`. *cut says whether the text had to be cut.
lw_status lw_corpus_source(const lw_config *config, const lw_sample *sample, const lw_tokenizer *encoder,
                           lw_tokenizer_scratch *scratch, lw_error *err, lw_ids *ids, int64_t *bytes, bool *cut);

// Rows of the longest sequence that LLM `llm` sees, generated tokens included: the larger of text prompt and latents +
// suffix, plus the larger of answer and eval.max_new_tokens. One row is added, as a truncated prompt that replaces the
// latents keeps its BOS. 0 without samples.
int64_t lw_corpus_max_positions(const lw_corpus *corpus, const lw_config *config, int64_t llm);

#endif
