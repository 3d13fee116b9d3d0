// packing.h: the sequences of one pass through an LLM, packed without padding.
//
// A sequence is [prefix_rows soft tokens | tokens]. All rows of the pass lie one after another; the index arrays below
// say which row is what. They live in one host block and one device block of the same layout, so that a pass needs one
// upload. Local.
#ifndef LW_PACKING_H
#define LW_PACKING_H

#include <stdint.h>

#include "device/arena.h"
#include "device/device.h"

// The most that any pass holds; sizes buffers.
typedef struct lw_pass_limits {
    int64_t sequences;
    int64_t rows;        // of all sequences together
    int64_t prefix_rows; // of all sequences together
    int64_t supervised;  // rows whose next token is scored or generated
    int64_t max_len;     // rows of one sequence, with what is generated
    int64_t teachers;    // supervised rows that have a teacher's; 0: no distillation
} lw_pass_limits;

typedef struct lw_index_arrays {
    int32_t *start;         // (sequences + 1) first row of each sequence
    int32_t *key_start;     // (sequences) first key row: start, or a row of the cache
    int32_t *key_len;       // (sequences) keys: rows of the sequence, or all cached so far
    int32_t *position;      // (rows) from 0 in each sequence
    int32_t *token_id;      // (tokens)
    int32_t *token_row;     // (tokens) row of each token
    int32_t *prefix_source; // (prefix rows) row of the soft-token matrix
    int32_t *task;          // (sequences) the caller's: which task token is in each sequence
    int32_t *prefix_row;    // (prefix rows) row of each soft token
    int32_t *scored_row;    // (supervised)
    int32_t *target;        // (supervised) the next token
    int32_t *cache_row;     // (rows) where a row's keys and values go in the cache
    float *weight;          // (supervised) d loss / d nll
    int32_t *teacher_row;   // (supervised) the row's among the teacher's; these two are NULL without distillation
    float *kl_weight;       // (supervised) d loss / d (tau^2 kl); 0: no teacher
} lw_index_arrays;

typedef struct lw_packing {
    lw_pass_limits limits;
    int64_t sequences, rows, tokens, prefix_rows, supervised, max_q, max_k, teachers;
    float tau;              // temperature of the comparison with the teacher (lw_xent); 1 unless it is set
    int64_t cache_capacity; // rows per sequence in the cache; 0: no cache
    lw_arena host;          // over malloc'd memory
    lw_index_arrays at;     // host
    lw_index_arrays on;     // device
    void *device_block;
    size_t bytes;
} lw_packing;

// Device bytes of the index block.
size_t lw_packing_device_bytes(const lw_pass_limits *limits);
// device_block: device memory of lw_packing_device_bytes, owned by the caller.
lw_status lw_packing_create(const lw_pass_limits *limits, void *device_block, lw_error *err, lw_packing *out);
void lw_packing_free(lw_packing *packing);

void lw_packing_clear(lw_packing *packing);

// Appends a sequence: rows prefix_first .. + prefix_count of the soft tokens, then `count` tokens, at positions from
// `first_position` on. Returns the row of its first element, or -1 when it exceeds the limits.
int64_t lw_packing_add(lw_packing *packing, int64_t prefix_first, int64_t prefix_count, const int32_t *tokens,
                       int64_t count, int64_t first_position);
// Appends row `source` of the soft tokens to the sequence added last. False beyond the limits.
bool lw_packing_extend_soft(lw_packing *packing, int64_t source);
// Appends more tokens to the sequence added last.
int64_t lw_packing_extend(lw_packing *packing, const int32_t *tokens, int64_t count);

// Marks `row` as scored: its output predicts `target`, and enters the loss with `weight`. False beyond the limits.
bool lw_packing_score(lw_packing *packing, int64_t row, int32_t target, float weight);
// The row scored last has a teacher's row, the next one, with this weight (> 0). False beyond the limits.
bool lw_packing_teach(lw_packing *packing, float kl_weight);

// With a cache of `capacity` rows per slot: the keys of the sequence added last are in slot `slot`.
void lw_packing_use_cache(lw_packing *packing, int64_t slot, int64_t capacity);

// Enqueues the upload.
void lw_packing_upload(lw_packing *packing, lw_device *dev);

#endif
