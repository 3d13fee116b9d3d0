// Devices, errors, and the frame of every call.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <set>

#include "softgpu.h"

namespace softgpu
{

static const struct {
    const char *name;
    cudaError_t value;
    const char *text;
} errors[] = {
#define SOFTGPU_ERROR_ROW(name, value, text) {#name, name, text},
    SOFTGPU_CUDA_ERRORS(SOFTGPU_ERROR_ROW)
#undef SOFTGPU_ERROR_ROW
};

static std::recursive_mutex &the_lock()
{
    static std::recursive_mutex lock;
    return lock;
}

// No thread-local variable: those of the program are the kernels' shared memory (cuda_runtime.h).
ThreadState &thread_state()
{
    static pthread_key_t key = [] {
        pthread_key_t made;
        if (pthread_key_create(&made, [](void *state) { delete static_cast<ThreadState *>(state); }) != 0) {
            die("no thread key");
        }
        return made;
    }();
    ThreadState *state = static_cast<ThreadState *>(pthread_getspecific(key));
    if (state == nullptr) {
        state = new ThreadState;
        (void)pthread_setspecific(key, state);
    }
    return *state;
}

// --- contexts: what they cost a real GPU in memory, and where it is set so, the right to use it

// Calls that make none.
static const char *const no_context[] = {"cudaGetDeviceCount", "cudaGetDevice", "cudaGetDeviceProperties",
                                         "cudaDeviceGetAttribute", "cudaDeviceGetPCIBusId"};

static std::set<std::string> &contexts()
{
    static std::set<std::string> *the = new std::set<std::string>;
    return *the;
}

static void report_contexts()
{
    std::string line = "softgpu: contexts:";
    for (const std::string &uuid : contexts()) {
        line += " " + uuid;
    }
    (void)fprintf(stderr, "%s\n", line.c_str());
}

static void make_context(int device)
{
    static bool reported = setting("SOFTGPU_CONTEXTS", 0) != 0;
    if (reported && contexts().empty()) {
        (void)atexit(report_contexts);
    }
    if (reported) {
        contexts().insert(device_uuid(device));
    }
}

static bool makes_context(const char *function)
{
    bool looks = strncmp(function, "nccl", 4) == 0; // NCCL sees to that itself
    for (const char *name : no_context) {
        looks = looks || strcmp(name, function) == 0;
    }
    return !looks;
}

// FNV-1a, 64 bits.
static uint64_t hash(const std::string &text)
{
    uint64_t h = 0xcbf29ce484222325U;
    for (char c : text) {
        h = (h ^ (unsigned char)c) * 0x100000001b3U;
    }
    return h;
}

static cudaUUID_t physical_uuid(int device)
{
    char host[256] = "";
    (void)gethostname(host, sizeof host - 1);
    cudaUUID_t uuid;
    uint64_t halves[2] = {hash(std::string(host) + " softgpu"), hash(std::string(host) + " " + std::to_string(device))};
    memcpy(uuid.bytes, halves, sizeof uuid.bytes);
    return uuid;
}

static std::string uuid_text(const cudaUUID_t &uuid)
{
    std::string text = "GPU-";
    for (int i = 0; i < 16; i++) {
        char digits[4];
        (void)snprintf(digits, sizeof digits, "%02x", (unsigned)(unsigned char)uuid.bytes[i]);
        text += i == 4 || i == 6 || i == 8 || i == 10 ? std::string("-") + digits : digits;
    }
    return text;
}

// The devices of the machine that this process sees: up to the first word of CUDA_VISIBLE_DEVICES that names none.
static const std::vector<int> &visible()
{
    static std::vector<int> devices = [] {
        std::vector<int> found;
        int count = (int)setting("SOFTGPU_DEVICES", 2);
        const char *list = getenv("CUDA_VISIBLE_DEVICES");
        if (list == nullptr) {
            for (int i = 0; i < count; i++) {
                found.push_back(i);
            }
            return found;
        }
        for (std::string rest = list; !rest.empty();) {
            std::string word = rest.substr(0, rest.find(','));
            rest.erase(0, word.size() + 1);
            int device = -1;
            for (int i = 0; i < count && device < 0; i++) {
                bool by_uuid = word.size() > 4 && uuid_text(physical_uuid(i)).compare(0, word.size(), word) == 0;
                device = by_uuid || word == std::to_string(i) ? i : -1;
            }
            if (device < 0) {
                break;
            }
            found.push_back(device);
        }
        return found;
    }();
    return devices;
}

int device_count()
{
    return (int)visible().size();
}

int current_device()
{
    return thread_state().device;
}

std::string device_uuid(int device)
{
    return uuid_text(physical_uuid(visible()[(size_t)device]));
}

static cudaError_t &sticky()
{
    static cudaError_t error = cudaSuccess;
    return error;
}

cudaError_t sticky_error()
{
    return sticky();
}

void set_sticky_error(cudaError_t error)
{
    sticky() = error;
}

static cudaError_t error_named(const std::string &name, const char *function)
{
    if (name == "default") {
        return std::string(function).find("Malloc") != std::string::npos ||
                       std::string(function).find("HostAlloc") != std::string::npos
                   ? cudaErrorMemoryAllocation
                   : cudaErrorUnknown;
    }
    for (const auto &error : errors) {
        if (name == error.name || name == std::to_string((int)error.value)) {
            return error.value;
        }
    }
    die("SOFTGPU_FAIL: %s is no error of CUDA", name.c_str());
}

Call::Call(const char *function) : lock_(the_lock())
{
    install_segv_handler();
    static bool old_driver = setting("SOFTGPU_DRIVER", CUDART_VERSION) / 1000 < CUDART_VERSION / 1000;
    std::string fault = injected_fault(function);
    if (!fault.empty()) {
        error_ = end(error_named(fault, function));
    } else if (old_driver) {
        error_ = end(cudaErrorInsufficientDriver);
    } else if (device_count() == 0) {
        error_ = end(cudaErrorNoDevice);
    } else if (sticky() != cudaSuccess) {
        error_ = end(sticky());
    } else if (makes_context(function) && strcmp(function, "cudaSetDevice") != 0) {
        make_context(thread_state().device);
    }
}

cudaError_t Call::end(cudaError_t error)
{
    if (error != cudaSuccess) {
        thread_state().last_error = error;
    } else if (sticky() != cudaSuccess) {
        error = thread_state().last_error = sticky();
    }
    return error;
}

} // namespace softgpu

using namespace softgpu;

enum { SHARED_BYTES = 48 << 10, SHARED_OPTIN_BYTES = 227 << 10, PROCESSORS = 4 };

static size_t memory_bytes()
{
    return (size_t)setting("SOFTGPU_MEMORY", 2L << 30);
}

extern "C" {

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 0;
    SOFTGPU_CALL("cudaGetDeviceCount");
    *count = device_count();
    return call.end(cudaSuccess);
}

cudaError_t cudaSetDevice(int device)
{
    SOFTGPU_CALL("cudaSetDevice");
    if (device < 0 || device >= device_count()) {
        return call.end(cudaErrorInvalidDevice);
    }
    thread_state().device = device;
    make_context(device); // since CUDA 12
    return call.end(cudaSuccess);
}

cudaError_t cudaGetDevice(int *device)
{
    SOFTGPU_CALL("cudaGetDevice");
    *device = current_device();
    return call.end(cudaSuccess);
}

cudaError_t cudaSetDeviceFlags(unsigned int flags)
{
    SOFTGPU_CALL("cudaSetDeviceFlags");
    return call.end(flags > 15 ? cudaErrorInvalidValue : cudaSuccess);
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *prop, int device)
{
    SOFTGPU_CALL("cudaGetDeviceProperties");
    if (device < 0 || device >= device_count()) {
        return call.end(cudaErrorInvalidDevice);
    }
    cudaDeviceProp p = {};
    long sm = setting("SOFTGPU_SM", 90);
    const char *name = getenv("SOFTGPU_NAME");
    (void)snprintf(p.name, sizeof p.name, "%s", name != nullptr ? name : "Software GPU");
    p.uuid = physical_uuid(visible()[(size_t)device]);
    p.totalGlobalMem = memory_bytes();
    p.sharedMemPerBlock = SHARED_BYTES;
    p.sharedMemPerBlockOptin = SHARED_OPTIN_BYTES;
    p.sharedMemPerMultiprocessor = SHARED_OPTIN_BYTES + 1024;
    p.regsPerBlock = p.regsPerMultiprocessor = 65536;
    p.warpSize = 32;
    p.maxThreadsPerBlock = 1024;
    p.maxThreadsDim[0] = p.maxThreadsDim[1] = 1024;
    p.maxThreadsDim[2] = 64;
    p.maxGridSize[0] = 2147483647;
    p.maxGridSize[1] = p.maxGridSize[2] = 65535;
    p.major = (int)(sm / 10);
    p.minor = (int)(sm % 10);
    p.multiProcessorCount = PROCESSORS;
    p.pciBusID = visible()[(size_t)device] + 1;
    p.unifiedAddressing = 1;
    p.memoryBusWidth = 64;
    p.l2CacheSize = 1 << 20;
    p.maxThreadsPerMultiProcessor = 2048;
    *prop = p;
    return call.end(cudaSuccess);
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attr, int device)
{
    cudaDeviceProp p;
    cudaError_t error = cudaGetDeviceProperties(&p, device);
    SOFTGPU_CALL("cudaDeviceGetAttribute");
    if (error != cudaSuccess) {
        return error;
    }
    switch (attr) {
    case cudaDevAttrMaxThreadsPerBlock: *value = p.maxThreadsPerBlock; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = (int)p.sharedMemPerBlock; break;
    case cudaDevAttrWarpSize: *value = p.warpSize; break;
    case cudaDevAttrMultiProcessorCount: *value = p.multiProcessorCount; break;
    case cudaDevAttrL2CacheSize: *value = p.l2CacheSize; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = p.maxThreadsPerMultiProcessor; break;
    case cudaDevAttrComputeCapabilityMajor: *value = p.major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = p.minor; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = (int)p.sharedMemPerBlockOptin; break;
    default: return call.end(cudaErrorInvalidValue);
    }
    return call.end(cudaSuccess);
}

cudaError_t cudaDeviceGetPCIBusId(char *out, int len, int device)
{
    SOFTGPU_CALL("cudaDeviceGetPCIBusId");
    if (device < 0 || device >= device_count()) {
        return call.end(cudaErrorInvalidDevice);
    }
    (void)snprintf(out, (size_t)len, "0000:%02X:00.0", (unsigned)visible()[(size_t)device] + 1);
    return call.end(cudaSuccess);
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = (int)setting("SOFTGPU_DRIVER", CUDART_VERSION);
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    SOFTGPU_CALL("cudaMemGetInfo");
    size_t used = allocated_bytes(current_device());
    *total_bytes = memory_bytes();
    *free_bytes = *total_bytes - (used < *total_bytes ? used : *total_bytes);
    return call.end(cudaSuccess);
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = cudaPeekAtLastError();
    thread_state().last_error = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError(void)
{
    return sticky_error() != cudaSuccess ? sticky_error() : thread_state().last_error;
}

const char *cudaGetErrorString(cudaError_t error)
{
    for (const auto &one : errors) {
        if (one.value == error) {
            return one.text;
        }
    }
    return "unrecognized error code";
}

const char *cudaGetErrorName(cudaError_t error)
{
    for (const auto &one : errors) {
        if (one.value == error) {
            return one.name;
        }
    }
    return "unrecognized error code";
}

} // extern "C"
