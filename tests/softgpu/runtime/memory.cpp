// Device memory: a range of addresses that the host cannot touch but while queued work runs. Pinned host memory.
//
// An allocation ends (to 256 bytes) where its last page ends, with closed pages before and behind, so that a thread
// that runs over its edge faults; the rest of the first and last page is filled with a pattern that is compared when
// work has run, and poisoned for AddressSanitizer. What is freed stays closed for ever.
#include <execinfo.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "softgpu.h"

#ifdef SOFTGPU_ASAN
#include <sanitizer/asan_interface.h>
#define POISON(at, bytes) ASAN_POISON_MEMORY_REGION(at, bytes)
#define UNPOISON(at, bytes) ASAN_UNPOISON_MEMORY_REGION(at, bytes)
#else
#define POISON(at, bytes) ((void)(at), (void)(bytes))
#define UNPOISON(at, bytes) ((void)(at), (void)(bytes))
#endif

namespace softgpu
{

namespace
{

constexpr size_t RANGE = size_t{1} << 40, PAGE = 4096, GAP = 64 << 10, ALIGNMENT = 256;
constexpr unsigned char EDGE[2] = {0xc5, 0xff}; // NaN as f32 and as bf16

struct Allocation {
    char *first_page;
    size_t page_bytes;
    char *base;
    size_t bytes;
    int device;
    bool live;
};

struct Memory {
    char *range = nullptr;
    size_t used = 0; // of the range
    bool open = false;
    std::map<const char *, Allocation> allocations; // by first page; also the freed ones, for messages
    std::map<const char *, Allocation *> live;
    std::map<const char *, size_t> pinned;
    size_t held[64] = {};
};

} // namespace

static Memory &memory()
{
    static Memory *the = [] {
        Memory *made = new Memory;
        void *range = mmap(nullptr, RANGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (range == MAP_FAILED) {
            die("the system gives no range of addresses for device memory (ulimit -v?)");
        }
        made->range = static_cast<char *>(range);
        return made;
    }();
    return *the;
}

static bool in_range(const void *pointer)
{
    const char *p = static_cast<const char *>(pointer);
    return p >= memory().range && p < memory().range + RANGE;
}

// The allocation whose pages, or the gap behind them, hold the address.
static const Allocation *nearest(const void *pointer)
{
    const char *p = static_cast<const char *>(pointer);
    auto after = memory().allocations.upper_bound(p);
    if (after == memory().allocations.begin()) {
        return after == memory().allocations.end() ? nullptr : &after->second;
    }
    auto before = std::prev(after);
    const Allocation &a = before->second;
    if (after != memory().allocations.end() && p - (a.base + a.bytes) > after->second.base - p) {
        return &after->second;
    }
    return &a;
}

std::string describe(const void *pointer)
{
    const Allocation *a = nearest(pointer);
    if (!in_range(pointer) || a == nullptr) {
        return "which is no device memory";
    }
    const char *p = static_cast<const char *>(pointer);
    char text[256];
    const char *relation = p < a->base ? "before" : p < a->base + a->bytes ? "inside" : "behind";
    long distance = p < a->base ? a->base - p : p < a->base + a->bytes ? p - a->base : p - (a->base + a->bytes);
    (void)snprintf(text, sizeof text, "%ld bytes %s a%s allocation of %zu bytes at %p on device %d", distance, relation,
                   a->live ? "n" : " freed", a->bytes, (void *)a->base, a->device);
    return text;
}

static void protect(const Allocation &a, int protection)
{
    if (mprotect(a.first_page, a.page_bytes, protection) != 0) {
        die("mprotect of device memory failed; is vm.max_map_count too small?");
    }
}

void open_memory()
{
    if (!memory().open) {
        memory().open = true;
        for (const auto &entry : memory().live) {
            protect(*entry.second, PROT_READ | PROT_WRITE);
        }
    }
}

void close_memory()
{
    if (memory().open) {
        check_edges("the work that ran last");
        for (const auto &entry : memory().live) {
            protect(*entry.second, PROT_NONE);
        }
        memory().open = false;
    }
}

SOFTGPU_UNCHECKED static void fill_edge(char *from, const char *to)
{
    for (volatile char *p = from; p < to; p++) {
        *p = (char)EDGE[(uintptr_t)p & 1];
    }
}

SOFTGPU_UNCHECKED static const char *changed_edge(const char *from, const char *to)
{
    for (const volatile char *p = from; p < to; p++) {
        if (*p != (char)EDGE[(uintptr_t)p & 1]) {
            return const_cast<const char *>(p);
        }
    }
    return nullptr;
}

// Not more than this of an edge is compared.
constexpr size_t EDGE_BYTES = 512;

void check_edges(const char *after)
{
    for (const auto &entry : memory().live) {
        const Allocation &a = *entry.second;
        const char *first = a.base - a.first_page > (long)EDGE_BYTES ? a.base - EDGE_BYTES : a.first_page;
        const char *at = changed_edge(first, a.base);
        at = at != nullptr ? at : changed_edge(a.base + a.bytes, a.first_page + a.page_bytes);
        if (at != nullptr) {
            die("%s wrote at %p, %s (SOFTGPU_CHECK=1 looks after each kernel)", after, (const void *)at,
                describe(at).c_str());
        }
    }
}

static char *allocate(size_t bytes, int device)
{
    Memory &m = memory();
    size_t rounded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    size_t pages = (rounded + PAGE - 1) / PAGE * PAGE;
    if (pages + 2 * GAP > RANGE - m.used) {
        die("the range of addresses for device memory is used up");
    }
    Allocation a = {m.range + m.used + GAP, pages, nullptr, bytes, device, true};
    a.base = a.first_page + (pages - rounded);
    m.used += GAP + pages;
    protect(a, PROT_READ | PROT_WRITE);
    memset(a.base, 0xff, bytes); // NaN as f32, bf16 and f16; -1 as an integer
    fill_edge(a.first_page, a.base);
    fill_edge(a.base + a.bytes, a.first_page + a.page_bytes);
    POISON(a.first_page, (size_t)(a.base - a.first_page));
    POISON(a.base + a.bytes, (size_t)(a.first_page + a.page_bytes - a.base) - a.bytes);
    if (!m.open) {
        protect(a, PROT_NONE);
    }
    m.allocations[a.first_page] = a;
    m.live[a.first_page] = &m.allocations[a.first_page];
    m.held[device] += bytes;
    return a.base;
}

static bool release(char *base)
{
    Memory &m = memory();
    const Allocation *near = in_range(base) ? nearest(base) : nullptr;
    if (near == nullptr || near->base != base || !near->live) {
        return false;
    }
    Allocation &a = m.allocations[near->first_page];
    UNPOISON(a.first_page, a.page_bytes);
    if (mmap(a.first_page, a.page_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) ==
        MAP_FAILED) {
        die("device memory could not be given back");
    }
    a.live = false;
    m.live.erase(a.first_page);
    m.held[a.device] -= a.bytes;
    return true;
}

size_t allocated_bytes(int device)
{
    return memory().held[device];
}

Where where_is(const void *pointer)
{
    Memory &m = memory();
    if (in_range(pointer)) {
        const Allocation *a = nearest(pointer);
        if (a == nullptr) {
            return {Kind::device, -1, nullptr, 0};
        }
        return {Kind::device, a->device, a->base, a->live ? a->bytes : 0};
    }
    auto after = m.pinned.upper_bound(static_cast<const char *>(pointer));
    if (after != m.pinned.begin()) {
        auto at = std::prev(after);
        if (static_cast<const char *>(pointer) < at->first + at->second) {
            return {Kind::pinned, -1, at->first, at->second};
        }
    }
    return {Kind::pageable, -1, nullptr, 0};
}

void check_range(const char *what, const void *pointer, size_t bytes)
{
    Where where = where_is(pointer);
    const char *p = static_cast<const char *>(pointer);
    if (where.kind == Kind::device &&
        (where.base == nullptr || p < where.base || bytes > where.bytes || p + bytes > where.base + where.bytes)) {
        die("%s of %zu bytes at %p, %s", what, bytes, pointer, describe(pointer).c_str());
    }
    if (where.kind == Kind::pinned && p + bytes > where.base + where.bytes) {
        die("%s of %zu bytes at %p, %ld bytes inside %zu bytes of pinned memory", what, bytes, pointer,
            (long)(p - where.base), where.bytes);
    }
    if (where.kind == Kind::device && where.device != current_device()) {
        die("%s at %p, memory of device %d, while device %d is current", what, pointer, where.device, current_device());
    }
}

// --- faults

static struct sigaction previous_handler;

static void on_fault(int signal, siginfo_t *info, void *context)
{
    (void)context;
    const void *at = info->si_addr;
    if (in_range(at) && !memory().open) {
        void *frames[32];
        int depth = backtrace(frames, 32);
        backtrace_symbols_fd(frames, depth, STDERR_FILENO);
        die("host code touched device memory at %p, %s", at, describe(at).c_str());
    }
    if (running() != nullptr) {
        die("touched %p, %s", at, describe(at).c_str());
    }
    if (in_range(at)) {
        die("queued work touched %p, %s", at, describe(at).c_str());
    }
    (void)sigaction(signal, &previous_handler, nullptr); // not ours: the instruction faults again
}

void install_segv_handler()
{
    static bool installed = false;
    if (installed) {
        return;
    }
    installed = true;
    static char stack[64 << 10]; // a kernel's own stack may be what overflowed
    stack_t alternative = {};
    alternative.ss_sp = stack;
    alternative.ss_size = sizeof stack;
    (void)sigaltstack(&alternative, nullptr);
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    (void)sigaction(SIGSEGV, &action, &previous_handler);
}

} // namespace softgpu

using namespace softgpu;

extern "C" {

cudaError_t cudaMalloc(void **out, size_t bytes)
{
    SOFTGPU_CALL("cudaMalloc");
    cudaError_t refused = refuse_in_capture(true);
    if (refused != cudaSuccess) {
        return call.end(refused);
    }
    *out = nullptr;
    size_t limit = (size_t)setting("SOFTGPU_MEMORY", 2L << 30), used = allocated_bytes(current_device());
    if (used > limit || bytes > limit - used) {
        return call.end(cudaErrorMemoryAllocation);
    }
    *out = bytes > 0 ? allocate(bytes, current_device()) : nullptr;
    return call.end(cudaSuccess);
}

cudaError_t cudaFree(void *pointer)
{
    SOFTGPU_CALL("cudaFree");
    if (pointer == nullptr) {
        return call.end(cudaSuccess);
    }
    cudaError_t refused = refuse_in_capture(true);
    if (refused != cudaSuccess) {
        return call.end(refused);
    }
    finish_device();
    return call.end(release(static_cast<char *>(pointer)) ? cudaSuccess : cudaErrorInvalidValue);
}

static cudaError_t allocate_host(const char *function, void **out, size_t bytes)
{
    SOFTGPU_CALL(function);
    *out = nullptr;
    cudaError_t refused = refuse_in_capture(true);
    if (refused != cudaSuccess) {
        return call.end(refused);
    }
    void *pinned = nullptr;
    if (posix_memalign(&pinned, PAGE, bytes > 0 ? bytes : 1) != 0) {
        return call.end(cudaErrorMemoryAllocation);
    }
    memset(pinned, 0xff, bytes);
    memory().pinned[static_cast<char *>(pinned)] = bytes;
    *out = pinned;
    return call.end(cudaSuccess);
}

cudaError_t cudaMallocHost(void **out, size_t bytes)
{
    return allocate_host("cudaMallocHost", out, bytes);
}

cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned int flags)
{
    (void)flags;
    return allocate_host("cudaHostAlloc", out, bytes);
}

cudaError_t cudaFreeHost(void *pointer)
{
    SOFTGPU_CALL("cudaFreeHost");
    if (pointer == nullptr) {
        return call.end(cudaSuccess);
    }
    finish_device();
    if (memory().pinned.erase(static_cast<char *>(pointer)) == 0) {
        return call.end(cudaErrorInvalidValue);
    }
    free(pointer);
    return call.end(cudaSuccess);
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *out, const void *pointer)
{
    SOFTGPU_CALL("cudaPointerGetAttributes");
    Where where = where_is(pointer);
    *out = {};
    out->type = where.kind == Kind::device   ? cudaMemoryTypeDevice
                : where.kind == Kind::pinned ? cudaMemoryTypeHost
                                             : cudaMemoryTypeUnregistered;
    out->device = where.device;
    out->devicePointer = where.kind == Kind::pageable ? nullptr : const_cast<void *>(pointer);
    out->hostPointer = where.kind == Kind::device ? nullptr : const_cast<void *>(pointer);
    return call.end(cudaSuccess);
}

} // extern "C"
