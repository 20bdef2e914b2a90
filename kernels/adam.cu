#include "common.cuh"

// adam: one step of torch.optim.Adam or AdamW (single-tensor path) for every parameter, in one launch:
//   g ← ∂L/∂p + λ·p                     (AdamW instead: p ← p − lr·λ·p)
//   m ← m + (1 − β₁)·(g − m)
//   v ← β₂·v + (1 − β₂)·g²
//   p ← p − lr/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + ε)
//
// One thread a packet of four elements, blocks of 256 threads counted through all parameters: a block finds its own by
// the first block of each. 28 bytes and about 16 operations an element. Constants are computed on the host in f64; those
// that change from step to step lie in device memory, where the cursor's first word is the step.

// One parameter of `count` elements.
struct AdamSlot {
    float* parameter;
    const float* gradient;
    float* first_moment;
    float* second_moment;
    unsigned long long count;
    // The block that has its first packet.
    unsigned first_block;
    // λ of Adam, lr·λ of AdamW; the other is zero.
    float l2;
    float decay;
    double learning_rate;
};

constexpr unsigned ADAM_SLOTS = 16;
struct AdamSlots {
    AdamSlot slot[ADAM_SLOTS];
};
static_assert(sizeof(AdamSlot) == 64 && sizeof(AdamSlots) == 1024, "AdamSlots of src/backend/cuda/adam.rs");

// The first `used` of the slots. rate_1 = 1 − β₁, keep_2 = β₂, rate_2 = 1 − β₂. Of every step: corrections_1 = 1 − β₁ᵗ,
// inverse_corrections_2 = 1/√(1 − β₂ᵗ). Blocks: Σ ⌈count/1024⌉.
extern "C" __global__ void __launch_bounds__(256) adam(AdamSlots slots, unsigned used,
                                                       const unsigned* __restrict__ cursor,
                                                       const double* __restrict__ corrections_1,
                                                       const float* __restrict__ inverse_corrections_2, float rate_1,
                                                       float keep_2, float rate_2, float epsilon) {
    unsigned number = 0;
    while (number + 1 < used && slots.slot[number + 1].first_block <= blockIdx.x) ++number;
    const AdamSlot& slot = slots.slot[number];
    const u64 first = 4 * (u64(blockIdx.x - slot.first_block) * THREADS + threadIdx.x);
    if (first >= slot.count) return;
    const u64 rest = slot.count - first;
    const float step_size = float(slot.learning_rate / corrections_1[cursor[0]]);
    const float inverse_correction_2 = inverse_corrections_2[cursor[0]];

    Packet<float, 4> p = load_part<4>(slot.parameter + first, rest);
    const Packet<float, 4> gradient = load_part<4>(slot.gradient + first, rest);
    Packet<float, 4> m = load_part<4>(slot.first_moment + first, rest);
    Packet<float, 4> v = load_part<4>(slot.second_moment + first, rest);
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
        p.value[i] -= slot.decay * p.value[i];
        const float g = gradient.value[i] + slot.l2 * p.value[i];
        m.value[i] += rate_1 * (g - m.value[i]);
        v.value[i] = keep_2 * v.value[i] + rate_2 * g * g;
        p.value[i] -= step_size * m.value[i] / (sqrtf(v.value[i]) * inverse_correction_2 + epsilon);
    }
    store_part<4>(slot.parameter + first, p, rest);
    store_part<4>(slot.first_moment + first, m, rest);
    store_part<4>(slot.second_moment + first, v, rest);
}
