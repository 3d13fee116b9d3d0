// bpe.c: one pre-tokenised word of raw bytes -> ids.
//
// Merging repeats: of all adjacent pairs with a merge, the one of lowest rank, the leftmost if several, becomes one
// token (Sennrich et al. 2016, arXiv:1508.07909). Short words search it in an array; long ones keep a heap, so that
// a megabyte without a break costs n log n.
#include <stdlib.h>
#include <string.h>

#include "tokenizer/tokenizer_json.h"

enum { SHORT_SYMBOLS = 48 };

#define NO_MERGE UINT32_MAX
#define NOWHERE UINT32_MAX

// Bytes -> the ids that merging starts from. Returns how many there are, at most len.
static size_t initial_symbols(const lw_vocab *vocab, const char *word, size_t len, int32_t *symbols)
{
    size_t count = 0;
    bool after_unknown = false;
    for (size_t i = 0; i < len; i++) {
        const int32_t id = vocab->byte_id[(unsigned char)word[i]];
        if (id >= 0) {
            symbols[count++] = id;
            after_unknown = false;
        } else if (vocab->unk_id >= 0) {
            if (!(vocab->fuse_unk && after_unknown)) {
                symbols[count++] = vocab->unk_id;
            }
            after_unknown = true;
        }
    }
    return count;
}

static size_t merge_short(const lw_vocab *vocab, int32_t *symbols, size_t count)
{
    const lw_merge *merge[SHORT_SYMBOLS]; // of symbols i and i + 1
    for (size_t i = 0; i + 1 < count; i++) {
        merge[i] = lw_merge_find(vocab, symbols[i], symbols[i + 1]);
    }
    while (count > 1) {
        size_t best = 0;
        uint32_t best_rank = NO_MERGE;
        for (size_t i = 0; i + 1 < count; i++) {
            if (merge[i] && merge[i]->rank < best_rank) {
                best = i;
                best_rank = merge[i]->rank;
            }
        }
        if (best_rank == NO_MERGE) {
            break;
        }
        symbols[best] = merge[best]->id;
        count--;
        for (size_t i = best + 1; i < count; i++) {
            symbols[i] = symbols[i + 1];
            merge[i - 1] = merge[i];
        }
        if (best > 0) {
            merge[best - 1] = lw_merge_find(vocab, symbols[best - 1], symbols[best]);
        }
        if (best + 1 < count) {
            merge[best] = lw_merge_find(vocab, symbols[best], symbols[best + 1]);
        }
    }
    return count;
}

static void sift_down(uint64_t *heap, size_t count, size_t at)
{
    const uint64_t value = heap[at];
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= count) {
            break;
        }
        if (child + 1 < count && heap[child + 1] < heap[child]) {
            child++;
        }
        if (heap[child] >= value) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = value;
}

static void heap_push(uint64_t *heap, size_t *count, uint64_t value)
{
    size_t at = (*count)++;
    while (at > 0 && heap[(at - 1) / 2] > value) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = value;
}

static uint64_t heap_pop(uint64_t *heap, size_t *count)
{
    const uint64_t top = heap[0];
    heap[0] = heap[--*count];
    if (*count > 0) {
        sift_down(heap, *count, 0);
    }
    return top;
}

static lw_status reserve_long(lw_long_word *word, size_t len, lw_error *err)
{
    if (len <= word->cap) {
        return LW_OK;
    }
    if (len >= NOWHERE || len > SIZE_MAX / 64) {
        return lw_fail(err, LW_ERR_UNSUPPORTED, "a single word of %zu bytes is too long; at most 4 GiB", len);
    }
    free(word->symbol);
    free(word->prev);
    free(word->next);
    free(word->heap);
    word->cap = 0;
    word->symbol = malloc(len * sizeof *word->symbol);
    word->prev = malloc(len * sizeof *word->prev);
    word->next = malloc(len * sizeof *word->next);
    // The heap starts with len - 1 candidates and grows by at most one with each of at most len - 1 merges.
    word->heap = malloc(2 * len * sizeof *word->heap);
    if (!word->symbol || !word->prev || !word->next || !word->heap) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory to merge a word of %zu bytes", len);
    }
    word->cap = len;
    return LW_OK;
}

static void push_candidate(const lw_vocab *vocab, lw_long_word *word, size_t *heap_count, uint32_t left)
{
    const lw_merge *merge = lw_merge_find(vocab, word->symbol[left], word->symbol[word->next[left]]);
    if (merge) {
        heap_push(word->heap, heap_count, (uint64_t)merge->rank << 32 | left);
    }
}

// Merges word->symbol[0 .. count) and closes the gaps; returns how many remain.
static size_t merge_long(const lw_vocab *vocab, lw_long_word *word, size_t count)
{
    size_t heap_count = 0;
    for (size_t i = 0; i < count; i++) {
        word->prev[i] = i == 0 ? NOWHERE : (uint32_t)(i - 1);
        word->next[i] = i + 1 == count ? NOWHERE : (uint32_t)(i + 1);
        const lw_merge *merge = i + 1 < count ? lw_merge_find(vocab, word->symbol[i], word->symbol[i + 1]) : NULL;
        if (merge) {
            word->heap[heap_count++] = (uint64_t)merge->rank << 32 | i;
        }
    }
    for (size_t i = heap_count / 2; i-- > 0;) {
        sift_down(word->heap, heap_count, i);
    }
    while (heap_count > 0) {
        const uint64_t top = heap_pop(word->heap, &heap_count);
        const uint32_t left = (uint32_t)(top & UINT32_MAX);
        const uint32_t right = word->symbol[left] < 0 ? NOWHERE : word->next[left];
        if (right == NOWHERE) {
            continue;
        }
        // A rank belongs to one pair, so it reveals candidates whose symbols have changed since they were pushed.
        const lw_merge *merge = lw_merge_find(vocab, word->symbol[left], word->symbol[right]);
        if (!merge || merge->rank != (uint32_t)(top >> 32)) {
            continue;
        }
        word->symbol[left] = merge->id;
        word->symbol[right] = -1;
        word->next[left] = word->next[right];
        if (word->next[left] != NOWHERE) {
            word->prev[word->next[left]] = left;
            push_candidate(vocab, word, &heap_count, left);
        }
        if (word->prev[left] != NOWHERE) {
            push_candidate(vocab, word, &heap_count, word->prev[left]);
        }
    }
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (word->symbol[i] >= 0) {
            word->symbol[kept++] = word->symbol[i];
        }
    }
    return kept;
}

static lw_status encode_word(const lw_encoding *encoding, const char *word, size_t len)
{
    const lw_vocab *vocab = &encoding->tokenizer->vocab;
    int32_t few[SHORT_SYMBOLS];
    const int32_t *ids = few;
    size_t count = 1;
    if (vocab->ignore_merges && (few[0] = lw_id_map_find(vocab, &vocab->by_raw, word, len)) >= 0) {
        // The whole word is a token and is not merged, even if merging would not lead to that token.
    } else if (len <= SHORT_SYMBOLS) {
        count = initial_symbols(vocab, word, len, few);
        count = merge_short(vocab, few, count);
    } else {
        lw_long_word *scratch = &encoding->scratch->word;
        LW_TRY(reserve_long(scratch, len, encoding->err));
        count = initial_symbols(vocab, word, len, scratch->symbol);
        count = merge_long(vocab, scratch, count);
        ids = scratch->symbol;
    }
    return lw_ids_append(encoding->out, ids, count, encoding->err);
}

const lw_token_model lw_model_bpe = {
    .type = "BPE",
    .last_stage = LW_STAGE_BYTE_LEVEL,
    .read_options = lw_bpe_read_options,
    .read_rest = lw_bpe_read_rest,
    .encode_word = encode_word,
};
