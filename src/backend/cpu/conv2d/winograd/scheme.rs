//! How a 3×3 convolution becomes products of matrices: what its stride decides.

use super::vector::Vector;
use crate::tensor::Scalar;
use std::mem::MaybeUninit;

/// Outputs of a tile along one axis at most, of any scheme.
pub(super) const MOST_OUTPUTS: usize = 4;
/// Outputs of a short tile, which ends an axis where that many are left, or fewer.
pub(super) const SHORT_OUTPUTS: usize = 2;
/// Taps of the kernel along one axis.
pub(super) const TAPS: usize = 3;
/// What they are transformed into along one axis.
pub(super) const WEIGHTS: usize = 6;
/// Matrices `[I, O]` that a kernel is transformed into.
pub(super) const MATRICES: usize = WEIGHTS * WEIGHTS;
/// Products of a tile at most, of any scheme.
pub(super) const MOST_PRODUCTS: usize = 81;

/// Transforms along one axis, for a few outputs of LINE inputs by as many products: `output(kernel(g) ⊙ input(d))`. Tiles go
/// through them along both axes. A tile may be short along either: two outputs take some of the products only, with the
/// same weights.
///
/// Every one is compiled into its callers, on whose vectors it works: the machine must have their instructions.
pub(super) trait Scheme<const LINE: usize>: Sync {
    /// Pixels from one output to the next.
    const STRIDE: usize;
    /// Outputs along one axis.
    const OUTPUTS: usize;
    /// Products of a tile.
    const PRODUCTS: usize = LINE * LINE;

    /// Which of the products along an axis a short tile has.
    const SHORT: [bool; LINE];
    /// Its inputs.
    const SHORT_INPUTS: usize = (SHORT_OUTPUTS - 1) * Self::STRIDE + TAPS;

    /// Which of a tile's products belongs to a product along each axis.
    fn product(row: usize, column: usize) -> usize;

    /// The products along each axis that a tile's product belongs to.
    fn place(product: usize) -> (usize, usize);

    /// Which of the kernel's [`MATRICES`] a tile's product takes. It never falls from one product to the next.
    fn matrix(product: usize) -> usize;

    /// # Safety
    /// The machine has the vectors' instructions.
    unsafe fn kernel_line<T: Scalar, V: Vector<T>>(taps: [V; TAPS]) -> [V; WEIGHTS];

    /// # Safety
    /// The machine has the vectors' instructions.
    unsafe fn input_line<T: Scalar, V: Vector<T>>(inputs: [V; LINE]) -> [V; LINE];

    /// The same for a short tile: the first inputs are read, and of what is returned the products that it has count.
    ///
    /// # Safety
    /// The machine has the vectors' instructions.
    unsafe fn short_input_line<T: Scalar, V: Vector<T>>(inputs: [V; LINE]) -> [V; LINE];

    /// The first [`Scheme::OUTPUTS`] count.
    ///
    /// # Safety
    /// The machine has the vectors' instructions.
    unsafe fn output_line<T: Scalar, V: Vector<T>>(products: [V; LINE]) -> [V; MOST_OUTPUTS];

    /// The same for a short tile: of the products those that it has are read, the first two outputs count.
    ///
    /// # Safety
    /// The machine has the vectors' instructions.
    unsafe fn short_output_line<T: Scalar, V: Vector<T>>(products: [V; LINE]) -> [V; MOST_OUTPUTS];
}

// Each transform walks the columns first, as the values are read, and then the rows, as they are written: that keeps the
// fewest of them alive. Loops, not iterators or closures over arrays: only what is inlined to the end is compiled with the
// caller's instructions.

/// The taps of a kernel, by row and column, to its matrices.
///
/// # Safety
/// The machine has the vectors' instructions.
#[inline(always)]
pub(super) unsafe fn transform_kernel<T: Scalar, V: Vector<T>, S: Scheme<LINE>, const LINE: usize>(
    load: impl Fn(usize, usize) -> V,
    mut store: impl FnMut(usize, V),
) {
    // SAFETY: the caller's promise.
    unsafe {
        let zero = V::splat(T::ZERO);
        let mut columns = [[zero; WEIGHTS]; TAPS];
        for column in 0..TAPS {
            columns[column] = S::kernel_line([load(0, column), load(1, column), load(2, column)]);
        }
        for row in 0..WEIGHTS {
            let line = S::kernel_line([columns[0][row], columns[1][row], columns[2][row]]);
            for column in 0..WEIGHTS {
                store(row * WEIGHTS + column, line[column]);
            }
        }
    }
}

/// The inputs of a tile, by row and column, to what its products multiply. It may be short along y, or x.
///
/// # Safety
/// The machine has the vectors' instructions.
#[inline(always)]
pub(super) unsafe fn transform_input<T, V, S, const LINE: usize, const Y: bool, const X: bool>(
    load: impl Fn(usize, usize) -> V,
    mut store: impl FnMut(usize, V),
) where
    T: Scalar,
    V: Vector<T>,
    S: Scheme<LINE>,
{
    // SAFETY: the caller's promise; every column is written before any is read.
    unsafe {
        let zero = V::splat(T::ZERO);
        // What is not written yet is not filled with zeros either: they are kilobytes.
        let mut columns = [const { MaybeUninit::<[V; LINE]>::uninit() }; LINE];
        for column in 0..LINE {
            if X && column >= S::SHORT_INPUTS {
                columns[column].write([zero; LINE]);
                continue;
            }
            let mut values = [zero; LINE];
            for row in 0..if Y { S::SHORT_INPUTS } else { LINE } {
                values[row] = load(row, column);
            }
            columns[column].write(if Y { S::short_input_line(values) } else { S::input_line(values) });
        }
        for row in 0..LINE {
            if Y && !S::SHORT[row] {
                continue;
            }
            let mut values = [zero; LINE];
            for column in 0..LINE {
                values[column] = columns[column].assume_init_ref()[row];
            }
            let line = if X { S::short_input_line(values) } else { S::input_line(values) };
            for column in 0..LINE {
                if !X || S::SHORT[column] {
                    store(S::product(row, column), line[column]);
                }
            }
        }
    }
}

/// The products of a tile to its outputs: `store` takes a row and what is in it. Of a short tile the first two of either count.
///
/// # Safety
/// The machine has the vectors' instructions.
#[inline(always)]
pub(super) unsafe fn transform_output<T, V, S, const LINE: usize, const Y: bool, const X: bool>(
    load: impl Fn(usize) -> V,
    mut store: impl FnMut(usize, [V; MOST_OUTPUTS]),
) where
    T: Scalar,
    V: Vector<T>,
    S: Scheme<LINE>,
{
    // SAFETY: the caller's promise; every column is written before any is read.
    unsafe {
        let zero = V::splat(T::ZERO);
        let mut columns = [const { MaybeUninit::<[V; MOST_OUTPUTS]>::uninit() }; LINE];
        for column in 0..LINE {
            if X && !S::SHORT[column] {
                columns[column].write([zero; MOST_OUTPUTS]);
                continue;
            }
            let mut values = [zero; LINE];
            for row in 0..LINE {
                if !Y || S::SHORT[row] {
                    values[row] = load(S::product(row, column));
                }
            }
            columns[column].write(if Y { S::short_output_line(values) } else { S::output_line(values) });
        }
        for row in 0..if Y { SHORT_OUTPUTS } else { S::OUTPUTS } {
            let mut values = [zero; LINE];
            for column in 0..LINE {
                values[column] = columns[column].assume_init_ref()[row];
            }
            store(row, if X { S::short_output_line(values) } else { S::output_line(values) });
        }
    }
}

/// Products of all tiles along an axis of so many outputs.
pub(super) fn products_along<S: Scheme<LINE>, const LINE: usize>(outputs: usize) -> usize {
    let tiles = outputs.div_ceil(S::OUTPUTS);
    if ends_short(outputs, S::OUTPUTS) {
        (tiles - 1) * LINE + S::SHORT.iter().filter(|&&has| has).count()
    } else {
        tiles * LINE
    }
}

/// Whether an axis of so many outputs ends with a short tile, where others have so many.
pub(super) fn ends_short(outputs: usize, tile_outputs: usize) -> bool {
    (1..=SHORT_OUTPUTS).contains(&(outputs % tile_outputs))
}

/// A constant in every lane.
///
/// # Safety
/// The machine has the vectors' instructions.
#[inline(always)]
pub(super) unsafe fn splat<T: Scalar, V: Vector<T>>(value: f64) -> V {
    // SAFETY: the caller's promise.
    unsafe { V::splat(T::from_f64(value)) }
}

#[cfg(test)]
mod tests {
    use super::super::stride1::Stride1;
    use super::super::stride1_narrow::Stride1Narrow;
    use super::super::stride2::Stride2;
    use super::super::vector::{MOST_LANES, Transform, run};
    use super::*;
    use crate::backend::cpu::instructions::Instructions;
    use std::cell::RefCell;
    use std::marker::PhantomData;

    /// A tile from kernel and input to its outputs, in every channel the same.
    struct Tile<'a, T, S, const LINE: usize, const Y: bool, const X: bool> {
        kernel: &'a [T],
        input: &'a [T],
        outputs: &'a mut [T],
        scheme: PhantomData<S>,
    }

    impl<T: Scalar, S: Scheme<LINE>, const LINE: usize, const Y: bool, const X: bool> Transform<T>
        for Tile<'_, T, S, LINE, Y, X>
    {
        #[inline(always)]
        unsafe fn run<V: Vector<T>>(self) {
            let matrices = RefCell::new([T::ZERO; MATRICES * MOST_LANES]);
            // Where a short tile has no product nothing may be read.
            let products = RefCell::new([T::from_f64(f64::NAN); MOST_PRODUCTS * MOST_LANES]);
            let place = |i: usize| i * MOST_LANES;
            // SAFETY: the caller has the instructions; every place has as many values as the widest vector has lanes.
            unsafe {
                transform_kernel::<T, V, S, LINE>(
                    |row, column| V::splat(self.kernel[row * TAPS + column]),
                    |i, value| value.store(matrices.borrow_mut()[place(i)..].as_mut_ptr()),
                );
                transform_input::<T, V, S, LINE, Y, X>(
                    |row, column| V::splat(self.input[row * LINE + column]),
                    |i, value| {
                        let weight = V::load(matrices.borrow()[place(S::matrix(i))..].as_ptr());
                        value.multiply(weight).store(products.borrow_mut()[place(i)..].as_mut_ptr());
                    },
                );
                transform_output::<T, V, S, LINE, Y, X>(
                    |i| V::load(products.borrow()[place(i)..].as_ptr()),
                    |row, line| {
                        for (column, value) in line.into_iter().enumerate() {
                            let mut lanes = [T::ZERO; MOST_LANES];
                            value.store(lanes.as_mut_ptr());
                            self.outputs[row * MOST_OUTPUTS + column] = lanes[V::LANES - 1];
                        }
                    },
                );
            }
        }
    }

    fn tiles_equal_the_definition<T: Scalar, S: Scheme<LINE>, const LINE: usize>(bound: f64) {
        a_tile_equals_the_definition::<T, S, LINE, false, false>(bound);
        a_tile_equals_the_definition::<T, S, LINE, false, true>(bound);
        a_tile_equals_the_definition::<T, S, LINE, true, false>(bound);
        a_tile_equals_the_definition::<T, S, LINE, true, true>(bound);
    }

    fn a_tile_equals_the_definition<T, S, const LINE: usize, const Y: bool, const X: bool>(bound: f64)
    where
        T: Scalar,
        S: Scheme<LINE>,
    {
        let value = |i: usize| T::from_f64(((i * 37 + 11) % 23) as f64 - 11.0);
        let kernel: Vec<T> = (0..TAPS * TAPS).map(value).collect();
        let input: Vec<T> = (50..50 + LINE * LINE).map(value).collect();
        for instructions in Instructions::available() {
            let mut outputs = [T::ZERO; MOST_OUTPUTS * MOST_OUTPUTS];
            let tile = Tile::<T, S, LINE, Y, X> {
                kernel: &kernel,
                input: &input,
                outputs: &mut outputs,
                scheme: PhantomData,
            };
            run(instructions, tile);
            for (i, output) in outputs.iter().enumerate() {
                let outputs = |short| if short { SHORT_OUTPUTS } else { S::OUTPUTS };
                if i / MOST_OUTPUTS >= outputs(Y) || i % MOST_OUTPUTS >= outputs(X) {
                    continue;
                }
                let (y, x) = (i / MOST_OUTPUTS * S::STRIDE, i % MOST_OUTPUTS * S::STRIDE);
                let expected: f64 = (0..TAPS * TAPS)
                    .map(|i| kernel[i].to_f64() * input[(y + i / TAPS) * LINE + x + i % TAPS].to_f64())
                    .sum();
                let error = (output.to_f64() - expected).abs();
                assert!(
                    error < bound,
                    "output {i}, stride {}, short {Y} {X}, {instructions:?}: {error:.1e}",
                    S::STRIDE
                );
            }
        }
    }

    #[test]
    fn a_tile_of_doubles_equals_the_definition() {
        tiles_equal_the_definition::<f64, Stride1, 6>(1e-11);
        tiles_equal_the_definition::<f64, Stride1Narrow, 5>(1e-11);
        tiles_equal_the_definition::<f64, Stride2, 9>(1e-11);
    }

    /// Sums of a few hundred, rounded by 2⁻²⁴ some dozen times.
    #[test]
    fn a_tile_of_singles_equals_the_definition() {
        tiles_equal_the_definition::<f32, Stride1, 6>(5e-3);
        tiles_equal_the_definition::<f32, Stride1Narrow, 5>(5e-3);
        tiles_equal_the_definition::<f32, Stride2, 9>(5e-3);
    }

    #[test]
    fn products_are_in_the_order_of_their_matrices() {
        fn matrices<S: Scheme<LINE>, const LINE: usize>() -> Vec<usize> {
            (0..S::PRODUCTS).map(S::matrix).collect()
        }
        let narrow = matrices::<Stride1Narrow, 5>();
        assert!(narrow.is_sorted());
        for matrices in [matrices::<Stride1, 6>(), matrices::<Stride2, 9>()] {
            assert!(matrices.is_sorted());
            assert!((0..MATRICES).all(|matrix| matrices.contains(&matrix)));
        }
    }

    #[test]
    fn a_product_has_one_place() {
        fn check<S: Scheme<LINE>, const LINE: usize>() {
            for product in 0..S::PRODUCTS {
                let (row, column) = S::place(product);
                assert_eq!(S::product(row, column), product, "stride {}", S::STRIDE);
            }
        }
        check::<Stride1, 6>();
        check::<Stride1Narrow, 5>();
        check::<Stride2, 9>();
    }

    #[test]
    fn products_along_an_axis_are_counted() {
        assert_eq!([14, 16, 3].map(products_along::<Stride1, 6>), [22, 24, 6]);
        assert_eq!([14, 16, 3].map(products_along::<Stride1Narrow, 5>), [24, 29, 5]);
        assert_eq!([14, 16, 3].map(products_along::<Stride2, 9>), [32, 36, 9]);
    }
}
