// hash.h: hashes of libxxhash, for integrity, cache keys and random streams, not for security. Local.
#ifndef LW_HASH_H
#define LW_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t lw_xxh64(const void *data, size_t bytes, uint64_t seed);
uint64_t lw_xxh3(const void *data, size_t bytes); // the 64 bit form without a seed

#endif
