// frozen_model.h: how a frozen model of any kind gets onto the device: its memory, its weights from files or at random,
// their check, and the figures of loading. Local.
#ifndef LW_FROZEN_MODEL_H
#define LW_FROZEN_MODEL_H

#include "device/arena.h"
#include "device/device.h"
#include "model/frozen_weights.h"

// What loading took.
typedef struct lw_frozen_figures {
    size_t bytes;  // of the files that were read; 0: random weights
    double wall_s; // until the weights were on the device, checked
} lw_frozen_figures;

// The part of a model that every kind has.
typedef struct lw_frozen_model {
    lw_arena arena; // of all weights
    lw_frozen_figures figures;
    uint64_t fingerprint; // XXH3 of the weights as they are in the files
} lw_frozen_model;

// What a kind of model gives. `model` is that of lw_frozen_open.
typedef struct lw_frozen_kind {
    lw_arena_layout *layout; // places the weights; its context is `model`
    // Lists them: `out` has room for as many tensors as lw_frozen_open was told.
    void (*list)(const void *model, lw_weight_list *out);
    // Enqueues what is computed from the weights once they are checked; `list` has their sums of squares.
    lw_status (*finish)(void *model, const lw_weight_list *list, lw_error *err);
} lw_frozen_kind;

typedef struct lw_frozen_source {
    const char *dir;
    bool random;   // random weights; `dir` is then a name in messages alone
    uint64_t seed; // of the random weights
} lw_frozen_source;

// Allocates, loads or makes, and checks the weights of `model`, at most `tensors` of them. Messages name file and
// tensor. *out: lw_frozen_close after success and after failure.
lw_status lw_frozen_open(lw_device *dev, const lw_frozen_source *source, const lw_frozen_kind *kind, int64_t tensors,
                         void *model, lw_error *err, lw_frozen_model *out);
void lw_frozen_close(lw_device *dev, lw_frozen_model *frozen);

#endif
