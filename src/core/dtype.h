// dtype.h: element types of tensors, in files and on devices. Local.
#ifndef LW_DTYPE_H
#define LW_DTYPE_H

#include <stddef.h>

typedef enum lw_dtype { LW_F32, LW_BF16, LW_F16, LW_I32 } lw_dtype;

size_t lw_dtype_bytes(lw_dtype type);     // of one element
const char *lw_dtype_name(lw_dtype type); // "F32", "BF16", "F16", "I32": the names of the safetensors format

#endif
