// dtype.c: sizes and names of element types.
#include "core/dtype.h"

size_t lw_dtype_bytes(lw_dtype type)
{
    switch (type) {
    case LW_F32:
    case LW_I32: return 4;
    case LW_BF16:
    case LW_F16: return 2;
    }
    return 0;
}

const char *lw_dtype_name(lw_dtype type)
{
    switch (type) {
    case LW_F32: return "F32";
    case LW_BF16: return "BF16";
    case LW_F16: return "F16";
    case LW_I32: return "I32";
    }
    return "unknown";
}
