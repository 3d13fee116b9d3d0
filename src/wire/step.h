// step.h: forward and backward of one micro-batch through encoder, adapters and all LLMs.
//
// The caller zeroes the gradients, runs one or more micro-batches, reduces over ranks and updates. Loss and gradients
// are those of  sum over LLMs j, samples, answer positions t of  weight_j(t) nll + kl_weight_j(t) kd_tau^2 kl,
//   weight_j(t)    = (1 + first_weight [t = 0] + k_weight [t < k]) / (tokens_j * LLMs)
//   kl_weight_j(t) = kd_weight [t < k] / (tokens_j * LLMs)
// where tokens_j are the answer tokens of the whole global batch, so that micro-batches and ranks add up exactly. The
// distillation term, too, is divided by all answer tokens, not by the k of each answer that it is summed over. kl is
// the divergence of the LLM that reads the latents from its teacher, the same LLM reading the text prompt, at
// temperature kd_tau (lw_xent). The teacher's final-norm states are given; the step computes its logits from them.
// Local.
//
// step.c runs a micro-batch, step_limits.c computes what it can need.
#ifndef LW_STEP_H
#define LW_STEP_H

#include "data/sample.h"
#include "model/decoder.h"
#include "wire/wire.h"

typedef struct lw_step_limits {
    lw_encoder_limits encoder;
    int64_t task_rows; // task tokens: one for each sample, or 0
    lw_pass_limits llm[LW_MAX_MODELS];
} lw_step_limits;

typedef struct lw_step_loss {
    double first_weight, k_weight;
    int64_t k;
    double kd_weight, kd_tau; // kd_weight 0: no distillation
} lw_step_loss;

lw_step_loss lw_step_loss_of(const lw_config *config);

// How many answer positions of a sample have a teacher: the first k, or none if the sample has no text prompt or is a
// window of text.
int64_t lw_step_taught(const lw_step_loss *loss, const lw_token_sample *sample, int64_t llm);

// Writes the teacher's states of these positions to out, (lw_step_taught, d) of the operand type.
typedef lw_status lw_step_states(void *context, int64_t llm, const lw_token_sample *sample, lw_error *err, void *out);

// The parts of a step for which times are measured and predicted. host: packing and whatever else comes before work is
// enqueued. lm_head: logits, loss, and backward to the last layer.
#define LW_STEP_PHASES(X)                            \
    X(LW_PHASE_HOST, "host")                         \
    X(LW_PHASE_ENCODER_FORWARD, "encoder_forward")   \
    X(LW_PHASE_ADAPTER_FORWARD, "adapter_forward")   \
    X(LW_PHASE_LLM_FORWARD, "llm_forward")           \
    X(LW_PHASE_HEAD, "lm_head")                      \
    X(LW_PHASE_LLM_BACKWARD, "llm_backward")         \
    X(LW_PHASE_ADAPTER_BACKWARD, "adapter_backward") \
    X(LW_PHASE_ENCODER_BACKWARD, "encoder_backward") \
    X(LW_PHASE_REDUCE, "reduce")                     \
    X(LW_PHASE_UPDATE, "update")

typedef enum lw_step_phase {
#define LW_PHASE_ENUM(phase, key) phase,
    LW_STEP_PHASES(LW_PHASE_ENUM)
#undef LW_PHASE_ENUM
        LW_PHASE_COUNT
} lw_step_phase;

// What to run on the samples of a micro-batch.
typedef struct lw_step_spec {
    const lw_config *config; // borrowed: the run's, or that of a stage
    lw_step_loss loss;
    int64_t only_llm; // the LLM that alone runs, and whose loss is all; -1: all of them, and the mean of their losses
    bool encoder_frozen; // encoder and pooler get no gradient
    // The samples' positions in the stage, (count), borrowed. With the seed they decide which latents of each sample
    // are used under train.latent_dropout and train.nested_from; NULL: all latents are used.
    const int64_t *positions;
    uint64_t seed;
    lw_step_states *states; // gives the teacher's states; may be NULL without distillation
    void *states_context;
    // Called when a phase is enqueued, for the LLM `llm` (-1: a phase of all); NULL: nobody asks.
    void (*after)(void *context, lw_step_phase phase, int64_t llm);
    void *after_context;
} lw_step_spec;

// All LLMs, all parameters and all latents, with the loss of the configuration and no teacher.
lw_step_spec lw_step_spec_of(const lw_config *config);

// The buffers of a step.
typedef struct lw_step {
    lw_device *dev;
    lw_wire *wire;                       // borrowed
    lw_decoder *decoders[LW_MAX_MODELS]; // borrowed; NULL: another rank runs that LLM
    lw_step_limits limits;
    lw_encoder_buffers encoder;
    lw_encoder_batch batch;
    lw_adapter_buffers adapters[LW_MAX_MODELS];
    lw_decoder_buffers llm[LW_MAX_MODELS];
    void *indices[LW_MAX_MODELS]; // device blocks of the packings
    lw_packing packing[LW_MAX_MODELS];
    float *dz;         // (latent rows, d_z)
    void *staging;     // host: a micro-batch's states of one LLM
    int64_t task_rows; // task tokens of this pass
} lw_step;

// The most that any micro-batch of `micro` of these samples can need, if it has each of them at most `occurrences`
// times (lw_schedule_occurrences). The configuration says how many latents each sample has and whether the run distils.
lw_status lw_step_limits_of(const lw_config *config, const lw_token_sample *samples, int64_t count, int64_t micro,
                            int64_t occurrences, lw_error *err, lw_step_limits *out);

// Each number of `into` becomes the larger of the two.
void lw_step_limits_join(lw_step_limits *into, const lw_step_limits *other);

// Places all buffers; configs[j] are the LLMs' shapes, NULL for those that another rank runs. Measuring needs no
// weights. Frees what an earlier call left.
lw_status lw_step_layout(lw_arena *arena, lw_device *dev, const lw_wire *wire, const lw_hf_config *const *configs,
                         const lw_step_limits *limits, lw_error *err, lw_step *step);
// The same in device memory of its own, which `what` names in messages; the caller frees *memory after the step.
lw_status lw_step_place(lw_device *dev, const char *what, const lw_wire *wire, const lw_hf_config *const *configs,
                        const lw_step_limits *limits, lw_error *err, lw_step *step, lw_arena *memory);
// To be called once the memory is there. decoders[j] are borrowed, and NULL where configs[j] was.
lw_status lw_step_start(lw_step *step, lw_wire *wire, lw_decoder *const *decoders, lw_error *err);
// To be called when other work has used the step's memory: restores what a step expects to find there. Allocates
// nothing.
lw_status lw_step_reclaim(lw_step *step, lw_error *err);
void lw_step_free(lw_step *step);

// Leaves the latents of these samples in step->encoder.z, and which sample has which rows in step->batch.
lw_status lw_step_encode(lw_step *step, const lw_step_spec *spec, const lw_token_sample *const *samples, int64_t count,
                         lw_error *err);

// Adds the micro-batch's gradients to the flat buffer and its losses to wire->stats. tokens[j]: answer tokens of the
// global batch for LLM j.
lw_status lw_step_run(lw_step *step, const lw_step_spec *spec, const lw_token_sample *const *samples, int64_t count,
                      const int64_t *tokens, lw_error *err);

// The largest product of a step, with its buffers, which a measurement may overwrite between steps.
lw_gemm lw_step_largest_product(const lw_step *step);

#endif
