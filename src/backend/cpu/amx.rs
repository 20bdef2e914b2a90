//! Products of bfloat16 matrices on AMX tiles (Intel's Xeons from Sapphire Rapids on).
//!
//! A tile is a register of 16 rows of 64 bytes. One instruction, `tdpbf16ps`, multiplies 16 rows of 32 numbers with
//! 32 × 16 numbers and adds the products to 16 × 16 sums in `f32`: 512 multiply–accumulates a cycle, where AVX-512 does 32 in
//! `f32`. A product here keeps 32 rows × 32 columns of sums in four tiles and reads two tiles of either operand a step.
//!
//! Numbers are rounded to bfloat16, or written as the sum of two bfloat16 numbers, a high and a low part, which together keep
//! 16 bits of an `f32`'s 24. Of the product of two such sums the three larger terms are added up; the fourth is 2⁻¹⁶ of the
//! first at most, as is what the parts leave out. Intel's MKL names this `FLOAT_TO_BF16X2`.
//!
//! The operating system has to be asked once for the registers; code that was never compiled for them may use them
//! afterwards. The same product in plain Rust is the twin they are tested against.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod linux;

use super::operand::{Bf16Pair, Operand};
use crate::tensor::Scalar;

/// Numbers of a step along the inner dimension: one row of a tile.
pub(super) const STEP: usize = 32;
/// The same in pairs.
pub(super) const STEP_PAIRS: usize = STEP / 2;
/// Rows of a tile.
pub(super) const TILE_ROWS: usize = 16;
/// Columns of a tile of sums.
const TILE_COLUMNS: usize = 16;
/// Rows of a product: two tiles.
pub(super) const ROWS: usize = 2 * TILE_ROWS;
/// Columns of a product: two tiles.
pub(super) const COLUMNS: usize = 2 * TILE_COLUMNS;
/// Pairs of the right matrix's high, or low, parts that a step takes: two tiles of 16 pairs × 16 columns, one after the
/// other.
pub(super) const STEP_WEIGHTS: usize = STEP_PAIRS * COLUMNS;

/// How a number is written in bfloat16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// Rounded.
    Rounded,
    /// As the sum of two.
    Split,
}

impl Written {
    /// bfloat16 numbers of a number.
    pub(super) fn parts(self) -> usize {
        match self {
            Self::Rounded => 1,
            Self::Split => 2,
        }
    }
}

/// What multiplies tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// The processor's tile unit.
    Amx,
    /// Plain Rust: what tests compare with, on any machine.
    #[cfg_attr(not(test), allow(dead_code, reason = "the twin of the tile unit, for tests"))]
    Portable,
}

/// The tile unit, if this machine has one and the operating system lends it to this process.
pub(super) fn detect() -> Option<Unit> {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    let found = linux::permitted();
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    let found = false;
    found.then_some(Unit::Amx)
}

/// Where the steps of a product find their part of the left matrix.
#[derive(Debug)]
pub(super) struct Steps {
    /// Pairs from a product's first row to the first row's part, a step each.
    offsets: Vec<usize>,
    /// Pairs from a step's high parts to its low ones, where numbers are split.
    low: Option<usize>,
    /// Pairs from a row's beginning to the end of all that it reads.
    reach: usize,
}

impl Steps {
    pub(super) fn new(offsets: Vec<usize>, low: Option<usize>) -> Self {
        let reach = offsets.iter().max().map_or(0, |offset| offset + low.unwrap_or(0) + STEP_PAIRS);
        Self { offsets, low, reach }
    }

    /// Pairs of the right matrix that a step takes.
    fn weights(&self) -> usize {
        if self.low.is_some() { 2 * STEP_WEIGHTS } else { STEP_WEIGHTS }
    }

    /// Pairs from a row's beginning to the end of all that it reads.
    pub(super) fn reach(&self) -> usize {
        self.reach
    }
}

/// The operands of one product.
pub(super) struct Product<'a, T> {
    /// The left matrix from the first row on.
    pub(super) left: &'a [Bf16Pair<T>],
    /// Pairs from one row to the next.
    pub(super) stride: usize,
    pub(super) steps: &'a Steps,
    /// `[step, part, half of the columns, pair, column]`.
    pub(super) weights: &'a [Bf16Pair<T>],
    /// Brought into the second-level cache meanwhile; may be empty.
    pub(super) ahead: &'a [Bf16Pair<T>],
}

/// The right to multiply tiles on this thread, until it is dropped.
#[derive(Debug)]
pub(super) struct Tiles {
    unit: Unit,
    /// The registers belong to a thread.
    thread: std::marker::PhantomData<*const ()>,
}

impl Tiles {
    /// Makes the thread's tile registers ready.
    pub(super) fn take(unit: Unit) -> Self {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if unit == Unit::Amx {
            linux::configure();
        }
        Self { unit, thread: std::marker::PhantomData }
    }

    /// `sums = left·weights`, `[ROWS, COLUMNS]`; of `tiles` = 1 tile of rows, the first half alone.
    pub(super) fn multiply<T: Scalar>(&self, product: &Product<'_, T>, tiles: usize, sums: &mut [T]) {
        let steps = product.steps.offsets.len();
        assert!((1..=2).contains(&tiles), "a product has one or two tiles of rows");
        assert_eq!(sums.len(), ROWS * COLUMNS, "a sum a row and column");
        assert_eq!(product.weights.len(), steps * product.steps.weights(), "weights for every step");
        let last_row = (tiles * TILE_ROWS - 1) * product.stride;
        assert!(product.left.len() >= last_row + product.steps.reach, "every row is inside the slice");
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if self.unit == Unit::Amx
            && let Ok(sums) = bytemuck::try_cast_slice_mut::<T, f32>(sums)
            && sums.len() == ROWS * COLUMNS
        {
            // SAFETY: the extents were checked above, and `take` configured this thread's tiles.
            unsafe { linux::multiply(product, tiles, sums) };
            return;
        }
        multiply(product, tiles, sums);
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if self.unit == Unit::Amx {
            linux::release();
        }
    }
}

/// The definition.
fn multiply<T: Scalar>(product: &Product<'_, T>, tiles: usize, sums: &mut [T]) {
    let steps = product.steps;
    for (row, sums) in sums.chunks_exact_mut(COLUMNS).take(tiles * TILE_ROWS).enumerate() {
        sums.fill(T::ZERO);
        for (&offset, weights) in steps.offsets.iter().zip(product.weights.chunks_exact(steps.weights())) {
            let first = row * product.stride + offset;
            let mut add = |from: usize, weights: &[Bf16Pair<T>]| {
                let left = &product.left[from..][..STEP_PAIRS];
                for (half, weights) in weights.chunks_exact(STEP_PAIRS * TILE_COLUMNS).enumerate() {
                    for (&value, weights) in left.iter().zip(weights.chunks_exact(TILE_COLUMNS)) {
                        for (sum, &weight) in sums[half * TILE_COLUMNS..].iter_mut().zip(weights) {
                            *sum += value.dot(weight);
                        }
                    }
                }
            };
            let (high_weights, low_weights) = weights.split_at(STEP_WEIGHTS);
            if let Some(low) = steps.low {
                add(first, low_weights);
                add(first + low, high_weights);
            }
            add(first, high_weights);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::philox::{Philox, Stream};
    use crate::tensor::relative_error;

    /// One tile of rows and two, few steps and many, in any order, of rounded numbers and of split ones: against sums in
    /// `f64` of the same numbers.
    #[test]
    fn products_equal_the_definition() {
        let philox = Philox::new(3, Stream::Initialisation, 0);
        let pairs = |len: usize, from: u64| -> Vec<[f32; 2]> {
            (0..len as u64)
                .map(|i| [0, 1].map(|half| philox.uniform(from + 2 * i + half) as f32 - 0.5))
                .collect()
        };
        let units = [Some(Unit::Portable), detect()];
        if detect().is_none() {
            println!("this machine has no AMX: plain Rust alone is tested");
        }
        let many = || (0..40).map(|i| 16 * i).collect();
        for (offsets, low, stride) in [
            (vec![0], None, 16),
            (vec![48, 0, 16], None, 80),
            (many(), None, 648),
            (vec![0], Some(16), 32),
            (vec![48, 0, 16], Some(64), 144),
            (many(), Some(640), 1288),
        ] {
            let steps = Steps::new(offsets, low);
            let left = pairs(ROWS * stride + steps.reach(), 0);
            let weights = pairs(steps.offsets.len() * steps.weights(), 1 << 20);
            let as_f64 = |pairs: &[[f32; 2]]| -> Vec<Bf16Pair<f64>> {
                pairs.iter().map(|pair| Bf16Pair::of(&pair.map(f64::from))).collect()
            };
            let as_f32 = |pairs: &[[f32; 2]]| -> Vec<Bf16Pair<f32>> {
                pairs.iter().map(|pair| Bf16Pair::of(pair)).collect()
            };
            let mut expected = vec![0.0; ROWS * COLUMNS];
            let (left_f64, weights_f64) = (as_f64(&left), as_f64(&weights));
            let product =
                Product { left: &left_f64, stride, steps: &steps, weights: &weights_f64, ahead: &[] };
            Tiles::take(Unit::Portable).multiply(&product, 2, &mut expected);
            // One sum by hand, so that the twin itself is no mistake: row 17, column 30.
            let by_hand: f64 = (0..steps.offsets.len() * STEP_PAIRS)
                .map(|k| {
                    let (step, pair) = (k / STEP_PAIRS, k % STEP_PAIRS);
                    let weight = step * steps.weights() + (STEP_PAIRS + pair) * TILE_COLUMNS + 14;
                    let left = 17 * stride + steps.offsets[step] + pair;
                    let parts = low.map_or(0.0, |low| {
                        left_f64[left].dot(weights_f64[weight + STEP_WEIGHTS])
                            + left_f64[left + low].dot(weights_f64[weight])
                    });
                    left_f64[left].dot(weights_f64[weight]) + parts
                })
                .sum();
            assert!((expected[17 * COLUMNS + 30] - by_hand).abs() < 1e-9);

            let (left, weights) = (as_f32(&left), as_f32(&weights));
            for unit in units.into_iter().flatten() {
                let tiles = Tiles::take(unit);
                let mut first_tiles = Vec::new();
                for (count, ahead) in [(1, &[][..]), (2, &weights[..])] {
                    let product = Product { left: &left, stride, steps: &steps, weights: &weights, ahead };
                    let mut sums = vec![f32::NAN; ROWS * COLUMNS];
                    // A second holder that leaves first must not take the tiles away.
                    drop(Tiles::take(unit));
                    tiles.multiply(&product, count, &mut sums);
                    first_tiles.push(sums[..TILE_ROWS * COLUMNS].to_vec());
                    let (out, rest) = sums.split_at(count * TILE_ROWS * COLUMNS);
                    // The products are exact in f32; up to 3840 sums of either sign are rounded by 2⁻²⁴.
                    let error = relative_error(out, &expected[..out.len()]);
                    assert!(error < 2e-6, "{unit:?}, {count} tiles, {steps:?}: {error:.1e}");
                    assert!(
                        rest.iter().all(|sum| sum.is_nan()),
                        "{unit:?} wrote rows that were not asked for"
                    );
                }
                assert_eq!(
                    first_tiles[0], first_tiles[1],
                    "{unit:?}: a row's sums depend on the rows beside it"
                );
            }
        }
    }
}
