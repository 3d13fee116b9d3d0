// ids.h: a growable array of token ids. All functions are Local.
#ifndef LW_IDS_H
#define LW_IDS_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"

typedef struct lw_tokens { // borrowed
    const int32_t *ids;
    int64_t count;
} lw_tokens;

// Zero-initialise before use: lw_ids ids = {0}.
typedef struct lw_ids {
    int32_t *data; // owned; `len` ids
    size_t len;
    size_t cap;
} lw_ids;

// Makes room for `more` ids beyond len. LW_ERR_MEMORY leaves the array as it was.
static inline lw_status lw_ids_reserve(lw_ids *ids, size_t more, lw_error *err)
{
    if (more <= ids->cap - ids->len) {
        return LW_OK;
    }
    const size_t most = SIZE_MAX / sizeof *ids->data;
    if (more > most - ids->len) {
        return lw_fail(err, LW_ERR_MEMORY, "an array of %zu + %zu token ids is too large", ids->len, more);
    }
    size_t cap = ids->cap > most / 2 ? most : 2 * ids->cap;
    if (cap < ids->len + more) {
        cap = ids->len + more;
    }
    if (cap < 16) {
        cap = 16;
    }
    int32_t *data = realloc(ids->data, cap * sizeof *data);
    if (!data) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for %zu token ids", cap);
    }
    ids->data = data;
    ids->cap = cap;
    return LW_OK;
}

static inline lw_status lw_ids_push(lw_ids *ids, int32_t id, lw_error *err)
{
    if (ids->len == ids->cap) {
        LW_TRY(lw_ids_reserve(ids, 1, err));
    }
    ids->data[ids->len++] = id;
    return LW_OK;
}

static inline lw_status lw_ids_append(lw_ids *ids, const int32_t *more, size_t count, lw_error *err)
{
    if (count == 0) {
        return LW_OK;
    }
    LW_TRY(lw_ids_reserve(ids, count, err));
    memcpy(ids->data + ids->len, more, count * sizeof *more);
    ids->len += count;
    return LW_OK;
}

static inline void lw_ids_free(lw_ids *ids)
{
    free(ids->data);
    *ids = (lw_ids){0};
}

#endif
