#include "common.cuh"

// conv2d: out = relu(patches·Wᵀ + bias + residual), `[N, H, W, I] → [N, H', W', O]`. cuBLASLt multiplies; what stands
// here is what it leaves to do.
//
// im2col: rows [first, first + rows) of the patch matrix `[N·H'·W', K]`. Element (ky, kx, c) of the row of (n, y, x) is
// in[n, y·stride + ky − padding, x·stride + kx − padding, c], zero outside the image; K is kh·kw·I rounded up to eight,
// the rest zeros, so that every row begins at a multiple of sixteen bytes. One thread writes the same packet of four
// neighbouring rows: what part of a patch it holds is worked out once for the four, and four loads are under way
// together. A row costs sizeof(T)·K bytes written and, since neighbouring patches overlap, about as many read, of which
// a cache serves all but stride²·I: no arithmetic.
//
// conv2d_epilogue: out = relu(out + bias + residual) in place, where cuBLASLt does not fuse it: up to 3·sizeof(T) bytes
// an element.
//
// to_half: float → half, rounded to nearest even: 6 bytes an element.

// --- im2col --------------------------------------------------------------------------------------------------------

// The sizes of a convolution, by value.
struct Patches {
    unsigned h, w, channels;
    unsigned kernel_h, kernel_w;
    unsigned out_h, out_w;
    unsigned stride, padding;
    unsigned columns;  // K
};
static_assert(sizeof(Patches) == 40, "Patches of src/backend/cuda/conv2d.rs");

// Neighbouring rows of one thread, where it moves packets and where it gathers single elements.
constexpr unsigned PACKET_ROWS = 4;
constexpr unsigned SCALAR_ROWS = 2;

// Runs of WIDTH columns lie in one pixel: `channels` is a multiple of WIDTH. Of the first row it is known in which
// image it lies, and at which of its out_h·out_w positions, so that no index but the final ones needs 64 bits.
template <unsigned WIDTH, class T>
__device__ __forceinline__ void im2col(const T* input, T* patches, const Patches& sizes, unsigned first_image,
                                       unsigned first_position, unsigned rows) {
    constexpr unsigned ROWS = WIDTH == 1 ? SCALAR_ROWS : PACKET_ROWS;
    const unsigned packets = sizes.columns / PACKET<T>;
    const unsigned thread = blockIdx.x * THREADS + threadIdx.x;
    const unsigned first_row = thread / packets * ROWS;
    if (first_row >= rows) return;
    const unsigned column = thread % packets * PACKET<T>;

    const unsigned area = sizes.out_h * sizes.out_w;
    const unsigned position = first_position + first_row;
    unsigned image = first_image + position / area;
    unsigned out_y = position % area / sizes.out_w;
    unsigned out_x = position % sizes.out_w;

    const unsigned tap = column / sizes.channels;
    const unsigned first_channel = column % sizes.channels;
    const unsigned first_ky = tap / sizes.kernel_w;
    const unsigned first_kx = tap % sizes.kernel_w;

    Packet<T, PACKET<T>> packet[ROWS];
#pragma unroll
    for (unsigned row = 0; row < ROWS; ++row) {
        const T* source = input + u64(image) * sizes.h * sizes.w * sizes.channels;
        // Left of the image and above it, unsigned numbers are large.
        const unsigned top = out_y * sizes.stride - sizes.padding;
        const unsigned left = out_x * sizes.stride - sizes.padding;
        unsigned channel = first_channel, ky = first_ky, kx = first_kx;
#pragma unroll
        for (unsigned run = 0; run < PACKET<T>; run += WIDTH) {
            const unsigned y = top + ky;
            const unsigned x = left + kx;
            const bool inside = first_row + row < rows && ky < sizes.kernel_h && y < sizes.h && x < sizes.w;
            const T* from = source + (u64(y) * sizes.w + x) * sizes.channels + channel;
            const Packet<T, WIDTH> values = load_or_zero<WIDTH>(from, inside);
#pragma unroll
            for (unsigned i = 0; i < WIDTH; ++i) packet[row].value[run + i] = values.value[i];
            // Carries as selections: branches between the loads would have them wait one by one.
            channel += WIDTH;
            const bool next_column = channel == sizes.channels;
            channel = next_column ? 0 : channel;
            kx += next_column;
            const bool next_line = kx == sizes.kernel_w;
            kx = next_line ? 0 : kx;
            ky += next_line;
        }
        ++out_x;
        const bool next_line = out_x == sizes.out_w;
        out_x = next_line ? 0 : out_x;
        out_y += next_line;
        const bool next_image = out_y == sizes.out_h;
        out_y = next_image ? 0 : out_y;
        image += next_image;
    }
    T* to = patches + u64(first_row) * sizes.columns + column;
#pragma unroll
    for (unsigned row = 0; row < ROWS; ++row) {
        if (first_row + row < rows) store(to + u64(row) * sizes.columns, packet[row]);
    }
}

// `channels` is a multiple of four, `columns` of eight. Threads: ⌈rows/4⌉·columns/4, fewer than 2³².
extern "C" __global__ void __launch_bounds__(256) im2col_f32(const float* __restrict__ input,
                                                             float* __restrict__ patches, Patches sizes,
                                                             unsigned first_image, unsigned first_position,
                                                             unsigned rows) {
    im2col<PACKET<float>>(input, patches, sizes, first_image, first_position, rows);
}

// `channels` and `columns` are multiples of eight. Threads: ⌈rows/4⌉·columns/8, fewer than 2³².
extern "C" __global__ void __launch_bounds__(256) im2col_f16(const __half* __restrict__ input,
                                                             __half* __restrict__ patches, Patches sizes,
                                                             unsigned first_image, unsigned first_position,
                                                             unsigned rows) {
    im2col<PACKET<__half>>(input, patches, sizes, first_image, first_position, rows);
}

// Any number of channels: reads elements one by one and writes packets all the same. Threads: ⌈rows/2⌉·columns/4.
extern "C" __global__ void __launch_bounds__(256) im2col_scalar_f32(const float* __restrict__ input,
                                                                    float* __restrict__ patches, Patches sizes,
                                                                    unsigned first_image, unsigned first_position,
                                                                    unsigned rows) {
    im2col<1>(input, patches, sizes, first_image, first_position, rows);
}

// Threads: ⌈rows/2⌉·columns/8.
extern "C" __global__ void __launch_bounds__(256) im2col_scalar_f16(const __half* __restrict__ input,
                                                                    __half* __restrict__ patches, Patches sizes,
                                                                    unsigned first_image, unsigned first_position,
                                                                    unsigned rows) {
    im2col<1>(input, patches, sizes, first_image, first_position, rows);
}

// --- The epilogue --------------------------------------------------------------------------------------------------

// `bias` has one value a column, `residual` is as large as `out`; null where there is none.
template <class T>
__device__ __forceinline__ void conv2d_epilogue(T* out, const T* bias, const T* residual, u64 count, unsigned columns,
                                                bool relu) {
    constexpr unsigned WIDTH = PACKET<T>;
    const u64 first = WIDTH * thread_index();
    if (first >= count) return;
    const Packet<T, WIDTH> products = load_part<WIDTH>(out + first, count - first);
    float values[WIDTH];
#pragma unroll
    for (unsigned i = 0; i < WIDTH; ++i) values[i] = to_float(products.value[i]);
    if (bias != nullptr) {
        unsigned column = unsigned(first % columns);
#pragma unroll
        for (unsigned i = 0; i < WIDTH; ++i) {
            values[i] += to_float(bias[column]);
            if (++column == columns) column = 0;
        }
    }
    if (residual != nullptr) {
        const Packet<T, WIDTH> added = load_part<WIDTH>(residual + first, count - first);
#pragma unroll
        for (unsigned i = 0; i < WIDTH; ++i) values[i] += to_float(added.value[i]);
    }
    Packet<T, WIDTH> results;
#pragma unroll
    for (unsigned i = 0; i < WIDTH; ++i) {
        // A NaN is not below zero: a broken input must not come out as features of zero.
        results.value[i] = from_float<T>(relu && values[i] < 0.0f ? 0.0f : values[i]);
    }
    store_part<WIDTH>(out + first, results, count - first);
}

// Threads: ⌈count/4⌉.
extern "C" __global__ void __launch_bounds__(256) conv2d_epilogue_f32(float* __restrict__ out,
                                                                      const float* __restrict__ bias,
                                                                      const float* __restrict__ residual,
                                                                      unsigned long long count, unsigned columns,
                                                                      unsigned relu) {
    conv2d_epilogue(out, bias, residual, count, columns, relu != 0);
}

// Threads: ⌈count/8⌉.
extern "C" __global__ void __launch_bounds__(256) conv2d_epilogue_f16(__half* __restrict__ out,
                                                                      const __half* __restrict__ bias,
                                                                      const __half* __restrict__ residual,
                                                                      unsigned long long count, unsigned columns,
                                                                      unsigned relu) {
    conv2d_epilogue(out, bias, residual, count, columns, relu != 0);
}

// --- Conversion ----------------------------------------------------------------------------------------------------

// Threads: ⌈count/8⌉.
extern "C" __global__ void __launch_bounds__(256) to_half(const float* __restrict__ input, __half* __restrict__ out,
                                                          unsigned long long count) {
    constexpr unsigned WIDTH = PACKET<__half>;
    const u64 first = WIDTH * thread_index();
    if (first >= count) return;
    Packet<__half, WIDTH> halves;
#pragma unroll
    for (unsigned i = 0; i < WIDTH; i += 4) {
        const u64 begin = first + i;
        const Packet<float, 4> values = load_part<4>(input + begin, begin < count ? count - begin : 0);
#pragma unroll
        for (unsigned j = 0; j < 4; ++j) halves.value[i + j] = from_float<__half>(values.value[j]);
    }
    store_part<WIDTH>(out + first, halves, count - first);
}
