#include "common.cuh"

// noise (Eq. 6): out = σ·ε, ε ~ N(0, 1), `[R, C]`. Of a mixture, every row draws which of the deviations σ·1.1ᵏ it has.
//
// ε is a function of seed, step and position: Philox4x32-10 (J. Salmon et al., SC 2011) and Box–Muller, as
// `src/random/{philox,normals}.rs` compute them, one rounding an operation: noise has the same bits on every device.
//
// One thread a Philox block, which makes the noise of four neighbouring elements: 4 bytes an element for about 60
// operations, half of them integer; in a mixture about 20 integer ones and k/4 products in double more.

// --- Philox4x32-10 -------------------------------------------------------------------------------------------------

struct Words {
    unsigned word[4];
};

__device__ __forceinline__ Words philox4x32_10(Words counter, unsigned key_0, unsigned key_1) {
    auto [c0, c1, c2, c3] = counter.word;
#pragma unroll
    for (unsigned round = 0; round < 10; ++round) {
        const u64 product_0 = u64(0xD2511F53u) * c0;
        const u64 product_1 = u64(0xCD9E8D57u) * c2;
        c0 = unsigned(product_1 >> 32) ^ c1 ^ key_0;
        c1 = unsigned(product_1);
        c2 = unsigned(product_0 >> 32) ^ c3 ^ key_1;
        c3 = unsigned(product_0);
        key_0 += 0x9E3779B9u;
        key_1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

// --- Box–Muller ----------------------------------------------------------------------------------------------------

// A float whose operations are rounded one by one: products and sums are never fused.
struct Rounded {
    float value;
    __device__ __forceinline__ Rounded(float value) : value(value) {}
};

__device__ __forceinline__ Rounded operator*(Rounded a, Rounded b) { return __fmul_rn(a.value, b.value); }
__device__ __forceinline__ Rounded operator+(Rounded a, Rounded b) { return __fadd_rn(a.value, b.value); }
__device__ __forceinline__ Rounded operator-(Rounded a, Rounded b) { return __fadd_rn(a.value, -b.value); }
__device__ __forceinline__ Rounded operator/(Rounded a, Rounded b) { return __fdiv_rn(a.value, b.value); }

// ln((x + ½)·2⁻³²), by ln(m·2ᵉ) = e·ln 2 + 2·atanh((m − 1)/(m + 1)) with m in [√½, √2), series to s⁹. Near one, m − 1
// comes from the integer's complement: the rounding of u to float would show in the logarithm.
__device__ __forceinline__ Rounded ln_uniform(unsigned x) {
    const Rounded scale = 1.0f / 4294967296.0f;
    const unsigned sqrt_half = 0x3F3504F3u;
    const Rounded u = Rounded(float(x)) * scale + Rounded(0.5f) * scale;
    const Rounded complement = Rounded(float(~x)) * scale + Rounded(0.5f) * scale;
    const unsigned shifted = bits_of(u.value) - sqrt_half;
    const int exponent = int(shifted) >> 23;
    const Rounded mantissa = float_of((shifted & 0x007FFFFFu) + sqrt_half);
    const Rounded above_one = exponent == 0 ? Rounded(-complement.value) : mantissa - 1.0f;
    const Rounded s = above_one / (mantissa + 1.0f);
    const Rounded z = s * s;
    const Rounded series = z * (1.0f / 3.0f + z * (1.0f / 5.0f + z * (1.0f / 7.0f + z * (1.0f / 9.0f))));
    // ln 2 in two parts: the product with the high one is exact.
    const Rounded e = float(exponent);
    return e * 0.6933594f + (2.0f * (s + s * series) + e * -2.1219444e-4f);
}

// Sine and cosine within ±π/4 by their Taylor series, to x⁹ and x¹⁰.
__device__ __forceinline__ void sin_cos(Rounded x, Rounded& sin, Rounded& cos) {
    const Rounded z = x * x;
    sin = x + x * z * (-1.0f / 6.0f + z * (1.0f / 120.0f + z * (-1.0f / 5040.0f + z * (1.0f / 362880.0f))));
    const Rounded end = -1.0f / 720.0f + z * (1.0f / 40320.0f + z * (-1.0f / 3628800.0f));
    cos = 1.0f + z * (-0.5f + z * (1.0f / 24.0f + z * end));
}

// √(−2 ln u)·(cos 2πv, sin 2πv) with u = (x + ½)·2⁻³², v = (y + ½)·2⁻³².
__device__ __forceinline__ void box_muller(unsigned x, unsigned y, float& first, float& second) {
    const Rounded radius = __fsqrt_rn((-2.0f * ln_uniform(x)).value);

    // The angle's two top bits are its quadrant; the rest, centred, is an angle within ±π/4 from the quadrant's middle.
    const unsigned quadrant = y >> 30;
    const int within = int(y & 0x3FFFFFFFu) - (1 << 29);
    const Rounded quarter_turn = 1.57079632679489661923f / 1073741824.0f;
    Rounded sin = 0.0f, cos = 0.0f;
    sin_cos((Rounded(float(within)) + 0.5f) * quarter_turn, sin, cos);
    // Rotate by π/4 (the quadrant's middle), then by the quadrant: (c, s), (−s, c), (−c, −s), (s, −c).
    const Rounded sqrt_half = 0.707106781186547524401f;
    const Rounded c = (cos - sin) * sqrt_half;
    const Rounded s = (cos + sin) * sqrt_half;
    const bool swap = quadrant & 1;
    const unsigned cos_sign = (quadrant ^ (quadrant >> 1)) << 31;
    const unsigned sin_sign = (quadrant & 2) << 30;
    first = (radius * float_of(bits_of(swap ? s.value : c.value) ^ cos_sign)).value;
    second = (radius * float_of(bits_of(swap ? c.value : s.value) ^ sin_sign)).value;
}

// --- Mixtures ------------------------------------------------------------------------------------------------------

// The fourth word of the counter: `Stream::NoiseMixture` of `src/random/philox.rs`.
constexpr unsigned NOISE_MIXTURE_STREAM = 6;

// Standard deviation of a row: σ·1.1ᵏ, k products in double as `src/backend/noise.rs` has them. k is the row's draw,
// word row mod 4 of block row / 4, reduced to [0, mixtures) by the high word of their product.
__device__ __forceinline__ float row_sigma(double sigma, u64 row, unsigned mixtures, unsigned step, unsigned seed_low,
                                           unsigned seed_high) {
    if (mixtures == 1) return float(sigma);
    const u64 block = row / 4;
    const Words draws = philox4x32_10({{unsigned(block), unsigned(block >> 32), step, NOISE_MIXTURE_STREAM}}, seed_low,
                                      seed_high);
    // Words stay in registers: an array with an index that is computed would not.
    const unsigned low = row & 1 ? draws.word[1] : draws.word[0];
    const unsigned high = row & 1 ? draws.word[3] : draws.word[2];
    const unsigned component = unsigned(u64(row & 2 ? high : low) * mixtures >> 32);
    for (unsigned i = 0; i < component; ++i) sigma *= 1.1;
    return float(sigma);
}

// --- Kernels -------------------------------------------------------------------------------------------------------

// The fourth word of the counter: `Stream::Noise` of `src/random/philox.rs`.
constexpr unsigned NOISE_STREAM = 0;

// The second word of `cursor` is the step. `channels` elements a row, of which each has a standard deviation of its own
// where `mixtures` is more than one. Threads: ⌈count/4⌉.
extern "C" __global__ void __launch_bounds__(256) noise(float* __restrict__ out, const unsigned* __restrict__ cursor,
                                                        unsigned long long count, unsigned channels, unsigned mixtures,
                                                        double sigma, unsigned seed_low, unsigned seed_high) {
    const u64 block = thread_index();
    const u64 first = 4 * block;
    if (first >= count) return;
    const unsigned step = cursor[1];
    const Words draws =
        philox4x32_10({{unsigned(block), unsigned(block >> 32), step, NOISE_STREAM}}, seed_low, seed_high);
    Packet<float, 4> normals;
    box_muller(draws.word[0], draws.word[1], normals.value[0], normals.value[1]);
    box_muller(draws.word[2], draws.word[3], normals.value[2], normals.value[3]);
    u64 row = first / channels;
    unsigned column = unsigned(first % channels);
    float deviation = row_sigma(sigma, row, mixtures, step, seed_low, seed_high);
#pragma unroll
    for (float& normal : normals.value) {
        if (column == channels) {
            column = 0;
            deviation = row_sigma(sigma, ++row, mixtures, step, seed_low, seed_high);
        }
        normal = (Rounded(deviation) * normal).value;
        ++column;
    }
    store_part<4>(out + first, normals, count - first);
}
