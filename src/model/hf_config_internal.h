// hf_config_internal.h: parts of reading a causal LLM's config.json; shared by hf_config.c and hf_rope.c alone.
#ifndef LW_HF_CONFIG_INTERNAL_H
#define LW_HF_CONFIG_INTERNAL_H

#include "model/hf_config.h"
#include "model/hf_json.h"

#define LW_HF_MAX_POSITIONS ((int64_t)1 << 40)

// Refuses factors that other architectures put into the forward pass: the supported families have none, so a value that
// changes anything means weights that this program would run wrongly.
lw_status lw_hf_check_factors(const lw_json *at, lw_error *err);

// Reads the rope_* fields from rope_theta and rope_scaling; transformers 5 writes both into rope_parameters.
lw_status lw_hf_read_rope(const lw_json *at, lw_error *err, lw_hf_config *out);

#endif
