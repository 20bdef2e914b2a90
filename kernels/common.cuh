// The vocabulary that all kernels share: element types, packets of 16 bytes, indices, reductions.
//
// Layouts are row-major; feature maps are NHWC. Sizes of tensors are 64-bit, sizes of one axis 32-bit. No kernel adds
// floats atomically: every sum has one order, so that two runs give the same bits.
#pragma once

#ifdef __CUDACC__
#include <cuda_fp16.h>
// The block's dynamic shared memory as an array of T.
#define DYNAMIC_SHARED(T, name) extern __shared__ __align__(16) T name[]
#else
#include "cusim.h"
#endif

using u64 = unsigned long long;

// Threads of a block wherever an operation has no reason for another number.
constexpr unsigned THREADS = 256;
constexpr unsigned WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

// --- Elements: stored as float or half, computed in float ---------------------------------------------------------

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(__half value) { return __half2float(value); }

template <class T> __device__ __forceinline__ T from_float(float value);
template <> __device__ __forceinline__ float from_float<float>(float value) { return value; }
template <> __device__ __forceinline__ __half from_float<__half>(float value) { return __float2half_rn(value); }

// --- Packets: what one thread moves in one access -------------------------------------------------------------------

// WIDTH neighbouring elements. Sixteen bytes are the widest access there is; WIDTH = 1 serves channel counts that do
// not divide into packets.
template <class T, unsigned WIDTH> struct alignas(sizeof(T) * WIDTH) Packet {
    T value[WIDTH];
};

// The number of elements in sixteen bytes.
template <class T> constexpr unsigned PACKET = 16 / sizeof(T);

// `from` is aligned to the packet.
template <unsigned WIDTH, class T> __device__ __forceinline__ Packet<T, WIDTH> load(const T* from) {
    return *reinterpret_cast<const Packet<T, WIDTH>*>(from);
}

template <unsigned WIDTH, class T> __device__ __forceinline__ void store(T* to, const Packet<T, WIDTH>& packet) {
    *reinterpret_cast<Packet<T, WIDTH>*>(to) = packet;
}

// --- Indices --------------------------------------------------------------------------------------------------------

// The number of this thread in a one-dimensional grid.
__device__ __forceinline__ u64 thread_index() { return u64(blockIdx.x) * blockDim.x + threadIdx.x; }

// --- Reductions, in an order that depends on nothing but the block's size -----------------------------------------

// The larger of the two; a NaN wins against a number, so that it is never hidden.
__device__ __forceinline__ float maximum(float a, float b) { return a >= b || a != a ? a : b; }

// The sum over the lanes of a warp, in lane 0.
template <class T> __device__ __forceinline__ T warp_sum(T value) {
    for (unsigned offset = WARP / 2; offset > 0; offset /= 2) value += __shfl_down_sync(ALL_LANES, value, offset);
    return value;
}

// The maximum over the lanes of a warp, in lane 0.
__device__ __forceinline__ float warp_maximum(float value) {
    for (unsigned offset = WARP / 2; offset > 0; offset /= 2) {
        value = maximum(value, __shfl_down_sync(ALL_LANES, value, offset));
    }
    return value;
}
