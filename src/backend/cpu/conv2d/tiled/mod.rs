//! Convolution on bfloat16 tiles, every product of the definition: of rounded numbers, or of numbers as sums of two.
//!
//! Inputs are written in bfloat16 as rows, laid out so that the inputs of neighbouring outputs lie equally far apart for every
//! tap of the kernel; then a tile's 16 rows are 16 outputs one after the other, a tap is an offset, and nothing is gathered:
//!
//! - A line of rows is as wide as the padded image; outputs at its margin are computed and dropped.
//! - A stride of `s` splits the image into `s²` planes, of every s-th line and column each: within a plane neighbours are
//!   neighbours again.
//! - 1×1 convolutions have one row an output. So has a convolution of few channels, such as the stem, whose patches are
//!   gathered (im2col): a step of the tile unit takes 32 numbers of one tap.
//!
//! A task takes some lines of one image's output and some panels of weights. Where a task has all panels, it writes the rows of
//! its lines for itself, and they stay in its core's cache. Where lines are few and several tasks share them, all rows are
//! written before.

mod cut;
mod layout;
mod rows;
#[cfg(test)]
mod tests;
mod weights;

use super::Call;
use super::disjoint::Disjoint;
use super::epilogue::Epilogue;
use crate::backend::cpu::amx::{COLUMNS, Product, ROWS, TILE_ROWS, Tiles};
use crate::backend::cpu::instructions::Vectorized;
use crate::backend::cpu::operand::Bf16Pair;
use crate::tensor::Scalar;
use layout::Layout;
use rayon::prelude::*;
use rows::{Lines, write_all};
use std::ops::Range;

pub(super) use weights::TiledWeights;

/// `weights` holds the weights `[kh·kw·I, O]`.
pub(super) fn conv2d<T: Scalar>(call: &Call<'_, T>, weights: &TiledWeights<T>, out: &mut [T]) {
    if out.is_empty() {
        return;
    }
    let layout = Layout::new(&call.geometry, out.len() / call.bias.len(), weights);
    let blocks = layout.lines.div_ceil(layout.task_lines);
    let (rows, groups) = (layout.images * blocks, weights.panels().div_ceil(layout.panels));
    let epilogue = Epilogue::new(call.bias, call.residual, call.relu);
    let out = Disjoint::new(out);
    let shared = layout.shared.then(|| write_all(call, &layout, weights));
    // Neighbouring tasks share their panels.
    (0..rows * groups).into_par_iter().with_max_len(1).for_each(|task| {
        let (row, group) = (task % rows, task / rows);
        let first = row % blocks * layout.task_lines;
        let lines = first..(first + layout.task_lines).min(layout.lines);
        let image = row / blocks;
        let mut own;
        let rows = match &shared {
            Some(shared) => {
                let pairs: &[Bf16Pair<T>] = bytemuck::cast_slice(shared.data());
                &pairs[image * layout.image_len() + first * layout.line_len()..]
            }
            None => {
                own = layout.scratch(call.pool);
                let pairs: &mut [Bf16Pair<T>] = bytemuck::cast_slice_mut(own.data_mut());
                let lines = lines.start..lines.end + layout.more_lines;
                let planes = pairs.chunks_exact_mut(layout.plane_len()).take(layout.planes.len());
                for (plane, pairs) in planes.enumerate() {
                    let lines = lines.clone();
                    call.instructions.run(Lines {
                        call,
                        weights,
                        layout: &layout,
                        image,
                        plane,
                        lines,
                        pairs,
                    });
                }
                bytemuck::cast_slice(own.data())
            }
        };
        let panels = group * layout.panels..((group + 1) * layout.panels).min(weights.panels());
        call.instructions.run(Task {
            weights,
            layout: &layout,
            epilogue,
            rows,
            out: &out,
            image,
            lines,
            panels,
        });
    });
}

/// Some lines by some panels.
struct Task<'a, T: Scalar> {
    weights: &'a TiledWeights<T>,
    layout: &'a Layout,
    epilogue: Epilogue<'a, T>,
    /// From those of the first line's first output on.
    rows: &'a [Bf16Pair<T>],
    /// All of the output.
    out: &'a Disjoint<'a, T>,
    image: usize,
    lines: Range<usize>,
    panels: Range<usize>,
}

impl<T: Scalar> Vectorized for Task<'_, T> {
    #[inline(always)]
    fn run(self) {
        let Layout { lines, width, row_width, pitch, ref steps, .. } = *self.layout;
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
                let left = &self.rows[first * pitch..];
                let product = Product { left, stride: pitch, steps, weights, ahead };
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
