#include "common.cuh"

// add: sum += term, element by element; any shape. One thread a packet of four: 12 bytes an element for one addition.

// Threads: ⌈count/4⌉.
extern "C" __global__ void __launch_bounds__(256) add(float* __restrict__ sum, const float* __restrict__ term,
                                                      unsigned long long count) {
    const u64 first = 4 * thread_index();
    if (first >= count) return;
    Packet<float, 4> total = load_part<4>(sum + first, count - first);
    const Packet<float, 4> added = load_part<4>(term + first, count - first);
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) total.value[i] += added.value[i];
    store_part<4>(sum + first, total, count - first);
}
