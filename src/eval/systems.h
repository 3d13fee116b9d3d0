// systems.h: what answers of an evaluation come from: the wire, text, and controls. Local.
#ifndef LW_EVAL_SYSTEMS_H
#define LW_EVAL_SYSTEMS_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"

// What a model reads before the anchor. X(name, key, meaning)
#define LW_EVAL_MODES(X)                                                                   \
    X(LW_EVAL_TEXT, "text", "the full text prompt")                                        \
    X(LW_EVAL_LATENT, "latent", "the latents of the sample")                               \
    X(LW_EVAL_NO_CONTEXT, "no_context", "the suffix alone")                                \
    X(LW_EVAL_SHUFFLED, "shuffled", "the latents of another sample, with another context") \
    X(LW_EVAL_TRUNCATED, "truncated", "the first M tokens of the text prompt, M being the latents, and the suffix")

typedef enum lw_eval_mode {
#define LW_EVAL_ENUM(name, key, meaning) name,
    LW_EVAL_MODES(LW_EVAL_ENUM)
#undef LW_EVAL_ENUM
        LW_EVAL_MODE_COUNT
} lw_eval_mode;

const char *lw_eval_mode_key(lw_eval_mode mode); // borrowed, static

// What answers come from: the modes in their order, then the variants that eval.quantise and eval.curve ask for.
enum { LW_EVAL_SYSTEMS = 24 };
typedef struct lw_eval_system {
    lw_eval_mode mode;
    int64_t bits;    // per number of the wire (src/wire/quantise.h); 0: as the encoder leaves it
    int64_t latents; // how many of a fixed number are read; 0: all
    int64_t ratio;   // a larger wire.ratio; 0: the configuration's
    char key[40];    // "latent", "latent_4bit", "latent_m8", "latent_ratio16"
} lw_eval_system;

// The systems of a whole evaluation; out (LW_EVAL_SYSTEMS). Returns how many there are.
int lw_eval_systems(const lw_config *config, lw_eval_system *out);
// The number of latents that `system` reads of a text of `tokens` tokens.
int64_t lw_eval_latents(const lw_config *config, const lw_eval_system *system, int64_t tokens);
// Whether both read the output of the same pass of encoder and adapters.
bool lw_eval_same_latents(const lw_config *config, const lw_eval_system *a, const lw_eval_system *b);

#endif
