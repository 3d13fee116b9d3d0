// walk.h: an open safetensors file, held to its promises.
#ifndef LW_FUZZ_WALK_H
#define LW_FUZZ_WALK_H

#include "io/safetensors.h"

// Reads every byte of every tensor; `most` bytes is what the files hold.
void fuzz_walk(const lw_safetensors *file, size_t most);

#endif
