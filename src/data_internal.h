// data_internal.h: what data.c and data_squad.c share: a data set while it is read. Local.
#ifndef LW_DATA_INTERNAL_H
#define LW_DATA_INTERNAL_H

#include <stddef.h>

#include "data.h"
#include "json_util.h"

typedef struct lw_dataset_builder {
    lw_dataset set;
    int64_t capacity;  // of set.samples
    bool same_context; // the next sample has the context of the last one: a paragraph with many questions is kept once
    int64_t limit;     // 0: none
    int64_t max_bad_rows;
} lw_dataset_builder;

bool lw_dataset_full(const lw_dataset_builder *builder);

// Adds a copy of a sample whose texts are checked here: an empty question or answer, or no answer, is a malformed row
// (LW_ERR_FORMAT with "WHERE: reason"). context may be "".
lw_status lw_dataset_add(lw_dataset_builder *builder, const char *where, const char *id, const char *context,
                         const char *question, const char *const *answers, int64_t answer_count, lw_error *err);

// Passes `status` of one row through: a malformed row is counted and gives LW_OK while it may be passed over.
lw_status lw_dataset_tolerate(lw_dataset_builder *builder, lw_status status, lw_error *err);

lw_status lw_dataset_read_squad(const char *path, lw_dataset_builder *builder, lw_error *err);

#endif
