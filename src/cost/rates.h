// rates.h: how fast a device multiplies and copies, measured. Everything is random: zeros run faster. Local.
#ifndef LW_RATES_H
#define LW_RATES_H

#include "device/device.h"

// FLOP/s of product `g`, whose buffers exist: B and C_in as they are, A is filled with random numbers, C is
// overwritten. The best of five rounds of some 5 to 40 ms.
lw_status lw_product_rate(lw_device *dev, const lw_gemm *g, lw_error *err, double *out);
// And the rate of the round in the middle.
lw_status lw_product_rates(lw_device *dev, const lw_gemm *g, lw_error *err, double *best, double *median);

// The same of one square product of frozen operands in memory of its own.
lw_status lw_gemm_rate(lw_device *dev, lw_error *err, double *out);

// Bytes read and written per second by a copy that no cache holds.
lw_status lw_copy_rate(lw_device *dev, lw_error *err, double *out);

#endif
