// encoder_backbone.h: the frozen model that an encoder of kind `llm` or `bert` reads with, before its weights are
// there.
#ifndef LW_ENCODER_BACKBONE_H
#define LW_ENCODER_BACKBONE_H

#include "model/bert_config.h"
#include "model/hf_config.h"

typedef struct lw_encoder_backbone {
    const lw_hf_config *llm;    // borrowed; kind `llm`
    const lw_bert_config *bert; // borrowed; kind `bert`
    int32_t bos, end;           // tokens around a window; -1: none. kind `llm` has no end
} lw_encoder_backbone;

#endif
