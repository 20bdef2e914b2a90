//! Convolution on bfloat16 tiles, every product of the definition: of rounded numbers, or of numbers as sums of two.
//!
//! A task takes some lines of one image's output and some panels of weights. It rounds the inputs of its lines into
//! a scratch of its own, laid out so that the inputs of neighbouring outputs lie equally far apart for every tap of the kernel;
//! then a tile's 16 rows are 16 outputs one after the other, a tap is an offset, and nothing is gathered:
//!
//! - The scratch is as wide as the padded image; outputs at its margin are computed and dropped.
//! - A stride of `s` splits the image into `s²` planes, of every s-th line and column each: within a plane neighbours are
//!   neighbours again.
//! - 1×1 convolutions have one row an output. So has a convolution of few channels, such as the stem, whose patches are
//!   gathered (im2col): a step of the tile unit takes 32 numbers of one tap.

mod cut;
mod layout;
#[cfg(test)]
mod tests;
mod weights;

use super::Call;
use super::disjoint::Disjoint;
use super::epilogue::Epilogue;
use super::im2col::gather;
use crate::backend::cpu::amx::{COLUMNS, Product, ROWS, TILE_ROWS, Tiles, Written};
use crate::backend::cpu::instructions::Vectorized;
use crate::backend::cpu::operand::{Bf16Pair, Operand};
use crate::tensor::Scalar;
use layout::Layout;
use rayon::prelude::*;
use std::ops::Range;
use weights::Rows;

pub(super) use weights::TiledWeights;

/// `weights` holds the weights `[kh·kw·I, O]`.
pub(super) fn conv2d<T: Scalar>(call: &Call<'_, T>, weights: &TiledWeights<T>, out: &mut [T]) {
    let layout = Layout::new(&call.geometry, out.len() / call.bias.len(), weights);
    let blocks = layout.lines.div_ceil(layout.task_lines);
    let (rows, groups) = (layout.images * blocks, weights.panels().div_ceil(layout.panels));
    let epilogue = Epilogue::new(call.bias, call.residual, call.relu);
    let out = Disjoint::new(out);
    let numbers_of_pairs = size_of::<T>() / size_of::<Bf16Pair<T>>();
    // Neighbouring tasks share their panels.
    (0..rows * groups).into_par_iter().with_max_len(1).for_each(|task| {
        let (row, group) = (task % rows, task / rows);
        let first = row % blocks * layout.task_lines;
        let patch = if weights.rows == Rows::Patches { call.geometry.patch() } else { 0 };
        let mut scratch = call.pool.tensor(&[layout.len.div_ceil(numbers_of_pairs) + patch]);
        call.instructions.run(Task {
            call,
            weights,
            layout: &layout,
            epilogue,
            scratch: scratch.data_mut(),
            out: &out,
            image: row / blocks,
            lines: first..(first + layout.task_lines).min(layout.lines),
            panels: group * layout.panels..((group + 1) * layout.panels).min(weights.panels()),
        });
    });
}

/// Some lines by some panels.
struct Task<'a, T: Scalar> {
    call: &'a Call<'a, T>,
    weights: &'a TiledWeights<T>,
    layout: &'a Layout,
    epilogue: Epilogue<'a, T>,
    /// Room for the rows, and for a patch if patches are gathered.
    scratch: &'a mut [T],
    /// All of the output.
    out: &'a Disjoint<'a, T>,
    image: usize,
    lines: Range<usize>,
    panels: Range<usize>,
}

impl<T: Scalar> Vectorized for Task<'_, T> {
    #[inline(always)]
    fn run(mut self) {
        self.round_inputs();
        self.multiply();
    }
}

impl<T: Scalar> Task<'_, T> {
    /// Rounds the inputs of the task's lines into its scratch.
    #[inline(always)]
    fn round_inputs(&mut self) {
        let Layout { row_width, more_lines, task_lines, pitch, run, ref planes, .. } = *self.layout;
        let written = self.weights.written;
        let g = &self.call.geometry;
        let input = self.call.input;
        match self.weights.rows {
            Rows::Pixels => {
                let rows: &mut [Bf16Pair<T>] = bytemuck::cast_slice_mut(self.scratch);
                for (pixel, row) in self.lines.clone().zip(rows.chunks_exact_mut(pitch)) {
                    write(written, &input[pixel * g.inputs..][..g.inputs], row, run);
                }
            }
            Rows::Patches => {
                let (rows, patch) = self.scratch.split_at_mut(self.scratch.len() - g.patch());
                let rows: &mut [Bf16Pair<T>] = bytemuck::cast_slice_mut(rows);
                for (position, row) in self.lines.clone().zip(rows.chunks_exact_mut(pitch)) {
                    gather(input, g, position, patch);
                    write(written, patch, row, run);
                }
            }
            Rows::Planes => {
                let rows: &mut [Bf16Pair<T>] = bytemuck::cast_slice_mut(self.scratch);
                let plane = (task_lines + more_lines) * row_width * pitch;
                // In coordinates shifted by the padding, so that they are never negative.
                let inside = |at: usize, size: usize| (g.padding..g.padding + size).contains(&at);
                for (rows, &(top, left)) in rows.chunks_exact_mut(plane).zip(planes) {
                    let lines = rows.chunks_exact_mut(row_width * pitch).take(self.lines.len() + more_lines);
                    for (line, rows) in lines.enumerate() {
                        let y = (self.lines.start + line) * g.stride + top;
                        for (column, row) in rows.chunks_exact_mut(pitch).enumerate() {
                            let x = column * g.stride + left;
                            if inside(y, g.h) && inside(x, g.w) {
                                let pixel = (self.image * g.h + y - g.padding) * g.w + x - g.padding;
                                write(written, &input[pixel * g.inputs..][..g.inputs], row, run);
                            } else {
                                row.fill(bytemuck::Zeroable::zeroed());
                            }
                        }
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn multiply(&mut self) {
        let Layout { lines, width, row_width, pitch, ref steps, .. } = *self.layout;
        let left: &[Bf16Pair<T>] = bytemuck::cast_slice(self.scratch);
        let (rows, outputs) = (self.lines.len() * row_width, self.epilogue.channels());
        let tiles = Tiles::take(self.weights.unit);
        let mut sums = Sums([T::ZERO; ROWS * COLUMNS]);
        let products = rows.div_ceil(ROWS);
        for panel in self.panels.clone() {
            let channel = panel * COLUMNS;
            let count = COLUMNS.min(outputs - channel);
            let weights = self.weights.panel(panel);
            let next = if panel + 1 < self.panels.end { self.weights.panel(panel + 1) } else { &[] };
            for (index, first) in (0..rows).step_by(ROWS).enumerate() {
                let ahead = &next[next.len() * index / products..next.len() * (index + 1) / products];
                let product = Product { left: &left[first * pitch..], stride: pitch, steps, weights, ahead };
                tiles.multiply(&product, (rows - first).min(ROWS).div_ceil(TILE_ROWS), &mut sums.0);
                let (mut line, mut column) = (self.lines.start + first / row_width, first % row_width);
                for sums in sums.0.chunks_exact(COLUMNS).take(rows - first) {
                    if column < width {
                        let pixel = (self.image * lines + line) * width + column;
                        // SAFETY: no other task has these lines and this panel.
                        let out = unsafe { self.out.part(pixel * outputs + channel, count) };
                        self.epilogue.at(pixel, channel).apply(0, sums, out);
                    }
                    column += 1;
                    if column == row_width {
                        (line, column) = (line + 1, 0);
                    }
                }
            }
        }
    }
}

/// A product's sums, each row of them on cache lines of its own.
#[repr(align(64))]
struct Sums<T>([T; ROWS * COLUMNS]);

/// Writes a row's numbers, each part `run` pairs long, and fills it up with zeros.
#[inline(always)]
fn write<T: Scalar>(written: Written, numbers: &[T], row: &mut [Bf16Pair<T>], run: usize) {
    let pairs = numbers.len().div_ceil(2);
    let (high, low) = row.split_at_mut(run);
    match written {
        Written::Rounded => Bf16Pair::pack(numbers, &mut high[..pairs]),
        Written::Split => {
            Bf16Pair::split(numbers, high, low);
            low[pairs..run].fill(bytemuck::Zeroable::zeroed());
        }
    }
    high[pairs..].fill(bytemuck::Zeroable::zeroed());
}
