// What goes into streams: copies, fills and kernels.
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "softgpu.h"

namespace softgpu
{

// --- copies

static bool fits(enum cudaMemcpyKind kind, Kind dst, Kind src)
{
    bool to_device = dst == Kind::device, from_device = src == Kind::device;
    switch (kind) {
    case cudaMemcpyHostToHost: return !to_device && !from_device;
    case cudaMemcpyHostToDevice: return to_device && !from_device;
    case cudaMemcpyDeviceToHost: return !to_device && from_device;
    case cudaMemcpyDeviceToDevice: return to_device && from_device;
    case cudaMemcpyDefault: return true;
    }
    return false;
}

struct Copy {
    char *dst;
    size_t dst_pitch;
    const char *src;
    size_t src_pitch, width, height;

    size_t span(size_t pitch) const
    {
        return (height - 1) * pitch + width;
    }
};

static void run_copy(const Copy &c)
{
    check_range("copy to", c.dst, c.span(c.dst_pitch));
    check_range("copy from", c.src, c.span(c.src_pitch));
    for (size_t row = 0; row < c.height; row++) {
        memmove(c.dst + row * c.dst_pitch, c.src + row * c.src_pitch, c.width);
    }
}

// Pageable memory is read before the call returns, and written before it returns, as the real runtime does.
static cudaError_t copy(Copy c, enum cudaMemcpyKind kind, cudaStream_t handle, bool wait)
{
    if (c.width == 0 || c.height == 0) {
        return cudaSuccess;
    }
    cudaStream_t stream = find_stream(handle);
    if (stream == nullptr) {
        return cudaErrorInvalidResourceHandle;
    }
    if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) {
        return cudaErrorInvalidMemcpyDirection;
    }
    if (c.dst == nullptr || c.src == nullptr || c.dst_pitch < c.width || c.src_pitch < c.width) {
        return cudaErrorInvalidValue;
    }
    Kind dst = where_is(c.dst).kind, src = where_is(c.src).kind;
    if (!fits(kind, dst, src)) {
        return cudaErrorInvalidValue;
    }
    check_range("copy to", c.dst, c.span(c.dst_pitch));
    check_range("copy from", c.src, c.span(c.src_pitch));
    bool pageable = dst == Kind::pageable || src == Kind::pageable;
    if (is_capturing(stream) && (pageable || wait)) {
        stream->capture_lost = true;
        return cudaErrorStreamCaptureUnsupported;
    }
    std::shared_ptr<std::vector<char>> staged;
    if (src == Kind::pageable && !wait) {
        staged = std::make_shared<std::vector<char>>(c.src, c.src + c.span(c.src_pitch));
        c.src = staged->data();
    }
    cudaError_t error = enqueue(handle, make_op("copy", [c, staged] { run_copy(c); }));
    if (error == cudaSuccess && (wait || dst == Kind::pageable)) {
        finish_stream(stream);
    }
    return error;
}

static cudaError_t fill(void *dst, int value, size_t bytes, cudaStream_t handle)
{
    if (bytes == 0) {
        return cudaSuccess;
    }
    if (where_is(dst).kind == Kind::pageable) {
        return cudaErrorInvalidValue;
    }
    check_range("fill", dst, bytes);
    return enqueue(handle, make_op("fill", [dst, value, bytes] {
                       check_range("fill", dst, bytes);
                       memset(dst, value, bytes);
                   }));
}

// --- kernels

static std::map<const void *, int> &shared_limits()
{
    static std::map<const void *, int> *the = new std::map<const void *, int>;
    return *the;
}

enum { SHARED_BYTES = 48 << 10, SHARED_OPTIN_BYTES = 227 << 10 };

static cudaError_t check_launch(const void *function, dim3 grid, dim3 block, size_t shared_bytes)
{
    uint64_t threads = (uint64_t)block.x * block.y * block.z;
    bool grid_fits =
        grid.x >= 1 && grid.x <= 2147483647U && grid.y >= 1 && grid.y <= 65535 && grid.z >= 1 && grid.z <= 65535;
    bool block_fits = threads >= 1 && threads <= 1024 && block.x <= 1024 && block.y <= 1024 && block.z <= 64;
    if (!grid_fits || !block_fits) {
        return cudaErrorInvalidConfiguration;
    }
    auto limit = shared_limits().find(function);
    if (shared_bytes > (size_t)(limit != shared_limits().end() ? limit->second : SHARED_BYTES)) {
        return cudaErrorInvalidValue;
    }
    return setting("SOFTGPU_NO_KERNEL_IMAGE", 0) != 0 ? cudaErrorNoKernelImageForDevice : cudaSuccess;
}

static void run_kernel(const Launch &launch)
{
    run_grid(launch);
    static bool check = setting("SOFTGPU_CHECK", 0) != 0;
    if (check) {
        check_edges(launch.name.c_str());
    }
}

static bool host_address(uint64_t word)
{
#ifdef SOFTGPU_ASAN
    const uint64_t first = 0x100080000000U; // below lies AddressSanitizer's shadow, which numbers fall into
#else
    const uint64_t first = uint64_t{1} << 32;
#endif
    if (word < first || word >= (uint64_t{1} << 47)) {
        return false;
    }
    const char *pointer = reinterpret_cast<const char *>(word);
    if (where_is(pointer).kind != Kind::pageable) {
        return false;
    }
    unsigned char resident;
    return mincore(reinterpret_cast<void *>(word / 4096 * 4096), 1, &resident) == 0;
}

void check_argument(const char *kernel, int index, const void *argument, size_t bytes)
{
    for (size_t at = 0; at + 8 <= bytes; at += 8) {
        uint64_t word;
        memcpy(&word, static_cast<const char *>(argument) + at, sizeof word);
        if (host_address(word)) {
            die("%s: argument %d holds %p, an address of host memory that is not pinned", kernel, index,
                reinterpret_cast<void *>(word));
        }
        const void *pointer = reinterpret_cast<const void *>(word);
        Where where = where_is(pointer);
        if (where.kind == Kind::device && where.bytes == 0) {
            die("%s: argument %d holds %p, %s", kernel, index, pointer, describe(pointer).c_str());
        }
        if (where.kind == Kind::device && where.device != current_device()) {
            die("%s: argument %d holds %p, memory of device %d, while device %d is current", kernel, index, pointer,
                where.device, current_device());
        }
    }
}

void launch(const char *name, const void *function, dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
            std::function<void()> thread)
{
    Call call("launch");
    if (call.failed()) {
        return;
    }
    cudaError_t error = check_launch(function, grid, block, shared_bytes);
    if (error != cudaSuccess) {
        (void)call.end(error);
        return;
    }
    std::string fault = injected_fault("kernel");
    if (fault == "hang") {
        (void)call.end(enqueue(stream, std::make_shared<Op>(Op{"kernel that hangs", [](bool) { return false; }})));
        return;
    }
    if (!fault.empty()) {
        (void)call.end(
            enqueue(stream, make_op("kernel that fails", [] { set_sticky_error(cudaErrorIllegalAddress); })));
        return;
    }
    Launch what = {name, grid, block, shared_bytes, std::move(thread)};
    (void)call.end(enqueue(stream, make_op(name, [what] { run_kernel(what); })));
}

} // namespace softgpu

using namespace softgpu;

extern "C" {

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    SOFTGPU_CALL("cudaMemcpyAsync");
    Copy c = {static_cast<char *>(dst), bytes, static_cast<const char *>(src), bytes, bytes, 1};
    return call.end(copy(c, kind, stream, false));
}

cudaError_t cudaMemcpy2DAsync(void *dst, size_t dst_pitch, const void *src, size_t src_pitch, size_t width,
                              size_t height, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    SOFTGPU_CALL("cudaMemcpy2DAsync");
    Copy c = {static_cast<char *>(dst), dst_pitch, static_cast<const char *>(src), src_pitch, width, height};
    return call.end(copy(c, kind, stream, false));
}

cudaError_t cudaMemcpy(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind)
{
    SOFTGPU_CALL("cudaMemcpy");
    Copy c = {static_cast<char *>(dst), bytes, static_cast<const char *>(src), bytes, bytes, 1};
    return call.end(copy(c, kind, nullptr, true));
}

cudaError_t cudaMemsetAsync(void *dst, int value, size_t bytes, cudaStream_t stream)
{
    SOFTGPU_CALL("cudaMemsetAsync");
    return call.end(fill(dst, value, bytes, stream));
}

// Device memory is filled some time after the call.
cudaError_t cudaMemset(void *dst, int value, size_t bytes)
{
    SOFTGPU_CALL("cudaMemset");
    return call.end(fill(dst, value, bytes, nullptr));
}

cudaError_t cudaFuncSetAttribute(const void *function, enum cudaFuncAttribute attr, int value)
{
    SOFTGPU_CALL("cudaFuncSetAttribute");
    if (attr == cudaFuncAttributePreferredSharedMemoryCarveout) {
        return call.end(cudaSuccess);
    }
    if (attr != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 || value > SHARED_OPTIN_BYTES) {
        return call.end(cudaErrorInvalidValue);
    }
    shared_limits()[function] = value;
    return call.end(cudaSuccess);
}

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *out, const void *function)
{
    SOFTGPU_CALL("cudaFuncGetAttributes");
    if (setting("SOFTGPU_NO_KERNEL_IMAGE", 0) != 0) {
        return call.end(cudaErrorNoKernelImageForDevice);
    }
    *out = {};
    out->maxThreadsPerBlock = 1024;
    out->numRegs = 32;
    out->ptxVersion = out->binaryVersion = (int)setting("SOFTGPU_SM", 90);
    auto limit = shared_limits().find(function);
    out->maxDynamicSharedSizeBytes = limit != shared_limits().end() ? limit->second : SHARED_BYTES;
    return call.end(cudaSuccess);
}

} // extern "C"
