// random.c: SplitMix64 keyed by seed and stream, and what is drawn from it.
#include "core/random.h"

#include <math.h>
#include <string.h>

#include "core/hash.h"

// Finaliser of SplitMix64 (Steele, Lea & Flood 2014; variant 13 of Stafford): a bijection of 64 bits.
static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static const uint64_t golden = UINT64_C(0x9E3779B97F4A7C15);

uint64_t lw_random_stream(const char *name)
{
    return lw_xxh64(name, strlen(name), 0);
}

uint64_t lw_random_u64(uint64_t seed, uint64_t stream, uint64_t counter)
{
    // Plain SplitMix64 walks one cycle, in which two streams could meet; the key between the two rounds parts them.
    uint64_t key = mix(mix(seed + golden) ^ (stream + UINT64_C(0xD1B54A32D192ED03)));
    return mix(mix(key + golden * (counter + 1)) ^ (key * golden));
}

double lw_random_uniform(uint64_t seed, uint64_t stream, uint64_t counter)
{
    return (double)(lw_random_u64(seed, stream, counter) >> 11) * 0x1p-53;
}

double lw_random_normal(uint64_t seed, uint64_t stream, uint64_t counter)
{
    static const double two_pi = 6.283185307179586476925286766559;
    double radius = 1.0 - lw_random_uniform(seed, stream, 2 * counter); // (0, 1]
    double angle = lw_random_uniform(seed, stream, 2 * counter + 1);
    return sqrt(-2.0 * log(radius)) * cos(two_pi * angle);
}
