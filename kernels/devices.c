// devices.c: the registry of devices: which name opens which.
#include "kernels/devices.h"

#include <string.h>

#include "kernels/cpu/device_cpu.h"
#include "kernels/cuda/device_cuda.h"

lw_status lw_device_open(const char *kind, int index, int threads, lw_error *err, lw_device **out)
{
    if (strcmp(kind, "cpu") == 0) {
        return lw_cpu_open(NULL, threads, err, out);
    }
    if (strncmp(kind, "cpu:", 4) == 0) { // one instruction set by name: tests, and equal bits on unequal machines
        return lw_cpu_open(kind + 4, threads, err, out);
    }
    if (strcmp(kind, "cuda") == 0) {
        return lw_cuda_open(index, LW_BF16, err, out);
    }
    if (strcmp(kind, "cuda:f32") == 0) { // frozen weights and activations as on the CPU: tells rounding from mistakes
        return lw_cuda_open(index, LW_F32, err, out);
    }
    return lw_fail(err, LW_ERR_UNSUPPORTED, "device \"%s\" is unknown; lwmpi knows \"cpu\" and \"cuda\"", kind);
}

void lw_device_close(lw_device **dev)
{
    if (dev != NULL && *dev != NULL) {
        (*dev)->ops->destroy(*dev);
        *dev = NULL;
    }
}
