// load_nccl.h: the functions of NCCL that comm_nccl.c calls. The library is not linked but loaded when ranks have GPUs
// to connect, so that a build with CUDA runs where NCCL is not installed. Local.
#ifndef LW_LOAD_NCCL_H
#define LW_LOAD_NCCL_H

#include <nccl.h>

#include "core/status.h"

#define LW_NCCL_FUNCTIONS(X) \
    X(GetVersion)            \
    X(GetErrorString)        \
    X(GetLastError)          \
    X(GetUniqueId)           \
    X(CommInitRankConfig)    \
    X(CommGetAsyncError)     \
    X(CommFinalize)          \
    X(CommDestroy)           \
    X(CommAbort)             \
    X(AllReduce)

typedef struct lw_nccl_functions {
#define LW_NCCL_FIELD(name) __typeof__(nccl##name) *name;
    LW_NCCL_FUNCTIONS(LW_NCCL_FIELD)
#undef LW_NCCL_FIELD
} lw_nccl_functions;

// The library stays loaded to the end of the process. The text of LW_ERR_UNSUPPORTED names what is missing and where
// it was searched.
lw_status lw_nccl_load(lw_error *err, lw_nccl_functions *out);

#endif
