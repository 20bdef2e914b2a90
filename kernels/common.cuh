// The vocabulary that all kernels share: element types, packets of 16 bytes, indices, reductions.
//
// Layouts are row-major; feature maps are NHWC. Sizes of tensors are 64-bit, sizes of one axis 32-bit. No kernel adds
// floats atomically: every sum has one order, so that two runs give the same bits.
#pragma once

#ifdef __CUDACC__
#include <cuda_fp16.h>
// The block's dynamic shared memory as an array of T.
#define DYNAMIC_SHARED(T, name) extern __shared__ __align__(16) T name[]
#else
#include "cusim.h"
#endif

using u64 = unsigned long long;

// Threads of a block wherever an operation has no reason for another number.
constexpr unsigned THREADS = 256;
constexpr unsigned WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

// --- Elements: stored as float or half, computed in float ---------------------------------------------------------

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(__half value) { return __half2float(value); }

template <class T> __device__ __forceinline__ T from_float(float value);
template <> __device__ __forceinline__ float from_float<float>(float value) { return value; }
template <> __device__ __forceinline__ __half from_float<__half>(float value) { return __float2half_rn(value); }

// --- Bits -----------------------------------------------------------------------------------------------------------

__device__ __forceinline__ unsigned bits_of(float value) {
    unsigned bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

__device__ __forceinline__ float float_of(unsigned bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// --- Packets: what one thread moves in one access -------------------------------------------------------------------

// WIDTH neighbouring elements. Sixteen bytes are the widest access there is; WIDTH = 1 serves channel counts that do
// not divide into packets.
template <class T, unsigned WIDTH> struct alignas(sizeof(T) * WIDTH) Packet {
    T value[WIDTH];
};

// The number of elements in sixteen bytes.
template <class T> constexpr unsigned PACKET = 16 / sizeof(T);

// `from` is aligned to the packet.
template <unsigned WIDTH, class T> __device__ __forceinline__ Packet<T, WIDTH> load(const T* from) {
    return *reinterpret_cast<const Packet<T, WIDTH>*>(from);
}

template <unsigned WIDTH, class T> __device__ __forceinline__ void store(T* to, const Packet<T, WIDTH>& packet) {
    *reinterpret_cast<Packet<T, WIDTH>*>(to) = packet;
}

// The packet where there is one, otherwise zeros. The load is a predicated one: several of them wait together, where a
// branch around each would have them wait one by one.
template <unsigned WIDTH, class T>
__device__ __forceinline__ Packet<T, WIDTH> load_or_zero(const T* from, bool inside) {
    Packet<T, WIDTH> packet = {};
    if (inside) packet = load<WIDTH>(from);
    return packet;
}

// Whether an address fits a packet.
template <unsigned WIDTH, class T> __device__ __forceinline__ bool is_aligned(const T* address) {
    return reinterpret_cast<size_t>(address) % sizeof(Packet<T, WIDTH>) == 0;
}

// The first `count` elements of a packet and zeros behind them: one access where the packet is whole and aligned, one
// an element at the end of a tensor or in one that begins or ends its rows anywhere.
template <unsigned WIDTH, class T> __device__ __forceinline__ Packet<T, WIDTH> load_part(const T* from, u64 count) {
    if (count >= WIDTH && is_aligned<WIDTH>(from)) return load<WIDTH>(from);
    Packet<T, WIDTH> packet;
#pragma unroll
    for (unsigned i = 0; i < WIDTH; ++i) packet.value[i] = i < count ? from[i] : T();
    return packet;
}

// The counterpart of load_part: writes no more than `count` elements.
template <unsigned WIDTH, class T>
__device__ __forceinline__ void store_part(T* to, const Packet<T, WIDTH>& packet, u64 count) {
    if (count >= WIDTH && is_aligned<WIDTH>(to)) return store(to, packet);
#pragma unroll
    for (unsigned i = 0; i < WIDTH; ++i) {
        if (i < count) to[i] = packet.value[i];
    }
}

// --- Indices --------------------------------------------------------------------------------------------------------

// The number of this thread in a one-dimensional grid.
__device__ __forceinline__ u64 thread_index() { return u64(blockIdx.x) * blockDim.x + threadIdx.x; }

// Where a thread works in a feature map `[N, H, W, C]`, when blocks go along a line of the image and then from line to
// line: the number of the line, image after image, and the thread's place in it. All divisions but those within the
// line are the same for a whole block, and 32 bits hold them.
struct LinePlace {
    unsigned line;
    unsigned item;
};

// Every line has `items` for its threads, and ⌈items/256⌉ blocks; the last ones' surplus threads have items beyond it.
__device__ __forceinline__ LinePlace line_place(unsigned items) {
    const unsigned blocks = (items + THREADS - 1) / THREADS;
    return {blockIdx.x / blocks, blockIdx.x % blocks * THREADS + threadIdx.x};
}

// --- Interpolation -------------------------------------------------------------------------------------------------

// The sources of one output of a bilinear resize (align_corners = false) along one axis: `low` with 1 − weight, and low + 1 with `weight`.
struct Interpolation {
    unsigned low;
    float weight;
};

// Output i lies at (i + ½)·input/output − ½, clamped at zero: ((2i + 1)·input − output)/(2·output), of which the
// quotient and the remainder are exact. At the last source nothing is left to interpolate with.
__device__ __forceinline__ Interpolation interpolation(unsigned i, unsigned input, unsigned output) {
    const unsigned scaled = (2 * i + 1) * input;
    const unsigned numerator = scaled > output ? scaled - output : 0;
    const unsigned low = numerator / (2 * output);
    if (low + 1 >= input) return {input - 1, 0.0f};
    return {low, float(numerator % (2 * output)) / float(2 * output)};
}

// --- Reductions, in an order that depends on nothing but the block's size -----------------------------------------

// The larger of the two; a NaN wins against a number, so that it is never hidden.
__device__ __forceinline__ float maximum(float a, float b) { return a >= b || a != a ? a : b; }

// The sum over the lanes of a warp, in lane 0.
template <class T> __device__ __forceinline__ T warp_sum(T value) {
    for (unsigned offset = WARP / 2; offset > 0; offset /= 2) value += __shfl_down_sync(ALL_LANES, value, offset);
    return value;
}

// The maximum over the lanes of a warp, in lane 0.
__device__ __forceinline__ float warp_maximum(float value) {
    for (unsigned offset = WARP / 2; offset > 0; offset /= 2) {
        value = maximum(value, __shfl_down_sync(ALL_LANES, value, offset));
    }
    return value;
}

// --- Sums over the rows of a matrix --------------------------------------------------------------------------------
//
// Stage one: a block takes 32 neighbouring columns (128 bytes of every row, one access a warp) of a group of 128 rows,
// and its 8 warps, the row lanes, share the rows. Stage two joins the groups, again 32 columns × 8 row lanes a block.
// The CPU cuts its sums into the same groups.

constexpr unsigned COLUMNS = WARP;
constexpr unsigned ROW_LANES = THREADS / COLUMNS;
constexpr unsigned GROUP_ROWS = 128;
constexpr unsigned LANE_ROWS = GROUP_ROWS / ROW_LANES;

// The column of this thread, and its row lane among the eight that share the column.
__device__ __forceinline__ unsigned column_index() { return blockIdx.x * COLUMNS + threadIdx.x % COLUMNS; }
__device__ __forceinline__ unsigned lane_index() { return threadIdx.x / COLUMNS; }

// The number of rows that this lane has in its block's group: fewer than LANE_ROWS only at the end of the matrix.
__device__ __forceinline__ unsigned lane_rows(unsigned rows) {
    const u64 first = u64(blockIdx.y) * GROUP_ROWS + lane_index();
    const u64 count = first < rows ? (rows - first + ROW_LANES - 1) / ROW_LANES : 0;
    return count < LANE_ROWS ? unsigned(count) : LANE_ROWS;
}

// Row `i` of this lane.
__device__ __forceinline__ u64 lane_row(unsigned i) {
    return u64(blockIdx.y) * GROUP_ROWS + i * ROW_LANES + lane_index();
}

// The elements of this thread, all at once, so that their loads wait together; zeros outside the matrix.
__device__ __forceinline__ void load_lane(const float* matrix, unsigned rows, unsigned columns,
                                          float (&values)[LANE_ROWS]) {
    const unsigned count = column_index() < columns ? lane_rows(rows) : 0;
#pragma unroll
    for (unsigned i = 0; i < LANE_ROWS; ++i) {
        values[i] = i < count ? matrix[lane_row(i) * columns + column_index()] : 0.0f;
    }
}

// Replaces every value by its sum over the eight row lanes of the column, in order. All threads of the block call it.
template <class T, unsigned COUNT> __device__ __forceinline__ void sum_lanes(T (&values)[COUNT]) {
    __shared__ T parts[COUNT][THREADS];
    __syncthreads();  // What an earlier call left there has been read.
#pragma unroll
    for (unsigned i = 0; i < COUNT; ++i) parts[i][threadIdx.x] = values[i];
    __syncthreads();
#pragma unroll
    for (unsigned i = 0; i < COUNT; ++i) {
        T sum = parts[i][threadIdx.x % COLUMNS];
        for (unsigned lane = 1; lane < ROW_LANES; ++lane) sum += parts[i][lane * COLUMNS + threadIdx.x % COLUMNS];
        values[i] = sum;
    }
}

// The sum over `groups` of one column of partial sums `[groups, columns]`; 0 outside the matrix.
__device__ __forceinline__ double join_groups(const double* partials, unsigned groups, unsigned columns) {
    const unsigned column = column_index();
    double sum[1] = {0.0};
    if (column < columns) {
        for (unsigned group = lane_index(); group < groups; group += ROW_LANES) {
            sum[0] += partials[u64(group) * columns + column];
        }
    }
    sum_lanes(sum);
    return sum[0];
}
