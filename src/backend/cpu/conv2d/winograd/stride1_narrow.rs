//! Stride 1 where weights cost more than products: F(3×3, 3×3) at five of the six points of [`super::stride1`].
//!
//! A tile of 3×3 outputs takes 25 products, of 25 of the same 36 matrices: the point −[`Q`] is left out. Weights that come
//! from memory for every image are a third less to bring, for some more products.

use super::scheme::{MOST_OUTPUTS, Scheme, TAPS, WEIGHTS, splat};
use super::stride1::{P, Q, Stride1};
use super::vector::Vector;
use crate::tensor::Scalar;

/// F(3×3, 3×3).
pub(super) struct Stride1Narrow;

/// 0, ±[`P`], [`Q`] and ∞.
const POINTS: usize = 5;

/// Which of the weights along an axis a product takes.
fn weight(product: usize) -> usize {
    if product == POINTS - 1 { WEIGHTS - 1 } else { product }
}

impl Scheme<POINTS> for Stride1Narrow {
    const STRIDE: usize = 1;
    const OUTPUTS: usize = 3;
    /// 0, ±[`P`] and ∞: F(2, 3).
    const SHORT: [bool; POINTS] = [true, true, true, false, true];

    #[inline(always)]
    fn product(row: usize, column: usize) -> usize {
        row * POINTS + column
    }

    #[inline(always)]
    fn place(product: usize) -> (usize, usize) {
        (product / POINTS, product % POINTS)
    }

    #[inline(always)]
    fn matrix(product: usize) -> usize {
        let (row, column) = Self::place(product);
        weight(row) * WEIGHTS + weight(column)
    }

    #[inline(always)]
    unsafe fn kernel_line<T: Scalar, V: Vector<T>>(g: [V; TAPS]) -> [V; WEIGHTS] {
        // SAFETY: the caller's promise.
        unsafe { Stride1::kernel_line(g) }
    }

    /// `Bᵀ·d`. Row p of `Bᵀ` holds the coefficients of `∏(x − q)` over the finite points q ≠ p.
    #[inline(always)]
    unsafe fn input_line<T: Scalar, V: Vector<T>>(d: [V; POINTS]) -> [V; POINTS] {
        // SAFETY: the caller's promise.
        let [p, q, p2] = unsafe { [splat(P), splat(Q), splat(P * P)] };
        // x² and x³ times x − q, and x times it.
        let (higher, lower) = (d[3].subtract_product(d[2], q), d[2].subtract_product(d[1], q));
        [
            higher.subtract_product(d[1].subtract_product(d[0], q), p2),
            higher.add_product(lower, p),
            higher.subtract_product(lower, p),
            d[3].subtract_product(d[1], p2),
            d[4].subtract_product(d[3], q).subtract_product(lower, p2),
        ]
    }

    /// `Aᵀ·m`. Column p of `Aᵀ` holds the powers of p over `∏(p − q)`, over the finite points q ≠ p.
    #[inline(always)]
    unsafe fn output_line<T: Scalar, V: Vector<T>>(m: [V; POINTS]) -> [V; MOST_OUTPUTS] {
        let over_p = 1.0 / (2.0 * P * P * (P - Q));
        let over_minus_p = -1.0 / (2.0 * P * P * (P + Q));
        let over_q = 1.0 / (Q * (Q * Q - P * P));
        // SAFETY: the caller's promise.
        let [none, p, p2, q, q2] = unsafe { [splat(0.0), splat(P), splat(P * P), splat(Q), splat(Q * Q)] };
        // SAFETY: the caller's promise.
        let [over_p, over_minus_p, over_q, zero] =
            unsafe { [splat(over_p), splat(over_minus_p), splat(over_q), splat(1.0 / (P * P * Q))] };
        let (plus, minus, at_q) = (m[1].multiply(over_p), m[2].multiply(over_minus_p), m[3].multiply(over_q));
        let (even, odd) = (plus.add(minus), plus.subtract(minus));
        [
            even.add(at_q).add_product(m[0], zero),
            odd.multiply(p).add_product(at_q, q),
            m[4].add_product(even, p2).add_product(at_q, q2),
            none,
        ]
    }

    #[inline(always)]
    unsafe fn short_input_line<T: Scalar, V: Vector<T>>(d: [V; POINTS]) -> [V; POINTS] {
        // SAFETY: the caller's promise.
        unsafe {
            let none = splat(0.0);
            let [zero, plus, minus, _, _, infinity] =
                Stride1::short_input_line([d[0], d[1], d[2], d[3], none, none]);
            [zero, plus, minus, none, infinity]
        }
    }

    #[inline(always)]
    unsafe fn short_output_line<T: Scalar, V: Vector<T>>(m: [V; POINTS]) -> [V; MOST_OUTPUTS] {
        // SAFETY: the caller's promise.
        unsafe {
            let none = splat(0.0);
            Stride1::short_output_line([m[0], m[1], m[2], none, none, m[4]])
        }
    }
}
