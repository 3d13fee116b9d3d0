// A switch of stacks: some instructions on x86-64 and aarch64, ucontext elsewhere.
#include "fiber.h"

#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "softgpu.h"

#ifdef SOFTGPU_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__)

// What a callee must keep: rbx, rbp, r12 to r15, on the stack; then the other stack.
asm(".text\n"
    ".globl softgpu_switch_stack\n"
    ".type softgpu_switch_stack, @function\n"
    "softgpu_switch_stack:\n" // (void **save, void *load)
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n"
    "  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
    "  ret\n"
    ".size softgpu_switch_stack, . - softgpu_switch_stack\n");

static void *first_frame(char *top, void (*body)())
{
    void **sp = reinterpret_cast<void **>(top) - 10;
    memset(sp, 0, 10 * sizeof *sp);
    sp[6] = reinterpret_cast<void *>(body); // behind the six registers; above it no return address, and 16-byte steps
    return sp;
}

#elif defined(__aarch64__)

asm(".text\n"
    ".globl softgpu_switch_stack\n"
    ".type softgpu_switch_stack, %function\n"
    "softgpu_switch_stack:\n"
    "  sub sp, sp, #160\n"
    "  stp x19, x20, [sp, #0]\n  stp x21, x22, [sp, #16]\n  stp x23, x24, [sp, #32]\n"
    "  stp x25, x26, [sp, #48]\n  stp x27, x28, [sp, #64]\n  stp x29, x30, [sp, #80]\n"
    "  stp d8, d9, [sp, #96]\n  stp d10, d11, [sp, #112]\n  stp d12, d13, [sp, #128]\n  stp d14, d15, [sp, #144]\n"
    "  mov x9, sp\n  str x9, [x0]\n  mov sp, x1\n"
    "  ldp x19, x20, [sp, #0]\n  ldp x21, x22, [sp, #16]\n  ldp x23, x24, [sp, #32]\n"
    "  ldp x25, x26, [sp, #48]\n  ldp x27, x28, [sp, #64]\n  ldp x29, x30, [sp, #80]\n"
    "  ldp d8, d9, [sp, #96]\n  ldp d10, d11, [sp, #112]\n  ldp d12, d13, [sp, #128]\n  ldp d14, d15, [sp, #144]\n"
    "  add sp, sp, #160\n"
    "  ret\n"
    ".size softgpu_switch_stack, . - softgpu_switch_stack\n");

static void *first_frame(char *top, void (*body)())
{
    void **sp = reinterpret_cast<void **>(top - 160);
    memset(sp, 0, 160);
    sp[11] = reinterpret_cast<void *>(body); // x30
    return sp;
}

#else

#include <ucontext.h>

static void softgpu_switch_stack(void **save, void *load)
{
    ucontext_t here; // lives on the stack that is left
    *save = &here;
    swapcontext(&here, static_cast<ucontext_t *>(load));
}

static void *first_frame(char *top, void (*body)())
{
    char *at = top - (sizeof(ucontext_t) + 255) / 256 * 256;
    ucontext_t *context = new (at) ucontext_t;
    (void)getcontext(context);
    context->uc_stack.ss_sp = at - (32 << 10);
    context->uc_stack.ss_size = 32 << 10;
    context->uc_link = nullptr;
    makecontext(context, body, 0);
    return context;
}

#endif

#if defined(__x86_64__) || defined(__aarch64__)
extern "C" void softgpu_switch_stack(void **save, void *load);
#endif

namespace softgpu
{

#ifdef SOFTGPU_ASAN
constexpr size_t STACK_BYTES = 256 << 10; // its frames are large
#else
constexpr size_t STACK_BYTES = 64 << 10;
#endif
constexpr size_t GUARD_BYTES = 4096;

void fiber_here(Fiber *out)
{
    static pthread_t asked = 0; // looking is slow
    static void *bottom = nullptr;
    static size_t bytes = 0;
    if (asked != pthread_self()) {
        pthread_attr_t attributes;
        (void)pthread_getattr_np(pthread_self(), &attributes);
        (void)pthread_attr_getstack(&attributes, &bottom, &bytes);
        (void)pthread_attr_destroy(&attributes);
        asked = pthread_self();
    }
    *out = Fiber();
    out->bottom = static_cast<char *>(bottom);
    out->bytes = bytes;
    out->entered = true;
}

void fiber_create(void (*body)(), Fiber *out)
{
    void *memory = mmap(nullptr, GUARD_BYTES + STACK_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, GUARD_BYTES, PROT_NONE) != 0) {
        die("no memory for the stack of a thread");
    }
    *out = Fiber();
    out->bottom = static_cast<char *>(memory) + GUARD_BYTES;
    out->bytes = STACK_BYTES;
    out->saved = first_frame(out->bottom + STACK_BYTES, body);
}

#ifdef SOFTGPU_ASAN
void fiber_switch(Fiber *from, Fiber *to)
{
    __sanitizer_start_switch_fiber(&from->fake_stack, to->bottom, to->bytes);
    softgpu_switch_stack(&from->saved, to->saved);
    __sanitizer_finish_switch_fiber(from->fake_stack, nullptr, nullptr);
}

void fiber_entered()
{
    __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
}
#else
void fiber_switch(Fiber *from, Fiber *to)
{
    softgpu_switch_stack(&from->saved, to->saved);
}

void fiber_entered() {}
#endif

} // namespace softgpu
