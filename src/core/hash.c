// hash.c: the one place that calls the one-shot hashes of libxxhash.
#include "core/hash.h"

#include <xxhash.h>

uint64_t lw_xxh64(const void *data, size_t bytes, uint64_t seed)
{
    return XXH64(data, bytes, seed);
}

uint64_t lw_xxh3(const void *data, size_t bytes)
{
    return XXH3_64bits(data, bytes);
}
