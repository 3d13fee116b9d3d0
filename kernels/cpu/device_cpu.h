// device_cpu.h: how the registry (kernels/devices.c) opens the CPU device.
#ifndef LW_DEVICE_CPU_H
#define LW_DEVICE_CPU_H

#include "device/device.h"

// Opens the CPU device with `threads` threads (at least 1). `isa` chooses one of the compiled instruction sets by
// name ("x86-64-v4", "x86-64-v3", "base"); NULL takes the best one that this processor runs. Fails with
// LW_ERR_USAGE (threads), LW_ERR_UNSUPPORTED (isa not compiled in or not runnable here) or LW_ERR_MEMORY. The caller
// closes the device with lw_device_close. OpenBLAS keeps its thread count per process: opening sets it to 1, since
// products are spread over the threads of the device by gemm.c.
lw_status lw_cpu_open(const char *isa, int threads, lw_error *err, lw_device **out);

#endif
