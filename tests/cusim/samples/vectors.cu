// Kernels that tests of the simulator itself run: the ways in which the project's kernels use the language.

#include "common.cuh"

// --- Elements ---------------------------------------------------------------------------------------------------------

// out = a · x + out, the last block half empty.
template <class T> __device__ __forceinline__ void axpy(const T* x, float* out, float a, unsigned count) {
    const u64 i = thread_index();
    if (i < count) out[i] = fmaf(a, to_float(x[i]), out[i]);
}

extern "C" __global__ void __launch_bounds__(THREADS)
axpy_f32(const float* __restrict__ x, float* __restrict__ out, float a, unsigned count) {
    axpy(x, out, a, count);
}

extern "C" __global__ void __launch_bounds__(THREADS)
axpy_f16(const __half* __restrict__ x, float* __restrict__ out, float a, unsigned count) {
    axpy(x, out, a, count);
}

extern "C" __global__ void __launch_bounds__(THREADS)
to_half(const float* __restrict__ x, __half* __restrict__ out, unsigned count) {
    const u64 i = thread_index();
    if (i < count) out[i] = from_float<__half>(x[i]);
}

// Packets of sixteen bytes.
extern "C" __global__ void __launch_bounds__(THREADS)
double_packets(const float* __restrict__ x, float* __restrict__ out, unsigned packets) {
    const u64 i = thread_index();
    if (i >= packets) return;
    auto packet = load<PACKET<float>>(x + i * PACKET<float>);
    for (float& value : packet.value) value *= 2.0f;
    store(out + i * PACKET<float>, packet);
}

// --- A struct by value --------------------------------------------------------------------------------------------------

struct Affine {
    float scale;
    unsigned count;
    double shift;
    float* out;
};

extern "C" __global__ void __launch_bounds__(THREADS) affine(const float* __restrict__ x, Affine how) {
    const u64 i = thread_index();
    if (i < how.count) how.out[i] = float(how.scale * x[i] + how.shift);
}

// --- Coordinates --------------------------------------------------------------------------------------------------------

// Each thread writes its own number, counted over a grid and blocks of three axes.
extern "C" __global__ void number_threads(unsigned* __restrict__ out) {
    const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    const unsigned number = block * (blockDim.x * blockDim.y * blockDim.z) + thread;
    out[number] = number;
}

// --- Integers that threads share ----------------------------------------------------------------------------------------

extern "C" __global__ void largest(const unsigned* __restrict__ x, unsigned* __restrict__ out, unsigned count) {
    const u64 i = thread_index();
    if (i < count) atomicMax(out, x[i]);
}
