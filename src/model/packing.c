// packing.c: sequences side by side in the rows of one pass, and the index arrays that describe them.
#include "model/packing.h"

#include <stdlib.h>

static void layout(lw_arena *arena, const lw_pass_limits *l, lw_index_arrays *out)
{
    out->start = LW_TAKE(arena, l->sequences + 1, int32_t);
    out->key_start = LW_TAKE(arena, l->sequences, int32_t);
    out->key_len = LW_TAKE(arena, l->sequences, int32_t);
    out->position = LW_TAKE(arena, l->rows, int32_t);
    out->token_id = LW_TAKE(arena, l->rows, int32_t);
    out->token_row = LW_TAKE(arena, l->rows, int32_t);
    out->prefix_source = LW_TAKE(arena, l->prefix_rows, int32_t);
    out->prefix_row = LW_TAKE(arena, l->prefix_rows, int32_t);
    out->scored_row = LW_TAKE(arena, l->supervised, int32_t);
    out->target = LW_TAKE(arena, l->supervised, int32_t);
    out->cache_row = LW_TAKE(arena, l->rows, int32_t);
    out->weight = LW_TAKE(arena, l->supervised, float);
    out->teacher_row = l->teachers > 0 ? LW_TAKE(arena, l->supervised, int32_t) : NULL;
    out->kl_weight = l->teachers > 0 ? LW_TAKE(arena, l->supervised, float) : NULL;
    out->task = LW_TAKE(arena, l->sequences, int32_t);
}

size_t lw_packing_device_bytes(const lw_pass_limits *limits)
{
    lw_arena arena = lw_arena_measure();
    lw_index_arrays unused;
    layout(&arena, limits, &unused);
    return arena.high_water_bytes;
}

lw_status lw_packing_create(const lw_pass_limits *limits, void *device_block, lw_error *err, lw_packing *out)
{
    size_t bytes = lw_packing_device_bytes(limits);
    void *host = calloc(1, bytes);
    if (host == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the index arrays of a pass (%zu bytes)", bytes);
    }
    *out = (lw_packing){.limits = *limits, .device_block = device_block, .bytes = bytes, .tau = 1.0F};
    out->host = lw_arena_over(host, bytes);
    lw_arena arena = out->host;
    layout(&arena, limits, &out->at);
    arena = lw_arena_over(device_block, bytes);
    layout(&arena, limits, &out->on);
    return LW_OK;
}

void lw_packing_free(lw_packing *packing)
{
    free(packing->host.base);
    *packing = (lw_packing){0};
}

void lw_packing_clear(lw_packing *p)
{
    p->sequences = p->rows = p->tokens = p->prefix_rows = p->supervised = p->max_q = p->max_k = p->teachers = 0;
    p->cache_capacity = 0;
    p->at.start[0] = 0;
}

// Closes the row count of the last sequence after rows were appended.
static void close_sequence(lw_packing *p)
{
    int64_t s = p->sequences - 1;
    int64_t first = p->at.start[s];
    int64_t queries = p->rows - first;
    int64_t keys = p->at.position[p->rows - 1] + 1;
    p->at.start[s + 1] = (int32_t)p->rows;
    p->at.key_start[s] = (int32_t)first;
    p->at.key_len[s] = (int32_t)keys;
    p->max_q = queries > p->max_q ? queries : p->max_q;
    p->max_k = keys > p->max_k ? keys : p->max_k;
}

bool lw_packing_extend_soft(lw_packing *p, int64_t source)
{
    if (p->sequences == 0 || p->rows >= p->limits.rows || p->prefix_rows >= p->limits.prefix_rows) {
        return false;
    }
    bool begun = p->rows > p->at.start[p->sequences - 1];
    p->at.position[p->rows] = begun ? p->at.position[p->rows - 1] + 1 : 0;
    p->at.prefix_source[p->prefix_rows] = (int32_t)source;
    p->at.prefix_row[p->prefix_rows] = (int32_t)p->rows;
    p->prefix_rows++;
    p->rows++;
    close_sequence(p);
    return true;
}

int64_t lw_packing_extend(lw_packing *p, const int32_t *tokens, int64_t count)
{
    int64_t first = p->rows;
    if (p->sequences == 0 || count > p->limits.rows - p->rows) {
        return -1;
    }
    int64_t position = first > p->at.start[p->sequences - 1] ? p->at.position[first - 1] + 1 : 0;
    for (int64_t i = 0; i < count; i++) {
        p->at.position[p->rows] = (int32_t)(position + i);
        p->at.token_id[p->tokens] = tokens[i];
        p->at.token_row[p->tokens] = (int32_t)p->rows;
        p->tokens++;
        p->rows++;
    }
    if (count > 0) {
        close_sequence(p);
    }
    return first;
}

int64_t lw_packing_add(lw_packing *p, int64_t prefix_first, int64_t prefix_count, const int32_t *tokens, int64_t count,
                       int64_t first_position)
{
    if (p->sequences >= p->limits.sequences || prefix_count > p->limits.prefix_rows - p->prefix_rows ||
        prefix_count + count > p->limits.rows - p->rows || prefix_count + count < 1) {
        return -1;
    }
    int64_t first = p->rows;
    p->at.start[p->sequences++] = (int32_t)first;
    for (int64_t i = 0; i < prefix_count + count; i++) {
        p->at.position[p->rows] = (int32_t)(first_position + i);
        if (i < prefix_count) {
            p->at.prefix_source[p->prefix_rows] = (int32_t)(prefix_first + i);
            p->at.prefix_row[p->prefix_rows] = (int32_t)p->rows;
            p->prefix_rows++;
        } else {
            p->at.token_id[p->tokens] = tokens[i - prefix_count];
            p->at.token_row[p->tokens] = (int32_t)p->rows;
            p->tokens++;
        }
        p->rows++;
    }
    close_sequence(p);
    return first;
}

bool lw_packing_score(lw_packing *p, int64_t row, int32_t target, float weight)
{
    if (p->supervised >= p->limits.supervised) {
        return false;
    }
    p->at.scored_row[p->supervised] = (int32_t)row;
    p->at.target[p->supervised] = target;
    p->at.weight[p->supervised] = weight;
    if (p->limits.teachers > 0) {
        p->at.teacher_row[p->supervised] = 0;
        p->at.kl_weight[p->supervised] = 0.0F;
    }
    p->supervised++;
    return true;
}

bool lw_packing_teach(lw_packing *p, float kl_weight)
{
    if (p->teachers >= p->limits.teachers || p->supervised == 0) {
        return false;
    }
    p->at.teacher_row[p->supervised - 1] = (int32_t)p->teachers++;
    p->at.kl_weight[p->supervised - 1] = kl_weight;
    return true;
}

void lw_packing_use_cache(lw_packing *p, int64_t slot, int64_t capacity)
{
    int64_t s = p->sequences - 1;
    p->cache_capacity = capacity;
    p->at.key_start[s] = (int32_t)(slot * capacity);
    for (int64_t row = p->at.start[s]; row < p->rows; row++) {
        p->at.cache_row[row] = (int32_t)(slot * capacity + p->at.position[row]);
    }
}

void lw_packing_upload(lw_packing *p, lw_device *dev)
{
    dev->ops->upload(dev, p->host.base, p->bytes, p->device_block);
}
