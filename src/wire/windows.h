// windows.h: cuts the texts of an encoder into windows that a frozen backbone can read at once.
//
// A text longer than a window is read as windows of nearly equal length, one after another without overlap, each a
// sequence of its own at positions from 0; nothing is cut off. A window begins and ends with the tokens that the
// backbone expects there ([CLS] and [SEP], begin-of-text). The states of these tokens are left out, so there is always
// one state per token of the text. Local.
#ifndef LW_WINDOWS_H
#define LW_WINDOWS_H

#include "model/packing.h"
#include "wire/reader.h"

typedef struct lw_windows {
    int64_t most;        // positions of a window, first and last included
    int32_t first, last; // tokens in front and behind; -1: none
} lw_windows;

// The windows for a backbone of so many layers and positions. `what` names it in messages: LW_ERR_CONFIG where
// encoder.layers or encoder.window exceed it.
lw_status lw_windows_of(const lw_config *config, const lw_backbone *backbone, const char *what, int64_t layers,
                        int64_t max_positions, lw_error *err, lw_windows *out);

// The positions that windows of texts of at most `max_tokens` need.
int64_t lw_windows_positions(const lw_windows *w, int64_t max_tokens);

// The packing of a pass, on the host and on the device.
typedef struct lw_windows_buffers {
    lw_pass_limits limits;
    void *indices;      // device block of the packing
    lw_packing packing; // of the batch's windows; its host part is owned (lw_packing_free)
} lw_windows_buffers;

void lw_windows_layout(lw_arena *arena, const lw_windows *w, const lw_encoder_limits *limits, lw_windows_buffers *out);
lw_status lw_windows_start(lw_windows_buffers *b, lw_error *err); // only the first call allocates
// Cuts the batch's texts into windows and enqueues the upload of what the device needs to know about them.
lw_status lw_windows_upload(const lw_windows *w, lw_device *dev, const lw_encoder_batch *batch, lw_error *err,
                            lw_windows_buffers *b);

#endif
