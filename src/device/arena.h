// arena.h: one block of device memory for all that a step needs, sized before it exists.
//
// A layout function places its buffers with lw_arena_take. Run once on a measuring arena (no memory behind it) it
// gives the size, run again on the real one it gives the pointers: `plan` and `train` therefore agree by construction.
// lw_arena_place does both. Local.
#ifndef LW_ARENA_H
#define LW_ARENA_H

#include <stdbool.h>
#include <stdint.h>

#include "device/device.h"

typedef struct lw_arena {
    unsigned char *base; // NULL while measuring
    size_t used_bytes;
    size_t high_water_bytes;
    size_t size_bytes; // SIZE_MAX while measuring
    bool overflow;     // a size did not fit size_t, or the real arena was too small: a bug or a hostile shape
} lw_arena;

lw_arena lw_arena_measure(void);

// Lays out over existing device memory.
lw_arena lw_arena_over(void *memory, size_t size_bytes);

// Allocates what a measured layout needs; `what` names it in the message when memory runs out.
// For tests; everything else calls lw_arena_place.
lw_status lw_arena_alloc(lw_device *dev, const lw_arena *measured, const char *what, lw_error *err, lw_arena *out);
void lw_arena_free(lw_device *dev, lw_arena *arena);

// Places the buffers of `context` in `arena`. It has to take the same sizes whenever it is called.
typedef lw_status lw_arena_layout(void *context, lw_arena *arena, lw_error *err);

// Measures a layout, allocates what it needs, and places it there. `what` is as above. The caller frees *memory with
// lw_arena_free; a failure leaves *memory as it was, and no device memory behind.
lw_status lw_arena_place(lw_device *dev, const char *what, lw_arena_layout *layout, void *context, lw_error *err,
                         lw_arena *memory);

// Room for `count` elements of `element_bytes`, 256-byte aligned. NULL while measuring. count may be 0.
void *lw_arena_take(lw_arena *arena, int64_t count, size_t element_bytes);

#define LW_TAKE(arena, count, type) ((type *)lw_arena_take((arena), (count), sizeof(type)))

// Buffers that live only in one phase may share memory with those of another: save, lay out, rewind, lay out. The
// high-water mark is the size of the largest alternative.
typedef struct lw_arena_mark {
    size_t used_bytes;
} lw_arena_mark;
lw_arena_mark lw_arena_save(const lw_arena *arena);
void lw_arena_rewind(lw_arena *arena, lw_arena_mark mark);

#endif
