#include "tensor_core.cuh"

// conv2d_implicit: conv2d of halves as one kernel (an implicit GEMM), out = relu(patches·Wᵀ + bias + residual),
// `[N, H, W, I] → [N, H', W', O]`, sums in float. The patch matrix `[M, K]` of conv2d.cu, M = N·H'·W' and K = kh·kw·I,
// exists nowhere: the rows of it that a block multiplies are gathered from the input to shared memory. From compute
// capability 8.0 on, for I a multiple of eight; conv2d.cu is its plain twin.
//
// A block computes a tile of out in steps of 32 columns of K. Of a step it copies BLOCK_M rows of patches and BLOCK_N
// rows of W asynchronously, padding as zeros, several steps ahead of the one its warps multiply. Where I is a multiple
// of 32 the steps go through all taps of 32 channels and then to the next 32: neighbouring taps read the same pixels, so
// that all but the first find them in the first-level cache. Every sum has one order, whatever the tile. Where few tiles
// exist, K is cut in parts, one a block (conv2d_implicit_part), and their sums are joined in order: other bits, as
// another algorithm has.
//
// What it moves: out, the residual, and in each block its pixels once and BLOCK_N·K weights, these from the second-level
// cache, in which W stays. The im2col path writes and reads M·K halves more.
//
// wide_resnet50_2 at 224 px, a 3×3 convolution of stride 1, batch 64, 59 GFLOP each in all three layers; predicted for
// an H100 with 600 TFLOP/s of mma.sync and 3.35 TB/s, nothing measured:
//
//                 M        O    K     input + out   patches   this      patches written alone
//     layer1      200,704  128  1152  103 MB        462 MB    99 µs     138 µs, and a product's 99 µs behind it
//     layer2      50,176   256  2304   51 MB        231 MB    99 µs      69 µs
//     layer3      12,544   512  4608   26 MB        116 MB    99 µs      35 µs
//
// Their arithmetic intensity, 570 to 1950 FLOP a byte of memory, is beyond the 180 at which an H100 becomes bound by
// arithmetic. The tighter roofs are inside. A block of 128×128 in layer3 reads 1.2 MB of weights and about 0.2 MB of pixels
// from the second-level cache for 151 MFLOP, 110 FLOP a byte, which at about 5.5 TB/s allows 600 TFLOP/s. In a step of
// 1 MFLOP, about 410 cycles, shared memory takes in 16 KB and its four warps read 32 KB of fragments, at 128 bytes a cycle
// 384 cycles; tiles of a warp of 64×32 would need 512. So these are as large as registers allow.
//
// Batch 1: layer3 (M = 196) has 32 tiles of 64×64 for 132 multiprocessors, of 144 steps each, at 58 ns of arithmetic a
// step 8.4 µs; in four parts 2.1 µs, and 1.6 MB written to the second-level cache and read back, about 1 µs, and one more
// launch.
//
// The stem (I = 3, K = 147) stays with im2col: with pixels filled up to eight channels K is 392, 67 µs of arithmetic
// instead of 25 for a batch of 64, behind a pass over the input of 71 MB, 21 µs. That is no gain against writing 244 MB of
// patches, 73 µs, that would be worth a second path.

// --- Sizes ---------------------------------------------------------------------------------------------------------

// The sizes of a convolution, by value.
struct Convolution {
    unsigned rows;  // M
    unsigned h, w, channels;
    unsigned kernel_h, kernel_w;
    unsigned out_h, out_w;
    unsigned stride, padding;
    unsigned outputs;  // O
};
static_assert(sizeof(Convolution) == 44, "Convolution of src/backend/cuda/conv2d_implicit.rs");

constexpr unsigned BLOCK_THREADS = 128;
// Columns of K in a step, in chunks of sixteen bytes, which lie in one pixel.
constexpr unsigned STEP = 32;
constexpr unsigned CHUNK = PACKET<__half>;
constexpr unsigned CHUNKS = STEP / CHUNK;
// Rows of which the block's threads copy a chunk each, at a time.
constexpr unsigned PASS_ROWS = BLOCK_THREADS / CHUNKS;
// What a block has without asking for more. It is used up: two blocks a multiprocessor fit those of 8.6 and 8.9, too.
constexpr unsigned SHARED_BYTES = 48 << 10;

// Where a chunk of a row lies in a stage, in halves. A row is half as long as the banks are wide, so that two rows fill
// them; exchanging the chunks of every other pair makes any eight rows of the same chunk lie in different banks.
__device__ __forceinline__ unsigned place(unsigned row, unsigned chunk) {
    return row * STEP + (chunk ^ (row / 2 % CHUNKS)) * CHUNK;
}

// The tile of a block, and that of a warp in it.
template <unsigned BLOCK_M_, unsigned BLOCK_N_, unsigned WARP_M_, unsigned WARP_N_> struct Tile {
    static constexpr unsigned BLOCK_M = BLOCK_M_, BLOCK_N = BLOCK_N_, WARP_M = WARP_M_, WARP_N = WARP_N_;
    static constexpr unsigned STAGE_HALVES = (BLOCK_M + BLOCK_N) * STEP;
    static constexpr unsigned STAGES = SHARED_BYTES / sizeof(__half) / STAGE_HALVES;
    // Products of 16×8 in a warp's tile.
    static constexpr unsigned PRODUCTS_M = WARP_M / 16, PRODUCTS_N = WARP_N / 8;
    static_assert(BLOCK_M / WARP_M * (BLOCK_N / WARP_N) * WARP == BLOCK_THREADS, "a tile of the block for each warp");
    static_assert(STAGES >= 3, "copies run ahead of the products");
};

// A warp's sums, as mma_m16n8k16 spreads them over its lanes.
template <class T> using Sums = float[T::PRODUCTS_M][T::PRODUCTS_N][4];

// --- Copies --------------------------------------------------------------------------------------------------------

// What a thread copies of every step: the same chunk of every PASS_ROWS-th row of patches and of weights.
template <class T> class Copies {
  public:
    // From step `first_step` on, for the block whose tile begins at `first_row` and `first_output`.
    __device__ __forceinline__ Copies(const __half* input, const __half* weight, const Convolution& sizes,
                                      unsigned first_row, unsigned first_output, unsigned first_step)
        : input_(input), sizes_(sizes) {
        const unsigned row = threadIdx.x / CHUNKS, chunk = threadIdx.x % CHUNKS;
        place_ = place(row, chunk);
        const unsigned area = sizes.out_h * sizes.out_w;
#pragma unroll
        for (unsigned i = 0; i < ROWS_M; ++i) {
            const unsigned m = first_row + row + i * PASS_ROWS;
            const unsigned image = m / area, out_y = m % area / sizes.out_w, out_x = m % sizes.out_w;
            // Left of the image and above it, unsigned numbers are large; so are all of a row beyond the last.
            left_[i] = out_x * sizes.stride - sizes.padding;
            top_[i] = m < sizes.rows ? out_y * sizes.stride - sizes.padding : 1u << 31;
            // Of the tap (0, 0), which may lie before the image: offsets count modulo 2⁶⁴.
            const u64 line = u64(image) * sizes.h + u64(out_y) * sizes.stride - sizes.padding;
            first_[i] = (line * sizes.w + u64(out_x) * sizes.stride - sizes.padding) * sizes.channels;
        }
        output_ = first_output + row;
        patch_ = u64(sizes.kernel_h) * sizes.kernel_w * sizes.channels;
        weight_ = weight + (output_ < sizes.outputs ? output_ * patch_ : 0);

        if (sizes.channels % STEP == 0) {
            const unsigned taps = sizes.kernel_h * sizes.kernel_w;
            channel_ = first_step / taps * STEP + chunk * CHUNK;
            ky_ = first_step % taps / sizes.kernel_w;
            kx_ = first_step % sizes.kernel_w;
        } else {
            const unsigned column = first_step * STEP + chunk * CHUNK;
            channel_ = column % sizes.channels;
            ky_ = column / sizes.channels / sizes.kernel_w;
            kx_ = column / sizes.channels % sizes.kernel_w;
        }
    }

    // Begins the copies of the next step.
    __device__ __forceinline__ void begin(__half* stage) {
        const bool within = channel_ < sizes_.channels && ky_ < sizes_.kernel_h;
        const unsigned tap = (ky_ * sizes_.w + kx_) * sizes_.channels + channel_;
#pragma unroll
        for (unsigned i = 0; i < ROWS_M; ++i) {
            const unsigned y = top_[i] + ky_, x = left_[i] + kx_;
            const bool inside = within && y < sizes_.h && x < sizes_.w;
            copy_async_16_cached(stage + place_ + i * PASS_ROWS * STEP, input_ + (inside ? first_[i] + tap : 0), inside);
        }
        const unsigned column = (ky_ * sizes_.kernel_w + kx_) * sizes_.channels + channel_;
#pragma unroll
        for (unsigned i = 0; i < ROWS_N; ++i) {
            const bool inside = within && output_ + i * PASS_ROWS < sizes_.outputs;
            const u64 from = i * PASS_ROWS * patch_ + column;
            copy_async_16(stage + T::BLOCK_M * STEP + place_ + i * PASS_ROWS * STEP, weight_ + (inside ? from : 0), inside);
        }
        advance();
    }

  private:
    static constexpr unsigned ROWS_M = T::BLOCK_M / PASS_ROWS, ROWS_N = T::BLOCK_N / PASS_ROWS;
    // The swizzle repeats within a pass, so that the same chunk has the same place in each.
    static_assert(PASS_ROWS % (2 * CHUNKS) == 0);

    __device__ __forceinline__ void advance() {
        if (sizes_.channels % STEP == 0) {
            if (++kx_ == sizes_.kernel_w) {
                kx_ = 0;
                if (++ky_ == sizes_.kernel_h) {
                    ky_ = 0;
                    channel_ += STEP;
                }
            }
            return;
        }
        channel_ += STEP;
        while (channel_ >= sizes_.channels) {
            channel_ -= sizes_.channels;
            if (++kx_ == sizes_.kernel_w) {
                kx_ = 0;
                ++ky_;
            }
        }
    }

    const __half* input_;
    const __half* weight_;
    const Convolution& sizes_;
    u64 first_[ROWS_M];
    u64 patch_;
    unsigned top_[ROWS_M], left_[ROWS_M];
    unsigned output_;
    unsigned channel_, ky_, kx_;
    unsigned place_;
};

// --- Products ------------------------------------------------------------------------------------------------------

// sums += patches·Wᵀ of one stage, for the warp whose tile begins at `first_m` and `first_n`.
template <class T>
__device__ __forceinline__ void multiply(Sums<T>& sums, const __half* stage, unsigned first_m, unsigned first_n) {
    const unsigned lane = threadIdx.x % WARP;
    const __half* weights = stage + T::BLOCK_M * STEP;
#pragma unroll
    for (unsigned half = 0; half < STEP / 16; ++half) {
        unsigned a[T::PRODUCTS_M][4];
        unsigned b[T::PRODUCTS_N / 2][4];
        // Rows 0 to 7, rows 8 to 15, and both again eight columns on: the order of a's registers.
#pragma unroll
        for (unsigned i = 0; i < T::PRODUCTS_M; ++i) {
            ldmatrix_x4(a[i], stage + place(first_m + 16 * i + lane % 16, 2 * half + lane / 16));
        }
        // Eight outputs, the same eight columns on, and both of the next eight outputs: b of two products.
#pragma unroll
        for (unsigned j = 0; j < T::PRODUCTS_N / 2; ++j) {
            const unsigned output = first_n + 16 * j + lane / 16 * 8 + lane % 8;
            ldmatrix_x4(b[j], weights + place(output, 2 * half + lane / 8 % 2));
        }
#pragma unroll
        for (unsigned i = 0; i < T::PRODUCTS_M; ++i) {
#pragma unroll
            for (unsigned j = 0; j < T::PRODUCTS_N; ++j) {
                mma_m16n8k16(sums[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
            }
        }
    }
}

// The sums over `steps` steps, while the copies of later steps are under way.
template <class T>
__device__ __forceinline__ void accumulate(Sums<T>& sums, Copies<T>& copies, __half* stages, unsigned steps,
                                           unsigned first_m, unsigned first_n) {
#pragma unroll
    for (unsigned step = 0; step < T::STAGES - 1; ++step) {
        if (step < steps) copies.begin(stages + step * T::STAGE_HALVES);
        commit_copies();
    }
    unsigned read = 0, written = T::STAGES - 1;
    for (unsigned step = 0; step < steps; ++step) {
        wait_for_copies<T::STAGES - 2>();
        __syncthreads();  // The stage is there for all, and what is overwritten below has been read by all.
        if (step + T::STAGES - 1 < steps) copies.begin(stages + written * T::STAGE_HALVES);
        commit_copies();
        multiply<T>(sums, stages + read * T::STAGE_HALVES, first_m, first_n);
        read = read + 1 == T::STAGES ? 0 : read + 1;
        written = written + 1 == T::STAGES ? 0 : written + 1;
    }
    __syncthreads();  // The last stages have been read: their memory is free.
}

// --- Results -------------------------------------------------------------------------------------------------------

// Eight neighbouring results, or the `count` that a row has left: relu(values + bias + residual).
__device__ __forceinline__ void write_packet(__half* to, const float (&values)[CHUNK], const __half* bias,
                                             const __half* residual, unsigned count, bool relu) {
    const Packet<__half, CHUNK> biases = load_part<CHUNK>(bias, count);
    Packet<__half, CHUNK> residuals = {};
    if (residual != nullptr) residuals = load_part<CHUNK>(residual, count);
    Packet<__half, CHUNK> results;
#pragma unroll
    for (unsigned k = 0; k < CHUNK; ++k) {
        const float value = values[k] + to_float(biases.value[k]) + to_float(residuals.value[k]);
        // A NaN is not below zero: a broken input must not come out as features of zero.
        results.value[k] = from_float<__half>(relu && value < 0.0f ? 0.0f : value);
    }
    store_part<CHUNK>(to, results, count);
}

// out = relu(sums + bias + residual), sixteen rows at a time: they pass through shared memory of the warp's own, so that
// a lane has eight neighbouring results.
template <class T>
__device__ __forceinline__ void write_results(const Sums<T>& sums, float* lines, const __half* bias,
                                              const __half* residual, __half* out, const Convolution& sizes,
                                              unsigned first_row, unsigned first_output, bool relu) {
    // Eight more than a line has: the rows that one access writes lie in different banks.
    constexpr unsigned LINE = T::WARP_N + 8;
    constexpr unsigned PACKETS = T::WARP_N / CHUNK;
    static_assert(BLOCK_THREADS / WARP * 16 * LINE * sizeof(float) <= SHARED_BYTES, "room for each warp's lines");
    const unsigned lane = threadIdx.x % WARP, group = lane / 4, pair = 2 * (lane % 4);
    lines += threadIdx.x / WARP * 16 * LINE;
#pragma unroll
    for (unsigned i = 0; i < T::PRODUCTS_M; ++i) {
#pragma unroll
        for (unsigned j = 0; j < T::PRODUCTS_N; ++j) {
            float* to = lines + group * LINE + 8 * j + pair;
            store(to, Packet<float, 2>{sums[i][j][0], sums[i][j][1]});
            store(to + 8 * LINE, Packet<float, 2>{sums[i][j][2], sums[i][j][3]});
        }
        __syncwarp();
#pragma unroll
        for (unsigned packet = lane; packet < 16 * PACKETS; packet += WARP) {
            const unsigned line = packet / PACKETS, column = packet % PACKETS * CHUNK;
            const unsigned row = first_row + 16 * i + line, output = first_output + column;
            if (row >= sizes.rows || output >= sizes.outputs) continue;
            const u64 at = u64(row) * sizes.outputs + output;
            float values[CHUNK];
#pragma unroll
            for (unsigned k = 0; k < CHUNK; ++k) values[k] = lines[line * LINE + column + k];
            write_packet(out + at, values, bias + output, residual == nullptr ? nullptr : residual + at,
                         sizes.outputs - output, relu);
        }
        __syncwarp();  // The next sixteen rows may be written.
    }
}

// The sums as they are, to this block's part of `[parts, M, O]`.
template <class T>
__device__ __forceinline__ void write_part(const Sums<T>& sums, float* part, const Convolution& sizes,
                                           unsigned first_row, unsigned first_output) {
    const unsigned lane = threadIdx.x % WARP, group = lane / 4, pair = 2 * (lane % 4);
#pragma unroll
    for (unsigned i = 0; i < 2 * T::PRODUCTS_M; ++i) {
        const unsigned row = first_row + 8 * i + group;
#pragma unroll
        for (unsigned j = 0; j < T::PRODUCTS_N; ++j) {
            const unsigned output = first_output + 8 * j + pair;
            if (row >= sizes.rows || output >= sizes.outputs) continue;
            const auto& four = sums[i / 2][j];
            store(part + u64(row) * sizes.outputs + output, Packet<float, 2>{four[i % 2 * 2], four[i % 2 * 2 + 1]});
        }
    }
}

// --- Blocks --------------------------------------------------------------------------------------------------------

// Where the tiles of a block and of a warp in it begin. Blocks go through the outputs of the same rows first: those share
// the input's pixels.
struct TilePlace {
    unsigned row, output;  // of the block, in out
    unsigned m, n;         // of the warp, in the block's tile
};

template <class T> __device__ __forceinline__ TilePlace tile_place(const Convolution& sizes) {
    const unsigned blocks_n = (sizes.outputs + T::BLOCK_N - 1) / T::BLOCK_N;
    const unsigned warps_m = T::BLOCK_M / T::WARP_M, warp = threadIdx.x / WARP;
    return {blockIdx.x / blocks_n * T::BLOCK_M, blockIdx.x % blocks_n * T::BLOCK_N, warp % warps_m * T::WARP_M,
            warp / warps_m * T::WARP_N};
}

__device__ __forceinline__ unsigned steps_of(const Convolution& sizes) {
    return (sizes.kernel_h * sizes.kernel_w * sizes.channels + STEP - 1) / STEP;
}

template <class T>
__device__ __forceinline__ void conv2d_implicit(const __half* input, const __half* weight, const __half* bias,
                                                const __half* residual, __half* out, const Convolution& sizes,
                                                bool relu) {
#if HAS_TENSOR_CORE_PIPELINE
    DYNAMIC_SHARED(__half, shared);
    const TilePlace at = tile_place<T>(sizes);
    Sums<T> sums = {};
    Copies<T> copies(input, weight, sizes, at.row, at.output, 0);
    accumulate<T>(sums, copies, shared, steps_of(sizes), at.m, at.n);
    write_results<T>(sums, reinterpret_cast<float*>(shared), bias, residual, out, sizes, at.row + at.m,
                     at.output + at.n, relu);
#else
    __trap();  // The launcher takes im2col on such devices.
#endif
}

template <class T>
__device__ __forceinline__ void conv2d_implicit_part(const __half* input, const __half* weight, float* parts,
                                                     const Convolution& sizes, unsigned part_steps) {
#if HAS_TENSOR_CORE_PIPELINE
    DYNAMIC_SHARED(__half, shared);
    const TilePlace at = tile_place<T>(sizes);
    const unsigned first_step = blockIdx.y * part_steps;
    Sums<T> sums = {};
    Copies<T> copies(input, weight, sizes, at.row, at.output, first_step);
    accumulate<T>(sums, copies, shared, min(part_steps, steps_of(sizes) - first_step), at.m, at.n);
    write_part<T>(sums, parts + u64(blockIdx.y) * sizes.rows * sizes.outputs, sizes, at.row + at.m, at.output + at.n);
#else
    __trap();  // As above.
#endif
}

// Large grids: the most arithmetic a byte. Blocks: ⌈rows/128⌉·⌈outputs/128⌉ of 128 threads and 48 KiB.
extern "C" __global__ void __launch_bounds__(128) conv2d_implicit_128x128(const __half* __restrict__ input,
                                                                          const __half* __restrict__ weight,
                                                                          const __half* __restrict__ bias,
                                                                          const __half* __restrict__ residual,
                                                                          __half* __restrict__ out, Convolution sizes,
                                                                          unsigned relu) {
    conv2d_implicit<Tile<128, 128, 64, 64>>(input, weight, bias, residual, out, sizes, relu != 0);
}

// Up to 64 outputs. Blocks: ⌈rows/128⌉·⌈outputs/64⌉ of 128 threads and 48 KiB.
extern "C" __global__ void __launch_bounds__(128) conv2d_implicit_128x64(const __half* __restrict__ input,
                                                                         const __half* __restrict__ weight,
                                                                         const __half* __restrict__ bias,
                                                                         const __half* __restrict__ residual,
                                                                         __half* __restrict__ out, Convolution sizes,
                                                                         unsigned relu) {
    conv2d_implicit<Tile<128, 64, 64, 32>>(input, weight, bias, residual, out, sizes, relu != 0);
}

// Grids that larger tiles leave too small. Blocks: ⌈rows/64⌉·⌈outputs/64⌉ of 128 threads and 48 KiB.
extern "C" __global__ void __launch_bounds__(128) conv2d_implicit_64x64(const __half* __restrict__ input,
                                                                        const __half* __restrict__ weight,
                                                                        const __half* __restrict__ bias,
                                                                        const __half* __restrict__ residual,
                                                                        __half* __restrict__ out, Convolution sizes,
                                                                        unsigned relu) {
    conv2d_implicit<Tile<64, 64, 32, 32>>(input, weight, bias, residual, out, sizes, relu != 0);
}

// Grids that even those leave too small: each block sums `part_steps` steps of K, blockIdx.y parts behind the first, and
// leaves bias, residual and ReLU to conv2d_implicit_join. `outputs` is even. Blocks: ⌈rows/64⌉·⌈outputs/64⌉ along x and
// ⌈steps/part_steps⌉ along y, of 128 threads and 48 KiB.
extern "C" __global__ void __launch_bounds__(128) conv2d_implicit_part_64x64(const __half* __restrict__ input,
                                                                             const __half* __restrict__ weight,
                                                                             float* __restrict__ parts,
                                                                             Convolution sizes, unsigned part_steps) {
    conv2d_implicit_part<Tile<64, 64, 32, 32>>(input, weight, parts, sizes, part_steps);
}

// out = relu(sum of the parts, in order, + bias + residual). `count` elements of out, `columns` in a row, a multiple of
// eight. Threads: ⌈count/8⌉. Bytes: 4·parts + 4 an element, the parts from the second-level cache.
extern "C" __global__ void __launch_bounds__(256) conv2d_implicit_join(const float* __restrict__ parts,
                                                                       const __half* __restrict__ bias,
                                                                       const __half* __restrict__ residual,
                                                                       __half* __restrict__ out,
                                                                       unsigned long long count, unsigned columns,
                                                                       unsigned part_count, unsigned relu) {
    const u64 first = CHUNK * thread_index();
    if (first >= count) return;
    float values[CHUNK] = {};
    for (unsigned part = 0; part < part_count; ++part) {
#pragma unroll
        for (unsigned i = 0; i < CHUNK; i += 4) {
            const Packet<float, 4> sums = load<4>(parts + part * count + first + i);
#pragma unroll
            for (unsigned j = 0; j < 4; ++j) values[i + j] += sums.value[j];
        }
    }
    write_packet(out + first, values, bias + first % columns, residual == nullptr ? nullptr : residual + first, CHUNK,
                 relu != 0);
}
