#include "common.cuh"

// leaky_relu: out = x where x > 0, slope·x elsewhere (NaN stays NaN, zeros keep their sign); any shape.
// leaky_relu_backward: out = dy where x > 0, slope·dy elsewhere: the slope at zero is `slope`, as in PyTorch.
//
// One thread a packet of four. An element costs 8 bytes forward, 12 backward, and one product.

// The derivative.
__device__ __forceinline__ float factor(float x, float slope) { return x > 0.0f ? 1.0f : slope; }

// Threads: ⌈count/4⌉.
extern "C" __global__ void __launch_bounds__(256) leaky_relu(const float* __restrict__ input, float* __restrict__ out,
                                                             unsigned long long count, float slope) {
    const u64 first = 4 * thread_index();
    if (first >= count) return;
    Packet<float, 4> x = load_part<4>(input + first, count - first);
#pragma unroll
    for (float& value : x.value) value *= factor(value, slope);
    store_part<4>(out + first, x, count - first);
}

// Threads: ⌈count/4⌉.
extern "C" __global__ void __launch_bounds__(256) leaky_relu_backward(const float* __restrict__ gradient,
                                                                      const float* __restrict__ input,
                                                                      float* __restrict__ out,
                                                                      unsigned long long count, float slope) {
    const u64 first = 4 * thread_index();
    if (first >= count) return;
    Packet<float, 4> dy = load_part<4>(gradient + first, count - first);
    const Packet<float, 4> x = load_part<4>(input + first, count - first);
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) dy.value[i] *= factor(x.value[i], slope);
    store_part<4>(out + first, dy, count - first);
}
