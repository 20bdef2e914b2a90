#include "common.cuh"

// column_sums, the gradient of a bias: out[c] = Σ_r input[r, c], `[R, C] → [C]`. The products of `linear` are
// cuBLASLt's.
//
// In f64 throughout: the gradient of a bias before BatchNorm is zero, the sum of thousands of values that cancel, and
// Adam makes full steps of whatever rounding leaves.
//
// Two stages, see "Sums over the rows of a matrix". Reads 4·R·C bytes, R·C additions; the partial sums are 8·C bytes
// for every 128 rows, written and read once.

// Sums over groups of 128 rows: `[R, C] → [groups, C]`. Blocks: ⌈C/32⌉ × groups.
extern "C" __global__ void __launch_bounds__(256) column_sums_of_groups(const float* __restrict__ input,
                                                                        double* __restrict__ partials, unsigned rows,
                                                                        unsigned columns) {
    const unsigned column = column_index();
    float values[LANE_ROWS];
    load_lane(input, rows, columns, values);
    double sum[1] = {0.0};
#pragma unroll
    for (float value : values) sum[0] += value;
    sum_lanes(sum);
    if (lane_index() == 0 && column < columns) partials[u64(blockIdx.y) * columns + column] = sum[0];
}

// The groups' sums added: `[groups, C] → [C]`. Blocks: ⌈C/32⌉.
extern "C" __global__ void __launch_bounds__(256) column_sums(const double* __restrict__ partials,
                                                              float* __restrict__ out, unsigned groups,
                                                              unsigned columns) {
    const unsigned column = column_index();
    const double sum = join_groups(partials, groups, columns);
    if (lane_index() == 0 && column < columns) out[column] = float(sum);
}
