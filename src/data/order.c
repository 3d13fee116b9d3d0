// order.c: the order of the samples of an epoch, a keyed permutation.
#include "data/order.h"

#include "core/random.h"

enum { ROUNDS = 8, LEAST_HALF_BITS = 3 };

// A Feistel network on 2 * half_bits bits is a bijection whatever its round function (Luby & Rackoff 1988); walking
// along its cycle until a value below `count` appears restricts it to 0 .. count-1 (Black & Rogaway 2002). The domain
// is less than four times `count` (64 for small ones), so a walk is short.
int64_t lw_order_index(uint64_t seed, int64_t epoch, int64_t position, int64_t count)
{
    int half_bits = LEAST_HALF_BITS;
    while (half_bits < 31 && (INT64_C(1) << (2 * half_bits)) < count) {
        half_bits++;
    }
    const uint64_t mask = (UINT64_C(1) << half_bits) - 1;
    const uint64_t stream = lw_random_u64(lw_random_stream("order"), (uint64_t)epoch, (uint64_t)count);
    uint64_t value = (uint64_t)position;
    do {
        uint64_t left = value >> half_bits;
        uint64_t right = value & mask;
        for (uint64_t round = 0; round < ROUNDS; round++) {
            uint64_t next = left ^ (lw_random_u64(seed, stream, round << 32 | right) & mask);
            left = right;
            right = next;
        }
        value = left << half_bits | right;
    } while (value >= (uint64_t)count);
    return (int64_t)value;
}
