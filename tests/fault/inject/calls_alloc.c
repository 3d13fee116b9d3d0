// calls_alloc.c: stands in for allocation, as far as the program or a library of its own asks for it.
#include "inject.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EARLY_BYTES = 1 << 25 };

// What is asked for before this library's own start, or while the real functions are looked up; never given back. The
// loader and the sanitizers ask for memory before this library has been relocated: until `ready`, nothing outside it
// may be called.
static _Alignas(64) char early[EARLY_BYTES];
static size_t early_used;
static bool ready;

__attribute__((constructor(101))) static void begin(void)
{
    ready = true;
}

static struct {
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void (*free)(void *);
    void *(*aligned_alloc)(size_t, size_t);
    int (*posix_memalign)(void **, size_t, size_t);
    char *(*strdup)(const char *);
    char *(*strndup)(const char *, size_t);
    int (*vasprintf)(char **, const char *, va_list);
} real;
static _Thread_local int looking; // 1: the functions are being looked up on this thread

static void look_up(void)
{
    if (!ready || real.vasprintf != NULL || looking) {
        return;
    }
    looking = 1;
    real.malloc = (void *(*)(size_t))(uintptr_t)lw_inject_next("malloc");
    real.calloc = (void *(*)(size_t, size_t))(uintptr_t)lw_inject_next("calloc");
    real.realloc = (void *(*)(void *, size_t))(uintptr_t)lw_inject_next("realloc");
    real.free = (void (*)(void *))(uintptr_t)lw_inject_next("free");
    real.aligned_alloc = (void *(*)(size_t, size_t))(uintptr_t)lw_inject_next("aligned_alloc");
    real.posix_memalign = (int (*)(void **, size_t, size_t))(uintptr_t)lw_inject_next("posix_memalign");
    real.strdup = (char *(*)(const char *))(uintptr_t)lw_inject_next("strdup");
    real.strndup = (char *(*)(const char *, size_t))(uintptr_t)lw_inject_next("strndup");
    real.vasprintf = (int (*)(char **, const char *, va_list))(uintptr_t)lw_inject_next("vasprintf");
    looking = 0;
}

static void *early_alloc(size_t bytes)
{
    size_t rounded = (bytes + 63) & ~(size_t)63; // zero, and aligned for all
    if (rounded < bytes || rounded > EARLY_BYTES - early_used) {
        return NULL;
    }
    void *at = early + early_used;
    early_used += rounded;
    return at;
}

static bool is_early(const void *p)
{
    return (uintptr_t)p >= (uintptr_t)early && (uintptr_t)p < (uintptr_t)early + EARLY_BYTES;
}

#define FAILS(what) fails(__builtin_extract_return_addr(__builtin_return_address(0)), what)

static bool fails(const void *caller, const char *what)
{
    lw_inject_class call;
    if (!lw_inject_caller(caller, &call) || lw_inject(call, what, false) != LW_FAIL) {
        return false;
    }
    errno = ENOMEM;
    return true;
}

void *malloc(size_t bytes)
{
    look_up();
    if (real.malloc == NULL) {
        return early_alloc(bytes);
    }
    return FAILS("malloc") ? NULL : real.malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    look_up();
    if (real.calloc == NULL) {
        return count > 0 && bytes > EARLY_BYTES / count ? NULL : early_alloc(count * bytes); // static memory is zero
    }
    return FAILS("calloc") ? NULL : real.calloc(count, bytes);
}

void *realloc(void *p, size_t bytes)
{
    look_up();
    if (real.realloc == NULL || is_early(p)) {
        void *moved = real.malloc != NULL ? real.malloc(bytes) : early_alloc(bytes);
        if (moved != NULL && p != NULL) {
            size_t room = (size_t)((uintptr_t)early + EARLY_BYTES - (uintptr_t)p);
            for (size_t i = 0; i < bytes && i < room; i++) { // no call: see `ready`
                ((volatile char *)moved)[i] = ((const char *)p)[i];
            }
        }
        return moved;
    }
    return FAILS("realloc") ? NULL : real.realloc(p, bytes);
}

void free(void *p)
{
    look_up();
    if (real.free != NULL && !is_early(p)) {
        real.free(p);
    }
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    look_up();
    if (real.aligned_alloc == NULL) {
        return alignment <= 64 ? early_alloc(bytes) : NULL;
    }
    return FAILS("aligned_alloc") ? NULL : real.aligned_alloc(alignment, bytes);
}

int posix_memalign(void **out, size_t alignment, size_t bytes)
{
    look_up();
    if (real.posix_memalign == NULL) {
        *out = alignment <= 64 ? early_alloc(bytes) : NULL;
        return *out == NULL ? ENOMEM : 0;
    }
    return FAILS("posix_memalign") ? ENOMEM : real.posix_memalign(out, alignment, bytes);
}

char *strdup(const char *text)
{
    look_up();
    if (real.strdup == NULL) {
        size_t bytes = 1;
        while (((const volatile char *)text)[bytes - 1] != '\0') {
            bytes++;
        }
        char *copy = early_alloc(bytes);
        for (size_t i = 0; copy != NULL && i < bytes; i++) {
            ((volatile char *)copy)[i] = text[i];
        }
        return copy;
    }
    return FAILS("strdup") ? NULL : real.strdup(text);
}

char *strndup(const char *text, size_t bytes)
{
    look_up();
    return real.strndup == NULL || FAILS("strndup") ? NULL : real.strndup(text, bytes);
}

int vasprintf(char **out, const char *format, va_list args)
{
    look_up();
    return real.vasprintf == NULL || FAILS("vasprintf") ? -1 : real.vasprintf(out, format, args);
}

int asprintf(char **out, const char *format, ...)
{
    look_up();
    if (real.vasprintf == NULL || FAILS("asprintf")) {
        return -1;
    }
    va_list args;
    va_start(args, format);
    int length = real.vasprintf(out, format, args);
    va_end(args);
    return length;
}
