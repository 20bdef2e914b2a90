// Kernels whose threads work together: barriers, shuffles, shared memory.

#include "common.cuh"

// The sum of a block's part of x, in shared memory.
extern "C" __global__ void __launch_bounds__(THREADS)
block_sums(const float* __restrict__ x, float* __restrict__ sums, unsigned count) {
    __shared__ float part[THREADS / WARP];
    const u64 i = thread_index();
    const float sum = warp_sum(i < count ? x[i] : 0.0f);
    if (threadIdx.x % WARP == 0) part[threadIdx.x / WARP] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        float total = 0.0f;
        for (unsigned warp = 0; warp < blockDim.x / WARP; ++warp) total += part[warp];
        sums[blockIdx.x] = total;
    }
}

// Each block's part of x the other way round, through dynamic shared memory.
extern "C" __global__ void reverse_blocks(const float* __restrict__ x, float* __restrict__ out) {
    DYNAMIC_SHARED(float, tile);
    const u64 i = thread_index();
    tile[threadIdx.x] = x[i];
    __syncthreads();
    out[i] = tile[blockDim.x - 1 - threadIdx.x];
}

// C[M,N] = A[M,K]·B[K,N] in tiles of 16×16.
extern "C" __global__ void __launch_bounds__(256)
tiled_product(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c, unsigned m, unsigned n,
              unsigned k) {
    __shared__ float tile_a[16][16];
    __shared__ float tile_b[16][16];
    const unsigned row = blockIdx.y * 16 + threadIdx.y, column = blockIdx.x * 16 + threadIdx.x;
    float sum = 0.0f;
    for (unsigned start = 0; start < k; start += 16) {
        tile_a[threadIdx.y][threadIdx.x] = row < m && start + threadIdx.x < k ? a[row * k + start + threadIdx.x] : 0.0f;
        tile_b[threadIdx.y][threadIdx.x] = column < n && start + threadIdx.y < k ? b[(start + threadIdx.y) * n + column] : 0.0f;
        __syncthreads();
        for (unsigned i = 0; i < 16; ++i) sum = fmaf(tile_a[threadIdx.y][i], tile_b[i][threadIdx.x], sum);
        __syncthreads();
    }
    if (row < m && column < n) c[row * n + column] = sum;
}

// What every kind of shuffle gives lane by lane, in five rows of 32.
extern "C" __global__ void shuffles(unsigned* __restrict__ out) {
    const unsigned lane = threadIdx.x;
    out[lane] = __shfl_down_sync(ALL_LANES, lane, 3u);
    out[32 + lane] = __shfl_up_sync(ALL_LANES, lane, 3u);
    out[64 + lane] = __shfl_xor_sync(ALL_LANES, lane, 5);
    out[96 + lane] = __shfl_sync(ALL_LANES, lane, 7);
    out[128 + lane] = __shfl_sync(ALL_LANES, lane, 2, 8);
}

// What shared memory holds before anyone writes to it.
extern "C" __global__ void read_fresh_shared(float* __restrict__ out) {
    __shared__ float fixed[32];
    DYNAMIC_SHARED(float, tile);
    out[2 * thread_index()] = fixed[threadIdx.x];
    out[2 * thread_index() + 1] = tile[threadIdx.x];
    __syncthreads();
    fixed[threadIdx.x] = tile[threadIdx.x] = 1.0f;
}
