// softgpu_launch.h: how a kernel is started (kernels/cuda/launch.cuh).
#ifndef SOFTGPU_LAUNCH_H
#define SOFTGPU_LAUNCH_H

#include "cuda_runtime.h"

#include <functional>
#include <tuple>
#include <utility>

namespace softgpu
{

// Queues the kernel; thread(): the body of one thread. Failures become the last error, as after <<<>>>.
void launch(const char *name, const void *function, dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
            std::function<void()> thread);
// Ends the program when `bytes` at `argument` (a kernel's argument: a pointer or a struct) hold the address of host
// memory that a GPU could not read.
void check_argument(const char *kernel, int index, const void *argument, size_t bytes);
void *dynamic_shared(); // of the block that runs

// Whether a kernel's argument can be looked at: padding holds chance values, some of which look like addresses.
#if defined(__has_builtin)
#if __has_builtin(__builtin_clear_padding)
#define SOFTGPU_CLEAR_PADDING 1
#endif
#endif
template <typename T> void check_value(const char *kernel, int index, T value)
{
#ifdef SOFTGPU_CLEAR_PADDING
    __builtin_clear_padding(&value);
    check_argument(kernel, index, &value, sizeof value);
#else
    if (std::is_pointer<T>::value) {
        check_argument(kernel, index, &value, sizeof value);
    }
#endif
}

template <typename... P, typename... A>
void start(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
           A &&...arguments)
{
    static_assert(sizeof...(P) == sizeof...(A), "a kernel takes its arguments, all of them");
    std::tuple<std::decay_t<P>...> values(static_cast<P>(std::forward<A>(arguments))...);
    std::apply(
        [&](const auto &...value) {
            int index = 0;
            (check_value(name, index++, value), ...);
        },
        values);
    launch(name, reinterpret_cast<const void *>(kernel), grid, block, shared_bytes, stream,
           [kernel, values] { std::apply(kernel, values); });
}

} // namespace softgpu

#define LW_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    softgpu::start(#kernel, kernel, (grid), (block), (shared_bytes), (stream), ##__VA_ARGS__)
#define LW_DYNAMIC_SHARED(type, name) type *name = static_cast<type *>(softgpu::dynamic_shared())

#endif
