// test_softgpu_self: the software GPU does what a GPU does, and answers mistakes with the errors of CUDA.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <vector>

#include "kernels/cuda/launch.cuh"
#include <cuda_bf16.h>
#include <cuda_fp16.h>

static int failures;

#define CHECK(condition)                                                   \
    do {                                                                   \
        if (!(condition)) {                                                \
            printf("%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
            failures++;                                                    \
        }                                                                  \
    } while (0)
#define EXPECT(error, call)                                                                                     \
    do {                                                                                                        \
        cudaError_t got = (call);                                                                               \
        if (got != (error)) {                                                                                   \
            printf("%s:%d: %s is %s, expected %s\n", __FILE__, __LINE__, #call, cudaGetErrorName(got), #error); \
            failures++;                                                                                         \
        }                                                                                                       \
        (void)cudaGetLastError();                                                                               \
    } while (0)
#define GOOD(call) EXPECT(cudaSuccess, call)

static const unsigned ALL = 0xffffffffU;

// --- kernels

static __global__ void number(int *out, int n)
{
    int block = (int)(blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z));
    int thread = (int)(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z));
    int i = block * (int)(blockDim.x * blockDim.y * blockDim.z) + thread;
    if (i < n) {
        out[i] = i;
    }
}

static __global__ void reverse(int *x)
{
    LW_DYNAMIC_SHARED(int, tile);
    tile[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = tile[blockDim.x - 1 - threadIdx.x];
}

template <typename T> static __global__ void sum(const T *x, T *out)
{
    __shared__ T part[32];
    T value = x[blockIdx.x * blockDim.x + threadIdx.x];
    for (int lanes = 16; lanes > 0; lanes /= 2) {
        value += __shfl_xor_sync(ALL, value, lanes);
    }
    if (threadIdx.x % 32 == 0) {
        part[threadIdx.x / 32] = value;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        T total = 0;
        for (unsigned w = 0; w < blockDim.x / 32; w++) {
            total += part[w];
        }
        out[blockIdx.x] = total;
    }
}

static __global__ void warps(int *out)
{
    int lane = (int)threadIdx.x;
    int *mine = out + lane;
    mine[0] = __shfl_down_sync(ALL, lane, 3);
    mine[32] = __shfl_up_sync(ALL, lane, 3);
    mine[64] = __shfl_sync(ALL, lane, 5);
    mine[96] = __shfl_xor_sync(ALL, lane, 1);
    mine[128] = __shfl_down_sync(ALL, lane, 1, 8);
    mine[160] = (int)__ballot_sync(ALL, lane % 3 == 0);
    mine[192] = __any_sync(ALL, lane == 7) * 2 + __all_sync(ALL, lane < 31);
    if (lane < 16) { // half a warp meets, the other half is elsewhere
        mine[224] = __shfl_sync(0xffffU, lane, 2);
    } else {
        mine[224] = __shfl_sync(0xffff0000U, lane, 30);
    }
    __syncwarp();
}

static __global__ void count(int *counter)
{
    atomicAdd(counter, 1);
}

static __global__ void add(float *x, float by)
{
    x[threadIdx.x] += by;
}

// Writes what nobody wrote: what is there before a block begins.
static __global__ void unwritten(float *out)
{
    __shared__ float fixed[8];
    LW_DYNAMIC_SHARED(float, dynamic);
    out[0] = fixed[3];
    out[1] = dynamic[3];
    fixed[3] = dynamic[3] = 1.0f;
}

// The last to come wins: right only for one order of blocks, or of threads.
static __global__ void race(int *out)
{
    __shared__ int last;
    last = (int)threadIdx.x;
    out[0] = (int)blockIdx.x;
    __syncthreads();
    out[1] = last;
}

// --- tests

static std::vector<int> fetch(const int *device, size_t n)
{
    std::vector<int> host(n);
    GOOD(cudaMemcpy(host.data(), device, n * sizeof(int), cudaMemcpyDeviceToHost));
    return host;
}

static void check_kernels()
{
    int *x = nullptr;
    const int n = 3 * 2 * 2 * 8 * 4 * 2;
    GOOD(cudaMalloc(&x, n * sizeof(int)));
    LW_LAUNCH(number, dim3(3, 2, 2), dim3(8, 4, 2), 0, nullptr, x, n);
    GOOD(cudaGetLastError());
    std::vector<int> host = fetch(x, n);
    for (int i = 0; i < n; i++) {
        CHECK(host[(size_t)i] == i);
    }
    LW_LAUNCH(reverse, 1, 300, 300 * sizeof(int), nullptr, x);
    host = fetch(x, 300);
    for (int i = 0; i < 300; i++) {
        CHECK(host[(size_t)i] == 299 - i);
    }
    LW_LAUNCH(warps, 1, 32, 0, nullptr, x);
    host = fetch(x, 256);
    for (int l = 0; l < 32; l++) {
        const int *mine = host.data() + l;
        CHECK(mine[0] == (l + 3 < 32 ? l + 3 : l) && mine[32] == (l >= 3 ? l - 3 : l));
        CHECK(mine[64] == 5 && mine[96] == (l ^ 1) && mine[128] == (l % 8 < 7 ? l + 1 : l));
        CHECK(mine[160] == (int)0x49249249U && mine[192] == 2 && mine[224] == (l < 16 ? 2 : 30));
    }
    GOOD(cudaMemset(x, 0, sizeof(int)));
    LW_LAUNCH(count, 100, 96, 0, nullptr, x);
    CHECK(fetch(x, 1)[0] == 9600);
    GOOD(cudaFree(x));

    double *d = nullptr;
    std::vector<double> values(4 * 1024);
    for (size_t i = 0; i < values.size(); i++) {
        values[i] = (double)i;
    }
    GOOD(cudaMalloc(&d, (values.size() + 4) * sizeof *d));
    GOOD(cudaMemcpy(d, values.data(), values.size() * sizeof *d, cudaMemcpyHostToDevice));
    LW_LAUNCH((sum<double>), 4, 1024, 0, nullptr, d, d + 4096);
    GOOD(cudaMemcpy(values.data(), d + 4096, 4 * sizeof *d, cudaMemcpyDeviceToHost));
    for (int b = 0; b < 4; b++) {
        CHECK(values[(size_t)b] == 1024.0 * (1024.0 * b + 511.5));
    }
    GOOD(cudaFree(d));
}

static void check_poison()
{
    float *x = nullptr, host[2] = {0, 0};
    GOOD(cudaMalloc(&x, sizeof host));
    GOOD(cudaMemcpy(host, x, sizeof host, cudaMemcpyDeviceToHost));
    CHECK(isnan(host[0]) && isnan(host[1]));
    for (int i = 0; i < 2; i++) {
        GOOD(cudaMemset(x, 0, sizeof host));
        LW_LAUNCH(unwritten, 3, 1, 64, nullptr, x);
        GOOD(cudaMemcpy(host, x, sizeof host, cudaMemcpyDeviceToHost));
        CHECK(isnan(host[0]) && isnan(host[1]));
    }
    GOOD(cudaFree(x));
}

static void check_launch_errors()
{
    int *x = nullptr;
    GOOD(cudaMalloc(&x, 4096));
    const struct {
        dim3 grid, block;
        size_t shared;
        cudaError_t error;
    } cases[] = {
        {1, 1025, 0, cudaErrorInvalidConfiguration},
        {1, 0, 0, cudaErrorInvalidConfiguration},
        {0, 32, 0, cudaErrorInvalidConfiguration},
        {dim3(1, 65536), 32, 0, cudaErrorInvalidConfiguration},
        {dim3(1, 1, 65536), 1, 0, cudaErrorInvalidConfiguration},
        {1, dim3(1, 1, 65), 0, cudaErrorInvalidConfiguration},
        {1, dim3(64, 32), 0, cudaErrorInvalidConfiguration},
        {1, 32, 49153, cudaErrorInvalidValue},
        {dim3(1, 65535), 1, 0, cudaSuccess},
    };
    for (const auto &c : cases) {
        LW_LAUNCH(number, c.grid, c.block, c.shared, nullptr, x, 0);
        cudaError_t peeked = cudaPeekAtLastError();
        CHECK(peeked == c.error);
        EXPECT(peeked, cudaGetLastError());
        GOOD(cudaGetLastError());
    }
    EXPECT(cudaErrorInvalidValue, cudaFuncSetAttribute(reverse, cudaFuncAttributeMaxDynamicSharedMemorySize, 232449));
    GOOD(cudaFuncSetAttribute(reverse, cudaFuncAttributeMaxDynamicSharedMemorySize, 232448));
    LW_LAUNCH(reverse, 1, 32, 232448, nullptr, x);
    GOOD(cudaDeviceSynchronize());
    GOOD(cudaFree(x));
}

static void check_memory()
{
    size_t available = 0, total = 0, before = 0;
    char *x = nullptr, *y = nullptr;
    GOOD(cudaMemGetInfo(&before, &total));
    GOOD(cudaMalloc(&x, 1000));
    GOOD(cudaMemGetInfo(&available, &total));
    CHECK((uintptr_t)x % 256 == 0 && available == before - 1000);
    EXPECT(cudaErrorMemoryAllocation, cudaMalloc(&y, total));
    CHECK(y == nullptr);
    EXPECT(cudaErrorInvalidValue, cudaFree(x + 1));
    GOOD(cudaFree(x));
    EXPECT(cudaErrorInvalidValue, cudaFree(x));
    GOOD(cudaFree(nullptr));
    GOOD(cudaMalloc(&x, 0));
    CHECK(x == nullptr);
    int local = 0;
    EXPECT(cudaErrorInvalidValue, cudaFree(&local));
    EXPECT(cudaErrorInvalidValue, cudaFreeHost(&local));
    EXPECT(cudaErrorInvalidValue, cudaMemset(&local, 0, sizeof local));
    EXPECT(cudaErrorInvalidValue, cudaMemcpy(&local, &failures, sizeof local, cudaMemcpyHostToDevice));
}

// Work waits: a host that does not wait sees the past, and one that is early changes the future.
static void check_laziness()
{
    cudaStream_t stream = nullptr;
    float *device = nullptr, *pinned = nullptr, pageable = 1.0f;
    GOOD(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    GOOD(cudaMalloc(&device, sizeof(float)));
    GOOD(cudaMallocHost(&pinned, 2 * sizeof(float)));
    pinned[0] = 1.0f;
    pinned[1] = 0.0f;
    GOOD(cudaMemcpyAsync(device, pinned, sizeof(float), cudaMemcpyHostToDevice, stream));
    LW_LAUNCH(add, 1, 1, 0, stream, device, 1.0f);
    GOOD(cudaMemcpyAsync(pinned + 1, device, sizeof(float), cudaMemcpyDeviceToHost, stream));
    CHECK(pinned[1] == 0.0f);
    pinned[0] = 5.0f;
    EXPECT(cudaErrorNotReady, cudaStreamQuery(stream));
    GOOD(cudaStreamQuery(stream));
    CHECK(pinned[1] == 6.0f);
    GOOD(cudaMemcpyAsync(device, &pageable, sizeof(float), cudaMemcpyHostToDevice, stream));
    pageable = 7.0f; // too late
    GOOD(cudaMemcpyAsync(&pageable, device, sizeof(float), cudaMemcpyDeviceToHost, stream));
    CHECK(pageable == 1.0f);
    GOOD(cudaFreeHost(pinned));
    GOOD(cudaFree(device));
    GOOD(cudaStreamDestroy(stream));
    EXPECT(cudaErrorInvalidResourceHandle, cudaStreamSynchronize(stream));
    EXPECT(cudaErrorInvalidResourceHandle, cudaStreamDestroy(stream));
}

static void check_events()
{
    cudaStream_t one = nullptr, two = nullptr;
    cudaEvent_t start = nullptr, end = nullptr, untimed = nullptr;
    float *x = nullptr, *pinned = nullptr, ms = -1.0f;
    GOOD(cudaStreamCreateWithFlags(&one, cudaStreamNonBlocking));
    GOOD(cudaStreamCreateWithFlags(&two, cudaStreamNonBlocking));
    GOOD(cudaEventCreate(&start));
    GOOD(cudaEventCreate(&end));
    GOOD(cudaEventCreateWithFlags(&untimed, cudaEventDisableTiming));
    GOOD(cudaMalloc(&x, sizeof(float)));
    GOOD(cudaMallocHost(&pinned, sizeof(float)));
    GOOD(cudaEventQuery(untimed)); // never recorded
    GOOD(cudaEventRecord(start, one));
    GOOD(cudaMemsetAsync(x, 0, sizeof(float), one));
    LW_LAUNCH(add, 1, 1, 0, one, x, 3.0f);
    GOOD(cudaEventRecord(end, one));
    EXPECT(cudaErrorNotReady, cudaEventElapsedTime(&ms, start, end));
    EXPECT(cudaErrorInvalidResourceHandle, cudaEventElapsedTime(&ms, start, untimed));
    // Without the event the second stream would copy before the first has done anything.
    GOOD(cudaMemcpyAsync(pinned, x, sizeof(float), cudaMemcpyDeviceToHost, two));
    GOOD(cudaStreamSynchronize(two));
    CHECK(isnan(*pinned));
    GOOD(cudaStreamWaitEvent(two, end));
    GOOD(cudaMemcpyAsync(pinned, x, sizeof(float), cudaMemcpyDeviceToHost, two));
    GOOD(cudaStreamSynchronize(two));
    CHECK(*pinned == 3.0f);
    GOOD(cudaEventElapsedTime(&ms, start, end));
    CHECK(ms >= 0.0f);
    GOOD(cudaEventRecord(untimed, one));
    EXPECT(cudaErrorNotReady, cudaEventQuery(untimed));
    GOOD(cudaEventSynchronize(untimed));
    GOOD(cudaEventQuery(untimed));
    GOOD(cudaEventDestroy(start));
    GOOD(cudaEventDestroy(end));
    GOOD(cudaEventDestroy(untimed));
    EXPECT(cudaErrorInvalidResourceHandle, cudaEventDestroy(untimed));
    GOOD(cudaStreamDestroy(one));
    GOOD(cudaStreamDestroy(two));
    GOOD(cudaFree(x));
    GOOD(cudaFreeHost(pinned));
}

static void check_graphs()
{
    cudaStream_t stream = nullptr;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    cudaStreamCaptureStatus status;
    float *x = nullptr, *y = nullptr, host = 0.0f;
    GOOD(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    GOOD(cudaMalloc(&x, sizeof(float)));
    GOOD(cudaMemset(x, 0, sizeof(float)));
    GOOD(cudaDeviceSynchronize());
    GOOD(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    LW_LAUNCH(add, 1, 1, 0, stream, x, 1.0f);
    LW_LAUNCH(add, 1, 1, 0, stream, x, 10.0f);
    GOOD(cudaStreamIsCapturing(stream, &status));
    CHECK(status == cudaStreamCaptureStatusActive);
    GOOD(cudaStreamEndCapture(stream, &graph));
    GOOD(cudaGraphInstantiate(&exec, graph));
    GOOD(cudaGraphDestroy(graph));
    GOOD(cudaGraphLaunch(exec, stream));
    GOOD(cudaGraphLaunch(exec, stream));
    GOOD(cudaMemcpyAsync(&host, x, sizeof(float), cudaMemcpyDeviceToHost, stream));
    CHECK(host == 22.0f);
    GOOD(cudaGraphExecDestroy(exec));
    EXPECT(cudaErrorInvalidValue, cudaGraphLaunch(exec, stream));

    for (int forbidden = 0; forbidden < 6; forbidden++) { // each of these loses the capture
        GOOD(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
        cudaError_t error = forbidden == 0   ? cudaMalloc(&y, 16)
                            : forbidden == 1 ? cudaStreamSynchronize(stream)
                            : forbidden == 2 ? cudaStreamQuery(stream)
                            : forbidden == 3 ? cudaMemcpyAsync(x, &host, 4, cudaMemcpyHostToDevice, stream)
                            : forbidden == 4 ? cudaFree(x)
                                             : cudaDeviceSynchronize();
        EXPECT(cudaErrorStreamCaptureUnsupported, error);
        EXPECT(cudaErrorStreamCaptureInvalidated, cudaStreamEndCapture(stream, &graph));
        CHECK(graph == nullptr);
    }
    EXPECT(cudaErrorInvalidValue, cudaStreamEndCapture(stream, &graph));
    GOOD(cudaStreamDestroy(stream));
    GOOD(cudaFree(x));
}

// With another SOFTGPU_ORDER the script expects another line.
static void print_race()
{
    int *x = nullptr;
    GOOD(cudaMalloc(&x, 2 * sizeof(int)));
    LW_LAUNCH(race, 50, 64, 0, nullptr, x);
    std::vector<int> host = fetch(x, 2);
    printf("race: block %d, thread %d\n", host[0], host[1]);
    GOOD(cudaFree(x));
}

static void check_types()
{
    CHECK(__bfloat162float(__float2bfloat16_rn(1.00390625f)) == 1.0f);      // a tie goes to even
    CHECK(__bfloat162float(__float2bfloat16_rn(1.01171875f)) == 1.015625f); // up
    CHECK(isnan(__bfloat162float(__float2bfloat16_rn(NAN))) && isinf(__bfloat162float(__float2bfloat16_rn(3.4e38f))));
    for (unsigned bits = 0; bits < 65536; bits++) { // every f16 comes back
        float wide = __half2float(__ushort_as_half((unsigned short)bits));
        CHECK(isnan(wide) || __half_as_ushort(__float2half_rn(wide)) == bits);
    }
    CHECK(__half2float(__float2half_rn(65519.0f)) == 65504.0f && isinf(__half2float(__float2half_rn(65520.0f))));
    CHECK(__half2float(__float2half_rn(0x1.8p-25f)) == 0x1p-24f && __half2float(__float2half_rn(0x1p-25f)) == 0.0f);
    CHECK(__half2float(__float2half_rn(1.0f + 0x1p-11f)) == 1.0f);
}

int main()
{
    check_types();
    check_kernels();
    check_poison();
    check_launch_errors();
    check_memory();
    check_laziness();
    check_events();
    check_graphs();
    print_race();
    printf("%d failed\n", failures);
    return failures > 0;
}
