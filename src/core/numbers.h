// numbers.h: small arithmetic that every folder uses. Local.
#ifndef LW_NUMBERS_H
#define LW_NUMBERS_H

#include <stddef.h>
#include <stdint.h>

#define LW_MIB 1048576.0 // bytes; a double, as it serves to print sizes

static inline int64_t lw_min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t lw_max_i64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static inline size_t lw_max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

#endif
