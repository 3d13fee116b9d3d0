// tokens.h: the tokens of a data set for one LLM, packed. Local.
#ifndef LW_TOKENS_H
#define LW_TOKENS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct lw_token_list { // sample i owns ids[start[i] .. start[i+1])
    int32_t *ids;
    int64_t *start; // (count + 1)
} lw_token_list;

typedef struct lw_token_set {
    int64_t count;        // samples
    lw_token_list prompt; // [bos] text prompt, at most prompt.max_prompt_tokens: of a longer one, bisection over the
                          // bytes of the context finds the longest beginning of the context that fits
    lw_token_list suffix; // [bos] suffix; empty for a window of text
    lw_token_list answer; // first gold answer, then the end token; the first prompt.max_answer_tokens of these. For a
                          // window of text: the first target_tokens of what follows it, without an end token
    int64_t bos;          // tokens of each prompt before its text: 1 or 0
    int64_t cut_prompts, cut_answers;
    int64_t vocab;        // largest id used, plus one
    bool from_cache;      // the tokens were read, not made
    char cache_note[512]; // why the tokens could not be cached, for the log ("" when they were): this is not a failure
} lw_token_set;

void lw_token_set_free(lw_token_set *set);

#endif
