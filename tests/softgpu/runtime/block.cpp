// Runs a kernel: its blocks one after the other, the threads of a block as fibers.
//
// A thread runs until it ends or waits (at a barrier, in a warp's shuffle). One that ends leaves its stack to the next,
// so a kernel without barriers costs a call per thread. Which thread is next is decided by SOFTGPU_ORDER. When nobody
// can go on though not all have ended, the kernel would hang or worse on a GPU: it is told where each thread waits.
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "fiber.h"
#include "softgpu.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace softgpu
{

namespace
{

enum { MAX_THREADS = 1024, WARP = 32 };
enum class State { fresh, ready, barrier, warp, ended };

struct Thread {
    State state;
    uint3 index;
    Fiber *fiber;
    Site site; // where it waits
    WarpCall call;
    unsigned int mask;
    int source;
    uint64_t value, result;
};

struct Block {
    const Launch *launch = nullptr;
    int count = 0, ended = 0, waiting = 0;
    Site site = {nullptr, 0}; // of the barrier
    int current = 0;
    Thread threads[MAX_THREADS];
    unsigned int there[MAX_THREADS / WARP]; // lanes of each warp that wait in a warp call
    unsigned int gone[MAX_THREADS / WARP];  // that have ended or never were
    Order fresh{1};
    int started = 0;
    std::deque<int> ready;
    std::vector<Fiber *> idle;
    Fiber host;
    Fiber *fiber = nullptr; // that runs
};

} // namespace

static Block &block()
{
    static Block *the = new Block;
    return *the;
}

const Launch *running()
{
    return block().launch;
}

std::string running_place()
{
    if (running() == nullptr) {
        return "";
    }
    char text[160];
    (void)snprintf(text, sizeof text, ", block (%u,%u,%u), thread (%u,%u,%u)", blockIdx.x, blockIdx.y, blockIdx.z,
                   threadIdx.x, threadIdx.y, threadIdx.z);
    return "kernel " + running()->name + text;
}

static std::string place(Site site)
{
    const char *name = strrchr(site.file, '/');
    return std::string(name != nullptr ? name + 1 : site.file) + ":" + std::to_string(site.line);
}

// --- shared memory

static char *dynamic_end()
{
    static char *end = [] {
        size_t bytes = 256 << 10;
        char *memory = static_cast<char *>(
            mmap(nullptr, bytes + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        if (memory == MAP_FAILED || mprotect(memory + bytes, 4096, PROT_NONE) != 0) {
            die("no memory for shared memory");
        }
        return memory + bytes;
    }();
    return end;
}

// Ends (to 16 bytes) where a closed page begins.
void *dynamic_shared()
{
    return dynamic_end() - (block().launch->shared_bytes + 15) / 16 * 16;
}

#ifdef __clang__
extern "C" char __start_softgpu_shared[] __attribute__((weak));
extern "C" char __stop_softgpu_shared[] __attribute__((weak));

static void static_shared(char **first, size_t *bytes)
{
    *first = __start_softgpu_shared;
    *bytes = __start_softgpu_shared == nullptr ? 0 : (size_t)(__stop_softgpu_shared - __start_softgpu_shared);
}
#else
static int find_thread_locals(struct dl_phdr_info *info, size_t, void *out)
{
    std::pair<char *, size_t> *found = static_cast<std::pair<char *, size_t> *>(out);
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type == PT_TLS) {
            *found = {static_cast<char *>(info->dlpi_tls_data), info->dlpi_phdr[i].p_memsz};
        }
    }
    return 1; // the first is the program itself
}

static void static_shared(char **first, size_t *bytes)
{
    std::pair<char *, size_t> found = {nullptr, 0};
    (void)dl_iterate_phdr(find_thread_locals, &found);
    *first = found.first;
    *bytes = found.second;
}
#endif

SOFTGPU_UNCHECKED static void poison(char *at, size_t bytes)
{
    for (size_t i = 0; i < bytes / 8; i++) {
        reinterpret_cast<volatile uint64_t *>(at)[i] = ~uint64_t{0}; // NaN as f32 and as bf16
    }
    for (size_t i = bytes / 8 * 8; i < bytes; i++) {
        reinterpret_cast<volatile char *>(at)[i] = -1;
    }
}

// --- who is next

static void make_ready(int t)
{
    Block &b = block();
    b.threads[t].state = State::ready;
    if ((disorder() & 1) != 0) {
        b.ready.push_front(t);
    } else {
        b.ready.push_back(t);
    }
}

[[noreturn]] static void report_stuck(const char *why)
{
    Block &b = block();
    std::string list;
    int told = 0;
    for (int t = 0; t < b.count && told < 8; t++) {
        const Thread &thread = b.threads[t];
        if (thread.state != State::barrier && thread.state != State::warp) {
            continue;
        }
        bool same = t > 0 && b.threads[t - 1].state == thread.state && b.threads[t - 1].site.line == thread.site.line;
        if (!same) {
            char mask[64] = "";
            if (thread.state == State::warp) {
                (void)snprintf(mask, sizeof mask, " for lanes %08x", thread.mask);
            }
            list += (told > 0 ? ", " : "") + std::string("from thread ") + std::to_string(t) + " " +
                    (thread.state == State::barrier ? "at the barrier of " : "in the warp call of ") +
                    place(thread.site) + mask;
            told++;
        }
    }
    die("%s: %d of %d threads have ended, the others wait: %s", why, b.ended, b.count, list.c_str());
}

static void fiber_body();

// The fiber to go on with; the host's when the block is done. Sets who is current.
static Fiber *next()
{
    Block &b = block();
    bool fresh = b.started < b.count && (b.ready.empty() || (disorder() & 3) != 0);
    if (fresh) {
        b.current = (int)b.fresh[(uint64_t)b.started++];
        if (b.idle.empty()) {
            Fiber *made = new Fiber;
            fiber_create(fiber_body, made);
            b.idle.push_back(made);
        }
        b.threads[b.current].fiber = b.idle.back();
        b.idle.pop_back();
    } else if (!b.ready.empty()) {
        b.current = b.ready.front();
        b.ready.pop_front();
    } else if (b.ended == b.count) {
        return &b.host;
    } else {
        report_stuck("the kernel hangs");
    }
    threadIdx = b.threads[b.current].index;
    return b.threads[b.current].fiber;
}

static void go_to(Fiber *to)
{
    Fiber *from = block().fiber;
    if (to != from) {
        block().fiber = to;
        fiber_switch(from, to);
    }
}

static void try_warp(int warp);

static void end_thread()
{
    Block &b = block();
    Thread &self = b.threads[b.current];
    self.state = State::ended;
    b.ended++;
    if (b.waiting > 0) {
        report_stuck("a thread ended without the barrier that others wait at");
    }
    b.idle.push_back(self.fiber);
    b.gone[b.current / WARP] |= 1U << lane();
    if (b.there[b.current / WARP] != 0) {
        try_warp(b.current / WARP);
    }
}

static void fiber_body()
{
    fiber_entered();
    for (;;) {
        Block &b = block();
        b.launch->thread();
        end_thread();
        go_to(next());
    }
}

// --- barriers

static void arrive(Site site)
{
    Block &b = block();
    Thread &self = b.threads[b.current];
    self.state = State::barrier;
    self.site = site;
    if (b.waiting == 0) {
        b.site = site;
    }
    b.waiting++;
    if (b.ended > 0) {
        report_stuck("a barrier that not all threads of the block reach");
    }
    if (site.line != b.site.line || strcmp(site.file, b.site.file) != 0) {
        report_stuck("threads of a block meet at different barriers");
    }
    if (b.waiting == b.count) {
        b.waiting = 0;
        Order order((uint64_t)b.count);
        for (int i = 0; i < b.count; i++) {
            int t = (int)order[(uint64_t)i];
            b.threads[t].state = State::ready;
            b.ready.push_back(t);
        }
    }
    go_to(next());
}

void barrier(Site site)
{
    arrive(site);
}

// --- warps

int lane()
{
    return block().current % WARP;
}

static const char *call_name(WarpCall call)
{
    static const char *const names[] = {"__syncwarp", "a shuffle", "__ballot_sync", "__any_sync", "__all_sync"};
    return names[(int)call];
}

static uint64_t outcome(const Thread *lanes, int count, int l)
{
    const Thread &self = lanes[l];
    uint64_t votes = 0;
    bool all = true;
    if (self.call == WarpCall::shuffle) {
        int from = self.source;
        bool there = from < count && ((self.mask >> from) & 1) != 0 && lanes[from].state == State::warp;
        if (!there) {
            die("%s: lane %d reads lane %d, which takes no part (mask %08x)", place(self.site).c_str(), l, from,
                self.mask);
        }
        return lanes[from].value;
    }
    for (int i = 0; i < count; i++) {
        if (((self.mask >> i) & 1) != 0 && lanes[i].state == State::warp) {
            votes |= lanes[i].value << i;
            all = all && lanes[i].value != 0;
        }
    }
    return self.call == WarpCall::ballot ? votes : self.call == WarpCall::any ? votes != 0 : all;
}

// Dies unless the lanes that lane `l` names, all of which wait, name the same ones in the same call.
static void check_group(const Thread *lanes, int count, int l)
{
    const Thread &self = lanes[l];
    for (int i = 0; i < count; i++) {
        if (((self.mask >> i) & 1) != 0 && lanes[i].state == State::warp &&
            (lanes[i].mask != self.mask || lanes[i].call != self.call)) {
            die("lanes %d and %d wait for each other in different calls: %s with mask %08x at %s, %s with mask %08x at "
                "%s",
                l, i, call_name(self.call), self.mask, place(self.site).c_str(), call_name(lanes[i].call),
                lanes[i].mask, place(lanes[i].site).c_str());
        }
    }
}

static void try_group(Thread *lanes, int first, int count, int l)
{
    unsigned int &there = block().there[first / WARP];
    unsigned int mask = lanes[l].mask, members = 0;
    if ((mask & ~(there | block().gone[first / WARP])) != 0) {
        return;
    }
    check_group(lanes, count, l);
    for (int i = 0; i < count; i++) {
        if (((mask >> i) & 1) != 0 && lanes[i].state == State::warp) {
            members |= 1U << i;
            lanes[i].result = outcome(lanes, count, i);
        }
    }
    there &= ~members;
    Order order((uint64_t)count);
    for (int k = 0; k < count; k++) {
        int i = (int)order[(uint64_t)k];
        if (((members >> i) & 1) != 0) {
            make_ready(first + i);
        }
    }
}

static void try_warp(int warp)
{
    Block &b = block();
    int first = warp * WARP, count = b.count - first < WARP ? b.count - first : WARP;
    for (int i = 0; i < count; i++) {
        if (b.threads[first + i].state == State::warp) {
            try_group(&b.threads[first], first, count, i);
        }
    }
}

uint64_t warp(WarpCall call, unsigned int mask, uint64_t value, int source, Site site)
{
    Block &b = block();
    Thread &self = b.threads[b.current];
    int l = lane(), first = b.current - l, count = b.count - first < WARP ? b.count - first : WARP;
    if (((mask >> l) & 1) == 0) {
        die("%s: lane %d calls %s with a mask (%08x) without itself", place(site).c_str(), l, call_name(call), mask);
    }
    self.state = State::warp;
    self.site = site;
    self.call = call;
    self.mask = mask;
    self.source = source;
    self.value = value;
    b.there[first / WARP] |= 1U << l;
    try_group(&b.threads[first], first, count, l);
    go_to(next());
    return self.result;
}

// --- grids

static void run_block()
{
    Block &b = block();
    for (int t = 0; t < b.count; t++) {
        Thread &thread = b.threads[t];
        thread.state = State::fresh;
        unsigned int u = (unsigned int)t;
        thread.index = {u % blockDim.x, u / blockDim.x % blockDim.y, u / blockDim.x / blockDim.y};
    }
    b.ended = b.waiting = b.started = 0;
    for (int w = 0; w < MAX_THREADS / WARP; w++) {
        int lanes = b.count - w * WARP;
        b.there[w] = 0;
        b.gone[w] = lanes >= WARP ? 0 : lanes <= 0 ? ~0U : ~0U << lanes;
    }
    b.fresh = Order((uint64_t)b.count);
    b.fiber = &b.host;
    go_to(next());
}

void run_grid(const Launch &launch)
{
    Block &b = block();
    char *shared = nullptr;
    size_t shared_bytes = 0;
    static_shared(&shared, &shared_bytes);
    fiber_here(&b.host);
    b.launch = &launch;
    gridDim = launch.grid;
    blockDim = launch.block;
    b.count = (int)(launch.block.x * launch.block.y * launch.block.z);
    uint64_t blocks = (uint64_t)gridDim.x * gridDim.y * gridDim.z;
    Order order(blocks);
    for (uint64_t i = 0; i < blocks; i++) {
        uint64_t n = order[i];
        blockIdx = {(unsigned int)(n % gridDim.x), (unsigned int)(n / gridDim.x % gridDim.y),
                    (unsigned int)(n / gridDim.x / gridDim.y)};
        poison(shared, shared_bytes);
        poison(static_cast<char *>(dynamic_shared()), (launch.shared_bytes + 15) / 16 * 16);
        run_block();
    }
    b.launch = nullptr;
}

} // namespace softgpu
