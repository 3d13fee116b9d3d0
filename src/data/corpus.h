// corpus.h: a data set made ready for the step: what the encoder reads and the tokens of every LLM. Local.
#ifndef LW_CORPUS_H
#define LW_CORPUS_H

#include "data/dataset.h"
#include "data/sample.h"

// How one LLM's text is made into tokens.
typedef struct lw_llm_text {
    const lw_tokenizer *tokenizer; // borrowed
    int32_t bos, eos;              // -1: none
} lw_llm_text;

typedef struct lw_corpus {
    lw_dataset data;
    int64_t count;
    lw_token_list source; // what the encoder reads, in its alphabet
    int64_t source_bytes; // the same as text, all together
    int64_t cut_sources;  // sources that had to be cut to prompt.max_source_bytes
    int64_t llm_count;
    lw_token_set tokens[LW_MAX_MODELS];
    lw_token_sample *samples; // (view_count) views into the above
    // count, but twice that where windows of text are continued or repeated: first all as they are continued, then all
    // as they are repeated.
    int64_t view_count;
} lw_corpus;

// Reads and tokenises a data file. encoder: of the encoder's alphabet; NULL: its tokens are bytes. cache_dir NULL: no
// token cache. Empty after a failure.
lw_status lw_corpus_read(const lw_config *config, const lw_data_source *source, const lw_tokenizer *encoder,
                         const lw_llm_text *llms, const char *cache_dir, lw_error *err, lw_corpus *out);
void lw_corpus_free(lw_corpus *corpus);

// Sample `index` as it is trained at place `counter` of the run: whether a window is continued or repeated is a
// function of seed and counter, so that it is the same at any number of ranks and after a restart. Borrowed.
const lw_token_sample *lw_corpus_sample(const lw_corpus *corpus, int64_t index, uint64_t seed, int64_t counter);

// Appends to *ids what the encoder reads of one sample (lw_prompt_source), in its alphabet: encoder NULL: bytes; else
// with scratch. *cut: whether it had to be cut.
lw_status lw_corpus_source(const lw_config *config, const lw_sample *sample, const lw_tokenizer *encoder,
                           lw_tokenizer_scratch *scratch, lw_error *err, lw_ids *ids, int64_t *bytes, bool *cut);

// Rows of the longest sequence that LLM j sees, with what is generated: the larger of text prompt and latents + suffix,
// plus the larger of answer and eval.max_new_tokens. One more, as a truncated prompt in place of the latents keeps its
// BOS. 0 without samples.
int64_t lw_corpus_max_positions(const lw_corpus *corpus, const lw_config *config, int64_t llm);

#endif
