// flops.h: arithmetic and weight traffic of a training step, counted from shapes. Local.
#ifndef LW_FLOPS_H
#define LW_FLOPS_H

#include "data/corpus.h"
#include "data/sample.h"
#include "model/hf_config.h"
#include "wire/step.h"

// Mean sizes of a sample.
typedef struct lw_sample_shape {
    double source; // tokens that the encoder reads
    double latents;
    double rows[LW_MAX_MODELS];   // latents, suffix and answer but its last token
    double answer[LW_MAX_MODELS]; // supervised rows
    double taught[LW_MAX_MODELS]; // of these, rows with a teacher's
    int64_t alternating_llms; // so many LLMs run one a step in turn, and costs are those of the mean step; 0: all run
} lw_sample_shape;

// The share of the LLMs and their adapters that runs in a mean step.
static inline double lw_llm_share(const lw_sample_shape *shape)
{
    return shape->alternating_llms > 0 ? 1.0 / (double)shape->alternating_llms : 1.0;
}

lw_sample_shape lw_sample_shape_of(const lw_config *config, const lw_token_sample *samples, int64_t count);

// The mean sizes of the samples that training uses.
lw_sample_shape lw_corpus_shape(const lw_config *config, const lw_corpus *corpus);

// Floating-point operations of the products of one mean sample. A frozen layer takes 4 per weight and row (forward and
// dX), or 2 in an encoder without trained updates, which has no dX. The lm_head takes 4 per weight and supervised row,
// trained weights take 6 per weight and row. Attention scores are left out: they are less than 2 % at the lengths of
// this project. configs[j] is NULL for an LLM that does not count, here and below.
double lw_step_flop(const lw_wire *wire, const lw_hf_config *const *configs, const lw_sample_shape *shape);

// Bytes of frozen weights that one pass through all LLMs reads at least: every matrix twice, forward and dX, or once in
// an encoder without trained updates.
double lw_step_weight_bytes(const lw_wire *wire, const lw_hf_config *const *configs, lw_dtype type);

#endif
