// fiber.h: stacks to switch between.
#ifndef SOFTGPU_FIBER_H
#define SOFTGPU_FIBER_H

#include <stddef.h>

namespace softgpu
{

struct Fiber {
    void *saved = nullptr;  // stack pointer while it is not running
    char *bottom = nullptr; // of its stack
    size_t bytes = 0;
    void *fake_stack = nullptr; // AddressSanitizer's
    bool entered = false;
};

// The stack that the caller is on, as a fiber to come back to.
void fiber_here(Fiber *out);
// A new one, on a stack of its own; `body` never returns.
void fiber_create(void (*body)(), Fiber *out);
void fiber_switch(Fiber *from, Fiber *to);
// First thing in a body.
void fiber_entered();

} // namespace softgpu

#endif
