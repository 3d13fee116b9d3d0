// random.h: random numbers as functions: a number is f(seed, stream, counter), and there is no state to save. Local.
#ifndef LW_RANDOM_H
#define LW_RANDOM_H

#include <stdint.h>

// A stream is a purpose, named by a text: "init encoder.0.wq".
uint64_t lw_random_stream(const char *name);

uint64_t lw_random_u64(uint64_t seed, uint64_t stream, uint64_t counter);
double lw_random_uniform(uint64_t seed, uint64_t stream, uint64_t counter); // [0, 1), 53 bits
// Standard normal (Box & Muller 1958), of the counters 2 * counter and 2 * counter + 1 of the stream.
double lw_random_normal(uint64_t seed, uint64_t stream, uint64_t counter);

#endif
