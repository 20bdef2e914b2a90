// The device functions that kernels use: barriers, shuffles, votes, integer atomics, bit casts, fast mathematics.
#pragma once

#include <atomic>
#include <source_location>
#include <type_traits>

#include "block.h"
#include "half.h"

// --- Barriers and shuffles --------------------------------------------------------------------------------------------

inline void __syncthreads(std::source_location where = std::source_location::current()) {
    ::cusim::wait_at_barrier(where);
}

namespace cusim {

// Every lane hands in `value`; `source` says whose value a lane takes, from its own number and the first of its segment.
template <class T, class Source>
inline T shuffle(uint32_t mask, T value, int width, std::source_location where, Source source) {
    static_assert(sizeof(T) <= WIDEST_EXCHANGE && std::is_trivially_copyable_v<T>);
    if (width < 1 || width > int(WARP_SIZE) || (width & (width - 1)) != 0) {
        kernel_fault("a shuffle's width is not a power of two up to 32", where);
    }
    const auto* slots = exchange(mask, &value, sizeof(T), where);
    const int lane = int(current_thread->lane);
    T taken;
    memcpy(&taken, slots[source(lane, lane & ~(width - 1))], sizeof(T));
    return taken;
}

}  // namespace cusim

template <class T>
inline T __shfl_sync(uint32_t mask, T value, int from, int width = 32,
                     std::source_location where = std::source_location::current()) {
    return ::cusim::shuffle(mask, value, width, where, [=](int, int first) { return first + (from & (width - 1)); });
}

template <class T>
inline T __shfl_up_sync(uint32_t mask, T value, unsigned delta, int width = 32,
                        std::source_location where = std::source_location::current()) {
    return ::cusim::shuffle(mask, value, width, where, [=](int lane, int first) {
        return lane - int(delta) >= first ? lane - int(delta) : lane;
    });
}

template <class T>
inline T __shfl_down_sync(uint32_t mask, T value, unsigned delta, int width = 32,
                          std::source_location where = std::source_location::current()) {
    return ::cusim::shuffle(mask, value, width, where, [=](int lane, int first) {
        return lane + int(delta) < first + width ? lane + int(delta) : lane;
    });
}

template <class T>
inline T __shfl_xor_sync(uint32_t mask, T value, int bits, int width = 32,
                         std::source_location where = std::source_location::current()) {
    return ::cusim::shuffle(mask, value, width, where, [=](int lane, int first) {
        return (lane ^ bits) < first + width ? lane ^ bits : lane;
    });
}

inline void __syncwarp(uint32_t mask = ~0u, std::source_location where = std::source_location::current()) {
    const char nothing = 0;
    ::cusim::exchange(mask, &nothing, sizeof nothing, where);
}

inline unsigned __ballot_sync(uint32_t mask, int predicate,
                              std::source_location where = std::source_location::current()) {
    // Slots of lanes that are not there hold poison, never 1.
    const unsigned char vote = predicate != 0;
    const auto* slots = ::cusim::exchange(mask, &vote, sizeof vote, where);
    unsigned ballot = 0;
    for (unsigned lane = 0; lane < ::cusim::WARP_SIZE; ++lane) ballot |= unsigned(slots[lane][0] == 1) << lane;
    return ballot;
}

inline int __any_sync(uint32_t mask, int predicate, std::source_location where = std::source_location::current()) {
    return __ballot_sync(mask, predicate, where) != 0;
}

inline int __all_sync(uint32_t mask, int predicate, std::source_location where = std::source_location::current()) {
    return __ballot_sync(mask, !predicate, where) == 0;
}

// --- Atomics: of integers alone, because a sum of floats would depend on the order --------------------------------------

template <class T> inline T atomicAdd(T* address, std::type_identity_t<T> value) {
    static_assert(std::is_integral_v<T>, "atomic sums of floats are not reproducible");
    return std::atomic_ref<T>(*address).fetch_add(value);
}

template <class T> inline T atomicMax(T* address, std::type_identity_t<T> value) {
    static_assert(std::is_integral_v<T>);
    std::atomic_ref<T> cell(*address);
    T old = cell.load();
    while (old < value && !cell.compare_exchange_weak(old, value)) {
    }
    return old;
}

template <class T> inline T atomicMin(T* address, std::type_identity_t<T> value) {
    static_assert(std::is_integral_v<T>);
    std::atomic_ref<T> cell(*address);
    T old = cell.load();
    while (old > value && !cell.compare_exchange_weak(old, value)) {
    }
    return old;
}

template <class T> inline T atomicOr(T* address, std::type_identity_t<T> value) {
    return std::atomic_ref<T>(*address).fetch_or(value);
}

template <class T> inline T atomicExch(T* address, std::type_identity_t<T> value) {
    return std::atomic_ref<T>(*address).exchange(value);
}

template <class T> inline T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
    std::atomic_ref<T>(*address).compare_exchange_strong(expected, value);
    return expected;
}

inline void __threadfence() { std::atomic_thread_fence(std::memory_order_seq_cst); }
inline void __threadfence_block() { std::atomic_thread_fence(std::memory_order_seq_cst); }

// --- Loads, stores, bits ----------------------------------------------------------------------------------------------

template <class T> inline T __ldg(const T* from) { return *from; }
template <class T> inline T __ldcs(const T* from) { return *from; }
template <class T> inline T __ldcg(const T* from) { return *from; }
template <class T> inline void __stcs(T* to, T value) { *to = value; }
template <class T> inline void __stcg(T* to, T value) { *to = value; }

inline int __float_as_int(float value) { return __builtin_bit_cast(int, value); }
inline unsigned __float_as_uint(float value) { return __builtin_bit_cast(unsigned, value); }
inline float __int_as_float(int bits) { return __builtin_bit_cast(float, bits); }
inline float __uint_as_float(unsigned bits) { return __builtin_bit_cast(float, bits); }
inline long long __double_as_longlong(double value) { return __builtin_bit_cast(long long, value); }
inline double __longlong_as_double(long long bits) { return __builtin_bit_cast(double, bits); }

inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((uint64_t(a) * b) >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return static_cast<unsigned long long>((static_cast<unsigned __int128>(a) * b) >> 64);
}
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __clz(int bits) { return bits == 0 ? 32 : __builtin_clz(unsigned(bits)); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }

// --- Mathematics --------------------------------------------------------------------------------------------------------

using std::isfinite;
using std::isinf;
using std::isnan;

template <class A, class B> inline std::common_type_t<A, B> min(A a, B b) {
    using C = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<C>) return std::fmin(C(a), C(b));
    return C(a) < C(b) ? C(a) : C(b);
}
template <class A, class B> inline std::common_type_t<A, B> max(A a, B b) {
    using C = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<C>) return std::fmax(C(a), C(b));
    return C(a) > C(b) ? C(a) : C(b);
}

inline float __expf(float value) { return expf(value); }
inline float __logf(float value) { return logf(value); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float value) { return sqrtf(value); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __saturatef(float value) { return value > 0.0f ? (value < 1.0f ? value : 1.0f) : 0.0f; }
inline int __float2int_rd(float value) { return int(floorf(value)); }
inline int __float2int_rn(float value) { return int(rintf(value)); }

// Newer C libraries have these names too, so that they are macros for functions of our own.
namespace cusim::mathematics {

inline float inverse_root(float value) { return 1.0f / ::sqrtf(value); }
inline double inverse_root(double value) { return 1.0 / ::sqrt(value); }

// Exact at the quarter turns, as CUDA's are: the argument is reduced before it meets π.
inline double sine_of_half_turns(double value) {
    const double turn = value - 2.0 * std::nearbyint(value / 2.0);
    if (turn == 0.0 || turn == 1.0 || turn == -1.0) return std::copysign(0.0, value);
    return std::sin(turn * 3.14159265358979323846);
}
inline double cosine_of_half_turns(double value) {
    const double turn = std::fabs(value - 2.0 * std::nearbyint(value / 2.0));
    return turn == 0.5 || turn == 1.5 ? 0.0 : std::cos(turn * 3.14159265358979323846);
}

}  // namespace cusim::mathematics

#define rsqrtf(value) ::cusim::mathematics::inverse_root(float(value))
#define rsqrt(value) ::cusim::mathematics::inverse_root(double(value))
#define sinpi(value) ::cusim::mathematics::sine_of_half_turns(value)
#define cospi(value) ::cusim::mathematics::cosine_of_half_turns(value)
#define sinpif(value) float(::cusim::mathematics::sine_of_half_turns(value))
#define cospif(value) float(::cusim::mathematics::cosine_of_half_turns(value))

inline void sincospi(double value, double* sine, double* cosine) {
    *sine = sinpi(value);
    *cosine = cospi(value);
}
inline void sincospif(float value, float* sine, float* cosine) {
    *sine = sinpif(value);
    *cosine = cospif(value);
}

[[noreturn]] inline void __trap(std::source_location where = std::source_location::current()) {
    ::cusim::kernel_fault("a trap was reached", where);
}
