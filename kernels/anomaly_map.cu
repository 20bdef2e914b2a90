#include "common.cuh"

// anomaly_map: for every image, out = A·s·Bᵀ, bilinear upsampling and a Gaussian as one separable linear map (Eq.
// 10–11), and the maximum of the raw grid s, where NaN wins: s `[N, h, w]`, A `[H, h]`, B `[W, w]` → `[N, H, W]`,
// `[N]`.
//
// A block computes a strip of at most eight lines of one map: first its lines of A·s, which stay in shared memory, then
// their products with the rows of B, a thread a column of the map. The block of an image's first strip finds the
// maximum. An image costs 4·H·W bytes written, A, B and s being read out of a cache, and 2·H·w·(h + W) FLOPs. Zeros of
// A and B are multiplied like any other number, as on the CPU: a NaN shows in the same places.

constexpr unsigned STRIP = 8;

constexpr unsigned WARPS = THREADS / WARP;

// In thread 0, the largest of the grid's scores; `of_warps` is shared memory for WARPS of them.
__device__ __forceinline__ float grid_maximum(const float* grid, unsigned count, float* of_warps) {
    float largest = -INFINITY;
    for (unsigned i = threadIdx.x; i < count; i += THREADS) largest = maximum(largest, grid[i]);
    largest = warp_maximum(largest);
    if (threadIdx.x % WARP == 0) of_warps[threadIdx.x / WARP] = largest;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (unsigned warp = 0; warp < WARPS; ++warp) largest = maximum(largest, of_warps[warp]);
    }
    return largest;
}

// `strip` is at most 8; shared memory holds 8 + strip·4·⌈w/4⌉ floats. Blocks: N·⌈out_h/strip⌉.
extern "C" __global__ void __launch_bounds__(256)
    anomaly_map(const float* __restrict__ scores, const float* __restrict__ rows, const float* __restrict__ columns,
                float* __restrict__ out, float* __restrict__ maxima, unsigned h, unsigned w, unsigned out_h,
                unsigned out_w, unsigned strip) {
    const unsigned strips = (out_h + strip - 1) / strip;
    const unsigned image = blockIdx.x / strips;
    const unsigned first_y = blockIdx.x % strips * strip;
    const unsigned count = min(strip, out_h - first_y);
    const float* grid = scores + u64(image) * h * w;

    DYNAMIC_SHARED(float, shared);
    if (first_y == 0) {
        const float largest = grid_maximum(grid, h * w, shared);
        if (threadIdx.x == 0) maxima[image] = largest;
    }

    // Lines of A·s, each filled up with zeros to whole packets.
    float* lines = shared + WARPS;
    const unsigned pitch = (w + 3) / 4 * 4;
    for (unsigned i = threadIdx.x; i < count * pitch; i += THREADS) {
        const unsigned x = i % pitch;
        const float* row = rows + u64(first_y + i / pitch) * h;
        float sum = 0.0f;
        if (x < w) {
            for (unsigned y = 0; y < h; ++y) sum = fmaf(row[y], grid[u64(y) * w + x], sum);
        }
        lines[i] = sum;
    }
    __syncthreads();

    for (unsigned out_x = threadIdx.x; out_x < out_w; out_x += THREADS) {
        const float* column = columns + u64(out_x) * w;
        float sums[STRIP] = {};
        for (unsigned x = 0; x < w; x += 4) {
            const Packet<float, 4> weights = load_part<4>(column + x, w - x);
#pragma unroll
            for (unsigned line = 0; line < STRIP; ++line) {
                if (line >= count) break;
                const Packet<float, 4> values = load<4>(lines + line * pitch + x);
#pragma unroll
                for (unsigned i = 0; i < 4; ++i) sums[line] = fmaf(weights.value[i], values.value[i], sums[line]);
            }
        }
        float* to = out + (u64(image) * out_h + first_y) * out_w + out_x;
#pragma unroll
        for (unsigned line = 0; line < STRIP; ++line) {
            if (line < count) to[u64(line) * out_w] = sums[line];
        }
    }
}
