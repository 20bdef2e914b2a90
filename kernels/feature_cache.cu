#include "common.cuh"

// append_features: float features → the cache's element type, rounded to nearest even.
// gather_rows: the rows of a step's images, in the epoch's order, cache → float, times one factor: `[images·R, C]`.
//
// T is the cache's element type. The cache lies in device memory or in pinned host memory that the device sees: for
// the kernels it is the same, and a warp's accesses are 256 or 512 neighbouring bytes, which a bus carries as well.
//
// One thread a packet of four elements: 4 + sizeof(T) bytes an element either way, no arithmetic but conversion and, in gather_rows, one
// product.

// A half that is not finite leaves the bits of its feature's magnitude in `overflow`, if they exceed what is there: of
// non-negative floats the larger has the larger bits, infinity larger ones than any number, NaN larger ones still.
template <class T>
__device__ __forceinline__ void append_features(const float* features, T* cache, unsigned* overflow, u64 count) {
    const u64 first = 4 * thread_index();
    if (first >= count) return;
    const Packet<float, 4> values = load_part<4>(features + first, count - first);
    Packet<T, 4> stored;
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
        stored.value[i] = from_float<T>(values.value[i]);
        const float kept = to_float(stored.value[i]);
        if (sizeof(T) < sizeof(float) && kept - kept != 0.0f) {  // ∞ − ∞ and NaN − NaN are NaN.
            atomicMax(overflow, bits_of(values.value[i]) & 0x7FFFFFFFu);
        }
    }
    store_part<4>(cache + first, stored, count - first);
}

// `cache` begins where the next image goes; `overflow` is one word, zero at first, and no part of the f32 cache, which
// holds every feature as it is. Threads: ⌈count/4⌉.
extern "C" __global__ void __launch_bounds__(256) append_features_f32(const float* __restrict__ features,
                                                                      float* __restrict__ cache,
                                                                      unsigned* __restrict__ overflow,
                                                                      unsigned long long count) {
    append_features(features, cache, overflow, count);
}

extern "C" __global__ void __launch_bounds__(256) append_features_f16(const float* __restrict__ features,
                                                                      __half* __restrict__ cache,
                                                                      unsigned* __restrict__ overflow,
                                                                      unsigned long long count) {
    append_features(features, cache, overflow, count);
}

template <class T>
__device__ __forceinline__ void gather_rows(const T* cache, float* out, const unsigned* order, const unsigned* cursor,
                                            unsigned batch, u64 per_image, float scale) {
    const u64 first = 4 * thread_index();
    if (first >= per_image) return;
    const unsigned image = order[u64(cursor[0]) * batch + blockIdx.y];
    const T* from = cache + image * per_image + first;
    const Packet<T, 4> stored = load_part<4>(from, per_image - first);
    Packet<float, 4> values;
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) values.value[i] = scale * to_float(stored.value[i]);
    store_part<4>(out + blockIdx.y * per_image + first, values, per_image - first);
}

// `order` has the images of the whole epoch, `batch` a step; `cursor` says which step it is. `per_image` elements of every
// image, each multiplied by `scale`. Blocks: ⌈per_image/1024⌉ × images of this step.
extern "C" __global__ void __launch_bounds__(256) gather_rows_f32(const float* __restrict__ cache,
                                                                  float* __restrict__ out,
                                                                  const unsigned* __restrict__ order,
                                                                  const unsigned* __restrict__ cursor, unsigned batch,
                                                                  unsigned long long per_image, float scale) {
    gather_rows(cache, out, order, cursor, batch, per_image, scale);
}

extern "C" __global__ void __launch_bounds__(256) gather_rows_f16(const __half* __restrict__ cache,
                                                                  float* __restrict__ out,
                                                                  const unsigned* __restrict__ order,
                                                                  const unsigned* __restrict__ cursor, unsigned batch,
                                                                  unsigned long long per_image, float scale) {
    gather_rows(cache, out, order, cursor, batch, per_image, scale);
}
