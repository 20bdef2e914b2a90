//! Products with a fixed right-hand matrix, laid out once for the registers that will read it.
//!
//! The matrix `[K, O]` is cut into panels of [`PANEL`] columns, the last one filled up with zeros, and a panel into the columns whose
//! sums are in registers together ([`columns_together`]), `[⌈O/PANEL⌉, PANEL/columns, K, columns]`. A product takes a few rows of
//! the left matrix, where they lie, and one panel. It walks down `K` once, with all of its sums in registers, and finishes them
//! there; where registers are few, once for each part of the rows and of the columns. Every sum runs over `K` in ascending order,
//! whatever rows are taken together: its bits depend on its row and its column alone.

#[cfg(target_arch = "x86_64")]
mod x86;

use super::instructions::Instructions;
use super::memory::Buffer;
use super::operand::Operand;
use crate::tensor::Scalar;

/// Columns of a panel: two vectors of AVX-512.
pub(super) const PANEL: usize = 32;
/// Rows of one product at most, whatever multiplies them.
const MOST_ROWS: usize = 30;

/// Rows whose sums are in registers together. By AVX-512 14 rows of two vectors leave four of 32 registers for the operands, by
/// AVX2 six rows of two vectors, which are half of a panel, leave four of 16.
pub(super) fn rows_together(instructions: Instructions) -> usize {
    match instructions {
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512 => 14,
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx2 => x86::AVX2_PART,
        Instructions::Portable => MOST_ROWS,
    }
}

/// Columns whose sums are in registers together. They lie together, too: what is read in one go shall have all places of a cache,
/// not every other one.
fn columns_together(instructions: Instructions) -> usize {
    match instructions {
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx2 => PANEL / 2,
        _ => PANEL,
    }
}

/// Rows of one product at most: those that are together, or by AVX2 five times as many, which find half of the panel nearby.
pub(super) fn most_rows(instructions: Instructions) -> usize {
    match instructions {
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx2 => MOST_ROWS,
        _ => rows_together(instructions),
    }
}

/// Cache lines that a product of so many rows fetches of each of the two that lie ahead, for each of its panel's rows.
pub(super) fn lines_ahead(instructions: Instructions, rows: usize) -> usize {
    rows.div_ceil(rows_together(instructions))
}

/// A fixed right-hand matrix `[K, O]` in panels; K counts operands.
#[derive(Debug)]
pub(super) struct Panels<O> {
    data: Buffer<O>,
    depth: usize,
}

impl<O: Operand> Panels<O> {
    /// Lays out the matrix `[numbers, outputs]` of `element(k, o)`, of which products take one of so many `matrices` that lie
    /// above one another. Where an operand is several numbers, those are neighbours along `k`.
    pub(super) fn new(
        instructions: Instructions,
        matrices: usize,
        numbers: usize,
        outputs: usize,
        element: impl Fn(usize, usize) -> O::Sum + Sync,
    ) -> Self {
        let depth = numbers.div_ceil(O::NUMBERS);
        assert!(depth.is_multiple_of(matrices), "the matrices are of one size");
        let mut data = Buffer::zeros(outputs.div_ceil(PANEL) * depth * PANEL);
        let (rows, together) = (depth / matrices, columns_together(instructions));
        for (i, value) in data.iter_mut().enumerate() {
            let (panel, matrix, i) = (i / (depth * PANEL), i / (rows * PANEL) % matrices, i % (rows * PANEL));
            let (part, row, column) = (i / (rows * together), i / together % rows, i % together);
            let (k, output) = (matrix * rows + row, panel * PANEL + part * together + column);
            if output < outputs {
                let first = k * O::NUMBERS;
                let mut column = [O::Sum::ZERO; 2];
                for (number, value) in (first..numbers).zip(&mut column[..O::NUMBERS]) {
                    *value = element(number, output);
                }
                *value = O::of(&column);
            }
        }
        Self { data, depth }
    }

    /// Rows of the matrix: K.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// Bytes of all panels.
    pub(super) fn bytes(&self) -> usize {
        self.data.bytes()
    }

    /// How many panels there are.
    pub(super) fn count(&self) -> usize {
        self.data.len() / (self.depth * PANEL)
    }

    /// One panel, of K rows.
    pub(super) fn panel(&self, index: usize) -> &[O] {
        &self.panels_from(index)[..self.depth * PANEL]
    }

    /// A panel and all that follow it.
    pub(super) fn panels_from(&self, index: usize) -> &[O] {
        &self.data[index * self.depth * PANEL..]
    }
}

/// Part `index` of `parts` of what is to be fetched while as many products run, in halves: a panel is as many lines as two
/// halves can bring.
#[inline(always)]
pub(super) fn share<O>(ahead: &[O], index: usize, parts: usize) -> [&[O]; 2] {
    let (first, second) = part(ahead, index, parts).split_at(ahead.len() / parts / 2);
    [first, second]
}

/// Part `index` of `parts`.
#[inline(always)]
pub(super) fn part<O>(whole: &[O], index: usize, parts: usize) -> &[O] {
    &whole[whole.len() * index / parts..whole.len() * (index + 1) / parts]
}

/// Rows of a left matrix inside a slice. They may overlap.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, O> {
    /// The first element of the first row, and all that follow.
    pub(super) data: &'a [O],
    /// Elements from one row to the next.
    pub(super) stride: usize,
    /// Rows, [`most_rows`] at most.
    pub(super) count: usize,
    /// A row is so many runs of elements, all of one length.
    pub(super) runs: usize,
    /// Elements from one run to the next.
    pub(super) run_stride: usize,
}

impl<'a, O> Rows<'a, O> {
    /// Rows that are one run each.
    #[inline(always)]
    pub(super) fn unbroken(data: &'a [O], stride: usize, count: usize) -> Self {
        Self { data, stride, count, runs: 1, run_stride: 0 }
    }
}

/// Where a product goes.
pub(super) struct Store<'a, T> {
    /// The first row's first element.
    pub(super) out: *mut T,
    /// Elements from one row to the next.
    pub(super) stride: usize,
    /// Columns that exist, [`PANEL`] at most.
    pub(super) width: usize,
    /// What the sums go through on their way.
    pub(super) finish: Option<Finish<'a, T>>,
}

/// What is added to sums beside their bias.
#[derive(Clone, Copy)]
pub(super) enum Residual<'a, T> {
    /// Nothing.
    None,
    /// These, from the first row's first element on, rows as far apart as the destination's.
    Of(&'a [T]),
    /// What stands in the destination: no other memory is touched than what is written anyway.
    InPlace,
}

/// `max(floor, sum + bias + residual)`. A NaN stays one.
#[derive(Clone, Copy)]
pub(super) struct Finish<'a, T> {
    /// One a column.
    pub(super) bias: &'a [T],
    pub(super) residual: Residual<'a, T>,
    /// Zero for ReLU, −∞ otherwise.
    pub(super) floor: T,
}

/// `out = finish(rows·panel)`, `[count, K]·[K, PANEL] → [count, width]`; `K` is the panel's, which was laid out for these
/// `instructions`. Meanwhile what lies `ahead` is brought into the second-level cache, K times [`lines_ahead`] of each of the two at
/// most. Either may be empty.
///
/// # Safety
/// `store.out` is valid for writing `width` elements of each of `count` rows, and nothing else has access to them.
pub(super) unsafe fn multiply_panel<O: Operand>(
    instructions: Instructions,
    rows: Rows<'_, O>,
    panel: &[O],
    ahead: [&[O]; 2],
    store: Store<'_, O::Sum>,
) {
    let depth = panel.len() / PANEL;
    let most = most_rows(instructions);
    assert!((1..=most).contains(&rows.count), "a product takes 1 to {most} rows");
    assert!(rows.runs > 0 && depth.is_multiple_of(rows.runs), "the runs of a row are of one length");
    let last = (rows.count - 1) * rows.stride + (rows.runs - 1) * rows.run_stride + depth / rows.runs;
    assert!(rows.data.len() >= last, "every row is inside the slice");
    assert!((1..=PANEL).contains(&store.width), "a panel has 1 to {PANEL} columns");
    if let Some(finish) = &store.finish {
        let last = (rows.count - 1) * store.stride + store.width;
        assert!(finish.bias.len() >= store.width, "a bias a column");
        if let Residual::Of(residual) = finish.residual {
            assert!(residual.len() >= last, "a residual an output");
        }
    }
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the extents were checked above; the destination is the caller's promise.
    if store.width == PANEL && unsafe { x86::multiply(instructions, rows, panel, ahead, &store) } {
        return;
    }
    let mut sums = [O::Sum::ZERO; MOST_ROWS * PANEL];
    let sums = &mut sums[..rows.count * PANEL];
    multiply(instructions, rows, panel, sums);
    for (row, sums) in sums.chunks_exact(PANEL).enumerate() {
        // SAFETY: the caller's promise.
        let out = unsafe { std::slice::from_raw_parts_mut(store.out.add(row * store.stride), store.width) };
        match &store.finish {
            Some(finish) => finish.apply(row * store.stride, sums, out),
            None => out.copy_from_slice(&sums[..store.width]),
        }
    }
}

/// `sums = rows·panel`, `[count, PANEL]`.
fn multiply<O: Operand>(instructions: Instructions, rows: Rows<'_, O>, panel: &[O], sums: &mut [O::Sum]) {
    #[cfg(target_arch = "x86_64")]
    {
        let store = Store { out: sums.as_mut_ptr(), stride: PANEL, width: PANEL, finish: None };
        // SAFETY: the caller checked the extents; `sums` is borrowed mutably and holds `count` rows.
        if unsafe { x86::multiply(instructions, rows, panel, [&[]; 2], &store) } {
            return;
        }
    }
    let together = columns_together(instructions);
    for (row, sums) in sums.chunks_exact_mut(PANEL).enumerate() {
        let mut totals = [O::Sum::ZERO; PANEL];
        let parts = totals.chunks_exact_mut(together).zip(panel.chunks_exact(panel.len() / PANEL * together));
        for (totals, panel) in parts {
            for (run, panel) in panel.chunks_exact(panel.len() / rows.runs).enumerate() {
                let values = &rows.data[row * rows.stride + run * rows.run_stride..];
                for (&value, weights) in values.iter().zip(panel.chunks_exact(together)) {
                    for (total, &weight) in totals.iter_mut().zip(weights) {
                        *total += value.dot(weight);
                    }
                }
            }
        }
        sums.copy_from_slice(&totals);
    }
}

impl<T: Scalar> Finish<'_, T> {
    /// Finishes sums, into what holds the residual if that is in place. Another begins `offset` elements after the first.
    #[inline(always)]
    pub(super) fn apply(&self, offset: usize, sums: &[T], out: &mut [T]) {
        let len = out.len();
        let (sums, bias) = (&sums[..len], &self.bias[..len]);
        let residual = match self.residual {
            Residual::Of(residual) => Residual::Of(&residual[offset..][..len]),
            other => other,
        };
        // A whole panel's columns, counted when the program is compiled, are a few vectors and no loop.
        if let (Ok(out), Ok(sums), Ok(bias)) = (
            <&mut [T; PANEL]>::try_from(&mut *out),
            <&[T; PANEL]>::try_from(sums),
            <&[T; PANEL]>::try_from(bias),
        ) {
            match residual {
                Residual::None => {
                    for i in 0..PANEL {
                        out[i] = self.clamp(sums[i] + bias[i]);
                    }
                }
                Residual::Of(residual) => {
                    for i in 0..PANEL {
                        out[i] = self.clamp(sums[i] + bias[i] + residual[i]);
                    }
                }
                Residual::InPlace => {
                    for i in 0..PANEL {
                        out[i] = self.clamp(sums[i] + bias[i] + out[i]);
                    }
                }
            }
            return;
        }
        for i in 0..len {
            let sum = sums[i] + bias[i];
            out[i] = self.clamp(match residual {
                Residual::None => sum,
                Residual::Of(residual) => sum + residual[i],
                Residual::InPlace => sum + out[i],
            });
        }
    }

    /// At least the floor. In this order a NaN remains.
    #[inline(always)]
    fn clamp(&self, value: T) -> T {
        if value < self.floor { self.floor } else { value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::operand::Bf16Pair;
    use crate::random::philox::{Philox, Stream};
    use crate::tensor::relative_error;

    const DEPTH: usize = 36;
    const STRIDE: usize = 41;
    /// Elements from one row of the destination to the next.
    const OUT: usize = 45;

    fn values() -> Vec<f32> {
        let philox = Philox::new(1, Stream::Initialisation, 0);
        (0..4000).map(|i| philox.uniform(i) as f32 - 0.5).collect()
    }

    /// Where a panel of so many rows has an element.
    fn index_of(instructions: Instructions, depth: usize, k: usize, column: usize) -> usize {
        let together = columns_together(instructions);
        column / together * depth * together + k * together + column % together
    }

    /// Every number of rows, in one run and in several, full and part panels, raw and finished, against the definition over
    /// operands as they are.
    fn products_equal_the_definition<O: Operand<Sum = f32>>(operand: impl Fn(f32) -> O) {
        for (runs, run_stride) in [(1, 0), (DEPTH / 6, 2), (DEPTH / 6, 9), (DEPTH, 1)] {
            products_of_runs_equal_the_definition(&operand, runs, run_stride);
        }
    }

    fn products_of_runs_equal_the_definition<O: Operand<Sum = f32>>(
        operand: &impl Fn(f32) -> O,
        runs: usize,
        run_stride: usize,
    ) {
        let values = values();
        let operands: Vec<O> = values.iter().map(|&value| operand(value)).collect();
        let (data, panel) = operands.split_at((MOST_ROWS + 1) * STRIDE);
        let panel = &panel[..DEPTH * PANEL];
        let (bias, residual) = (&values[..PANEL], &values[100..]);
        for instructions in Instructions::available() {
            for (count, width, case) in (1..=most_rows(instructions)).flat_map(|count| {
                [PANEL, 1, 19].into_iter().flat_map(move |width| (0..4).map(move |case| (count, width, case)))
            }) {
                let finish = match case {
                    0 => None,
                    1 => Some(Finish { bias, residual: Residual::None, floor: f32::NEG_INFINITY }),
                    2 => Some(Finish { bias, residual: Residual::Of(residual), floor: 0.0 }),
                    _ => Some(Finish { bias, residual: Residual::InPlace, floor: 0.0 }),
                };
                // What was there before must be gone, or is the residual.
                let before: &[f32] = if case == 3 { residual } else { &[9.0; MOST_ROWS * OUT] };
                let before = &before[..MOST_ROWS * OUT];
                let mut expected: Vec<f64> = before.iter().map(|&value| f64::from(value)).collect();
                for (row, column) in (0..count).flat_map(|row| (0..width).map(move |column| (row, column))) {
                    let mut value: f64 = (0..DEPTH)
                        .map(|k| {
                            let (run, place) = (k / (DEPTH / runs), k % (DEPTH / runs));
                            let value = data[row * STRIDE + run * run_stride + place];
                            f64::from(value.dot(panel[index_of(instructions, DEPTH, k, column)]))
                        })
                        .sum();
                    if let Some(finish) = finish {
                        value += f64::from(bias[column]);
                        if !matches!(finish.residual, Residual::None) {
                            value += f64::from(residual[row * OUT + column]);
                        }
                        value = value.max(f64::from(finish.floor));
                    }
                    expected[row * OUT + column] = value;
                }
                let mut out = before.to_vec();
                let store = Store { out: out.as_mut_ptr(), stride: OUT, width, finish };
                // SAFETY: `out` holds the rows and is not used meanwhile.
                unsafe {
                    multiply_panel(
                        instructions,
                        Rows { data, stride: STRIDE, count, runs, run_stride },
                        panel,
                        [&[]; 2],
                        store,
                    );
                };
                let error = relative_error(&out, &expected);
                assert!(
                    error < 1e-6,
                    "{count}×{width} case {case}, {runs} runs, {instructions:?}: {error:.1e}"
                );
            }
        }
    }

    #[test]
    fn products_of_scalars_equal_the_definition() {
        products_equal_the_definition(|value| value);
    }

    /// The products of bfloat16 numbers are exact in `f32`: only their sums are rounded.
    #[test]
    fn products_of_pairs_equal_the_definition() {
        products_equal_the_definition(|value| Bf16Pair::of(&[value, 0.3 - value]));
    }

    /// Deeper than half of a panel stays in the first-level cache, every number of rows. What lies ahead is only fetched: it may
    /// be shorter than the steps or longer.
    #[test]
    fn what_lies_ahead_changes_nothing() {
        const DEEP: usize = 300;
        let philox = Philox::new(2, Stream::Initialisation, 0);
        let values: Vec<f32> = (0..DEEP * 64).map(|i| philox.uniform(i as u64) as f32 - 0.5).collect();
        let (data, panel) = (&values[..(MOST_ROWS + 1) * DEEP], &values[DEEP * PANEL..]);
        for instructions in Instructions::available() {
            for count in 1..=most_rows(instructions) {
                let product = |ahead: [&[f32]; 2]| {
                    let mut out = vec![f32::NAN; count * PANEL];
                    let store = Store { out: out.as_mut_ptr(), stride: PANEL, width: PANEL, finish: None };
                    let rows = Rows::unbroken(data, DEEP, count);
                    // SAFETY: `out` holds the rows and is not used meanwhile.
                    unsafe { multiply_panel(instructions, rows, panel, ahead, store) };
                    out
                };
                let out = product([&[]; 2]);
                let expected: Vec<f64> = (0..count * PANEL)
                    .map(|i| {
                        let (row, column) = (i / PANEL, i % PANEL);
                        let products = (0..DEEP).map(|k| {
                            f64::from(data[row * DEEP + k])
                                * f64::from(panel[index_of(instructions, DEEP, k, column)])
                        });
                        products.sum()
                    })
                    .collect();
                let error = relative_error(&out, &expected);
                // Sums of 300 products, each rounded by 2⁻²⁴.
                assert!(error < 1e-6, "{count} rows, {instructions:?}: {error:.1e}");
                for ahead in [[panel, &[]], [&[], &data[..5]], [&panel[..40], data]] {
                    assert_eq!(product(ahead), out, "{count} rows, {instructions:?}");
                }
            }
        }
    }

    #[test]
    fn a_nan_is_no_zero() {
        let mut data = values();
        data[3] = f32::NAN;
        for instructions in Instructions::available() {
            let panel = &values()[..DEPTH * PANEL];
            let finish = Finish { bias: &[0.0; PANEL], residual: Residual::None, floor: 0.0 };
            let mut out = [0.0; 2 * PANEL];
            let store = Store { out: out.as_mut_ptr(), stride: PANEL, width: PANEL, finish: Some(finish) };
            let rows = Rows::unbroken(&data, STRIDE, 2);
            // SAFETY: `out` holds the rows and is not used meanwhile.
            unsafe { multiply_panel(instructions, rows, panel, [&[]; 2], store) };
            assert!(out[..PANEL].iter().all(|value| value.is_nan()), "{instructions:?}");
            assert!(out[PANEL..].iter().all(|value| !value.is_nan()), "{instructions:?}");
        }
    }
}
