// softgpu.h: what the files of the software GPU share.
//
// Everything runs on the host's threads, under one lock, and late: a stream's work is done when somebody waits for it
// or asks how far it is. Misuse that a real GPU would answer with an error code gets that code; misuse that would go
// wrong silently ends the program with a message (die).
#ifndef SOFTGPU_H
#define SOFTGPU_H

#include "cuda_runtime.h"

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#define SOFTGPU_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SOFTGPU_ASAN 1
#endif
#endif
#ifdef SOFTGPU_ASAN
#define SOFTGPU_UNCHECKED __attribute__((no_sanitize_address))
#else
#define SOFTGPU_UNCHECKED
#endif

namespace softgpu
{

// --- report.cpp

[[noreturn]] void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
long setting(const char *name, long fallback); // a number in the environment; dies when it is none
double now_s();
// The next number of the sequence that SOFTGPU_ORDER begins; 0 always, when that is 0.
uint32_t disorder();

// The i-th of n things in an order that changes from one Order to the next.
class Order
{
  public:
    explicit Order(uint64_t count);
    uint64_t operator[](uint64_t i) const
    {
        return (factor_ * i + first_) % count_;
    }

  private:
    uint64_t count_, factor_ = 1, first_ = 0;
};

// SOFTGPU_FAIL: whether this call of `function` is one that shall fail, and how: "" no, else the word after the count.
std::string injected_fault(const char *function);

// --- device.cpp

struct ThreadState {
    int device = 0;
    cudaError_t last_error = cudaSuccess;
};
ThreadState &thread_state();
int device_count();
int current_device();
std::string device_uuid(int device);
cudaError_t sticky_error();
void set_sticky_error(cudaError_t error);

// One call of the runtime: takes the lock, injects faults, keeps the last error.
class Call
{
  public:
    explicit Call(const char *function);
    Call(const Call &) = delete;
    Call &operator=(const Call &) = delete;
    bool failed() const
    {
        return error_ != cudaSuccess;
    }
    cudaError_t error() const
    {
        return error_;
    }
    cudaError_t end(cudaError_t error); // keeps it as the last error when it is one

  private:
    std::lock_guard<std::recursive_mutex> lock_;
    cudaError_t error_ = cudaSuccess;
};

#define SOFTGPU_CALL(name)    \
    softgpu::Call call(name); \
    if (call.failed()) {      \
        return call.error();  \
    }                         \
    static_assert(true, "")

// --- memory.cpp

enum class Kind { pageable, pinned, device };
struct Where {
    Kind kind;
    int device;       // of device memory
    const char *base; // of the allocation; null for pageable memory
    size_t bytes;
};
Where where_is(const void *pointer);
// Dies unless `bytes` at `pointer` lie in one live piece of memory of the kind that `pointer` is in.
void check_range(const char *what, const void *pointer, size_t bytes);
void open_memory();  // for work that runs now; until close_memory the host may touch device memory
void close_memory(); // checks the edges of all allocations
void check_edges(const char *after);
std::string describe(const void *pointer); // "12 bytes behind an allocation of 100 bytes"
size_t allocated_bytes(int device);
void install_segv_handler();

// --- block.cpp: the kernel that runs

struct Launch {
    std::string name;
    dim3 grid, block;
    size_t shared_bytes;
    std::function<void()> thread;
};
void run_grid(const Launch &launch);
const Launch *running();
std::string running_place(); // "kernel<float>, block (1,0,0), thread (3,0,0)"; empty outside of kernels

// --- stream.cpp

// Work in a stream. step(true) begins it, step(false) goes on; true when it is done.
struct Op {
    std::string name;
    std::function<bool(bool first)> step;
};
typedef std::shared_ptr<Op> OpRef;
OpRef make_op(std::string name, std::function<void()> work); // done in one step, with device memory open

// The stream behind a handle (null: the default stream of the current device); null for an invalid one.
cudaStream_t find_stream(cudaStream_t handle);
cudaError_t enqueue(cudaStream_t handle, OpRef op);
bool run_stream(cudaStream_t stream); // as far as it goes; true when it is empty
void finish_stream(cudaStream_t stream);
void finish_device();
bool is_capturing(cudaStream_t stream);
// For calls that no capture allows: cudaSuccess when nothing is captured, else the error, and the capture is lost.
cudaError_t refuse_in_capture(bool unless_relaxed);

} // namespace softgpu

struct CUgraph_st {
    std::vector<softgpu::OpRef> ops;
};

struct CUstream_st {
    int device = 0;
    bool blocking = true;
    bool running = false, begun = false, asked = false;
    std::deque<softgpu::OpRef> queue;
    std::shared_ptr<CUgraph_st> capture; // being recorded, by this stream or by the one it joined
    bool capture_origin = false, capture_lost = false;
    cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;
};

#endif
