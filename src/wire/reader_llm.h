// reader_llm.h: encoder kind `llm`: the first layers of a frozen LLM, causal or bidirectional, with or without trained
// low-rank updates (model/lora.h), then a trained linear layer from its width to d_z.
//
// Texts are read in windows (windows.h), each of which begins with the begin-of-text token if the LLM's tokenizer has
// one.
#ifndef LW_READER_LLM_H
#define LW_READER_LLM_H

#include "wire/reader.h"

extern const lw_reader_ops lw_reader_llm;

#endif
