#include "common.cuh"

// batch_norm: out = (x − mean)·γ/√(var + ε) + β, `[R, C] → [R, C]`, with the mean and the biased variance of every
// column; moves the running statistics (unbiased variance, as PyTorch).
// batch_norm_inference: the same with given statistics.
// batch_norm_backward: dx = γ·s·(dy − mean(dy) − x̂·mean(dy·x̂)) with s = 1/√(var + ε), x̂ = (x − mean)·s;
// dγ = Σ dy·x̂, dβ = Σ dy.
//
// The forward pass reads x twice and writes it once, 12·R·C bytes, 6·R·C operations; the backward pass reads dy and x
// twice and writes dx, 20·R·C bytes, 9·R·C operations. Sums: see "Sums over the rows of a matrix". The last kernel of
// either pass takes a packet of four columns in four rows a thread, so that the constants of a column are read once for
// four rows.

// --- The moments of every column -----------------------------------------------------------------------------------

// Over groups of 128 rows, all `[groups, C]`: the mean as summed in f32, Σ (x − mean), which is zero had that mean been
// exact, and Σ (x − mean)². A mean summed in f32 is off by some units of its own size, which is much where it is large
// beside what distinguishes the rows; the deviations are small, so their own sum tells by how much (Chan, Golub,
// LeVeque 1983). A thread keeps its 16 values in registers between the two passes. Blocks: ⌈C/32⌉ × groups.
extern "C" __global__ void __launch_bounds__(256) batch_norm_moments(const float* __restrict__ input,
                                                                     float* __restrict__ means,
                                                                     float* __restrict__ deviations,
                                                                     float* __restrict__ squares, unsigned rows,
                                                                     unsigned columns) {
    const unsigned column = column_index();
    const u64 rest = rows - u64(blockIdx.y) * GROUP_ROWS;
    const unsigned group_rows = rest < GROUP_ROWS ? unsigned(rest) : GROUP_ROWS;

    float values[LANE_ROWS];
    load_lane(input, rows, columns, values);
    float mean[1] = {0.0f};
#pragma unroll
    for (float value : values) mean[0] += value;
    sum_lanes(mean);
    mean[0] *= 1.0f / float(group_rows);

    float sums[2] = {0.0f, 0.0f};
#pragma unroll
    for (unsigned i = 0; i < LANE_ROWS; ++i) {
        if (i < lane_rows(rows)) {
            const float deviation = values[i] - mean[0];
            sums[0] += deviation;
            sums[1] = fmaf(deviation, deviation, sums[1]);
        }
    }
    sum_lanes(sums);
    if (lane_index() == 0 && column < columns) {
        const u64 out = u64(blockIdx.y) * columns + column;
        means[out] = mean[0];
        deviations[out] = sums[0];
        squares[out] = sums[1];
    }
}

// Joins the groups: mean and 1/√(var + ε) of every column, `[C]`, and the running statistics moved. In f64, the groups'
// means counted from the first one's: first the mean of all rows, then what the groups' own squares and their distance
// from that mean add up to. No difference of large squares appears anywhere. Blocks: ⌈C/32⌉.
extern "C" __global__ void __launch_bounds__(256)
    batch_norm_statistics(const float* __restrict__ means, const float* __restrict__ deviations,
                          const float* __restrict__ squares, float* __restrict__ mean, float* __restrict__ inverse_std,
                          float* __restrict__ running_mean, float* __restrict__ running_var, unsigned rows,
                          unsigned columns, double epsilon, double momentum) {
    const unsigned column = column_index();
    const bool inside = column < columns;
    const unsigned groups = (rows + GROUP_ROWS - 1) / GROUP_ROWS;
    const auto rows_of = [=](unsigned group) -> double {
        return group + 1 < groups ? GROUP_ROWS : rows - group * GROUP_ROWS;
    };
    const double origin = inside ? double(means[column]) : 0.0;

    double distance[1] = {0.0};
    for (unsigned group = lane_index(); inside && group < groups; group += ROW_LANES) {
        const u64 in = u64(group) * columns + column;
        distance[0] += rows_of(group) * (means[in] - origin) + deviations[in];
    }
    sum_lanes(distance);
    distance[0] /= rows;

    double square[1] = {0.0};
    for (unsigned group = lane_index(); inside && group < groups; group += ROW_LANES) {
        const u64 in = u64(group) * columns + column;
        const double rest = deviations[in];
        const double correction = rest / rows_of(group);
        // Of a constant column nothing remains but rounding, of either sign; NaN stays NaN.
        const double own = squares[in] - rest * correction;
        const double away = means[in] - origin + correction - distance[0];
        square[0] += (own < 0.0 ? 0.0 : own) + rows_of(group) * away * away;
    }
    sum_lanes(square);

    if (lane_index() != 0 || !inside) return;
    const double exact_mean = origin + distance[0];
    const double variance = square[0] / rows;
    mean[column] = float(exact_mean);
    inverse_std[column] = float(1.0 / sqrt(variance + epsilon));
    const double unbiased = square[0] / (double(rows) - 1.0);
    running_mean[column] = float((1.0 - momentum) * running_mean[column] + momentum * exact_mean);
    running_var[column] = float((1.0 - momentum) * running_var[column] + momentum * unbiased);
}

// 1/√(var + ε) of given variances, `[C]`, in f64. Threads: C.
extern "C" __global__ void __launch_bounds__(256) batch_norm_inverse_std(const float* __restrict__ variance,
                                                                         float* __restrict__ inverse_std,
                                                                         unsigned columns, double epsilon) {
    const u64 column = thread_index();
    if (column < columns) inverse_std[column] = float(1.0 / sqrt(variance[column] + epsilon));
}

// --- Packets of columns --------------------------------------------------------------------------------------------

// Neighbouring rows that one thread handles in its packet of columns.
constexpr unsigned THREAD_ROWS = 4;

// The first column and the first row of this thread; neighbouring threads have neighbouring packets.
struct Place {
    unsigned column;
    u64 row;
};

__device__ __forceinline__ Place place(unsigned columns) {
    const unsigned packets = (columns + 3) / 4;
    const u64 thread = thread_index();
    return {4 * unsigned(thread % packets), thread / packets * THREAD_ROWS};
}

// (x − mean)·γ·inverse_std + β. Subtracting the mean first keeps what distinguishes rows; one multiply-add with a
// folded shift would cancel. Threads: ⌈C/4⌉·⌈R/4⌉.
extern "C" __global__ void __launch_bounds__(256) batch_norm_apply(const float* __restrict__ input,
                                                                   const float* __restrict__ gamma,
                                                                   const float* __restrict__ beta,
                                                                   const float* __restrict__ mean,
                                                                   const float* __restrict__ inverse_std,
                                                                   float* __restrict__ out, unsigned rows,
                                                                   unsigned columns) {
    const auto [column, first_row] = place(columns);
    const unsigned count = columns - column;
    if (first_row >= rows) return;
    Packet<float, 4> scale = load_part<4>(gamma + column, count);
    const Packet<float, 4> shift = load_part<4>(beta + column, count);
    const Packet<float, 4> center = load_part<4>(mean + column, count);
    const Packet<float, 4> inverse = load_part<4>(inverse_std + column, count);
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) scale.value[i] *= inverse.value[i];
#pragma unroll
    for (unsigned r = 0; r < THREAD_ROWS; ++r) {
        if (first_row + r >= rows) break;
        const u64 at = (first_row + r) * columns + column;
        Packet<float, 4> x = load_part<4>(input + at, count);
#pragma unroll
        for (unsigned i = 0; i < 4; ++i) {
            x.value[i] = fmaf(x.value[i] - center.value[i], scale.value[i], shift.value[i]);
        }
        store_part<4>(out + at, x, count);
    }
}

// --- Backward ------------------------------------------------------------------------------------------------------

// Σ dy·x̂ and Σ dy over groups of 128 rows, both `[groups, C]`. In f64, as in `column_sums`: what dx should lose here,
// the bias before this layer would follow. Blocks: ⌈C/32⌉ × groups.
extern "C" __global__ void __launch_bounds__(256)
    batch_norm_backward_of_groups(const float* __restrict__ gradient, const float* __restrict__ input,
                                  const float* __restrict__ mean, const float* __restrict__ inverse_std,
                                  double* __restrict__ sums_gamma, double* __restrict__ sums_beta, unsigned rows,
                                  unsigned columns) {
    const unsigned column = column_index();
    float dy[LANE_ROWS], x[LANE_ROWS];
    load_lane(gradient, rows, columns, dy);
    load_lane(input, rows, columns, x);
    const float center = column < columns ? mean[column] : 0.0f;
    const float inverse = column < columns ? inverse_std[column] : 0.0f;
    double sums[2] = {0.0, 0.0};
#pragma unroll
    for (unsigned i = 0; i < LANE_ROWS; ++i) {
        // A zero beyond the last row is the gradient of nothing.
        sums[0] += dy[i] * ((x[i] - center) * inverse);
        sums[1] += dy[i];
    }
    sum_lanes(sums);
    if (lane_index() == 0 && column < columns) {
        sums_gamma[u64(blockIdx.y) * columns + column] = sums[0];
        sums_beta[u64(blockIdx.y) * columns + column] = sums[1];
    }
}

// dγ and dβ, and what dx = scale·(dy − mean_gradient − (x − mean)·mean_product) needs, all `[C]`. Blocks: ⌈C/32⌉.
extern "C" __global__ void __launch_bounds__(256)
    batch_norm_backward_constants(const double* __restrict__ sums_gamma, const double* __restrict__ sums_beta,
                                  const float* __restrict__ gamma, const float* __restrict__ inverse_std,
                                  float* __restrict__ grad_gamma, float* __restrict__ grad_beta,
                                  float* __restrict__ scale, float* __restrict__ mean_gradient,
                                  float* __restrict__ mean_product, unsigned rows, unsigned columns) {
    const unsigned column = column_index();
    const unsigned groups = (rows + GROUP_ROWS - 1) / GROUP_ROWS;
    const double sum_gamma = join_groups(sums_gamma, groups, columns);
    const double sum_beta = join_groups(sums_beta, groups, columns);
    if (lane_index() != 0 || column >= columns) return;
    const double inverse = inverse_std[column];
    grad_gamma[column] = float(sum_gamma);
    grad_beta[column] = float(sum_beta);
    scale[column] = float(gamma[column] * inverse);
    mean_gradient[column] = float(sum_beta / rows);
    mean_product[column] = float(sum_gamma / rows * inverse);
}

// dx. Threads: ⌈C/4⌉·⌈R/4⌉.
extern "C" __global__ void __launch_bounds__(256)
    batch_norm_backward(const float* __restrict__ gradient, const float* __restrict__ input,
                        const float* __restrict__ mean, const float* __restrict__ scale,
                        const float* __restrict__ mean_gradient, const float* __restrict__ mean_product,
                        float* __restrict__ out, unsigned rows, unsigned columns) {
    const auto [column, first_row] = place(columns);
    const unsigned count = columns - column;
    if (first_row >= rows) return;
    const Packet<float, 4> center = load_part<4>(mean + column, count);
    const Packet<float, 4> factor = load_part<4>(scale + column, count);
    const Packet<float, 4> constant = load_part<4>(mean_gradient + column, count);
    const Packet<float, 4> product = load_part<4>(mean_product + column, count);
#pragma unroll
    for (unsigned r = 0; r < THREAD_ROWS; ++r) {
        if (first_row + r >= rows) break;
        const u64 at = (first_row + r) * columns + column;
        Packet<float, 4> dy = load_part<4>(gradient + at, count);
        const Packet<float, 4> x = load_part<4>(input + at, count);
#pragma unroll
        for (unsigned i = 0; i < 4; ++i) {
            const float centred = dy.value[i] - constant.value[i];
            dy.value[i] = factor.value[i] * fmaf(center.value[i] - x.value[i], product.value[i], centred);
        }
        store_part<4>(out + at, dy, count);
    }
}
