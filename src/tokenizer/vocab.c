// vocab.c: finds tokens by content, by bytes and by id; the table of merges.
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "io/files.h"
#include "tokenizer/tokenizer_internal.h"

void lw_vocab_free(lw_vocab *vocab)
{
    free(vocab->tokens);
    free(vocab->bytes);
    free(vocab->by_content.slots);
    free(vocab->by_raw.slots);
    free(vocab->merges);
    *vocab = (lw_vocab){0};
}

// A power of two, at least twice `count`.
static size_t table_size(size_t count)
{
    size_t size = 16;
    while (size / 2 < count) {
        size *= 2;
    }
    return size;
}

lw_status lw_id_map_create(lw_id_map *map, size_t count, bool by_raw, lw_error *err)
{
    const size_t size = table_size(count);
    map->slots = malloc(size * sizeof *map->slots);
    if (!map->slots) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for a table of %zu tokens", count);
    }
    for (size_t i = 0; i < size; i++) {
        map->slots[i] = (lw_id_slot){.id = -1};
    }
    map->mask = size - 1;
    map->by_raw = by_raw;
    return LW_OK;
}

void lw_id_map_add(const lw_vocab *vocab, lw_id_map *map, int32_t id)
{
    const lw_token *token = &vocab->tokens[id];
    const uint64_t hash = map->by_raw ? lw_xxh64(token->raw, token->raw_len, vocab->seed)
                                      : lw_xxh64(token->content, token->content_len, vocab->seed);
    size_t slot = (size_t)hash & map->mask;
    while (map->slots[slot].id >= 0) {
        slot = (slot + 1) & map->mask;
    }
    map->slots[slot] = (lw_id_slot){.tag = (uint32_t)(hash >> 32), .id = id};
}

int32_t lw_id_map_find(const lw_vocab *vocab, const lw_id_map *map, const char *key, size_t len)
{
    if (!map->slots) {
        return -1;
    }
    const uint64_t hash = lw_xxh64(key, len, vocab->seed);
    const uint32_t tag = (uint32_t)(hash >> 32);
    for (size_t slot = (size_t)hash & map->mask; map->slots[slot].id >= 0; slot = (slot + 1) & map->mask) {
        if (map->slots[slot].tag != tag) {
            continue;
        }
        const lw_token *token = &vocab->tokens[map->slots[slot].id];
        const char *found = map->by_raw ? token->raw : token->content;
        const size_t found_len = map->by_raw ? token->raw_len : token->content_len;
        if (found_len == len && memcmp(found, key, len) == 0) {
            return map->slots[slot].id;
        }
    }
    return -1;
}

// A token with any character outside the byte alphabet stands for its own UTF-8, as in Hugging Face's decoder.
void lw_token_unmap(lw_token *token, char *raw)
{
    token->raw = raw;
    size_t made = 0;
    for (size_t at = 0, step; at < token->content_len; at += step) {
        const int byte = lw_char_to_byte(lw_utf8_at(token->content + at, &step));
        if (byte < 0) {
            memcpy(raw, token->content, token->content_len);
            token->raw_len = token->content_len;
            token->mapped = false;
            return;
        }
        raw[made++] = (char)(unsigned char)byte;
    }
    token->raw_len = (uint32_t)made;
    token->mapped = true;
}

lw_status lw_merges_create(lw_vocab *vocab, size_t count, lw_error *err)
{
    // The table is up to two thirds full: lookups dominate the cost of new words, and a smaller table stays in cache.
    const size_t size = table_size(count - count / 4);
    vocab->merges = malloc(size * sizeof *vocab->merges);
    if (!vocab->merges) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for a table of %zu merges", count);
    }
    for (size_t i = 0; i < size; i++) {
        vocab->merges[i] = (lw_merge){.pair = LW_NO_PAIR};
    }
    vocab->merge_mask = size - 1;
    return LW_OK;
}

// A pair that is named twice keeps the later rank, as in Hugging Face's reader, which collects pairs into a map.
void lw_merges_set(lw_vocab *vocab, int32_t left, int32_t right, uint32_t rank, int32_t id)
{
    const uint64_t pair = lw_pair(left, right);
    size_t slot = lw_pair_slot(vocab, pair);
    while (vocab->merges[slot].pair != pair && vocab->merges[slot].pair != LW_NO_PAIR) {
        slot = (slot + 1) & vocab->merge_mask;
    }
    vocab->merges[slot] = (lw_merge){.pair = pair, .rank = rank, .id = id};
}
