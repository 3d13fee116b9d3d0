// windows.h: texts of an encoder cut into what a frozen backbone can take at once.
//
// A text longer than a window is read as windows of nearly equal length, one after another without overlap, each a
// sequence of its own at positions from 0; nothing is cut off. A window begins and ends with the tokens that the
// backbone expects there ([CLS] and [SEP], begin-of-text); their own states are left out, so there is one state per
// token of the text whatever the windows. Local.
#ifndef LW_WINDOWS_H
#define LW_WINDOWS_H

#include "model/packing.h"
#include "wire/encoder_batch.h"

typedef struct lw_windows {
    int64_t most;        // positions of a window, first and last included
    int32_t first, last; // tokens in front and behind; -1: none
} lw_windows;

// Positions that windows of texts of at most `max_tokens` need.
int64_t lw_windows_positions(const lw_windows *w, int64_t max_tokens);

// What a pass over the windows of such a batch holds; its supervised rows are the tokens of the texts, in order.
lw_pass_limits lw_windows_limits(const lw_windows *w, const lw_encoder_limits *limits);

// Fills the packing, created for these limits. Nothing is uploaded.
lw_status lw_windows_pack(const lw_windows *w, const lw_encoder_batch *batch, lw_error *err, lw_packing *packing);

#endif
