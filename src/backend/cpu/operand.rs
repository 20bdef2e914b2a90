//! What a product multiplies: scalars, or pairs of bfloat16.

use crate::tensor::Scalar;
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

    /// Rounds numbers into `⌈len / NUMBERS⌉` operands, the last one filled up with zeros. Inlined, for wider instructions.
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_nearest_even() {
        for value in [0.0, -0.0, 1.0, 1.003_906_2, 1.011_718_8, -3.1e-30, 6.5e4, f32::MAX, f32::INFINITY, 0.1] {
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
}
