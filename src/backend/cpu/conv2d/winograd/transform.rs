//! The transforms of Winograd's algorithm F(4×4, 3×3).
//!
//! A tile of 4×4 outputs of a 3×3 convolution depends on 6×6 inputs `d`: `y = Aᵀ[(G·g·Gᵀ) ⊙ (Bᵀ·d·B)]·A` takes 36
//! products where the definition takes 144 (Lavin and Gray, *Fast Algorithms for Convolutional Neural Networks*,
//! CVPR 2016). In one dimension it is Toom and Cook's multiplication of polynomials, transposed: both factors are
//! evaluated at the points 0, ±[`P`], ±[`Q`] and ∞, multiplied there, and the product is interpolated. Any points give
//! the same result but for rounding. The interpolation's denominators belong to `A` here: there they cost nothing.
//!
//! Each transform walks the columns first, as the values are read, and then the rows, as they are written: that keeps
//! the fewest of them alive. Loops, not iterators or closures over arrays: only what is inlined to the end is compiled with
//! the caller's instructions.

use super::vector::Vector;
use crate::tensor::Scalar;

/// Outputs of a tile along one axis.
pub(super) const OUTPUTS: usize = 4;
/// Taps of the kernel along one axis.
pub(super) const TAPS: usize = 3;
/// Inputs of a tile along one axis, and points of evaluation.
pub(super) const POINTS: usize = 6;
/// Products of a tile.
pub(super) const PRODUCTS: usize = POINTS * POINTS;

/// One point and its negative.
const P: f64 = std::f64::consts::FRAC_1_SQRT_2;
/// The other point and its negative. `P·Q = 1` keeps the constants of the input's transform near one.
const Q: f64 = std::f64::consts::SQRT_2;

/// `G·g·Gᵀ` of 3×3 kernels: their polynomials at every pair of points. Taps and points are row by row.
///
/// # Safety
/// The machine has the vectors' instructions.
#[inline(always)]
pub(super) unsafe fn transform_kernel<T: Scalar, V: Vector<T>>(
    load: impl Fn(usize) -> V,
    mut store: impl FnMut(usize, V),
) {
    // SAFETY: the caller's promise.
    unsafe {
        let zero = V::splat(T::ZERO);
        let mut columns = [[zero; POINTS]; TAPS];
        for column in 0..TAPS {
            columns[column] = kernel_line([load(column), load(TAPS + column), load(2 * TAPS + column)]);
        }
        for row in 0..POINTS {
            let line = kernel_line([columns[0][row], columns[1][row], columns[2][row]]);
            for column in 0..POINTS {
                store(row * POINTS + column, line[column]);
            }
        }
    }
}

/// `G·g`: row p of `G` holds the powers of p.
///
/// # Safety
/// The machine has the vectors' instructions.
#[inline(always)]
unsafe fn kernel_line<T: Scalar, V: Vector<T>>(g: [V; TAPS]) -> [V; POINTS] {
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

/// `Bᵀ·d·B`, row by row.
///
/// # Safety
/// The machine has the vectors' instructions.
#[inline(always)]
pub(super) unsafe fn transform_input<T: Scalar, V: Vector<T>>(
    load: impl Fn(usize) -> V,
    mut store: impl FnMut(usize, V),
) {
    // SAFETY: the caller's promise.
    unsafe {
        let zero = V::splat(T::ZERO);
        let mut columns = [[zero; POINTS]; POINTS];
        for column in 0..POINTS {
            let mut values = [zero; POINTS];
            for row in 0..POINTS {
                values[row] = load(row * POINTS + column);
            }
            columns[column] = input_line(values);
        }
        for row in 0..POINTS {
            let mut values = [zero; POINTS];
            for column in 0..POINTS {
                values[column] = columns[column][row];
            }
            let line = input_line(values);
            for column in 0..POINTS {
                store(row * POINTS + column, line[column]);
            }
        }
    }
}

/// `Bᵀ·d`. Row p of `Bᵀ` holds the coefficients of `∏(x − q)` over the finite points q ≠ p.
///
/// # Safety
/// The machine has the vectors' instructions.
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

/// `Aᵀ·m·A` of products row by row: `store` takes row, and the row's outputs.
///
/// # Safety
/// The machine has the vectors' instructions.
#[inline(always)]
pub(super) unsafe fn transform_output<T: Scalar, V: Vector<T>>(
    load: impl Fn(usize) -> V,
    mut store: impl FnMut(usize, [V; OUTPUTS]),
) {
    // SAFETY: the caller's promise.
    unsafe {
        let zero = V::splat(T::ZERO);
        let mut columns = [[zero; OUTPUTS]; POINTS];
        for column in 0..POINTS {
            let mut values = [zero; POINTS];
            for row in 0..POINTS {
                values[row] = load(row * POINTS + column);
            }
            columns[column] = output_line(values);
        }
        for row in 0..OUTPUTS {
            let mut values = [zero; POINTS];
            for column in 0..POINTS {
                values[column] = columns[column][row];
            }
            store(row, output_line(values));
        }
    }
}

/// `Aᵀ·m`. Column p of `Aᵀ` holds the powers of p over `∏(p − q)`, over the finite points q ≠ p.
///
/// # Safety
/// The machine has the vectors' instructions.
#[inline(always)]
unsafe fn output_line<T: Scalar, V: Vector<T>>(m: [V; POINTS]) -> [V; OUTPUTS] {
    let (over_p, over_q) = (1.0 / denominator(P, Q), 1.0 / denominator(Q, P));
    // SAFETY: the caller's promise.
    let p = unsafe { [splat(over_p), splat(P * over_p), splat(P * P * over_p), splat(P * P * P * over_p)] };
    // SAFETY: the caller's promise.
    let q: [V; OUTPUTS] =
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

/// `∏(point − q)` over the finite points q ≠ `point`, which is the same for the point's negative.
fn denominator(point: f64, other: f64) -> f64 {
    2.0 * point * point * (point * point - other * other)
}

/// A constant in every lane.
///
/// # Safety
/// The machine has the vectors' instructions.
#[inline(always)]
unsafe fn splat<T: Scalar, V: Vector<T>>(value: f64) -> V {
    // SAFETY: the caller's promise.
    unsafe { V::splat(T::from_f64(value)) }
}

#[cfg(test)]
mod tests {
    use super::super::vector::{MOST_LANES, Transform, run};
    use super::*;
    use crate::backend::cpu::instructions::Instructions;

    /// A tile from kernel and input to its outputs, in every channel the same.
    struct Tile<'a, T> {
        kernel: &'a [T],
        input: &'a [T],
        outputs: &'a mut [T],
    }

    impl<T: Scalar> Transform<T> for Tile<'_, T> {
        #[inline(always)]
        unsafe fn run<V: Vector<T>>(self) {
            let values = std::cell::RefCell::new([T::ZERO; PRODUCTS * MOST_LANES]);
            let place = |i: usize| i * MOST_LANES;
            // SAFETY: the caller has the instructions; every place has as many values as the widest vector has lanes.
            unsafe {
                transform_input::<T, V>(
                    |i| V::splat(self.input[i]),
                    |i, value| value.store(values.borrow_mut()[place(i)..].as_mut_ptr()),
                );
                transform_kernel::<T, V>(
                    |i| V::splat(self.kernel[i]),
                    |i, weight| {
                        let at = values.borrow_mut()[place(i)..].as_mut_ptr();
                        V::load(at).multiply(weight).store(at);
                    },
                );
                transform_output::<T, V>(
                    |i| V::load(values.borrow()[place(i)..].as_ptr()),
                    |row, line| {
                        for (column, value) in line.into_iter().enumerate() {
                            let mut lanes = [T::ZERO; MOST_LANES];
                            value.store(lanes.as_mut_ptr());
                            self.outputs[row * OUTPUTS + column] = lanes[V::LANES - 1];
                        }
                    },
                );
            }
        }
    }

    fn a_tile_equals_the_definition<T: Scalar>(bound: f64) {
        let value = |i: usize| T::from_f64(((i * 37 + 11) % 23) as f64 - 11.0);
        let kernel: Vec<T> = (0..TAPS * TAPS).map(value).collect();
        let input: Vec<T> = (50..50 + PRODUCTS).map(value).collect();
        for instructions in Instructions::available() {
            let mut outputs = [T::ZERO; OUTPUTS * OUTPUTS];
            run(instructions, Tile { kernel: &kernel, input: &input, outputs: &mut outputs });
            for (i, output) in outputs.iter().enumerate() {
                let (y, x) = (i / OUTPUTS, i % OUTPUTS);
                let expected: f64 = (0..TAPS * TAPS)
                    .map(|i| kernel[i].to_f64() * input[(y + i / TAPS) * POINTS + x + i % TAPS].to_f64())
                    .sum();
                let error = (output.to_f64() - expected).abs();
                assert!(error < bound, "output ({y}, {x}), {instructions:?}: {error:.1e}");
            }
        }
    }

    #[test]
    fn a_tile_of_doubles_equals_the_definition() {
        a_tile_equals_the_definition::<f64>(1e-11);
    }

    /// Sums of a few hundred, rounded by 2⁻²⁴ some dozen times.
    #[test]
    fn a_tile_of_singles_equals_the_definition() {
        a_tile_equals_the_definition::<f32>(5e-3);
    }
}
