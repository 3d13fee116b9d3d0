// generate.h: scoring of given answers and greedy generation with a KV cache, for a batch of sequences. Local.
#ifndef LW_GENERATE_H
#define LW_GENERATE_H

#include "core/ids.h"
#include "model/decoder.h"

typedef struct lw_generated {
    int32_t *ids; // (max_new)
    int64_t count;
    bool done;                 // an end token came
    int32_t first_token;       // the likeliest first one, end token or not
    double nll;                // sum over the given answer's tokens
    int64_t first_row, scored; // of its scored rows
    int64_t position;          // of the next token
} lw_generated;

typedef struct lw_generator {
    lw_device *dev;
    const lw_decoder *decoder;  // borrowed
    const lw_hf_config *config; // borrowed
    lw_pass_limits limits;
    int64_t max_new;
    lw_decoder_buffers buffers;
    lw_kv_cache cache;
    void *indices;
    lw_packing packing;
    lw_generated *sequences; // (limits.sequences)
    int32_t *ids;            // (sequences * max_new)
    int32_t *argmax;         // (supervised) host
    float *nll;              // (supervised) host
} lw_generator;

// limits.max_len: rows of the longest sequence with what is generated. Frees what an earlier call left.
lw_status lw_generator_layout(lw_arena *arena, lw_device *dev, const lw_hf_config *config, const lw_pass_limits *limits,
                              int64_t max_new, lw_error *err, lw_generator *g);
lw_status lw_generator_start(lw_generator *g, const lw_decoder *decoder, lw_error *err);
void lw_generator_free(lw_generator *g);

// A batch: clear, add each sequence, run.
void lw_generator_clear(lw_generator *g);

// Appends [prefix_count soft tokens from row prefix_first | before | after], of which the answer tokens in `answer` are
// scored as its continuation; with none, generation alone starts from its last row. False beyond the limits.
bool lw_generator_add(lw_generator *g, int64_t prefix_first, int64_t prefix_count, lw_tokens before, lw_tokens after,
                      lw_tokens answer);

// Whether one more sequence of `before` rows and an answer of `answer` >= 1 tokens can be added. Local.
bool lw_generator_fits(const lw_generator *g, int64_t before, int64_t answer);
// Appends [prefix_count soft tokens from row prefix_first | soft token `task_row`], followed by the answer likewise.
bool lw_generator_add_task(lw_generator *g, int64_t prefix_first, int64_t prefix_count, int64_t task_row,
                           lw_tokens answer);

// Scores the answers alone: nll and first_token of each sequence. soft as below.
lw_status lw_generator_score(lw_generator *g, const float *soft, lw_error *err);

// Scores and generates: at most max_new tokens a sequence, ended by one of the model's end tokens or `eos` (not
// counted). soft (.., d): device, NULL without prefix rows. Results are in g->sequences, in the order of adding.
lw_status lw_generator_run(lw_generator *g, const float *soft, int32_t eos, lw_error *err);

#endif
