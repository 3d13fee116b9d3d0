// arena.c: offsets in a block of device memory, measured first and allocated then.
#include "device/arena.h"

enum { LW_ARENA_ALIGN = 256 };

lw_arena lw_arena_measure(void)
{
    return (lw_arena){.base = NULL, .size_bytes = SIZE_MAX};
}

lw_arena lw_arena_over(void *memory, size_t size_bytes)
{
    return (lw_arena){.base = memory, .size_bytes = size_bytes};
}

void *lw_arena_take(lw_arena *arena, int64_t count, size_t element_bytes)
{
    size_t bytes;
    size_t end;
    if (count < 0 || __builtin_mul_overflow((size_t)count, element_bytes, &bytes) ||
        __builtin_add_overflow(bytes, (size_t)(LW_ARENA_ALIGN - 1), &bytes) ||
        __builtin_add_overflow(arena->used_bytes, bytes & ~(size_t)(LW_ARENA_ALIGN - 1), &end) ||
        end > arena->size_bytes) {
        arena->overflow = true;
        return NULL;
    }
    void *out = arena->base != NULL ? arena->base + arena->used_bytes : NULL;
    arena->used_bytes = end;
    if (end > arena->high_water_bytes) {
        arena->high_water_bytes = end;
    }
    return out;
}

lw_arena_mark lw_arena_save(const lw_arena *arena)
{
    return (lw_arena_mark){arena->used_bytes};
}

void lw_arena_rewind(lw_arena *arena, lw_arena_mark mark)
{
    arena->used_bytes = mark.used_bytes;
}

lw_status lw_arena_alloc(lw_device *dev, const lw_arena *measured, const char *what, lw_error *err, lw_arena *out)
{
    if (measured->overflow) {
        return lw_fail(err, LW_ERR_MEMORY, "%s: the size overflows; the shapes are too large", what);
    }
    void *memory = NULL;
    lw_status status = dev->ops->alloc(dev, measured->high_water_bytes, err, &memory);
    if (status != LW_OK) {
        return lw_fail_in(err, status, "%s", what);
    }
    *out = lw_arena_over(memory, measured->high_water_bytes);
    return LW_OK;
}

lw_status lw_arena_place(lw_device *dev, const char *what, lw_arena_layout *layout, void *context, lw_error *err,
                         lw_arena *memory)
{
    lw_arena measured = lw_arena_measure();
    lw_arena real = {0};
    LW_TRY(layout(context, &measured, err));
    LW_TRY(lw_arena_alloc(dev, &measured, what, err, &real));
    lw_arena arena = real;
    lw_status status = layout(context, &arena, err);
    if (status == LW_OK && arena.overflow) {
        status = lw_fail(err, LW_ERR_INTERNAL, "%s: more was placed than was measured", what);
    }
    if (status != LW_OK) {
        lw_arena_free(dev, &real);
        return status;
    }
    *memory = real;
    return LW_OK;
}

void lw_arena_free(lw_device *dev, lw_arena *arena)
{
    if (arena->base != NULL) {
        dev->ops->free(dev, arena->base);
    }
    *arena = (lw_arena){0};
}
