// loss_keys.h: the keys of the losses in metrics.jsonl and summary.json, for all who write or read them. Local.
#ifndef LW_LOSS_KEYS_H
#define LW_LOSS_KEYS_H

#include "core/limits.h"

// Losses per answer token: KEY_MODEL of one LLM, KEY the mean over them (kd_loss has none). X(constant, key)
#define LW_LOSSES(X)                                                      \
    X(LW_LOSS_TRAINING, "loss")     /* of the answers that are trained */ \
    X(LW_LOSS_TEACHER, "kd_loss")   /* divergence from the teacher */     \
    X(LW_LOSS_HELD_OUT, "eval_nll") /* of the answers in data.eval */

typedef enum lw_loss_kind {
#define LW_LOSS_ENUM(name, key) name,
    LW_LOSSES(LW_LOSS_ENUM)
#undef LW_LOSS_ENUM
        LW_LOSS_COUNT
} lw_loss_kind;

enum { LW_LOSS_KEY_BYTES = LW_MODEL_NAME_MAX + 16 };

const char *lw_loss_key(lw_loss_kind kind);        // "loss"
const char *lw_loss_key_prefix(lw_loss_kind kind); // "loss_": what the keys of single models begin with

// "loss_MODEL", written to `out` (LW_LOSS_KEY_BYTES). Returns out.
char *lw_loss_key_of_model(lw_loss_kind kind, const char *model, char *out);

#endif
