//! Stride 1: Winograd's algorithm F(4×4, 3×3).
//!
//! A tile of 4×4 outputs of a 3×3 convolution depends on 6×6 inputs `d`: `y = Aᵀ[(G·g·Gᵀ) ⊙ (Bᵀ·d·B)]·A` takes 36
//! products where the definition takes 144 (Lavin and Gray, *Fast Algorithms for Convolutional Neural Networks*,
//! CVPR 2016). In one dimension it is Toom and Cook's multiplication of polynomials, transposed: both factors are
//! evaluated at the points 0, ±[`P`], ±[`Q`] and ∞, multiplied there, and the product is interpolated. Any points give
//! the same result but for rounding. The interpolation's denominators belong to `A` here: there they cost nothing.

use super::scheme::{MOST_OUTPUTS, Scheme, TAPS, WEIGHTS, splat};
use super::vector::Vector;
use crate::tensor::Scalar;

/// F(4×4, 3×3).
pub(super) struct Stride1;

/// Inputs of a tile along one axis, and points of evaluation.
pub(super) const POINTS: usize = 6;

/// One point and its negative.
pub(super) const P: f64 = std::f64::consts::FRAC_1_SQRT_2;
/// The other point and its negative. `P·Q = 1` keeps the constants of the input's transform near one.
pub(super) const Q: f64 = std::f64::consts::SQRT_2;

impl Scheme<POINTS> for Stride1 {
    const STRIDE: usize = 1;
    const OUTPUTS: usize = 4;
    /// 0, ±[`P`] and ∞: F(2, 3).
    const SHORT: [bool; POINTS] = [true, true, true, false, false, true];

    #[inline(always)]
    fn product(row: usize, column: usize) -> usize {
        row * POINTS + column
    }

    #[inline(always)]
    fn place(product: usize) -> (usize, usize) {
        (product / POINTS, product % POINTS)
    }

    /// Every product has weights of its own.
    #[inline(always)]
    fn matrix(product: usize) -> usize {
        product
    }

    /// `G·g`: row p of `G` holds the powers of p.
    #[inline(always)]
    unsafe fn kernel_line<T: Scalar, V: Vector<T>>(g: [V; TAPS]) -> [V; WEIGHTS] {
        // SAFETY: the caller's promise.
        let [p, q, p2, q2] = unsafe { [splat(P), splat(Q), splat(P * P), splat(Q * Q)] };
        let (even_p, even_q) = (g[0].add_product(g[2], p2), g[0].add_product(g[2], q2));
        [
            g[0],
            even_p.add_product(g[1], p),
            even_p.subtract_product(g[1], p),
            even_q.add_product(g[1], q),
            even_q.subtract_product(g[1], q),
            g[2],
        ]
    }

    /// `Bᵀ·d`. Row p of `Bᵀ` holds the coefficients of `∏(x − q)` over the finite points q ≠ p.
    #[inline(always)]
    unsafe fn input_line<T: Scalar, V: Vector<T>>(d: [V; POINTS]) -> [V; POINTS] {
        // SAFETY: the caller's promise.
        let [p, q, p2, q2] = unsafe { [splat(P), splat(Q), splat(P * P), splat(Q * Q)] };
        // SAFETY: the caller's promise.
        let [sum, product] = unsafe { [splat(P * P + Q * Q), splat(P * P * Q * Q)] };
        let (even_p, odd_p) = (d[4].subtract_product(d[2], q2), d[3].subtract_product(d[1], q2));
        let (even_q, odd_q) = (d[4].subtract_product(d[2], p2), d[3].subtract_product(d[1], p2));
        [
            d[4].subtract_product(d[2], sum).add_product(d[0], product),
            even_p.add_product(odd_p, p),
            even_p.subtract_product(odd_p, p),
            even_q.add_product(odd_q, q),
            even_q.subtract_product(odd_q, q),
            d[5].subtract_product(d[3], sum).add_product(d[1], product),
        ]
    }

    /// `Aᵀ·m`. Column p of `Aᵀ` holds the powers of p over `∏(p − q)`, over the finite points q ≠ p.
    #[inline(always)]
    unsafe fn output_line<T: Scalar, V: Vector<T>>(m: [V; POINTS]) -> [V; MOST_OUTPUTS] {
        let (over_p, over_q) = (1.0 / denominator(P, Q), 1.0 / denominator(Q, P));
        // SAFETY: the caller's promise.
        let p =
            unsafe { [splat(over_p), splat(P * over_p), splat(P * P * over_p), splat(P * P * P * over_p)] };
        // SAFETY: the caller's promise.
        let q: [V; MOST_OUTPUTS] =
            unsafe { [splat(over_q), splat(Q * over_q), splat(Q * Q * over_q), splat(Q * Q * Q * over_q)] };
        // SAFETY: the caller's promise.
        let zero = unsafe { splat(1.0 / (P * P * Q * Q)) };
        let (even_p, odd_p) = (m[1].add(m[2]), m[1].subtract(m[2]));
        let (even_q, odd_q) = (m[3].add(m[4]), m[3].subtract(m[4]));
        [
            even_p.multiply(p[0]).add_product(even_q, q[0]).add_product(m[0], zero),
            odd_p.multiply(p[1]).add_product(odd_q, q[1]),
            even_p.multiply(p[2]).add_product(even_q, q[2]),
            m[5].add_product(odd_p, p[3]).add_product(odd_q, q[3]),
        ]
    }

    #[inline(always)]
    unsafe fn short_input_line<T: Scalar, V: Vector<T>>(d: [V; POINTS]) -> [V; POINTS] {
        // SAFETY: the caller's promise.
        let [zero, p, p2] = unsafe { [splat(0.0), splat(P), splat(P * P)] };
        [
            d[2].subtract_product(d[0], p2),
            d[2].add_product(d[1], p),
            d[2].subtract_product(d[1], p),
            zero,
            zero,
            d[3].subtract_product(d[1], p2),
        ]
    }

    #[inline(always)]
    unsafe fn short_output_line<T: Scalar, V: Vector<T>>(m: [V; POINTS]) -> [V; MOST_OUTPUTS] {
        // SAFETY: the caller's promise.
        let [none, zero, over_p2, over_p] =
            unsafe { [splat(0.0), splat(1.0 / (P * P)), splat(0.5 / (P * P)), splat(0.5 / P)] };
        let (even, odd) = (m[1].add(m[2]), m[1].subtract(m[2]));
        [even.multiply(over_p2).subtract_product(m[0], zero), m[5].add_product(odd, over_p), none, none]
    }
}

/// `∏(point − q)` over the finite points q ≠ `point`, which is the same for the point's negative.
fn denominator(point: f64, other: f64) -> f64 {
    2.0 * point * point * (point * point - other * other)
}
