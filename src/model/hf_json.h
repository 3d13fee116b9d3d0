// hf_json.h: what the readers of Hugging Face configurations have in common. Local.
#ifndef LW_HF_JSON_H
#define LW_HF_JSON_H

#include "core/status.h"
#include "io/json.h"

enum { LW_HF_SHOWN_BYTES = 64 }; // of a value in a message

// Reads *out from the object of a file, which exists during the call alone.
typedef lw_status lw_hf_reader(const lw_json *at, lw_error *err, void *out);

// Opens DIR/NAME and calls `read` for its object; messages name the file.
lw_status lw_hf_open_config(const char *dir, const char *name, lw_hf_reader *read, lw_error *err, void *out);

// LW_ERR_UNSUPPORTED: FILE: "KEY": VALUE is not supported, only ONLY. Returns it.
lw_status lw_hf_refuse(const lw_json *at, const char *key, const char *value, const char *only, lw_error *err);

#endif
