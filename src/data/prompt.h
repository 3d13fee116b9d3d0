// prompt.h: the templates of `prompt` filled in with a sample: the texts that the encoder and the LLMs read. Local.
//
// The context part is prompt.context with its placeholder replaced, and nothing at all for an empty context. The
// question part is prompt.question with its placeholder replaced. For a window of text the context part is the window
// itself, the answer is the text that follows it, and there is neither question part nor anchor.
#ifndef LW_PROMPT_H
#define LW_PROMPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"
#include "core/status.h"
#include "data/dataset.h"

// Text that the encoder reads: the prompt's context part, and the question part with wire.compress = "prompt". It has
// at most prompt.max_source_bytes bytes: the context is cut at its end, at a UTF-8 boundary, the question never. The
// caller frees *out. LW_ERR_CONFIG names the sample where the question part alone is too long, or where nothing is left
// to read.
lw_status lw_prompt_source(const lw_config *config, const lw_sample *sample, lw_error *err, char **out,
                           int64_t *out_bytes, bool *out_cut);

// The full text prompt of the `text` mode: context part, question part, anchor. The caller frees *out. For tests.
lw_status lw_prompt_text(const lw_config *config, const lw_sample *sample, lw_error *err, char **out);

// The same with only the first `context_bytes` bytes of the context. The caller frees *out.
lw_status lw_prompt_text_cut(const lw_config *config, const lw_sample *sample, size_t context_bytes, lw_error *err,
                             char **out);

// What an LLM reads after the latents: the question part with wire.compress = "context", then the anchor. The caller
// frees *out.
lw_status lw_prompt_suffix(const lw_config *config, const lw_sample *sample, lw_error *err, char **out);

// The answer as it is trained: prompt.answer around the first gold answer. The caller frees *out.
lw_status lw_prompt_answer(const lw_config *config, const lw_sample *sample, lw_error *err, char **out);

// How many bytes of a generated text are the answer: those before the part of prompt.answer that follows {answer} (a
// closing quote, a line end). An LLM that was not trained on the template continues after it, and must not be scored
// worse for that.
size_t lw_prompt_answer_bytes(const lw_config *config, const char *text, size_t bytes);

#endif
