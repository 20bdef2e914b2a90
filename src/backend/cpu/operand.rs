//! What a product multiplies: scalars, or pairs of bfloat16.

#[cfg(target_arch = "x86_64")]
use super::instructions::Instructions;
use crate::tensor::Scalar;
#[cfg(target_arch = "x86_64")]
use std::any::TypeId;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
use std::marker::PhantomData;

/// An element of a product's operands. Sums are of another type where the operands are narrower.
pub(super) trait Operand: bytemuck::Pod + Send + Sync + std::fmt::Debug {
    /// What products are added up in.
    type Sum: Scalar;
    /// Numbers of one operand, neighbours along the inner dimension.
    const NUMBERS: usize;

    /// An operand of [`Operand::NUMBERS`] numbers, each rounded to nearest even.
    fn of(numbers: &[Self::Sum]) -> Self;

    /// The products of the numbers, added.
    fn dot(self, other: Self) -> Self::Sum;

    /// The numbers themselves where an operand is no other thing.
    fn in_place(numbers: &[Self::Sum]) -> Option<&[Self]>;

    /// Rounds numbers into `⌈len / NUMBERS⌉` operands, the last one filled up with zeros. Inlined, for wider
    /// instructions.
    #[inline(always)]
    fn pack(numbers: &[Self::Sum], to: &mut [Self]) {
        let whole = numbers.len() / Self::NUMBERS;
        let (pairs, rest) = numbers.split_at(whole * Self::NUMBERS);
        for (to, numbers) in to.iter_mut().zip(pairs.chunks_exact(Self::NUMBERS)) {
            *to = Self::of(numbers);
        }
        if !rest.is_empty() {
            let mut last = [Self::Sum::ZERO; 2];
            last[..rest.len()].copy_from_slice(rest);
            to[whole] = Self::of(&last[..Self::NUMBERS]);
        }
    }
}

impl<T: Scalar> Operand for T {
    type Sum = T;
    const NUMBERS: usize = 1;

    #[inline(always)]
    fn of(numbers: &[T]) -> T {
        numbers[0]
    }

    #[inline(always)]
    fn dot(self, other: T) -> T {
        self * other
    }

    fn in_place(numbers: &[T]) -> Option<&[T]> {
        Some(numbers)
    }
}

/// Two bfloat16 numbers, the first in the lower half: what `vdpbf16ps` takes into one lane. Their products are added
/// in `T`.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub(super) struct Bf16Pair<T>(u32, PhantomData<T>);

/// The upper half of an `f32`, rounded to nearest even. A NaN stays one.
#[inline(always)]
fn bf16(value: f32) -> u32 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    if value.is_nan() { bits >> 16 | 0x40 } else { rounded }
}

impl<T> Bf16Pair<T> {
    /// Both halves.
    #[inline(always)]
    pub(super) fn bits(self) -> u32 {
        self.0
    }
}

impl<T: Scalar> Bf16Pair<T> {
    /// Writes numbers as sums of two bfloat16 numbers: rounds them into `high`, and what that leaves of them into `low`,
    /// each `⌈len / 2⌉` pairs of which the last is filled up with zeros. Numbers that are infinite, or become so when they are
    /// rounded (from 3.39e38 on), have a sum that is NaN. With AVX512-BF16 subnormal numbers and low parts become zero.
    #[inline(always)]
    pub(super) fn split(numbers: &[T], high: &mut [Self], low: &mut [Self]) {
        let pairs = numbers.len().div_ceil(2);
        let (high, low) = (&mut high[..pairs], &mut low[..pairs]);
        #[cfg(target_arch = "x86_64")]
        if TypeId::of::<T>() == TypeId::of::<f32>() && Instructions::have_bf16() {
            let [high, low] = [high, low].map(bytemuck::cast_slice_mut);
            // SAFETY: the instructions were found on this machine.
            unsafe { split(bytemuck::cast_slice(numbers), high, low) };
            return;
        }
        let [high, low]: [&mut [u16]; 2] = [high, low].map(bytemuck::cast_slice_mut);
        for ((high, low), &number) in high.iter_mut().zip(low.iter_mut()).zip(numbers) {
            let number = number.to_f32();
            let rounded = bf16(number);
            *high = rounded as u16;
            *low = bf16(number - f32::from_bits(rounded << 16)) as u16;
        }
        high[numbers.len()..].fill(0);
        low[numbers.len()..].fill(0);
    }
}

impl<T: Scalar> Operand for Bf16Pair<T> {
    type Sum = T;
    const NUMBERS: usize = 2;

    #[inline(always)]
    fn of(numbers: &[T]) -> Self {
        Self(bf16(numbers[0].to_f32()) | bf16(numbers[1].to_f32()) << 16, PhantomData)
    }

    #[inline(always)]
    fn dot(self, other: Self) -> T {
        let halves = |pair: Self| {
            [pair.bits() << 16, pair.bits() & 0xffff_0000].map(|bits| T::from_f32(f32::from_bits(bits)))
        };
        let ([a, b], [c, d]) = (halves(self), halves(other));
        a * c + b * d
    }

    fn in_place(_: &[T]) -> Option<&[Self]> {
        None
    }

    #[inline(always)]
    fn pack(numbers: &[T], to: &mut [Self]) {
        let to = &mut to[..numbers.len().div_ceil(2)];
        #[cfg(target_arch = "x86_64")]
        if TypeId::of::<T>() == TypeId::of::<f32>() && Instructions::have_bf16() {
            // SAFETY: the instructions were found on this machine.
            unsafe { round(bytemuck::cast_slice(numbers), bytemuck::cast_slice_mut(to)) };
            return;
        }
        let halves: &mut [u16] = bytemuck::cast_slice_mut(to);
        for (half, &number) in halves.iter_mut().zip(numbers) {
            *half = bf16(number.to_f32()) as u16;
        }
        halves[numbers.len()..].fill(0);
    }
}

/// Rounds numbers into halves of pairs; halves without a number are zero. Subnormal numbers become zero.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn round(numbers: &[f32], halves: &mut [u16]) {
    for (index, numbers) in numbers.chunks(VECTORS).enumerate() {
        store(rounded(load(numbers)), &mut halves[index * VECTORS..]);
    }
}

/// The same, and into `low` what rounding leaves of the numbers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn split(numbers: &[f32], high: &mut [u16], low: &mut [u16]) {
    for (index, numbers) in numbers.chunks(VECTORS).enumerate() {
        let numbers = load(numbers);
        let high_parts = rounded(numbers);
        let halves = [_mm512_castsi512_si256(high_parts), _mm512_extracti64x4_epi64::<1>(high_parts)];
        let [first, second] =
            halves.map(|half| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half))));
        store(high_parts, &mut high[index * VECTORS..]);
        let left = [_mm512_sub_ps(numbers[0], first), _mm512_sub_ps(numbers[1], second)];
        store(rounded(left), &mut low[index * VECTORS..]);
    }
}

/// Numbers of two vectors of `f32`, which are one of bfloat16.
#[cfg(target_arch = "x86_64")]
const VECTORS: usize = 32;

/// The first 32 numbers, or all and zeros.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[inline]
fn load(numbers: &[f32]) -> [__m512; 2] {
    [0, VECTORS / 2].map(|from| {
        let count = numbers.len().saturating_sub(from);
        // SAFETY: there are as many numbers, or the mask ends with them.
        unsafe {
            let numbers = numbers.as_ptr().wrapping_add(from);
            if count >= VECTORS / 2 {
                _mm512_loadu_ps(numbers)
            } else {
                _mm512_maskz_loadu_ps(((1u32 << count) - 1) as __mmask16, numbers)
            }
        }
    })
}

/// Stores 32 halves, or as many as there is room for.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn store(value: __m512i, halves: &mut [u16]) {
    // SAFETY: there is room for all, or the mask ends with it.
    unsafe {
        if halves.len() >= VECTORS {
            _mm512_storeu_si512(halves.as_mut_ptr().cast(), value);
        } else {
            let mask = ((1u64 << halves.len()) - 1) as __mmask32;
            _mm512_mask_storeu_epi16(halves.as_mut_ptr().cast(), mask, value);
        }
    }
}

/// 32 numbers rounded to nearest even.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
fn rounded([first, second]: [__m512; 2]) -> __m512i {
    // SAFETY: both types are 64 bytes, and every value of them is one.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_nearest_even() {
        for value in [0.0, -0.0, 1.0, 1.003_906_2, 1.011_718_8, -3.1e-30, 6.5e4, f32::MAX, f32::INFINITY, 0.1]
        {
            let expected = half::bf16::from_f32(value).to_bits();
            assert_eq!(bf16(value), u32::from(expected), "{value}");
        }
        assert!(f32::from_bits(bf16(f32::NAN) << 16).is_nan());
        // A NaN whose payload is all in the lost half.
        assert!(f32::from_bits(bf16(f32::from_bits(0x7f80_0001)) << 16).is_nan());
    }

    #[test]
    fn an_odd_number_is_joined_by_zero() {
        let mut pairs = [Bf16Pair::of(&[7.0, 7.0]); 2];
        Bf16Pair::<f32>::pack(&[1.0, 2.0, 3.0], &mut pairs);
        assert_eq!(pairs[0].dot(Bf16Pair::of(&[1.0, 10.0])), 21.0);
        assert_eq!(pairs[1].dot(Bf16Pair::of(&[1.0, 10.0])), 3.0);
    }

    /// With the machine's own rounding where it has one, in `f32`, and without, in `f64`.
    #[test]
    fn rows_of_every_length_are_rounded_and_split_like_numbers() {
        let numbers: Vec<f32> = (0..101).map(|i| 0.37 * i as f32 - 11.0).collect();
        for len in 0..numbers.len() {
            let numbers = &numbers[..len];
            let wide: Vec<f64> = numbers.iter().map(|&number| f64::from(number)).collect();
            let mut pairs = vec![Bf16Pair::<f32>::of(&[7.0, 7.0]); len.div_ceil(2)];
            let mut wide_pairs = vec![Bf16Pair::<f64>::of(&[7.0, 7.0]); len.div_ceil(2)];
            Bf16Pair::pack(numbers, &mut pairs);
            Bf16Pair::pack(&wide, &mut wide_pairs);
            for (i, (pair, wide)) in pairs.iter().zip(&wide_pairs).enumerate() {
                let half = |i: usize| numbers.get(i).map_or(0, |&number| bf16(number));
                assert_eq!(pair.bits(), half(2 * i) | half(2 * i + 1) << 16, "{len}: pair {i}");
                assert_eq!(wide.bits(), pair.bits(), "{len}: pair {i}");
            }
            let [mut high, mut low] = [0, 1].map(|_| vec![Bf16Pair::<f32>::of(&[7.0, 7.0]); len.div_ceil(2)]);
            let [mut wide_high, mut wide_low] =
                [0, 1].map(|_| vec![Bf16Pair::<f64>::of(&[7.0, 7.0]); len.div_ceil(2)]);
            Bf16Pair::split(numbers, &mut high, &mut low);
            Bf16Pair::split(&wide, &mut wide_high, &mut wide_low);
            for (i, pair) in pairs.iter().enumerate() {
                assert_eq!(high[i].bits(), pair.bits(), "{len}: pair {i}'s high parts");
                let left = |i: usize| {
                    let high = f32::from_bits(numbers.get(i).map_or(0, |&number| bf16(number) << 16));
                    bf16(numbers.get(i).map_or(0.0, |number| number - high))
                };
                assert_eq!(low[i].bits(), left(2 * i) | left(2 * i + 1) << 16, "{len}: pair {i}'s low parts");
                assert_eq!(
                    [wide_high[i], wide_low[i]].map(Bf16Pair::bits),
                    [high[i], low[i]].map(Bf16Pair::bits)
                );
            }
        }
    }
}
