// random.cu: the normal numbers of src/core/random.c on the device. A number is a function of seed, stream and counter,
// so the element's index is all the state there is.
#include "cuda_internal.cuh"

// Finaliser of SplitMix64 (Steele, Lea & Flood 2014; variant 13 of Stafford).
__device__ __forceinline__ uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

#define GOLDEN UINT64_C(0x9E3779B97F4A7C15)

// lw_random_uniform: [0, 1), 53 bits. key: of seed and stream.
__device__ __forceinline__ double uniform(uint64_t key, uint64_t counter)
{
    const uint64_t bits = mix(mix(key + GOLDEN * (counter + 1)) ^ (key * GOLDEN));
    return (double)(bits >> 11) * 0x1p-53;
}

__device__ __forceinline__ uint64_t key_of(uint64_t seed, uint64_t stream)
{
    return mix(mix(seed + GOLDEN) ^ (stream + UINT64_C(0xD1B54A32D192ED03)));
}

// Box & Muller 1958, in double as on the host.
template <typename T>
__global__ void random_elements(int64_t n, uint64_t seed, uint64_t stream, float mean, float std, T *out)
{
    const uint64_t key = key_of(seed, stream);
    const int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
        const double radius = 1.0 - uniform(key, 2 * (uint64_t)i); // (0, 1]
        const double angle = uniform(key, 2 * (uint64_t)i + 1);
        const double normal = sqrt(-2.0 * log(radius)) * cos(6.283185307179586476925286766559 * angle);
        lw_store(out + i, mean + std * (float)normal);
    }
}

#define RANDOM_THREADS 256

template <typename T> static void launch_random(lw_device *dev, const lw_random_normal_args *a)
{
    LW_LAUNCH((random_elements<T>), lw_cuda_grid(dev, a->n, RANDOM_THREADS), RANDOM_THREADS, 0, lw_cuda_of(dev)->stream,
              a->n, a->seed, a->stream, a->mean, a->std, static_cast<T *>(a->out));
    (void)lw_cuda_launched(dev, "random_normal");
}

void lw_cuda_random_normal(lw_device *dev, const lw_random_normal_args *a)
{
    if (a->n <= 0) {
        return;
    }
    if (a->type == LW_F16) {
        launch_random<__half>(dev, a);
        return;
    }
    LW_FOR_TYPE(dev, "random_normal", a->type, T, { launch_random<T>(dev, a); });
}
