#include "common.cuh"

// loss of D([q ; q⁻]), `[2R]`, and its gradient `[2R]`; adds to `totals`: loss·images, the rows beyond each margin, R.
//   truncated L1 (Eq. 7–8): mean(max(0, th⁺ − D(q))) + mean(max(0, −th⁻ + D(q⁻)))
//   cross-entropy: binary_cross_entropy_with_logits of both halves at once, good = 1
//
// The vector is short (a few thousand values), so one block does it, and nothing is read back. 16 bytes a row; in f64,
// as on the CPU, truncated L1 costs a handful of operations a value, cross-entropy about a hundred.

constexpr unsigned TRUNCATED_L1 = 0;
constexpr unsigned LOSS_THREADS = 1024;

// The sum over the block, in thread 0. LOSS_THREADS is the square of a warp.
template <class T> __device__ __forceinline__ T block_sum(T value) {
    __shared__ T sums[WARP];
    value = warp_sum(value);
    if (threadIdx.x % WARP == 0) sums[threadIdx.x / WARP] = value;
    __syncthreads();
    value = threadIdx.x < WARP ? sums[threadIdx.x] : T(0);
    __syncthreads();  // The next call may write.
    return warp_sum(value);
}
static_assert(LOSS_THREADS == WARP * WARP, "one sum a warp, one warp of sums");

// A value and its derivative with respect to the directed score (large is good in both halves).
struct Term {
    double value;
    double slope;
};

// max(0, rest), slope −1 while it is positive. A NaN is not beyond the margin: a training that diverged has no loss of
// zero.
__device__ __forceinline__ Term truncated_l1(double rest) { return rest <= 0.0 ? Term{0.0, 0.0} : Term{rest, -1.0}; }

// −ln σ(d) = ln(1 + e^−d), slope −σ(−d), without overflow on either side.
__device__ __forceinline__ Term cross_entropy(double directed) {
    const double decay = exp(-fabs(directed));
    const double linear = directed > 0.0 ? 0.0 : -directed;
    return {linear + log1p(decay), -(directed >= 0.0 ? decay : 1.0) / (1.0 + decay)};
}

// `kind`: 0 is truncated L1, 1 cross-entropy. `totals`: loss, positive, negative, rows. One block of 1024 threads.
extern "C" __global__ void __launch_bounds__(1024) loss(const float* __restrict__ scores, float* __restrict__ gradient,
                                                        float* __restrict__ totals, unsigned rows, unsigned images,
                                                        unsigned kind, double margin_positive,
                                                        double margin_negative) {
    // Eq. 8 adds the means of the two halves; binary_cross_entropy_with_logits averages over both at once.
    const double share = 1.0 / (kind == TRUNCATED_L1 ? double(rows) : 2.0 * rows);
    double total = 0.0;
    unsigned beyond[2];
    for (unsigned half = 0; half < 2; ++half) {
        // The directed score: normal rows want large scores, anomalous ones small.
        const double sign = half == 0 ? 1.0 : -1.0;
        const double margin = half == 0 ? margin_positive : -margin_negative;
        unsigned count = 0;
        for (u64 row = threadIdx.x; row < rows; row += LOSS_THREADS) {
            const u64 at = half * u64(rows) + row;
            const double directed = sign * scores[at];
            const Term term = kind == TRUNCATED_L1 ? truncated_l1(margin - directed) : cross_entropy(directed);
            count += directed > margin;
            total += term.value;
            gradient[at] = float(term.slope * sign * share);
        }
        beyond[half] = block_sum(count);
    }
    total = block_sum(total);
    if (threadIdx.x != 0) return;
    totals[0] += float(total * share * images);
    totals[1] += float(beyond[0]);
    totals[2] += float(beyond[1]);
    totals[3] += float(rows);
}
