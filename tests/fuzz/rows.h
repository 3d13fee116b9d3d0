// rows.h: data files of all formats, held to their promises. The first byte of the input sets how many malformed rows
// are passed over and how many samples are read; the file, called `name`, is the rest.
#ifndef LW_FUZZ_ROWS_H
#define LW_FUZZ_ROWS_H

#include <stddef.h>
#include <stdint.h>

#include "data/dataset.h"

void fuzz_rows(const uint8_t *data, size_t size, lw_data_format format, const char *name);

#endif
