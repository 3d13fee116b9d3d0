// wire.h: the trainable model as a whole: encoder, one adapter per LLM, their flat buffers and optimizer. Local.
#ifndef LW_WIRE_H
#define LW_WIRE_H

#include "config/config.h"
#include "data/sample.h"
#include "wire/adapter.h"
#include "wire/encoder.h"

// Numbers that travel with the gradients in the one all-reduce of a step, as sums over the ranks.
enum {
    LW_STAT_LOSS = 0,                   // one per LLM: sum of weight * nll
    LW_STAT_KL = LW_MAX_MODELS,         // one per LLM: sum of kl_weight * kl
    LW_STAT_LOSSES = 2 * LW_MAX_MODELS, // how many numbers have to be finite
    LW_STAT_USR1 = LW_STAT_LOSSES,
    LW_STAT_TERM, // how many ranks received this signal
    LW_STAT_INT,
    LW_STAT_DISK, // rank 0 cannot write its files any more
    LW_STAT_COUNT = LW_STAT_LOSSES + 16,
};

typedef struct lw_wire {
    lw_params params;
    lw_encoder encoder;
    int64_t llm_count;
    lw_adapter adapters[LW_MAX_MODELS];
    int task[LW_MAX_MODELS]; // (LW_TASK_TOKENS, d) "task.NAME"; -1 where the configuration has no text to train on
    float *stats;            // (LW_STAT_COUNT) device; after the gradients, so that one all-reduce covers both
    int64_t reduce_elements; // gradients and stats
    float *sqnorm;           // device scalar: squared norm of the gradient
    float *zeros;            // (LW_STAT_COUNT) device
} lw_wire;

// Declares the parameters. d[j]: width of LLM j. backbone: that of the encoder, as for lw_encoder_declare.
lw_status lw_wire_declare(const lw_config *config, const int64_t *d, const lw_backbone *backbone, lw_error *err,
                          lw_wire *out);
void lw_wire_free(lw_wire *wire);

// Sets the RMS of LLM j's embedding table, which is the scale of its soft tokens and of the initial values of its task
// tokens. To be called once the LLM is loaded, before lw_wire_init.
void lw_wire_set_embedding_rms(lw_wire *wire, int64_t j, float rms);

// Places parameters, gradients and, with `optimizer`, the moments.
void lw_wire_layout(lw_arena *arena, bool optimizer, lw_wire *wire);

// Writes initial values and zero moments to the device.
lw_status lw_wire_init(lw_device *dev, lw_wire *wire, uint64_t seed, lw_error *err);

// A rate of 0 leaves the parameters and moments of its tensors as they are, and excludes their gradient from the norm.
typedef struct lw_update_rate {
    double lr;
    int64_t step; // updates of these tensors so far, plus one
} lw_update_rate;

typedef struct lw_update {
    lw_update_rate rate[LW_RATE_COUNT];
    double beta1, beta2, eps, weight_decay, clip;
} lw_update;

// Computes the squared gradient norm, clips, and updates with AdamW. If a gradient or a loss is not finite, the norm is
// NaN and nothing is updated.
void lw_wire_update(lw_device *dev, lw_wire *wire, const lw_update *update);

#endif
