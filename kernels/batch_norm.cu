#include "common.cuh"

// batch_norm_inference: out = (x − mean)·γ/√(var + ε) + β with given statistics, `[R, C] → [R, C]`. In training, the
// statistics are those of the batch: `batch_norm_score.cu`.
//
// Reads x and writes it once, 8·R·C bytes, 3·R·C operations. A thread takes a packet of four columns in four rows, so that
// the constants of a column are read once for four rows.

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
