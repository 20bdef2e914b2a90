//! Products with a fixed right-hand matrix, laid out once for the registers that will read it.
//!
//! The matrix `[K, O]` is cut into panels of [`PANEL`] columns, `[⌈O/PANEL⌉, K, PANEL]`, the last one filled up with
//! zeros. A product takes a few rows of the left matrix, where they lie, and one panel: it walks down `K` once, with
//! all of its sums in registers. Every sum runs over `K` in ascending order, whatever rows are taken together: its
//! bits depend on its row and its column alone.

use super::instructions::Instructions;
use crate::tensor::Scalar;
use std::any::TypeId;

/// Columns of a panel: two vectors of AVX-512.
pub(super) const PANEL: usize = 32;
/// Rows of one product at most: 14 rows of two vectors leave four of 32 registers for the operands.
pub(super) const MOST_ROWS: usize = 14;

/// A fixed right-hand matrix `[K, O]` in panels.
#[derive(Debug)]
pub(super) struct Panels<T> {
    data: Vec<T>,
    depth: usize,
}

impl<T: Scalar> Panels<T> {
    /// Lays out `element(k, o)`.
    pub(super) fn new(depth: usize, outputs: usize, element: impl Fn(usize, usize) -> T) -> Self {
        let mut data = vec![T::ZERO; outputs.div_ceil(PANEL) * depth * PANEL];
        for (i, value) in data.iter_mut().enumerate() {
            let (panel, k, column) = (i / (depth * PANEL), i / PANEL % depth, i % PANEL);
            let output = panel * PANEL + column;
            if output < outputs {
                *value = element(k, output);
            }
        }
        Self { data, depth }
    }

    /// Rows of the matrix: K.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// How many panels there are.
    pub(super) fn count(&self) -> usize {
        self.data.len() / (self.depth * PANEL)
    }

    /// One panel, `[K, PANEL]`.
    pub(super) fn panel(&self, index: usize) -> &[T] {
        &self.data[index * self.depth * PANEL..][..self.depth * PANEL]
    }
}

/// Rows of a left matrix inside a slice.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, T> {
    /// The first element of the first row, and all that follow.
    pub(super) data: &'a [T],
    /// Elements from one row to the next.
    pub(super) stride: usize,
    /// Rows, [`MOST_ROWS`] at most.
    pub(super) count: usize,
}

/// `out = rows·panel`, `[count, K]·[K, PANEL] → [count, PANEL]`; `K` is the panel's.
pub(super) fn multiply_panel<T: Scalar>(
    instructions: Instructions,
    rows: Rows<'_, T>,
    panel: &[T],
    out: &mut [T],
) {
    let depth = panel.len() / PANEL;
    assert!((1..=MOST_ROWS).contains(&rows.count), "a product takes 1 to {MOST_ROWS} rows");
    assert!(rows.data.len() >= (rows.count - 1) * rows.stride + depth, "every row is inside the slice");
    assert_eq!(out.len(), rows.count * PANEL, "the destination holds the product");
    #[cfg(target_arch = "x86_64")]
    if TypeId::of::<T>() == TypeId::of::<f32>() && instructions != Instructions::Portable {
        let rows = Rows { data: bytemuck::cast_slice(rows.data), stride: rows.stride, count: rows.count };
        let (panel, out) = (bytemuck::cast_slice(panel), bytemuck::cast_slice_mut(out));
        // SAFETY: the instructions were found on this machine; the extents were checked above.
        unsafe { x86::multiply_panel(instructions, rows, depth, panel, out) };
        return;
    }
    multiply_panel_portable(rows, panel, out);
}

/// [`multiply_panel`] in plain Rust.
fn multiply_panel_portable<T: Scalar>(rows: Rows<'_, T>, panel: &[T], out: &mut [T]) {
    for (row, out) in out.chunks_exact_mut(PANEL).enumerate() {
        let mut sums = [T::ZERO; PANEL];
        for (&value, weights) in rows.data[row * rows.stride..].iter().zip(panel.chunks_exact(PANEL)) {
            for (sum, &weight) in sums.iter_mut().zip(weights) {
                *sum += value * weight;
            }
        }
        out.copy_from_slice(&sums);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Instructions, PANEL, Rows};
    use std::arch::x86_64::*;

    /// # Safety
    /// The machine has `instructions`; every row holds `depth` elements, the panel `depth` rows, `out` `rows.count`.
    pub(super) unsafe fn multiply_panel(
        instructions: Instructions,
        rows: Rows<'_, f32>,
        depth: usize,
        panel: &[f32],
        out: &mut [f32],
    ) {
        let (stride, panel) = (rows.stride, panel.as_ptr());
        /// Calls a kernel that is compiled for the number of rows.
        macro_rules! by_rows {
            ($kernel:ident, $count:expr, $rows:expr, $out:expr, [$($n:literal)+]) => {
                match $count {
                    $($n => $kernel::<$n>($rows, stride, depth, panel, $out),)+
                    count => unreachable!("no kernel takes {count} rows"),
                }
            };
        }
        if instructions == Instructions::Avx512 {
            // SAFETY: the caller's promise.
            unsafe {
                by_rows!(avx512, rows.count, rows.data.as_ptr(), out.as_mut_ptr(),
                    [1 2 3 4 5 6 7 8 9 10 11 12 13 14]);
            }
        } else {
            for first in (0..rows.count).step_by(AVX2_ROWS) {
                let count = (rows.count - first).min(AVX2_ROWS);
                // SAFETY: the caller's promise; `first` is a row.
                unsafe {
                    let (rows, out) =
                        (rows.data.as_ptr().add(first * stride), out.as_mut_ptr().add(first * PANEL));
                    by_rows!(avx2, count, rows, out, [1 2 3 4 5 6]);
                }
            }
        }
    }

    /// # Safety
    /// As [`multiply_panel`], for `R` rows.
    #[target_feature(enable = "avx512f")]
    unsafe fn avx512<const R: usize>(
        rows: *const f32,
        stride: usize,
        depth: usize,
        panel: *const f32,
        out: *mut f32,
    ) {
        // SAFETY: the caller's promise bounds every access.
        unsafe {
            let mut sums = [[_mm512_setzero_ps(); 2]; R];
            for k in 0..depth {
                let weights =
                    [_mm512_loadu_ps(panel.add(k * PANEL)), _mm512_loadu_ps(panel.add(k * PANEL + 16))];
                for row in 0..R {
                    let value = _mm512_set1_ps(*rows.add(row * stride + k));
                    for half in 0..2 {
                        sums[row][half] = _mm512_fmadd_ps(value, weights[half], sums[row][half]);
                    }
                }
            }
            for row in 0..R {
                for half in 0..2 {
                    _mm512_storeu_ps(out.add(row * PANEL + half * 16), sums[row][half]);
                }
            }
        }
    }

    /// 6 rows of two vectors leave four of 16 registers for the operands.
    const AVX2_ROWS: usize = 6;

    /// The halves of the panel one after the other.
    ///
    /// # Safety
    /// As [`multiply_panel`], for `R` rows.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2<const R: usize>(
        rows: *const f32,
        stride: usize,
        depth: usize,
        panel: *const f32,
        out: *mut f32,
    ) {
        // SAFETY: the caller's promise bounds every access.
        unsafe {
            for column in [0, PANEL / 2] {
                let mut sums = [[_mm256_setzero_ps(); 2]; R];
                for k in 0..depth {
                    let panel = panel.add(k * PANEL + column);
                    let weights = [_mm256_loadu_ps(panel), _mm256_loadu_ps(panel.add(8))];
                    for row in 0..R {
                        let value = _mm256_set1_ps(*rows.add(row * stride + k));
                        for half in 0..2 {
                            sums[row][half] = _mm256_fmadd_ps(value, weights[half], sums[row][half]);
                        }
                    }
                }
                for row in 0..R {
                    for half in 0..2 {
                        _mm256_storeu_ps(out.add(row * PANEL + column + half * 8), sums[row][half]);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::philox::{Philox, Stream};
    use crate::tensor::relative_error;

    #[test]
    fn products_equal_the_definition_with_every_instruction_set() {
        let (depth, stride) = (37, 41);
        let philox = Philox::new(1, Stream::Initialisation, 0);
        let values: Vec<f32> = (0..4000).map(|i| philox.uniform(i) as f32 - 0.5).collect();
        let (data, panel) = values.split_at(MOST_ROWS * stride);
        let panel = &panel[..depth * PANEL];
        for count in 1..=MOST_ROWS {
            let mut expected = vec![0.0; count * PANEL];
            for (i, expected) in expected.iter_mut().enumerate() {
                let (row, column) = (i / PANEL, i % PANEL);
                *expected = (0..depth)
                    .map(|k| f64::from(data[row * stride + k]) * f64::from(panel[k * PANEL + column]))
                    .sum::<f64>();
            }
            for instructions in Instructions::available() {
                let mut out = vec![f32::NAN; count * PANEL];
                multiply_panel(instructions, Rows { data, stride, count }, panel, &mut out);
                let error = relative_error(&out, &expected);
                assert!(error < 1e-6, "{count} rows, {instructions:?}: {error:.1e}");
            }
        }
    }
}
