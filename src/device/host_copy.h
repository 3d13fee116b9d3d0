// host_copy.h: host memory copied by several threads: pages of a mapped file, on their way to a GPU. Local.
#ifndef LW_HOST_COPY_H
#define LW_HOST_COPY_H

#include <stddef.h>

// Copies `bytes` with as many of this process's processors as its size is worth. The two do not overlap.
void lw_host_copy(const void *source, size_t bytes, void *out);

#endif
