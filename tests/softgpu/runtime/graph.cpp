// Events, capture and graphs.
#include <unistd.h>

#include "stream.h"

using namespace softgpu;

extern "C" {

// --- events

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned int flags)
{
    SOFTGPU_CALL("cudaEventCreateWithFlags");
    if (flags > (cudaEventBlockingSync | cudaEventDisableTiming)) {
        return call.end(cudaErrorInvalidValue);
    }
    *out = new CUevent_st;
    (*out)->timing = (flags & cudaEventDisableTiming) == 0;
    handles().events.insert(*out);
    return call.end(cudaSuccess);
}

cudaError_t cudaEventCreate(cudaEvent_t *out)
{
    return cudaEventCreateWithFlags(out, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    SOFTGPU_CALL("cudaEventDestroy");
    if (handles().events.erase(event) == 0) {
        return call.end(cudaErrorInvalidResourceHandle);
    }
    delete event; // what waits for it holds its record
    return call.end(cudaSuccess);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle)
{
    SOFTGPU_CALL("cudaEventRecord");
    cudaStream_t stream = find_stream(handle);
    if (stream == nullptr || handles().events.count(event) == 0) {
        return call.end(cudaErrorInvalidResourceHandle);
    }
    auto record = std::make_shared<CUevent_st::Record>();
    record->stream = stream;
    record->capture = stream->capture;
    event->record = record;
    if (record->capture != nullptr) {
        return call.end(stream->capture_lost ? cudaErrorStreamCaptureInvalidated : cudaSuccess);
    }
    return call.end(enqueue(handle, std::make_shared<Op>(Op{"event", [record](bool) {
                                                                record->time_s = now_s();
                                                                record->done = true;
                                                                return true;
                                                            }})));
}

// Runs what the record stands behind.
static bool reach(const std::shared_ptr<CUevent_st::Record> &record)
{
    if (!record->done && record->stream != nullptr) {
        (void)run_stream(record->stream);
    }
    return record->done;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned int flags)
{
    SOFTGPU_CALL("cudaStreamWaitEvent");
    cudaStream_t stream = find_stream(handle);
    if (stream == nullptr || handles().events.count(event) == 0) {
        return call.end(cudaErrorInvalidResourceHandle);
    }
    std::shared_ptr<CUevent_st::Record> record = event->record;
    if (flags != 0) {
        return call.end(cudaErrorInvalidValue);
    }
    if (record == nullptr) {
        return call.end(cudaSuccess); // never recorded: nothing to wait for
    }
    if (record->capture != nullptr) {
        if (stream->capture == nullptr) { // joins the capture, which keeps the order of calls
            stream->capture = record->capture;
            stream->capture_lost = false;
        }
        return call.end(stream->capture == record->capture ? cudaSuccess : cudaErrorCapturedEvent);
    }
    if (stream->capture != nullptr) {
        stream->capture_lost = true; // on work outside of the capture
        return call.end(cudaErrorStreamCaptureUnsupported);
    }
    return call.end(enqueue(handle, std::make_shared<Op>(Op{"wait", [record](bool) { return reach(record); }})));
}

static cudaError_t event_state(cudaEvent_t event, bool wait)
{
    if (handles().events.count(event) == 0) {
        return cudaErrorInvalidResourceHandle;
    }
    std::shared_ptr<CUevent_st::Record> record = event->record;
    if (record == nullptr) {
        return cudaSuccess;
    }
    if (record->capture != nullptr) {
        if (record->stream != nullptr && record->stream->capture == record->capture) {
            record->stream->capture_lost = true;
        }
        return cudaErrorCapturedEvent;
    }
    while (wait && !reach(record) && sticky_error() == cudaSuccess) {
        usleep(50);
    }
    if (!wait && !record->done && record->stream != nullptr && !record->stream->asked) {
        record->stream->asked = true;
        return cudaErrorNotReady;
    }
    return reach(record) ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    SOFTGPU_CALL("cudaEventQuery");
    return call.end(event_state(event, false));
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    SOFTGPU_CALL("cudaEventSynchronize");
    return call.end(event_state(event, true));
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
    SOFTGPU_CALL("cudaEventElapsedTime");
    bool known = handles().events.count(start) != 0 && handles().events.count(end) != 0;
    if (!known || !start->timing || !end->timing || start->record == nullptr || end->record == nullptr) {
        return call.end(cudaErrorInvalidResourceHandle);
    }
    if (!start->record->done || !end->record->done) {
        return call.end(cudaErrorNotReady);
    }
    *ms = (float)((end->record->time_s - start->record->time_s) * 1e3);
    return call.end(cudaSuccess);
}

// --- capture and graphs: the recorded work in the order of the calls

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    SOFTGPU_CALL("cudaStreamBeginCapture");
    if (stream == nullptr) {
        return call.end(cudaErrorStreamCaptureUnsupported);
    }
    if (find_stream(stream) == nullptr) {
        return call.end(cudaErrorInvalidResourceHandle);
    }
    if (stream->capture != nullptr) {
        return call.end(cudaErrorInvalidValue);
    }
    stream->capture = std::make_shared<CUgraph_st>();
    stream->capture_origin = true;
    stream->capture_lost = false;
    stream->capture_mode = mode;
    return call.end(cudaSuccess);
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out)
{
    SOFTGPU_CALL("cudaStreamEndCapture");
    *out = nullptr;
    if (stream == nullptr || find_stream(stream) == nullptr) {
        return call.end(cudaErrorInvalidResourceHandle);
    }
    if (stream->capture == nullptr || !stream->capture_origin) {
        return call.end(stream->capture == nullptr ? cudaErrorInvalidValue : cudaErrorStreamCaptureUnmatched);
    }
    std::shared_ptr<CUgraph_st> graph = stream->capture;
    bool lost = false;
    for (cudaStream_t one : streams_of(stream->device)) {
        if (one->capture == graph) {
            lost = lost || one->capture_lost;
            one->capture = nullptr;
            one->capture_origin = false;
        }
    }
    if (lost) {
        return call.end(cudaErrorStreamCaptureInvalidated);
    }
    *out = new CUgraph_st(*graph);
    handles().graphs.insert(*out);
    return call.end(cudaSuccess);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, enum cudaStreamCaptureStatus *out)
{
    SOFTGPU_CALL("cudaStreamIsCapturing");
    cudaStream_t stream = find_stream(handle);
    if (stream == nullptr) {
        return call.end(cudaErrorInvalidResourceHandle);
    }
    *out = stream->capture == nullptr ? cudaStreamCaptureStatusNone
           : stream->capture_lost     ? cudaStreamCaptureStatusInvalidated
                                      : cudaStreamCaptureStatusActive;
    return call.end(cudaSuccess);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long flags)
{
    SOFTGPU_CALL("cudaGraphInstantiate");
    (void)flags;
    if (handles().graphs.count(graph) == 0) {
        return call.end(cudaErrorInvalidValue);
    }
    *out = new CUgraphExec_st{graph->ops};
    handles().execs.insert(*out);
    return call.end(cudaSuccess);
}

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t stream)
{
    SOFTGPU_CALL("cudaGraphUpload");
    bool known = handles().execs.count(exec) != 0 && find_stream(stream) != nullptr;
    return call.end(known ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count)
{
    SOFTGPU_CALL("cudaGraphGetNodes");
    if (handles().graphs.count(graph) == 0) {
        return call.end(cudaErrorInvalidValue);
    }
    if (nodes != nullptr) {
        return call.end(cudaErrorNotSupported);
    }
    *count = graph->ops.size();
    return call.end(cudaSuccess);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    SOFTGPU_CALL("cudaGraphLaunch");
    if (handles().execs.count(exec) == 0) {
        return call.end(cudaErrorInvalidValue);
    }
    auto ops = std::make_shared<std::vector<OpRef>>(exec->ops);
    size_t next = 0;
    bool begun = false;
    auto step = [ops, next, begun](bool first) mutable {
        if (first) {
            next = 0;
            begun = false;
        }
        while (next < ops->size()) {
            bool starts = !begun;
            begun = true;
            if (!(*ops)[next]->step(starts)) {
                return false;
            }
            begun = false;
            next++;
        }
        return true;
    };
    return call.end(enqueue(stream, std::make_shared<Op>(Op{"graph", step})));
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    SOFTGPU_CALL("cudaGraphExecDestroy");
    if (handles().execs.erase(exec) == 0) {
        return call.end(cudaErrorInvalidValue);
    }
    delete exec;
    return call.end(cudaSuccess);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    SOFTGPU_CALL("cudaGraphDestroy");
    if (handles().graphs.erase(graph) == 0) {
        return call.end(cudaErrorInvalidValue);
    }
    delete graph;
    return call.end(cudaSuccess);
}

} // extern "C"
