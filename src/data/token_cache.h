// token_cache.h: the tokens of a data set on disk, DIR/tokens-KEY.bin. Local.
//
// The file holds a header (native byte order, marked), then for prompt, suffix and answer in turn the starts (count +
// 1, i64) and the ids (i32), then the XXH64 of everything before it. Everything read is checked; a file that is not
// exactly right, or that another user made, is not used, and is written again.
#ifndef LW_TOKEN_CACHE_H
#define LW_TOKEN_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"
#include "data/tokens.h"

enum { LW_TOKEN_CACHE_VERSION = 2 }; // changes whenever the same inputs may give other tokens

// False where there is no usable file; *out is untouched then. Ids are below `vocab`.
bool lw_token_cache_read(const char *dir, uint64_t key, int64_t count, int64_t vocab, lw_token_set *out);

// Makes `dir` where it is missing and replaces the file atomically. LW_ERR_IO, LW_ERR_MEMORY.
lw_status lw_token_cache_write(const char *dir, uint64_t key, const lw_token_set *set, lw_error *err);

#endif
