// load_nccl.c: finds and opens NCCL.
#include "load_nccl.h"

#include <dlfcn.h>
#include <stdio.h>

#ifdef LW_SOFTGPU
lw_status lw_nccl_load(lw_error *err, lw_nccl_functions *out)
{
    (void)err;
#define LW_NCCL_TAKE(name) out->name = nccl##name;
    LW_NCCL_FUNCTIONS(LW_NCCL_TAKE)
#undef LW_NCCL_TAKE
    return LW_OK;
}
#else
// NCCL's major version, which its file is named by, has been 2 since 2017.
static const char library_name[] = "libnccl.so.2";

// Where the loader finds no library, the folder of the one that was found at the build (LW_NCCL_DIR) is tried.
static void *open_library(lw_error *err)
{
    char path[1024];
    void *library = dlopen(library_name, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL && LW_NCCL_DIR[0] != '\0') {
        (void)snprintf(path, sizeof path, "%s/%s", LW_NCCL_DIR, library_name);
        library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    }
    if (library == NULL) {
        const char *why = dlerror();
        lw_fail(err, LW_ERR_UNSUPPORTED,
                "NCCL cannot be loaded (%s): install it (libnccl2), put its folder in LD_LIBRARY_PATH, or set "
                "comm.backend = \"mpi\", which goes without",
                why != NULL ? why : "no reason given");
    }
    return library;
}

lw_status lw_nccl_load(lw_error *err, lw_nccl_functions *out)
{
    void *library = open_library(err);
    if (library == NULL) {
        return LW_ERR_UNSUPPORTED;
    }
#define LW_NCCL_TAKE(name)                                                        \
    *(void **)(void *)&out->name = dlsym(library, "nccl" #name);                  \
    if (out->name == NULL) {                                                      \
        return lw_fail(err, LW_ERR_UNSUPPORTED,                                   \
                       "the NCCL found here has no nccl" #name                    \
                       ": install 2.18 or newer, or set comm.backend = \"mpi\""); \
    }
    LW_NCCL_FUNCTIONS(LW_NCCL_TAKE)
#undef LW_NCCL_TAKE
    return LW_OK;
}
#endif
