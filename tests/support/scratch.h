// scratch.h: a folder of a test's own, removed at its end. One per program; a failure to write ends the program.
#ifndef LW_TEST_SCRATCH_H
#define LW_TEST_SCRATCH_H

#include <stddef.h>

// Group set-up and tear-down of cmocka; 0 on success.
int scratch_make(void **state);
int scratch_remove(void **state);

const char *scratch_dir(void);
const char *scratch_path(const char *name);                         // DIR/name; good until the eighth next call
void scratch_put(const char *path, const void *data, size_t bytes); // writes a new file over an old one

// A safetensors file of this header and the data bytes 0, 1, 2, ... 255, 0, ... The header is not padded, so the data
// lie at any address. Returns the path of `name`.
const char *scratch_put_safetensors(const char *name, const char *header, size_t data_bytes);

#endif
