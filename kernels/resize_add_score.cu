#include "common.cuh"

// resize_add_score: out[r] = Σ_c w[c]·leaky_relu(Σ_l resize(x_l)[r, c]), the deployed head behind the projections of the
// levels: `[N, H, W, C], [N, h_l, w_l, C]… → [N·H·W]`, resized bilinearly (align_corners = false).
//
// One warp a position, packets of four channels where C allows. The first level is read once, 4·C bytes a position; the
// others are a quarter or less of its size and out of a cache: 4 values interpolated a channel and level. 3·C FLOPs and
// 7·C more a further level. Neither the resized projections nor the activation are written.

// A further level: null where there is none.
struct Level {
    const float* data;
    unsigned h, w;
};

// The four sources of one position, and their weights. A source without weight is its neighbour, which is finite or
// counts anyway: zero times NaN would be NaN.
struct Corners {
    const float* source[4];
    float weight[4];
};

__device__ __forceinline__ Corners corners(const Level& level, unsigned image, unsigned y, unsigned x, unsigned height,
                                           unsigned width, unsigned columns) {
    const Interpolation row = interpolation(y, level.h, height);
    const Interpolation column = interpolation(x, level.w, width);
    const unsigned bottom = row.low + (row.weight > 0.0f ? 1 : 0);
    const unsigned right = column.low + (column.weight > 0.0f ? 1 : 0);
    const auto at = [&](unsigned source_y, unsigned source_x) {
        return level.data + ((u64(image) * level.h + source_y) * level.w + source_x) * columns;
    };
    return {{at(row.low, column.low), at(row.low, right), at(bottom, column.low), at(bottom, right)},
            {(1.0f - row.weight) * (1.0f - column.weight), (1.0f - row.weight) * column.weight,
             row.weight * (1.0f - column.weight), row.weight * column.weight}};
}

template <unsigned WIDTH>
__device__ __forceinline__ Packet<float, WIDTH> interpolated(const Corners& corners, unsigned column) {
    Packet<float, WIDTH> sum = {};
#pragma unroll
    for (unsigned corner = 0; corner < 4; ++corner) {
        const Packet<float, WIDTH> values = load<WIDTH>(corners.source[corner] + column);
#pragma unroll
        for (unsigned i = 0; i < WIDTH; ++i) {
            sum.value[i] = fmaf(corners.weight[corner], values.value[i], sum.value[i]);
        }
    }
    return sum;
}

constexpr unsigned FURTHER_LEVELS = 2;

// In lane 0, the score of one position; `others` further levels count. The loop over them is unrolled to its longest: an
// array whose index is not known when this is compiled would lie in memory.
template <unsigned WIDTH>
__device__ __forceinline__ float score_position(const float* first, const Corners (&levels)[FURTHER_LEVELS],
                                                unsigned others, const float* weight, unsigned columns, float slope) {
    float sums[WIDTH] = {};
    for (unsigned column = threadIdx.x % WARP * WIDTH; column < columns; column += WARP * WIDTH) {
        Packet<float, WIDTH> x = load<WIDTH>(first + column);
#pragma unroll
        for (unsigned level = 0; level < FURTHER_LEVELS; ++level) {
            if (level >= others) continue;
            const Packet<float, WIDTH> added = interpolated<WIDTH>(levels[level], column);
#pragma unroll
            for (unsigned i = 0; i < WIDTH; ++i) x.value[i] += added.value[i];
        }
        const Packet<float, WIDTH> w = load<WIDTH>(weight + column);
#pragma unroll
        for (unsigned i = 0; i < WIDTH; ++i) {
            const float activated = x.value[i] > 0.0f ? x.value[i] : slope * x.value[i];
            sums[i] = fmaf(activated, w.value[i], sums[i]);
        }
    }
    float sum = sums[0];
#pragma unroll
    for (unsigned i = 1; i < WIDTH; ++i) sum += sums[i];
    return warp_sum(sum);
}

// `second` and `third` are null where there are fewer levels. Threads: 32·rows, of `rows` = N·height·width positions.
extern "C" __global__ void __launch_bounds__(256)
    resize_add_score(const float* __restrict__ first, const float* __restrict__ second,
                     const float* __restrict__ third, const float* __restrict__ weight, float* __restrict__ out,
                     unsigned second_h, unsigned second_w, unsigned third_h, unsigned third_w, unsigned rows,
                     unsigned height, unsigned width, unsigned columns, float slope) {
    const u64 row = thread_index() / WARP;
    if (row >= rows) return;  // The whole warp.
    const unsigned x = unsigned(row) % width;
    const unsigned y = unsigned(row) / width % height;
    const unsigned image = unsigned(row) / width / height;

    const unsigned others = second == nullptr ? 0 : third == nullptr ? 1 : 2;
    Corners levels[FURTHER_LEVELS] = {};
    if (others > 0) levels[0] = corners({second, second_h, second_w}, image, y, x, height, width, columns);
    if (others > 1) levels[1] = corners({third, third_h, third_w}, image, y, x, height, width, columns);
    const float* own = first + row * columns;
    const float sum = columns % 4 == 0 ? score_position<4>(own, levels, others, weight, columns, slope)
                                       : score_position<1>(own, levels, others, weight, columns, slope);
    if (threadIdx.x % WARP == 0) out[row] = sum;
}
