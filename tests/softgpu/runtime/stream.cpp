// Streams: queues of work, and who runs it when.
#include <unistd.h>

#include "stream.h"

namespace softgpu
{

Handles &handles()
{
    static Handles *the = new Handles;
    return *the;
}

std::vector<cudaStream_t> streams_of(int device)
{
    std::vector<cudaStream_t> found;
    auto own = handles().defaults.find(device);
    if (own != handles().defaults.end()) {
        found.push_back(own->second);
    }
    for (cudaStream_t stream : handles().streams) {
        if (stream->device == device) {
            found.push_back(stream);
        }
    }
    return found;
}

cudaStream_t find_stream(cudaStream_t handle)
{
    if (handle != nullptr) {
        return handles().streams.count(handle) != 0 ? handle : nullptr;
    }
    cudaStream_t &own = handles().defaults[current_device()];
    if (own == nullptr) {
        own = new CUstream_st;
        own->device = current_device();
    }
    return own;
}

OpRef make_op(std::string name, std::function<void()> work)
{
    return std::make_shared<Op>(Op{std::move(name), [work](bool) {
                                       open_memory();
                                       work();
                                       return true;
                                   }});
}

// The default stream waits for the blocking ones, and they for it.
static void join_default(cudaStream_t stream)
{
    cudaStream_t own = find_stream(nullptr);
    if (!stream->blocking || stream->device != own->device) {
        return;
    }
    for (cudaStream_t other : streams_of(stream->device)) {
        bool ordered = other->blocking && other != stream && (stream == own || other == own);
        if (ordered && !other->queue.empty() && !other->running) {
            finish_stream(other);
        }
    }
}

enum { QUEUE_LIMIT = 1024 };

cudaError_t enqueue(cudaStream_t handle, OpRef op)
{
    cudaStream_t stream = find_stream(handle);
    if (stream == nullptr || stream->device != current_device()) {
        return cudaErrorInvalidResourceHandle;
    }
    if (stream->capture != nullptr) {
        if (stream->capture_lost) {
            return cudaErrorStreamCaptureInvalidated;
        }
        stream->capture->ops.push_back(std::move(op));
        return cudaSuccess;
    }
    if (handle == nullptr) {
        for (cudaStream_t other : streams_of(stream->device)) {
            if (other->blocking && other->capture != nullptr) {
                other->capture_lost = true;
                return cudaErrorStreamCaptureImplicit;
            }
        }
    }
    join_default(stream);
    stream->queue.push_back(std::move(op));
    stream->asked = false;
    if (stream->queue.size() > QUEUE_LIMIT) { // a real one makes the host wait, too
        finish_stream(stream);
    }
    return cudaSuccess;
}

static int depth = 0; // of run_stream: one stream may run another's work, for an event

bool run_stream(cudaStream_t stream)
{
    if (stream->running) {
        return false;
    }
    stream->running = true;
    depth++;
    while (!stream->queue.empty() && sticky_error() == cudaSuccess) {
        OpRef op = stream->queue.front();
        bool first = !stream->begun;
        stream->begun = true;
        if (!op->step(first)) {
            break;
        }
        stream->begun = false;
        stream->queue.pop_front();
    }
    if (sticky_error() != cudaSuccess) {
        stream->queue.clear();
        stream->begun = false;
    }
    stream->running = false;
    if (--depth == 0) {
        close_memory();
    }
    return stream->queue.empty();
}

void finish_stream(cudaStream_t stream)
{
    while (!run_stream(stream)) {
        for (cudaStream_t other : streams_of(stream->device)) {
            (void)run_stream(other);
        }
        usleep(50);
    }
}

void finish_device()
{
    for (cudaStream_t stream : streams_of(current_device())) {
        finish_stream(stream);
    }
}

bool is_capturing(cudaStream_t stream)
{
    return stream->capture != nullptr;
}

cudaError_t refuse_in_capture(bool unless_relaxed)
{
    cudaError_t error = cudaSuccess;
    for (cudaStream_t stream : streams_of(current_device())) {
        bool relaxed = unless_relaxed && stream->capture_mode == cudaStreamCaptureModeRelaxed;
        if (stream->capture != nullptr && !relaxed) {
            stream->capture_lost = true;
            error = cudaErrorStreamCaptureUnsupported;
        }
    }
    return error;
}

static cudaError_t create_stream(Call &call, unsigned int flags, cudaStream_t *out)
{
    if (flags > cudaStreamNonBlocking) {
        return call.end(cudaErrorInvalidValue);
    }
    *out = new CUstream_st;
    (*out)->device = current_device();
    (*out)->blocking = flags == cudaStreamDefault;
    handles().streams.insert(*out);
    return call.end(cudaSuccess);
}

// For calls that wait for `stream`: what a capture makes of them.
static cudaError_t refuse_wait(cudaStream_t stream)
{
    if (stream->capture == nullptr) {
        return cudaSuccess;
    }
    stream->capture_lost = true;
    return cudaErrorStreamCaptureUnsupported;
}

} // namespace softgpu

using namespace softgpu;

extern "C" {

cudaError_t cudaStreamCreate(cudaStream_t *out)
{
    SOFTGPU_CALL("cudaStreamCreate");
    return create_stream(call, cudaStreamDefault, out);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned int flags)
{
    SOFTGPU_CALL("cudaStreamCreateWithFlags");
    return create_stream(call, flags, out);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned int flags, int priority)
{
    (void)priority;
    SOFTGPU_CALL("cudaStreamCreateWithPriority");
    return create_stream(call, flags, out);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    SOFTGPU_CALL("cudaStreamDestroy");
    if (stream == nullptr || find_stream(stream) == nullptr) {
        return call.end(cudaErrorInvalidResourceHandle);
    }
    finish_stream(stream);
    handles().streams.erase(stream);
    for (cudaEvent_t event : handles().events) {
        if (event->record != nullptr && event->record->stream == stream) {
            event->record->stream = nullptr;
        }
    }
    delete stream;
    return call.end(cudaSuccess);
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle)
{
    SOFTGPU_CALL("cudaStreamSynchronize");
    cudaStream_t stream = find_stream(handle);
    if (stream == nullptr) {
        return call.end(cudaErrorInvalidResourceHandle);
    }
    cudaError_t refused = refuse_wait(stream);
    if (refused != cudaSuccess) {
        return call.end(refused);
    }
    join_default(stream);
    finish_stream(stream);
    return call.end(cudaSuccess);
}

// The first answer after new work is "not ready": work has begun. The next one finds it done, if nothing holds it up.
cudaError_t cudaStreamQuery(cudaStream_t handle)
{
    SOFTGPU_CALL("cudaStreamQuery");
    cudaStream_t stream = find_stream(handle);
    if (stream == nullptr) {
        return call.end(cudaErrorInvalidResourceHandle);
    }
    cudaError_t refused = refuse_wait(stream);
    if (refused != cudaSuccess) {
        return call.end(refused);
    }
    bool wait = !stream->queue.empty() && !stream->asked;
    stream->asked = true;
    return call.end(wait || !run_stream(stream) ? cudaErrorNotReady : cudaSuccess);
}

cudaError_t cudaDeviceSynchronize(void)
{
    SOFTGPU_CALL("cudaDeviceSynchronize");
    cudaError_t refused = refuse_in_capture(false);
    if (refused != cudaSuccess) {
        return call.end(refused);
    }
    finish_device();
    return call.end(cudaSuccess);
}

cudaError_t cudaDeviceReset(void)
{
    return cudaDeviceSynchronize();
}

} // extern "C"
