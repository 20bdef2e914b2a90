#include "common.cuh"

// max_pool2d: out[n, y, x, c] = max of in[n, 2y + i − 1, 2x + j − 1, c] over i, j in 0..3, the pixels outside the image
// left out: `[N, H, W, C] → [N, ⌈H/2⌉, ⌈W/2⌉, C]`. NaN wins, as in PyTorch.
//
// One thread a packet of sixteen bytes along the channels, blocks along the lines of the output. Every input is read
// 9/4 times, mostly out of a cache, and an output written once: sizeof(T)·(4 + 1) bytes of memory and 9 comparisons an
// output.

template <unsigned WIDTH, class T>
__device__ __forceinline__ void max_pool2d(const T* input, T* out, unsigned h, unsigned w, unsigned channels) {
    const unsigned out_h = (h + 1) / 2;
    const unsigned out_w = (w + 1) / 2;
    const unsigned packets = channels / WIDTH;
    const auto [line, item] = line_place(out_w * packets);
    const unsigned out_x = item / packets;
    if (out_x >= out_w) return;
    const unsigned channel = item % packets * WIDTH;
    const unsigned out_y = line % out_h;
    const T* image = input + u64(line / out_h) * h * w * channels + channel;

    // A pixel outside the image is replaced by its neighbour inside, which the window holds anyway: so no load depends
    // on a condition, and the nine of them wait together.
    Packet<T, WIDTH> window[9];
#pragma unroll
    for (unsigned i = 0; i < 9; ++i) {
        const unsigned y = min(max(2 * out_y + i / 3, 1u) - 1, h - 1);
        const unsigned x = min(max(2 * out_x + i % 3, 1u) - 1, w - 1);
        window[i] = load<WIDTH>(image + (u64(y) * w + x) * channels);
    }
    Packet<T, WIDTH> largest;
#pragma unroll
    for (unsigned k = 0; k < WIDTH; ++k) {
        float value = to_float(window[0].value[k]);
#pragma unroll
        for (unsigned i = 1; i < 9; ++i) value = maximum(value, to_float(window[i].value[k]));
        largest.value[k] = from_float<T>(value);
    }
    store(out + (u64(line) * out_w + out_x) * channels + channel, largest);
}

// `channels` is a multiple of four. Blocks: N·⌈h/2⌉ lines of ⌈w/2⌉·channels/4 threads.
extern "C" __global__ void __launch_bounds__(256) max_pool2d_f32(const float* __restrict__ input,
                                                                 float* __restrict__ out, unsigned h, unsigned w,
                                                                 unsigned channels) {
    max_pool2d<PACKET<float>>(input, out, h, w, channels);
}

// `channels` is a multiple of eight. Blocks: N·⌈h/2⌉ lines of ⌈w/2⌉·channels/8 threads.
extern "C" __global__ void __launch_bounds__(256) max_pool2d_f16(const __half* __restrict__ input,
                                                                 __half* __restrict__ out, unsigned h, unsigned w,
                                                                 unsigned channels) {
    max_pool2d<PACKET<__half>>(input, out, h, w, channels);
}

// Any number of channels, one element a thread.
extern "C" __global__ void __launch_bounds__(256) max_pool2d_scalar_f32(const float* __restrict__ input,
                                                                        float* __restrict__ out, unsigned h,
                                                                        unsigned w, unsigned channels) {
    max_pool2d<1>(input, out, h, w, channels);
}

extern "C" __global__ void __launch_bounds__(256) max_pool2d_scalar_f16(const __half* __restrict__ input,
                                                                        __half* __restrict__ out, unsigned h,
                                                                        unsigned w, unsigned channels) {
    max_pool2d<1>(input, out, h, w, channels);
}
