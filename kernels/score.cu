#include "common.cuh"

// score: out[r] = Σ_c x[r, c]·w[c], the discriminator's last layer, `[R, C], [C] → [R]`.
// leaky_relu_score: the same of leaky_relu(x): inference never writes the activation.
//
// One warp a row, packets of four where C allows, four sums a lane. 4·R·C bytes, 2·R·C operations.

// Lane 0 gets the dot product of a row with the weight.
template <unsigned WIDTH, class Activation>
__device__ __forceinline__ float dot(const float* row, const float* weight, unsigned columns, Activation activation) {
    float sums[WIDTH] = {};
    for (unsigned column = threadIdx.x % WARP * WIDTH; column < columns; column += WARP * WIDTH) {
        const Packet<float, WIDTH> x = load<WIDTH>(row + column);
        const Packet<float, WIDTH> w = load<WIDTH>(weight + column);
#pragma unroll
        for (unsigned i = 0; i < WIDTH; ++i) sums[i] = fmaf(activation(x.value[i]), w.value[i], sums[i]);
    }
    float sum = sums[0];
#pragma unroll
    for (unsigned i = 1; i < WIDTH; ++i) sum += sums[i];
    return warp_sum(sum);
}

template <class Activation>
__device__ __forceinline__ void score_rows(const float* input, const float* weight, float* out, unsigned rows,
                                           unsigned columns, Activation activation) {
    const u64 row = thread_index() / WARP;
    if (row >= rows) return;  // The whole warp.
    const float* x = input + row * columns;
    const bool packets = columns % 4 == 0;
    const float sum = packets ? dot<4>(x, weight, columns, activation) : dot<1>(x, weight, columns, activation);
    if (threadIdx.x % WARP == 0) out[row] = sum;
}

struct Identity {
    __device__ __forceinline__ float operator()(float x) const { return x; }
};

struct LeakyRelu {
    float slope;
    __device__ __forceinline__ float operator()(float x) const { return x > 0.0f ? x : slope * x; }
};

// Threads: 32·R.
extern "C" __global__ void __launch_bounds__(256) score(const float* __restrict__ input,
                                                        const float* __restrict__ weight, float* __restrict__ out,
                                                        unsigned rows, unsigned columns) {
    score_rows(input, weight, out, rows, columns, Identity{});
}

// Threads: 32·R.
extern "C" __global__ void __launch_bounds__(256) leaky_relu_score(const float* __restrict__ input,
                                                                   const float* __restrict__ weight,
                                                                   float* __restrict__ out, unsigned rows,
                                                                   unsigned columns, float slope) {
    score_rows(input, weight, out, rows, columns, LeakyRelu{slope});
}
