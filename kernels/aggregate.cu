#include "common.cuh"

// aggregate: one level's neighbourhood means, resized bilinearly (align_corners = false) to the grid of the result and
// written into its channels [offset, offset + …) (Eq. 1–4): `[N, h, w, C_l] → [N, H, W, C]`, T → float. One launch a
// level.
//
// aggregate_mean: the paper's p×p mean of every channel, zeros outside the image counted. Mean and resize are
// separable: along either axis an output is a weighted sum of p + 1 sources, the first and the last weighted by the
// interpolation, those between them by one. One thread computes a packet of four channels of four neighbouring outputs:
// it sums every source column once and adds it to the outputs that see it. For a level no larger than the result these
// are at most (p + 1)·(p + 4) reads of a packet, mostly out of a cache, and (p + 1)·(p + 8)/2 FLOPs an output; of memory
// sizeof(T) bytes an input and 4 an output.
//
// aggregate_patchcore: the authors' adaptive_avg_pool1d of the unfolded (c, ky, kx) vector of every position to 1536
// bins, neighbouring `levels` of them averaged. One thread an output, which is the mean of some 6 or 12 entries of the
// unfolded vector with four interpolated values each at most. The unfolded tensor is never written.

// --- The mean of a neighbourhood -----------------------------------------------------------------------------------

// The sources of an output whose neighbourhood of `patch` positions is interpolated with the next one.
struct Window {
    unsigned begin;  // `patch/2` before the lower one; before the image, unsigned numbers are large.
    unsigned patch;
    float weight;  // Of the source behind the lower neighbourhood.

    // How many sources count.
    __device__ __forceinline__ unsigned count() const { return patch + (weight > 0.0f ? 1 : 0); }

    // What source begin + place counts.
    __device__ __forceinline__ float weight_of(unsigned place) const {
        const float of_first = 1.0f - weight;
        const float of_others = place == patch ? weight : place < patch ? 1.0f : 0.0f;
        return place == 0 ? of_first : of_others;
    }
};

__device__ __forceinline__ Window window(unsigned i, unsigned input, unsigned output, unsigned patch) {
    const Interpolation at = interpolation(i, input, output);
    return {at.low - patch / 2, patch, at.weight};
}

// Rows whose loads wait together: all that p = 3 has.
constexpr unsigned ROWS = 4;
// Neighbouring outputs of one thread.
constexpr unsigned THREAD_OUTPUTS = 4;

template <unsigned WIDTH, class T>
__device__ __forceinline__ void aggregate_mean(const T* input, float* out, unsigned h, unsigned w, unsigned channels,
                                               unsigned out_h, unsigned out_w, unsigned out_channels, unsigned offset,
                                               unsigned patch) {
    const unsigned packets = channels / WIDTH;
    const auto [line, item] = line_place((out_w + THREAD_OUTPUTS - 1) / THREAD_OUTPUTS * packets);
    const unsigned first_x = item / packets * THREAD_OUTPUTS;
    if (first_x >= out_w) return;
    const unsigned channel = item % packets * WIDTH;
    const T* image = input + u64(line / out_h) * h * w * channels + channel;

    const Window rows = window(line % out_h, h, out_h, patch);
    Window columns[THREAD_OUTPUTS];
    unsigned end_x = 0;
#pragma unroll
    for (unsigned output = 0; output < THREAD_OUTPUTS; ++output) {
        columns[output] = window(first_x + output, w, out_w, patch);
        if (first_x + output < out_w) end_x = columns[output].begin + columns[output].count();
    }
    float sums[THREAD_OUTPUTS][WIDTH] = {};
    for (unsigned x = columns[0].begin; x != end_x; ++x) {
        if (x >= w) continue;
        float column[WIDTH] = {};
        for (unsigned place = 0; place < rows.count(); place += ROWS) {
            Packet<T, WIDTH> values[ROWS];
#pragma unroll
            for (unsigned row = 0; row < ROWS; ++row) {
                const unsigned y = rows.begin + place + row;
                const T* from = image + (y * w + x) * channels;
                values[row] = load_or_zero<WIDTH>(from, y < h && place + row < rows.count());
            }
#pragma unroll
            for (unsigned row = 0; row < ROWS; ++row) {
                const float weight = rows.weight_of(place + row);
#pragma unroll
                for (unsigned i = 0; i < WIDTH; ++i) {
                    column[i] = fmaf(weight, to_float(values[row].value[i]), column[i]);
                }
            }
        }
#pragma unroll
        for (unsigned output = 0; output < THREAD_OUTPUTS; ++output) {
            const float weight = columns[output].weight_of(x - columns[output].begin);
            if (weight == 0.0f) continue;  // Zero times NaN would be NaN.
#pragma unroll
            for (unsigned i = 0; i < WIDTH; ++i) sums[output][i] = fmaf(weight, column[i], sums[output][i]);
        }
    }

    const float scale = 1.0f / float(patch * patch);
    float* to = out + (u64(line) * out_w + first_x) * out_channels + offset + channel;
#pragma unroll
    for (unsigned output = 0; output < THREAD_OUTPUTS; ++output) {
        if (first_x + output >= out_w) break;
        Packet<float, WIDTH> means;
#pragma unroll
        for (unsigned i = 0; i < WIDTH; ++i) means.value[i] = sums[output][i] * scale;
        store(to + u64(output) * out_channels, means);
    }
}

// `channels`, `out_channels` and `offset` are multiples of four. Blocks: N·out_h lines of ⌈out_w/4⌉·channels/4 threads,
// three blocks a multiprocessor: registers enough for the four loads that wait together.
extern "C" __global__ void __launch_bounds__(256, 3)
    aggregate_mean_f32(const float* __restrict__ input, float* __restrict__ out, unsigned h, unsigned w,
                       unsigned channels, unsigned out_h, unsigned out_w, unsigned out_channels, unsigned offset,
                       unsigned patch) {
    aggregate_mean<4>(input, out, h, w, channels, out_h, out_w, out_channels, offset, patch);
}

extern "C" __global__ void __launch_bounds__(256, 3)
    aggregate_mean_f16(const __half* __restrict__ input, float* __restrict__ out, unsigned h, unsigned w,
                       unsigned channels, unsigned out_h, unsigned out_w, unsigned out_channels, unsigned offset,
                       unsigned patch) {
    aggregate_mean<4>(input, out, h, w, channels, out_h, out_w, out_channels, offset, patch);
}

// Any number of channels, one a thread.
extern "C" __global__ void __launch_bounds__(256)
    aggregate_mean_scalar_f32(const float* __restrict__ input, float* __restrict__ out, unsigned h, unsigned w,
                              unsigned channels, unsigned out_h, unsigned out_w, unsigned out_channels, unsigned offset,
                              unsigned patch) {
    aggregate_mean<1>(input, out, h, w, channels, out_h, out_w, out_channels, offset, patch);
}

extern "C" __global__ void __launch_bounds__(256)
    aggregate_mean_scalar_f16(const __half* __restrict__ input, float* __restrict__ out, unsigned h, unsigned w,
                              unsigned channels, unsigned out_h, unsigned out_w, unsigned out_channels, unsigned offset,
                              unsigned patch) {
    aggregate_mean<1>(input, out, h, w, channels, out_h, out_w, out_channels, offset, patch);
}

// --- The authors' bins ---------------------------------------------------------------------------------------------

// Length of both adaptive poolings; `Aggregation::PATCHCORE_CHANNELS`.
constexpr unsigned BINS = 1536;

template <class T>
__device__ __forceinline__ void aggregate_patchcore(const T* input, float* out, unsigned h, unsigned w,
                                                    unsigned channels, unsigned out_h, unsigned out_w,
                                                    unsigned out_channels, unsigned offset, unsigned patch,
                                                    unsigned levels) {
    const unsigned outputs = BINS / levels;
    const auto [line, item] = line_place(out_w * outputs);
    const unsigned out_x = item / outputs;
    if (out_x >= out_w) return;
    const unsigned output = item % outputs;
    const T* image = input + u64(line / out_h) * h * w * channels;
    const Interpolation row = interpolation(line % out_h, h, out_h);
    const Interpolation column = interpolation(out_x, w, out_w);

    // Zero outside the image, and where there is no weight: zero times NaN would be NaN.
    const auto at = [=](unsigned y, unsigned x, unsigned channel, bool counts) {
        const T* from = image + (y * w + x) * channels + channel;
        return to_float(load_or_zero<1>(from, counts && y < h && x < w).value[0]);
    };
    const bool below = row.weight > 0.0f;
    const bool beside = column.weight > 0.0f;

    const unsigned length = channels * patch * patch;
    float total = 0.0f;
    for (unsigned bin = output * levels; bin < (output + 1) * levels; ++bin) {
        const unsigned begin = bin * length / BINS;
        const unsigned end = ((bin + 1) * length + BINS - 1) / BINS;
        unsigned channel = begin / (patch * patch);
        unsigned ky = begin / patch % patch;
        unsigned kx = begin % patch;
        float sum = 0.0f;
        for (unsigned entry = begin; entry < end; ++entry) {
            // Left of the image and above it, unsigned numbers are large.
            const unsigned y = row.low + ky - patch / 2;
            const unsigned x = column.low + kx - patch / 2;
            const float upper =
                (1.0f - column.weight) * at(y, x, channel, true) + column.weight * at(y, x + 1, channel, beside);
            const float lower = (1.0f - column.weight) * at(y + 1, x, channel, below) +
                                column.weight * at(y + 1, x + 1, channel, below && beside);
            sum += (1.0f - row.weight) * upper + row.weight * lower;
            if (++kx == patch) {
                kx = 0;
                if (++ky == patch) {
                    ky = 0;
                    ++channel;
                }
            }
        }
        total += sum / float(end - begin);
    }
    out[(u64(line) * out_w + out_x) * out_channels + offset + output] = total / float(levels);
}

// The level fills 1536/levels channels of the result; 1536·channels·patch² is less than 2³². Blocks: N·out_h lines of
// out_w·1536/levels threads.
extern "C" __global__ void __launch_bounds__(256)
    aggregate_patchcore_f32(const float* __restrict__ input, float* __restrict__ out, unsigned h, unsigned w,
                            unsigned channels, unsigned out_h, unsigned out_w, unsigned out_channels, unsigned offset,
                            unsigned patch, unsigned levels) {
    aggregate_patchcore(input, out, h, w, channels, out_h, out_w, out_channels, offset, patch, levels);
}

extern "C" __global__ void __launch_bounds__(256)
    aggregate_patchcore_f16(const __half* __restrict__ input, float* __restrict__ out, unsigned h, unsigned w,
                            unsigned channels, unsigned out_h, unsigned out_w, unsigned out_channels, unsigned offset,
                            unsigned patch, unsigned levels) {
    aggregate_patchcore(input, out, h, w, channels, out_h, out_w, out_channels, offset, patch, levels);
}
