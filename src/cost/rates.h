// rates.h: measures how fast a device multiplies and copies. All operands are random, since zeros run faster. Local.
#ifndef LW_RATES_H
#define LW_RATES_H

#include "device/device.h"

// FLOP/s of the product `g`, whose buffers exist. A is filled with random numbers, B and C_in are used as they are, C
// is overwritten. The result is the best of five rounds of some 5 to 40 ms.
lw_status lw_product_rate(lw_device *dev, const lw_gemm *g, lw_error *err, double *out);
// Measures the best round and the median round.
lw_status lw_product_rates(lw_device *dev, const lw_gemm *g, lw_error *err, double *best, double *median);

// FLOP/s of a square product of frozen operands, in memory that it allocates.
lw_status lw_gemm_rate(lw_device *dev, lw_error *err, double *out);

// Bytes that a copy too large for the caches reads and writes per second.
lw_status lw_copy_rate(lw_device *dev, lw_error *err, double *out);

#endif
