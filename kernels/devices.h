// devices.h: opening and closing a device by name. Local.
#ifndef LW_DEVICES_H
#define LW_DEVICES_H

#include "device/device.h"

// kind: "cpu" or "cuda". index: which GPU. threads: of the CPU device, at least 1.
// A backend that was not compiled in fails with LW_ERR_UNSUPPORTED and says how to get it.
lw_status lw_device_open(const char *kind, int index, int threads, lw_error *err, lw_device **out);
void lw_device_close(lw_device **dev);

#endif
