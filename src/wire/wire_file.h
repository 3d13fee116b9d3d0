// wire_file.h: the latents that a sender gives to a receiver, as one safetensors file:
//
//   latents   (rows, d_z) F32 or F16, or (rows, row bytes) U8 in 8, 6 or 4 bits (quantise.h): of all texts
//   z_start   (texts + 1) I32: text i owns the rows z_start[i] .. z_start[i + 1]
//   metadata  "lwmpi_wire": "1"; "bits", "d_z"; "compress": "prompt" or "context"; "encoder": the hash of the
//             parameters that made the latents, 16 hex digits; "items": a JSON array with an object for each text:
//             "id", unique, and "question" where the sender was given one
//
// A file is untrusted. Local.
#ifndef LW_WIRE_FILE_H
#define LW_WIRE_FILE_H

#include <stdint.h>
#include <stdio.h>

#include "config/config.h"
#include "core/status.h"

typedef struct lw_wire_item {
    char *id;
    char *question; // NULL: the file has none for this text
} lw_wire_item;

typedef struct lw_wire_set {
    int64_t count;
    lw_wire_item *items; // (count)
    int32_t *z_start;    // (count + 1)
    int64_t bits, d_z;
    lw_compress compress;
    uint64_t encoder;    // lw_checkpoint_encoder_hash
    unsigned char *data; // (rows, lw_quantise_row_bytes)
} lw_wire_set;

void lw_wire_set_free(lw_wire_set *set);

static inline int64_t lw_wire_latents(const lw_wire_set *set, int64_t i)
{
    return set->z_start[i + 1] - set->z_start[i];
}

// Decodes the latents of the texts first .. first + count to numbers, (rows, d_z). Returns LW_ERR_FORMAT as
// lw_quantise_decode does.
lw_status lw_wire_decode(const lw_wire_set *set, int64_t first, int64_t count, lw_error *err, float *out);

// `name` stands for the stream in messages.
lw_status lw_wire_file_print(const lw_wire_set *set, FILE *out, const char *name, lw_error *err);

// Reads a file and checks everything but the numbers themselves. Returns LW_ERR_IO, LW_ERR_FORMAT or LW_ERR_MEMORY,
// with a message that names the file. The caller frees *out.
lw_status lw_wire_file_read(const char *path, lw_error *err, lw_wire_set *out);

// Reads a stream to its end. A pipe goes through a temporary file in $TMPDIR that nobody else can see.
lw_status lw_wire_file_read_stream(FILE *in, const char *name, lw_error *err, lw_wire_set *out);

#endif
