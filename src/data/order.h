// order.h: in which order samples are trained. Local.
#ifndef LW_ORDER_H
#define LW_ORDER_H

#include <stdint.h>

// The index of the sample at `position` (0 .. count-1) of `epoch`. The order is a function and not a state: a keyed
// permutation of 0 .. count-1 (Feistel network with cycle walking). Where data are not shuffled, the caller uses the
// position itself.
int64_t lw_order_index(uint64_t seed, int64_t epoch, int64_t position, int64_t count);

#endif
