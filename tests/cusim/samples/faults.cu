// Kernels with one mistake each, which the simulator has to show.

#include "tensor_core.cuh"

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

// Nobody waits for the copy.
extern "C" __global__ void forgets_a_copy(const __half* __restrict__ x) {
    DYNAMIC_SHARED(__half, packet);
    copy_async_16(packet, x, true);
    commit_copies();
}

extern "C" __global__ void names_a_row_between_packets(unsigned* __restrict__ out) {
    DYNAMIC_SHARED(__half, rows);
    unsigned matrices[4];
    ldmatrix_x4(matrices, rows + threadIdx.x * 12);
    out[threadIdx.x] = matrices[0];
}

// Half of the warp multiplies.
extern "C" __global__ void multiplies_in_half_a_warp(float* __restrict__ out) {
    float sum[4] = {};
    const unsigned a[4] = {};
    if (threadIdx.x < 16) mma_m16n8k16(sum, a, 0u, 0u);
    __syncthreads();
    out[threadIdx.x] = sum[0];
}
