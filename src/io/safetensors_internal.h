// safetensors_internal.h: the open file, which safetensors.c (files, index, look-up) and safetensors_header.c share.
#ifndef LW_SAFETENSORS_INTERNAL_H
#define LW_SAFETENSORS_INTERNAL_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "io/safetensors.h"

enum { LW_TENSOR_LABEL_BYTES = 128 }; // of a name made printable for a message

typedef struct lw_shard {
    char *path;
    void *base; // of the mapping
    size_t bytes;
    json_t *metadata; // object of strings, or NULL
} lw_shard;

typedef struct lw_tensor_entry {
    lw_tensor_view view;
    char *name; // owned; view.name points to it
    int64_t shard;
} lw_tensor_entry;

struct lw_safetensors {
    char *path;
    lw_shard *shards;
    int64_t shard_count;
    lw_tensor_entry *entries; // in order of name once open
    int64_t count, capacity;
};

// Reads the header of the mapped file shards[shard_index] (at least 8 bytes), checks all of it and appends its
// tensors to the entries, unsorted. On failure the entries hold what was appended so far.
lw_status lw_safetensors_read_header(lw_safetensors *file, int64_t shard_index, lw_error *err);

#endif
