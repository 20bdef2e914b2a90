//! The transforms of Winograd's algorithm F(4×4, 3×3).
//!
//! A tile of 4×4 outputs of a 3×3 convolution depends on 6×6 inputs `d`: `y = Aᵀ[(G·g·Gᵀ) ⊙ (Bᵀ·d·B)]·A` takes 36
//! products where the definition takes 144 (Lavin and Gray, *Fast Algorithms for Convolutional Neural Networks*,
//! CVPR 2016). In one dimension it is Toom and Cook's multiplication of polynomials, transposed: both factors are
//! evaluated at the points 0, ±[`P`], ±[`Q`] and ∞, multiplied there, and the product is interpolated. Any points give
//! the same result but for rounding.

use crate::tensor::Scalar;

/// Outputs of a tile along one axis.
pub(super) const OUTPUTS: usize = 4;
/// Inputs of a tile along one axis, and points of evaluation.
pub(super) const POINTS: usize = 6;
/// Products of a tile.
pub(super) const PRODUCTS: usize = POINTS * POINTS;
/// Channels that are transformed together.
pub(super) const LANES: usize = 16;

/// One point and its negative.
const P: f64 = std::f64::consts::FRAC_1_SQRT_2;
/// The other point and its negative. `P·Q = 1` keeps the constants of the input's transform near one.
const Q: f64 = std::f64::consts::SQRT_2;

/// A value for each of some channels.
pub(super) type Lanes<T> = [T; LANES];

/// `G·g·Gᵀ` of a 3×3 kernel, row by row: the kernel's polynomial at every pair of points, over the interpolation's
/// denominators.
pub(super) fn transform_kernel(kernel: [[f64; 3]; 3]) -> [[f64; POINTS]; POINTS] {
    let finite = [0.0, P, -P, Q, -Q];
    let rows: [[f64; 3]; POINTS] = std::array::from_fn(|i| {
        let Some(&point) = finite.get(i) else { return [0.0, 0.0, 1.0] };
        let denominator: f64 =
            finite.iter().filter(|&&other| other != point).map(|other| point - other).product();
        [1.0, point, point * point].map(|power| power / denominator)
    });
    std::array::from_fn(|i| {
        std::array::from_fn(|j| {
            let mut sum = 0.0;
            for (u, kernel) in kernel.iter().enumerate() {
                for (v, value) in kernel.iter().enumerate() {
                    sum += rows[i][u] * value * rows[j][v];
                }
            }
            sum
        })
    })
}

/// `Bᵀ·d·B` in place.
#[inline(always)]
pub(super) fn transform_input<T: Scalar>(tile: &mut [Lanes<T>; PRODUCTS]) {
    for column in 0..POINTS {
        transform_input_line(tile, column, POINTS);
    }
    for row in 0..POINTS {
        transform_input_line(tile, row * POINTS, 1);
    }
}

/// `Bᵀ·d` of the six values from `first`, `step` apart. Row p of `Bᵀ` holds the coefficients of `∏(x − q)` over the finite
/// points q ≠ p.
#[inline(always)]
fn transform_input_line<T: Scalar>(tile: &mut [Lanes<T>; PRODUCTS], first: usize, step: usize) {
    let (p, q) = (T::from_f64(P), T::from_f64(Q));
    let (p2, q2) = (T::from_f64(P * P), T::from_f64(Q * Q));
    let (sum, product) = (T::from_f64(P * P + Q * Q), T::from_f64(P * P * Q * Q));
    for lane in 0..LANES {
        let d: [T; POINTS] = std::array::from_fn(|i| tile[first + i * step][lane]);
        let (even_p, odd_p) = (d[4] - q2 * d[2], p * (d[3] - q2 * d[1]));
        let (even_q, odd_q) = (d[4] - p2 * d[2], q * (d[3] - p2 * d[1]));
        let transformed = [
            product * d[0] - sum * d[2] + d[4],
            even_p + odd_p,
            even_p - odd_p,
            even_q + odd_q,
            even_q - odd_q,
            product * d[1] - sum * d[3] + d[5],
        ];
        for (i, value) in transformed.into_iter().enumerate() {
            tile[first + i * step][lane] = value;
        }
    }
}

/// `Aᵀ·m·A`: the outputs are left in the first four of six rows and columns.
#[inline(always)]
pub(super) fn transform_output<T: Scalar>(tile: &mut [Lanes<T>; PRODUCTS]) {
    for column in 0..POINTS {
        transform_output_line(tile, column, POINTS);
    }
    for row in 0..OUTPUTS {
        transform_output_line(tile, row * POINTS, 1);
    }
}

/// `Aᵀ·m` of the six values from `first`, `step` apart, into the first four. Column p of `Aᵀ` holds the powers of p.
#[inline(always)]
fn transform_output_line<T: Scalar>(tile: &mut [Lanes<T>; PRODUCTS], first: usize, step: usize) {
    let power = |point: f64, exponent| T::from_f64(point.powi(exponent));
    let (p, q) = ([power(P, 1), power(P, 2), power(P, 3)], [power(Q, 1), power(Q, 2), power(Q, 3)]);
    for lane in 0..LANES {
        let m: [T; POINTS] = std::array::from_fn(|i| tile[first + i * step][lane]);
        let (even_p, odd_p) = (m[1] + m[2], m[1] - m[2]);
        let (even_q, odd_q) = (m[3] + m[4], m[3] - m[4]);
        let outputs = [
            m[0] + even_p + even_q,
            p[0] * odd_p + q[0] * odd_q,
            p[1] * even_p + q[1] * even_q,
            p[2] * odd_p + q[2] * odd_q + m[5],
        ];
        for (i, value) in outputs.into_iter().enumerate() {
            tile[first + i * step][lane] = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_equals_the_definition() {
        let value = |i: usize| ((i * 37 + 11) % 23) as f64 - 11.0;
        let kernel: [[f64; 3]; 3] = std::array::from_fn(|i| std::array::from_fn(|j| value(i * 3 + j)));
        let input: [[f64; POINTS]; POINTS] =
            std::array::from_fn(|i| std::array::from_fn(|j| value(50 + i * 6 + j)));
        let mut tile: [Lanes<f64>; PRODUCTS] =
            std::array::from_fn(|i| [input[i / POINTS][i % POINTS]; LANES]);
        transform_input(&mut tile);
        let weights = transform_kernel(kernel);
        for (i, lanes) in tile.iter_mut().enumerate() {
            *lanes = lanes.map(|value| value * weights[i / POINTS][i % POINTS]);
        }
        transform_output(&mut tile);
        for y in 0..OUTPUTS {
            for x in 0..OUTPUTS {
                let expected: f64 = (0..9).map(|i| kernel[i / 3][i % 3] * input[y + i / 3][x + i % 3]).sum();
                assert!((tile[y * POINTS + x][LANES - 1] - expected).abs() < 1e-11, "output ({y}, {x})");
            }
        }
    }
}
