// One warp's instructions on the tensor cores, and copies that land later.

#include "tensor_core.cuh"

// out = a·b + c of 16×16, 16×8 and 16×8: b by columns, the others by rows. Fragments as PTX ISA lays them out.
extern "C" __global__ void product_of_a_warp(const __half* __restrict__ a, const __half* __restrict__ b,
                                             const float* __restrict__ c, float* __restrict__ out) {
    const unsigned group = threadIdx.x / 4, pair = 2 * (threadIdx.x % 4);
    const auto two = [](const __half* from) {
        unsigned halves;
        memcpy(&halves, from, sizeof halves);
        return halves;
    };
    const unsigned left[4] = {two(a + group * 16 + pair), two(a + (group + 8) * 16 + pair),
                              two(a + group * 16 + pair + 8), two(a + (group + 8) * 16 + pair + 8)};
    float sum[4];
    for (unsigned i = 0; i < 4; ++i) sum[i] = c[(group + i / 2 * 8) * 8 + pair + i % 2];
    mma_m16n8k16(sum, left, two(b + group * 16 + pair), two(b + group * 16 + pair + 8));
    for (unsigned i = 0; i < 4; ++i) out[(group + i / 2 * 8) * 8 + pair + i % 2] = sum[i];
}

// Loads 32 rows of eight halves, `pitch` halves apart, as four matrices; out has a row of 32 lanes for each.
extern "C" __global__ void matrices_of_a_warp(const __half* __restrict__ x, unsigned* __restrict__ out, unsigned pitch) {
    DYNAMIC_SHARED(__half, rows);
    for (unsigned i = 0; i < 8; ++i) rows[threadIdx.x * pitch + i] = x[threadIdx.x * 8 + i];
    __syncwarp();
    unsigned matrices[4];
    ldmatrix_x4(matrices, rows + threadIdx.x * pitch);
    for (unsigned i = 0; i < 4; ++i) out[32 * i + threadIdx.x] = matrices[i];
}

// Copies a packet, zeros and a packet: two groups, and a third that is not closed yet. What the thread sees of their first
// halves: at once, when all but one group have landed, and when both have.
extern "C" __global__ void copies_in_groups(const __half* __restrict__ x, __half* __restrict__ out) {
    DYNAMIC_SHARED(__half, all);
    __half* packets = all + threadIdx.x * 24;
    for (unsigned i = 0; i < 24; ++i) packets[i] = from_float<__half>(-1.0f);
    const auto look = [&](unsigned time) {
        for (unsigned i = 0; i < 3; ++i) out[threadIdx.x * 9 + time * 3 + i] = packets[8 * i];
    };
    copy_async_16(packets, x + threadIdx.x * 8, true);
    commit_copies();
    copy_async_16_cached(packets + 8, x, false);
    commit_copies();
    copy_async_16(packets + 16, x + threadIdx.x * 8, true);
    look(0);
    wait_for_copies<1>();
    look(1);
    wait_for_copies<0>();
    look(2);
    commit_copies();
    wait_for_copies<0>();
}
