// builder_internal.h: a data set while it is read: what the readers of data files share. Local.
#ifndef LW_BUILDER_INTERNAL_H
#define LW_BUILDER_INTERNAL_H

#include <stddef.h>

#include "data/dataset.h"
#include "io/json.h"

enum { LW_WHERE_BYTES = 640 };              // longest name of a place in a file
#define LW_MAX_DATA_BYTES ((size_t)2 << 30) // largest file that is read as a whole

typedef struct lw_dataset_builder {
    const lw_data_source *source; // borrowed
    lw_dataset set;
    int64_t capacity;  // of set.samples
    bool same_context; // the next sample has the context of the last one: a paragraph with many questions is kept once
} lw_dataset_builder;

// --- builder.c

bool lw_dataset_full(const lw_dataset_builder *builder);

// Adds a copy of a sample, whose texts are checked here: an empty question or answer, or no answer, is a malformed row
// (LW_ERR_FORMAT with "WHERE: reason"), and so is a blank context where the source needs one. Otherwise the context may
// be "".
lw_status lw_dataset_add(lw_dataset_builder *builder, const char *where, const char *id, const char *context,
                         const char *question, const char *const *answers, int64_t answer_count, lw_error *err);

// Adds a copy of a window of text and of the text that follows it; neither is empty.
lw_status lw_dataset_add_text(lw_dataset_builder *builder, const char *where, const char *id, const char *window,
                              size_t window_bytes, const char *next, size_t next_bytes, lw_error *err);

// Passes `status` of one row through, except that a malformed row is counted and gives LW_OK while it may be skipped.
lw_status lw_dataset_tolerate(lw_dataset_builder *builder, lw_status status, lw_error *err);

// --- text_windows.c

// Cuts a document (valid UTF-8 without NUL) into windows and adds them; a blank one is only counted. A document of one
// character is a malformed row, as nothing follows that character.
lw_status lw_dataset_add_document(lw_dataset_builder *builder, const char *where, const char *text, size_t bytes,
                                  lw_error *err);

// --- the formats

// Reads one row, a JSON value; `where` names it in messages.
typedef lw_status lw_dataset_row(const json_t *value, const char *where, lw_dataset_builder *builder, lw_error *err);

// Parses `text` and calls `row`; bad UTF-8 and bad JSON are LW_ERR_FORMAT.
lw_status lw_dataset_parse_row(const char *where, const char *text, size_t bytes, lw_dataset_row *row,
                               lw_dataset_builder *builder, lw_error *err);
// Calls `row` for every line of a file that is not blank, until the data set is full.
lw_status lw_dataset_read_lines(const char *path, lw_dataset_row *row, lw_dataset_builder *builder, lw_error *err);

// lw_dataset_read_jsonl and so on: the reader of each format.
typedef lw_status lw_dataset_reader(const char *path, lw_dataset_builder *builder, lw_error *err);
#define LW_DATASET_READER(constant, word) lw_dataset_reader lw_dataset_read_##word;
LW_DATA_FORMATS(LW_DATASET_READER)
#undef LW_DATASET_READER

#endif
