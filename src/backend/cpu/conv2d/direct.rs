//! Convolution as products with weights that were laid out once.
//!
//! A 1×1 convolution reads its input as it lies; every other one gathers its patches (im2col) a bounded tile at a time.
//! A task takes a block of rows and a few panels of weights: the block stays in the core's second-level cache
//! while the panels pass, and bias, residual and ReLU are applied to sums that are still in the first.

use super::Call;
use super::disjoint::Disjoint;
use super::epilogue::Finish;
use super::im2col::im2col;
use crate::backend::cpu::instructions::{Instructions, Vectorized};
use crate::backend::cpu::panels::{MOST_ROWS, PANEL, Panels, Rows, multiply_panel};
use crate::tensor::Scalar;
use rayon::prelude::*;
use std::ops::Range;

/// Bytes of gathered patches held at a time: they stay within the last-level cache.
const GATHERED_BYTES: usize = 4 << 20;
/// Bytes of a task's rows: half of a core's second-level cache.
const BLOCK_BYTES: usize = 512 << 10;
/// Multiplications of a task at least: enough that starting it costs nothing beside it.
const TASK_PRODUCTS: usize = 3 << 20;
/// Rows are held this many elements farther apart than they are long, so that rows of a power of two of bytes do not
/// all want the same place in a cache.
pub(super) const GAP: usize = 16;

/// `panels` holds the weights `[kh·kw·I, O]`.
pub(super) fn conv2d<T: Scalar>(call: &Call<'_, T>, panels: &Panels<T>, out: &mut [T]) {
    let g = &call.geometry;
    let (patch, outputs) = (g.patch(), call.bias.len());
    let rows = out.len() / outputs;
    let finish = Finish::new(call.bias, call.residual, call.relu);
    let out = Disjoint::new(out);
    let product = |left: &[T], stride: usize, rows: Range<usize>| {
        Product { instructions: call.instructions, left, stride, panels, finish, out: &out, rows }.run();
    };
    if g.is_pointwise() {
        product(call.input, patch, 0..rows);
        return;
    }
    let stride = patch + GAP;
    let tile_rows = (GATHERED_BYTES / (stride * size_of::<T>())).max(MOST_ROWS);
    for first in (0..rows).step_by(tile_rows) {
        let count = tile_rows.min(rows - first);
        let mut columns = call.pool.tensor(&[count, stride]);
        im2col(call.input, g, first, stride, columns.data_mut());
        product(columns.data(), stride, first..first + count);
    }
}

/// `out[rows] = finish(left·panels)`.
struct Product<'a, T> {
    instructions: Instructions,
    /// The rows of the left matrix.
    left: &'a [T],
    stride: usize,
    panels: &'a Panels<T>,
    finish: Finish<'a, T>,
    /// All of the output.
    out: &'a Disjoint<'a, T>,
    /// Which of its rows are computed.
    rows: Range<usize>,
}

impl<T: Scalar> Product<'_, T> {
    /// Cuts the product into blocks of rows by groups of panels, in a way that depends on the shapes alone.
    fn run(&self) {
        let depth = self.panels.depth();
        let most = (BLOCK_BYTES / (depth * size_of::<T>())).clamp(MOST_ROWS, 16 * MOST_ROWS);
        let blocks = self.rows.len().div_ceil(most);
        let block_rows = self.rows.len().div_ceil(blocks).next_multiple_of(MOST_ROWS);
        let blocks = self.rows.len().div_ceil(block_rows);
        let group = TASK_PRODUCTS.div_ceil(block_rows * depth * PANEL).clamp(1, self.panels.count());
        let groups = self.panels.count().div_ceil(group);
        // Neighbouring tasks share their panels.
        (0..blocks * groups).into_par_iter().with_max_len(1).for_each(|task| {
            let (first, panel) = (task % blocks * block_rows, task / blocks * group);
            self.instructions.run(Task {
                product: self,
                rows: first..(first + block_rows).min(self.rows.len()),
                panels: panel..(panel + group).min(self.panels.count()),
            });
        });
    }
}

/// A block of rows by a group of panels.
struct Task<'a, T> {
    product: &'a Product<'a, T>,
    /// Rows of the left matrix.
    rows: Range<usize>,
    panels: Range<usize>,
}

impl<T: Scalar> Vectorized for Task<'_, T> {
    #[inline(always)]
    fn run(self) {
        let Product { instructions, left, stride, panels, finish, out, rows } = self.product;
        let outputs = finish.channels();
        let mut sums = [T::ZERO; MOST_ROWS * PANEL];
        for panel in self.panels {
            let channel = panel * PANEL;
            let width = PANEL.min(outputs - channel);
            for first in self.rows.clone().step_by(MOST_ROWS) {
                let count = MOST_ROWS.min(self.rows.end - first);
                let sums = &mut sums[..count * PANEL];
                let left = Rows { data: &left[first * stride..], stride: *stride, count };
                multiply_panel(*instructions, left, panels.panel(panel), sums);
                for (row, sums) in (rows.start + first..).zip(sums.chunks_exact(PANEL)) {
                    // SAFETY: no other task has this row and this panel.
                    let out = unsafe { out.part(row * outputs + channel, width) };
                    finish.apply(row, channel, sums, out);
                }
            }
        }
    }
}
