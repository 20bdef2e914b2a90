#include "common.cuh"

// batch_norm_score: D = Σ_c w·leaky_relu(x̂·γ + β) of the rows of x = [hidden ; hidden + shift] + bias, with x̂ = (x − mean)·s,
// s = 1/√(var + ε), mean and biased variance those of every column of x: `[R, C], [R, C] → [2R]`. Moves the running
// statistics (unbiased variance, as PyTorch). A BatchNorm subtracts whatever is added to all rows, so the bias appears
// nowhere but in the running mean: `mean` below is that of [hidden ; hidden + shift].
//
// batch_norm_score_backward: with ds the gradient of a row's score, f LeakyReLU's derivative, d = x − mean, and over all
// N = 2R rows P = Σ ds·f, Q = Σ ds·f·d: dβ = w·P, dγ = w·s·Q, dw = γ·s·Q + β·P, and
// dx = γ·s·w·(ds·f − P/N − d·s²·Q/N). Of a row's two dx, the sum is the gradient of hidden, the second that of shift.
//
// Normalised and activated rows are never written. The forward pass reads hidden and shift twice, 16·R·C bytes for
// 30·R·C operations; the backward pass reads them twice and writes as much once, 24·R·C bytes, 40·R·C operations. Sums: see
// "Sums over the rows of a matrix".

// BatchNorm with known statistics, and LeakyReLU, in one column.
struct Activation {
    float mean, scale, beta, slope;

    // What LeakyReLU sees, given x − mean. Subtracting the mean first keeps what distinguishes rows.
    __device__ __forceinline__ float normalised(float deviation) const { return fmaf(deviation, scale, beta); }

    // LeakyReLU's derivative there.
    __device__ __forceinline__ float factor(float deviation) const {
        return normalised(deviation) > 0.0f ? 1.0f : slope;
    }
};

// --- The moments of every column -----------------------------------------------------------------------------------

// Of groups of 128 rows of either half, all `[groups, 2, C]`: the mean as summed in f32, Σ (x − mean), which is zero had
// that mean been exact, and Σ (x − mean)². A mean summed in f32 is off by some units of its own size, which is much where it
// is large beside what distinguishes the rows; the deviations are small, so their own sum tells by how much (Chan, Golub,
// LeVeque 1983). A thread keeps its 2·16 values in registers. Blocks: ⌈C/32⌉ × groups.
extern "C" __global__ void __launch_bounds__(256)
    batch_norm_score_moments(const float* __restrict__ hidden, const float* __restrict__ shift,
                             float* __restrict__ means, float* __restrict__ deviations, float* __restrict__ squares,
                             unsigned rows, unsigned columns) {
    const unsigned column = column_index();
    const u64 rest = rows - u64(blockIdx.y) * GROUP_ROWS;
    const unsigned group_rows = rest < GROUP_ROWS ? unsigned(rest) : GROUP_ROWS;

    float values[LANE_ROWS], added[LANE_ROWS];
    load_lane(hidden, rows, columns, values);
    load_lane(shift, rows, columns, added);
#pragma unroll
    for (unsigned half = 0; half < 2; ++half) {
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
            const u64 out = (2 * u64(blockIdx.y) + half) * columns + column;
            means[out] = mean[0];
            deviations[out] = sums[0];
            squares[out] = sums[1];
        }
#pragma unroll
        for (unsigned i = 0; i < LANE_ROWS; ++i) values[i] += added[i];
    }
}

// Joins the groups: mean and 1/√(var + ε) of every column, `[C]`, and the running statistics moved. In f64, the groups'
// means counted from the first one's: first the mean of all rows, then what the groups' own squares and their distance
// from that mean add up to. No difference of large squares appears anywhere. Blocks: ⌈C/32⌉.
extern "C" __global__ void __launch_bounds__(256)
    batch_norm_score_statistics(const float* __restrict__ means, const float* __restrict__ deviations,
                                const float* __restrict__ squares, const float* __restrict__ bias,
                                float* __restrict__ mean, float* __restrict__ inverse_std,
                                float* __restrict__ running_mean, float* __restrict__ running_var, unsigned rows,
                                unsigned columns, double epsilon, double momentum) {
    const unsigned column = column_index();
    const bool inside = column < columns;
    const unsigned groups = (rows + GROUP_ROWS - 1) / GROUP_ROWS;
    const auto rows_of = [=](unsigned half_group) -> double {
        const unsigned group = half_group / 2;
        return group + 1 < groups ? GROUP_ROWS : rows - group * GROUP_ROWS;
    };
    const double origin = inside ? double(means[column]) : 0.0;
    const double count = 2.0 * rows;

    double distance[1] = {0.0};
    for (unsigned group = lane_index(); inside && group < 2 * groups; group += ROW_LANES) {
        const u64 in = u64(group) * columns + column;
        distance[0] += rows_of(group) * (means[in] - origin) + deviations[in];
    }
    sum_lanes(distance);
    distance[0] /= count;

    double square[1] = {0.0};
    for (unsigned group = lane_index(); inside && group < 2 * groups; group += ROW_LANES) {
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
    const double with_bias = exact_mean + bias[column];
    const double unbiased = square[0] / (count - 1.0);
    mean[column] = float(exact_mean);
    inverse_std[column] = float(1.0 / sqrt(square[0] / count + epsilon));
    running_mean[column] = float((1.0 - momentum) * running_mean[column] + momentum * with_bias);
    running_var[column] = float((1.0 - momentum) * running_var[column] + momentum * unbiased);
}

// --- Scores --------------------------------------------------------------------------------------------------------

// Rows of either half that one warp scores, so that the constants of a column are read once for all of them.
constexpr unsigned WARP_ROWS = 4;

// Threads: 32·⌈R/4⌉.
extern "C" __global__ void __launch_bounds__(256)
    batch_norm_score(const float* __restrict__ hidden, const float* __restrict__ shift,
                     const float* __restrict__ gamma, const float* __restrict__ beta, const float* __restrict__ weight,
                     const float* __restrict__ mean, const float* __restrict__ inverse_std, float* __restrict__ out,
                     unsigned rows, unsigned columns, float slope) {
    const u64 first_row = thread_index() / WARP * WARP_ROWS;
    if (first_row >= rows) return;  // The whole warp.
    float sums[WARP_ROWS][2] = {};
    for (unsigned column = threadIdx.x % WARP * 4; column < columns; column += WARP * 4) {
        const unsigned count = columns - column;
        const Packet<float, 4> center = load_part<4>(mean + column, count);
        const Packet<float, 4> inverse = load_part<4>(inverse_std + column, count);
        const Packet<float, 4> factor = load_part<4>(gamma + column, count);
        const Packet<float, 4> constant = load_part<4>(beta + column, count);
        const Packet<float, 4> w = load_part<4>(weight + column, count);
#pragma unroll
        for (unsigned r = 0; r < WARP_ROWS; ++r) {
            if (first_row + r >= rows) break;
            const u64 at = (first_row + r) * columns + column;
            const Packet<float, 4> x = load_part<4>(hidden + at, count);
            const Packet<float, 4> added = load_part<4>(shift + at, count);
#pragma unroll
            for (unsigned i = 0; i < 4; ++i) {
                const Activation activation = {center.value[i], factor.value[i] * inverse.value[i], constant.value[i],
                                               slope};
                const float values[2] = {x.value[i], x.value[i] + added.value[i]};
#pragma unroll
                for (unsigned half = 0; half < 2; ++half) {
                    const float deviation = values[half] - activation.mean;
                    const float activated = activation.normalised(deviation) * activation.factor(deviation);
                    sums[r][half] = fmaf(activated, w.value[i], sums[r][half]);
                }
            }
        }
    }
#pragma unroll
    for (unsigned r = 0; r < WARP_ROWS; ++r) {
#pragma unroll
        for (unsigned half = 0; half < 2; ++half) {
            const float sum = warp_sum(sums[r][half]);
            if (threadIdx.x % WARP == 0 && first_row + r < rows) out[half * u64(rows) + first_row + r] = sum;
        }
    }
}

// --- Backward ------------------------------------------------------------------------------------------------------

// The constants of this thread's column.
__device__ __forceinline__ Activation column_activation(const float* gamma, const float* beta, const float* mean,
                                                        const float* inverse_std, unsigned columns, float slope) {
    const unsigned column = column_index();
    if (column >= columns) return {0.0f, 0.0f, 0.0f, slope};
    return {mean[column], gamma[column] * inverse_std[column], beta[column], slope};
}

// P and Q over groups of 128 rows of both halves, both `[groups, C]`. In f64, as in `column_sums`: what dx should lose here,
// the bias before this layer would follow. Blocks: ⌈C/32⌉ × groups.
extern "C" __global__ void __launch_bounds__(256)
    batch_norm_score_backward_of_groups(const float* __restrict__ gradient, const float* __restrict__ hidden,
                                        const float* __restrict__ shift, const float* __restrict__ gamma,
                                        const float* __restrict__ beta, const float* __restrict__ mean,
                                        const float* __restrict__ inverse_std, double* __restrict__ of_factors,
                                        double* __restrict__ of_deviations, unsigned rows, unsigned columns,
                                        float slope) {
    const unsigned column = column_index();
    const Activation activation = column_activation(gamma, beta, mean, inverse_std, columns, slope);
    float x[LANE_ROWS], added[LANE_ROWS];
    load_lane(hidden, rows, columns, x);
    load_lane(shift, rows, columns, added);
    double sums[2] = {0.0, 0.0};
#pragma unroll
    for (unsigned i = 0; i < LANE_ROWS; ++i) {
        if (i < lane_rows(rows)) {
#pragma unroll
            for (unsigned half = 0; half < 2; ++half) {
                const float deviation = (half == 0 ? x[i] : x[i] + added[i]) - activation.mean;
                const float part = gradient[half * u64(rows) + lane_row(i)] * activation.factor(deviation);
                sums[0] += part;
                sums[1] += part * deviation;
            }
        }
    }
    sum_lanes(sums);
    if (lane_index() == 0 && column < columns) {
        of_factors[u64(blockIdx.y) * columns + column] = sums[0];
        of_deviations[u64(blockIdx.y) * columns + column] = sums[1];
    }
}

// dγ, dβ and dw, and what dx = factor·(ds·f − mean_factor − d·mean_product) needs, all `[C]`. Blocks: ⌈C/32⌉.
extern "C" __global__ void __launch_bounds__(256)
    batch_norm_score_backward_constants(const double* __restrict__ of_factors,
                                        const double* __restrict__ of_deviations, const float* __restrict__ gamma,
                                        const float* __restrict__ beta, const float* __restrict__ weight,
                                        const float* __restrict__ inverse_std, float* __restrict__ grad_gamma,
                                        float* __restrict__ grad_beta, float* __restrict__ grad_weight,
                                        float* __restrict__ factor, float* __restrict__ mean_factor,
                                        float* __restrict__ mean_product, unsigned rows, unsigned columns) {
    const unsigned column = column_index();
    const unsigned groups = (rows + GROUP_ROWS - 1) / GROUP_ROWS;
    const double p = join_groups(of_factors, groups, columns);
    const double q = join_groups(of_deviations, groups, columns);
    if (lane_index() != 0 || column >= columns) return;
    const double inverse = inverse_std[column];
    const double scale = gamma[column] * inverse;
    grad_gamma[column] = float(weight[column] * inverse * q);
    grad_beta[column] = float(weight[column] * p);
    grad_weight[column] = float(scale * q + beta[column] * p);
    factor[column] = float(scale * weight[column]);
    mean_factor[column] = float(p / (2.0 * rows));
    mean_product[column] = float(inverse * inverse * q / (2.0 * rows));
}

// The gradients of hidden and shift, both `[R, C]`, and the sums of the former over groups of 128 rows, which
// `column_sums` joins to the gradient of the bias. Blocks: ⌈C/32⌉ × groups.
extern "C" __global__ void __launch_bounds__(256)
    batch_norm_score_backward(const float* __restrict__ gradient, const float* __restrict__ hidden,
                              const float* __restrict__ shift, const float* __restrict__ gamma,
                              const float* __restrict__ beta, const float* __restrict__ mean,
                              const float* __restrict__ inverse_std, const float* __restrict__ factor,
                              const float* __restrict__ mean_factor, const float* __restrict__ mean_product,
                              float* __restrict__ grad_hidden, float* __restrict__ grad_shift,
                              double* __restrict__ partials, unsigned rows, unsigned columns, float slope) {
    const unsigned column = column_index();
    const bool inside = column < columns;
    const Activation activation = column_activation(gamma, beta, mean, inverse_std, columns, slope);
    const float scale = inside ? factor[column] : 0.0f;
    const float constant = inside ? mean_factor[column] : 0.0f;
    const float product = inside ? mean_product[column] : 0.0f;
    float x[LANE_ROWS], added[LANE_ROWS];
    load_lane(hidden, rows, columns, x);
    load_lane(shift, rows, columns, added);
    double sum[1] = {0.0};
#pragma unroll
    for (unsigned i = 0; i < LANE_ROWS; ++i) {
        if (inside && i < lane_rows(rows)) {
            float parts[2];
#pragma unroll
            for (unsigned half = 0; half < 2; ++half) {
                const float deviation = (half == 0 ? x[i] : x[i] + added[i]) - activation.mean;
                const float part = gradient[half * u64(rows) + lane_row(i)] * activation.factor(deviation) - constant;
                parts[half] = scale * fmaf(-deviation, product, part);
            }
            const u64 at = lane_row(i) * columns + column;
            grad_hidden[at] = parts[0] + parts[1];
            grad_shift[at] = parts[1];
            sum[0] += parts[0] + parts[1];
        }
    }
    sum_lanes(sum);
    if (lane_index() == 0 && inside) partials[u64(blockIdx.y) * columns + column] = sum[0];
}
