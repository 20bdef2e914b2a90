// Half precision: the compiler's own IEEE binary16, under the names of <cuda_fp16.h>.
//
// Kernels of the project store halves and compute in float, so that conversions are all that matters here; both
// directions round to nearest, ties to even, as the GPU does.
#pragma once

using __half = _Float16;
using half = _Float16;

struct alignas(4) __half2 {
    __half x, y;
};
using half2 = __half2;

inline float __half2float(__half value) { return float(value); }
inline __half __float2half(float value) { return __half(value); }
inline __half __float2half_rn(float value) { return __half(value); }
inline __half __double2half(double value) { return __half(value); }
inline float2 __half22float2(__half2 value) { return {float(value.x), float(value.y)}; }
inline __half2 __floats2half2_rn(float x, float y) { return {__half(x), __half(y)}; }
inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline float __low2float(__half2 value) { return float(value.x); }
inline float __high2float(__half2 value) { return float(value.y); }
inline unsigned short __half_as_ushort(__half value) { return __builtin_bit_cast(unsigned short, value); }
inline __half __ushort_as_half(unsigned short bits) { return __builtin_bit_cast(__half, bits); }
