// Kernels with one mistake each, which the simulator has to show.

#include "common.cuh"

// `<=` instead of `<`.
extern "C" __global__ void writes_one_too_many(float* __restrict__ out, unsigned count) {
    const u64 i = thread_index();
    if (i <= count) out[i] = 1.0f;
}

extern "C" __global__ void writes_one_before(float* __restrict__ out) { out[u64(threadIdx.x) - 1] = 1.0f; }

extern "C" __global__ void reads_one_too_many(const float* __restrict__ x, float* __restrict__ out, unsigned count) {
    const u64 i = thread_index();
    if (i < count) out[i] = x[i] + x[i + 1];
}

extern "C" __global__ void reads_one_too_many_shared(float* __restrict__ out) {
    __shared__ float tile[64];
    tile[threadIdx.x] = 1.0f;
    __syncthreads();
    const float* next = tile + 1;
    out[threadIdx.x] = next[threadIdx.x];
}

extern "C" __global__ void shifts_too_far(const unsigned* __restrict__ x, unsigned* __restrict__ out) {
    out[threadIdx.x] = 1u << x[threadIdx.x];
}

extern "C" __global__ void writes_past_dynamic_shared(float* __restrict__ out) {
    DYNAMIC_SHARED(float, tile);
    tile[threadIdx.x + 1] = 1.0f;
    __syncthreads();
    out[threadIdx.x] = tile[threadIdx.x];
}

// Without the barrier between writing and reading.
extern "C" __global__ void lacks_a_barrier(const float* __restrict__ x, float* __restrict__ out) {
    __shared__ float tile[THREADS];
    tile[threadIdx.x] = x[threadIdx.x];
    out[threadIdx.x] = tile[blockDim.x - 1 - threadIdx.x];
}

extern "C" __global__ void diverges_at_a_barrier(float* __restrict__ out) {
    if (threadIdx.x < 16) __syncthreads();
    out[threadIdx.x] = __shfl_xor_sync(ALL_LANES, 1.0f, 1);
}

extern "C" __global__ void waits_at_two_barriers(float* __restrict__ out) {
    if (threadIdx.x < 32) {
        __syncthreads();
    } else {
        __syncthreads();
    }
    out[threadIdx.x] = 1.0f;
}

extern "C" __global__ void shuffles_in_half_a_warp(float* __restrict__ out) {
    if (threadIdx.x < 16) {
        out[threadIdx.x] = __shfl_down_sync(ALL_LANES, 1.0f, 1u);
    } else {
        out[threadIdx.x] = __shfl_xor_sync(ALL_LANES, 1.0f, 1);
    }
}
