//! Inputs written in bfloat16, as the rows that tiles multiply.

use super::layout::Layout;
use super::weights::{Rows, TiledWeights};
use crate::backend::cpu::amx::Written;
use crate::backend::cpu::conv2d::Call;
use crate::backend::cpu::conv2d::im2col::gather;
use crate::backend::cpu::instructions::Vectorized;
use crate::backend::cpu::memory::CpuTensor;
use crate::backend::cpu::operand::{Bf16Pair, Operand};
use crate::tensor::Scalar;
use rayon::prelude::*;
use std::ops::Range;

/// Rows of a task at least.
const ROWS_PER_TASK: usize = 32;

/// The rows of all lines, `[image, plane, line, row, part, pair]`.
pub(super) fn write_all<T: Scalar>(
    call: &Call<'_, T>,
    layout: &Layout,
    weights: &TiledWeights<T>,
) -> CpuTensor<T> {
    let mut scratch = layout.scratch(call.pool);
    let pairs: &mut [Bf16Pair<T>] = bytemuck::cast_slice_mut(scratch.data_mut());
    let lines_per_task = ROWS_PER_TASK.div_ceil(layout.row_width);
    let tasks = layout.plane_lines.div_ceil(lines_per_task);
    let planes = pairs.par_chunks_exact_mut(layout.plane_len()).take(layout.images * layout.planes.len());
    planes.enumerate().for_each(|(index, pairs)| {
        let (image, plane) = (index / layout.planes.len(), index % layout.planes.len());
        let tasks = pairs.par_chunks_mut(lines_per_task * layout.line_len()).enumerate().take(tasks);
        tasks.for_each(|(task, pairs)| {
            let first = task * lines_per_task;
            let lines = first..(first + lines_per_task).min(layout.plane_lines);
            call.instructions.run(Lines { call, weights, layout, image, plane, lines, pairs });
        });
    });
    scratch
}

/// Some lines of one plane of one image.
pub(super) struct Lines<'a, T: Scalar> {
    pub(super) call: &'a Call<'a, T>,
    pub(super) weights: &'a TiledWeights<T>,
    pub(super) layout: &'a Layout,
    pub(super) image: usize,
    pub(super) plane: usize,
    pub(super) lines: Range<usize>,
    /// Room for them.
    pub(super) pairs: &'a mut [Bf16Pair<T>],
}

impl<T: Scalar> Vectorized for Lines<'_, T> {
    #[inline(always)]
    fn run(self) {
        let Layout { pitch, run, ref planes, .. } = *self.layout;
        let (g, input, written) = (&self.call.geometry, self.call.input, self.weights.written);
        let lines = self.lines.zip(self.pairs.chunks_exact_mut(self.layout.line_len()));
        match self.weights.rows {
            Rows::Pixels => {
                for (pixel, row) in lines {
                    write(written, &input[pixel * g.inputs..][..g.inputs], row, run);
                }
            }
            Rows::Patches => {
                let mut patch = self.call.pool.tensor(&[g.patch()]);
                for (position, row) in lines {
                    gather(input, g, position, patch.data_mut());
                    write(written, patch.data(), row, run);
                }
            }
            Rows::Planes => {
                let (top, left) = planes[self.plane];
                // In coordinates shifted by the padding, so that they are never negative.
                let inside = |at: usize, size: usize| (g.padding..g.padding + size).contains(&at);
                for (line, rows) in lines {
                    let y = line * g.stride + top;
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
