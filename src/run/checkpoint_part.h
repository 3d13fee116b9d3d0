// checkpoint_part.h: loads some of a checkpoint's parameters, for programs that hold only a part of the wire: a sender
// needs the encoder, a receiver the adapters. Local.
#ifndef LW_CHECKPOINT_PART_H
#define LW_CHECKPOINT_PART_H

#include "device/params.h"
#include "run/checkpoint.h"

// Verifies the checkpoint (manifest, sizes, hashes) and opens its state. The caller closes *out.
lw_status lw_checkpoint_part_open(const char *checkpoint_dir, lw_error *err, lw_checkpoint_info *info_out,
                                  lw_safetensors **out);

// Copies every declared parameter of `params` (placed) from `state` to host memory of params->elements; elements that
// no parameter covers become 0. LW_ERR_CONFIG names the first that is absent or of another shape.
lw_status lw_checkpoint_part_load(const lw_safetensors *state, const lw_params *params, lw_error *err, float *host_out);

// Names the encoder and pooler by their parameters: equal for checkpoints whose latents mean the same.
uint64_t lw_checkpoint_encoder_hash(const lw_safetensors *state);

// Writes the parameters alone, without Adam's moments, under their names, F32: for use outside.
lw_status lw_checkpoint_export(const char *checkpoint_dir, const char *path, lw_error *err);

#endif
