#include "common.cuh"

// normalize: out = (x/255 − mean)/std with ImageNet's statistics, u8 RGB `[N, H, W, 3]` → T `[N, H, W, 3]`.
//
// One thread writes sixteen bytes: four floats or eight halves, wherever in a pixel they begin. A byte read becomes
// sizeof(T) bytes written, with three operations. Divisions are true ones, rounded to nearest, so that the floats have
// the bits of the CPU's.

// torchvision's constants, rounded as the CPU rounds them.
__device__ __forceinline__ float channel_mean(unsigned channel) {
    return channel == 0 ? float(0.485) : channel == 1 ? float(0.456) : float(0.406);
}

__device__ __forceinline__ float channel_std(unsigned channel) {
    return channel == 0 ? float(0.229) : channel == 1 ? float(0.224) : float(0.225);
}

template <class T>
__device__ __forceinline__ void normalize(const unsigned char* images, T* out, u64 count) {
    constexpr unsigned WIDTH = PACKET<T>;
    const u64 first = WIDTH * thread_index();
    if (first >= count) return;
    const Packet<unsigned char, WIDTH> bytes = load_part<WIDTH>(images + first, count - first);
    const unsigned first_channel = unsigned(first % 3);
    Packet<T, WIDTH> values;
#pragma unroll
    for (unsigned i = 0; i < WIDTH; ++i) {
        const unsigned channel = (first_channel + i) % 3;
        const float value = (float(bytes.value[i]) / 255.0f - channel_mean(channel)) / channel_std(channel);
        values.value[i] = from_float<T>(value);
    }
    store_part<WIDTH>(out + first, values, count - first);
}

// `count` bytes. Threads: ⌈count/4⌉.
extern "C" __global__ void __launch_bounds__(256) normalize_f32(const unsigned char* __restrict__ images,
                                                                float* __restrict__ out, unsigned long long count) {
    normalize(images, out, count);
}

// Threads: ⌈count/8⌉.
extern "C" __global__ void __launch_bounds__(256) normalize_f16(const unsigned char* __restrict__ images,
                                                                __half* __restrict__ out, unsigned long long count) {
    normalize(images, out, count);
}
