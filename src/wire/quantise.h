// quantise.h: latents as bytes, in few bits a number. Local.
//
// A row is one latent: d_z numbers. With 32 and 16 bits these are little-endian binary32 or binary16. With 8, 6 and 4
// bits a row is cut into groups of LW_QUANTISE_GROUP numbers (the last may be shorter), and each group is
//   scale   binary16, little-endian: the smallest that is not below max |x| / q, with q = 2^(bits - 1) - 1
//   codes   round(x / scale) in -q .. q, two's complement, `bits` bits each, number i in bits
//           [i * bits, (i + 1) * bits) of the group, counted from the lowest bit of its first byte; the last byte is
//           filled up with zeros
// A number thus comes back within half a scale, symmetric around 0 and without clipping. 6 bits: 4 numbers in 3
// bytes. 32 x 256: 32,768 bytes in 32 bits, 16,384 in 16, 8,704 in 8, 6,656 in 6, 4,608 in 4.
#ifndef LW_QUANTISE_H
#define LW_QUANTISE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

enum { LW_QUANTISE_GROUP = 32 };

// Whether `bits` is one of 32, 16, 8, 6, 4.
bool lw_quantise_has(int64_t bits);

// The bytes of a row.
int64_t lw_quantise_row_bytes(int64_t bits, int64_t d_z);

// Encodes z (rows, d_z) to out (rows, row bytes). Returns LW_ERR_FORMAT, which names the row, if a number is not finite
// or too large for binary16 (or for the scale of a group).
lw_status lw_quantise_encode(int64_t bits, int64_t rows, int64_t d_z, const float *z, lw_error *err, void *out);

// Decodes `in`, which is untrusted: returns LW_ERR_FORMAT if a number or a scale is not finite, or a scale is negative.
lw_status lw_quantise_decode(int64_t bits, int64_t rows, int64_t d_z, const void *in, lw_error *err, float *out);

#endif
