//! Where inputs lie once they are written in bfloat16.

use super::cut::Cut;
use super::weights::{Rows, TiledWeights};
use crate::backend::cpu::amx::{COLUMNS, ROWS, STEP, STEP_PAIRS, Steps, TILE_ROWS, Written};
use crate::backend::cpu::conv2d::im2col::Geometry;
use crate::backend::cpu::memory::{CpuTensor, Pool};
use crate::backend::cpu::operand::Bf16Pair;
use crate::tensor::Scalar;
use std::sync::Arc;

/// Pairs between one pixel's channels and the next's, so that rows of a power of two of bytes do not all want the same
/// place in a cache.
const GAP: usize = 16;

/// How rows lie in a scratch, of a task or of all tasks, and how the output is cut into tasks.
#[derive(Debug)]
pub(super) struct Layout {
    /// Images, or one where rows know nothing of their neighbours.
    pub(super) images: usize,
    /// Lines of an image's output, and outputs of a line.
    pub(super) lines: usize,
    pub(super) width: usize,
    /// Rows of a line: at least as many.
    pub(super) row_width: usize,
    /// Lines of a task, and those its planes have beside them.
    pub(super) task_lines: usize,
    pub(super) more_lines: usize,
    /// Whether the scratch holds the rows of all lines of all images, for all tasks.
    pub(super) shared: bool,
    /// Lines of a plane.
    pub(super) plane_lines: usize,
    /// Line and column where each plane begins.
    pub(super) planes: Vec<(usize, usize)>,
    /// Pairs from one row to the next; a row is `[part, channel]`.
    pub(super) pitch: usize,
    /// Pairs of a row's part.
    pub(super) run: usize,
    pub(super) steps: Steps,
    /// Pairs of the scratch.
    pub(super) len: usize,
    /// Panels of a task.
    pub(super) panels: usize,
}

impl Layout {
    pub(super) fn new<T: Scalar>(g: &Geometry, outputs: usize, weights: &TiledWeights<T>) -> Self {
        let stride = g.stride;
        let (images, lines, width) = match weights.rows {
            Rows::Planes => (outputs / (g.out_h * g.out_w), g.out_h, g.out_w),
            Rows::Pixels | Rows::Patches => (1, outputs, 1),
        };
        let (more_lines, more_columns, planes) = match weights.rows {
            Rows::Planes => {
                let part = |kernel: usize| 0..stride.min(kernel);
                let planes = part(g.kernel_h).flat_map(|y| part(g.kernel_w).map(move |x| (y, x)));
                ((g.kernel_h - 1) / stride, (g.kernel_w - 1) / stride, planes.collect())
            }
            Rows::Pixels | Rows::Patches => (0, 0, vec![(0, 0)]),
        };
        let row_width = width + more_columns;
        let numbers = if weights.rows == Rows::Patches { g.patch() } else { g.inputs };
        let run = numbers.div_ceil(STEP) * STEP_PAIRS;
        let parts = weights.written.parts();
        let pitch = parts * run + GAP;
        let low = (weights.written == Written::Split).then_some(run);

        let line_products = weights.steps * STEP * row_width * COLUMNS;
        let line_bytes = pitch * row_width * planes.len() * size_of::<Bf16Pair<T>>();
        let cut = Cut {
            images,
            lines,
            more_lines,
            line_bytes,
            line_products,
            panels: weights.panels(),
            weight_bytes: weights.tiles.bytes(),
            multiple: if row_width == 1 { ROWS } else { 1 },
        };
        let (task_lines, panels) = cut.best(rayon::current_num_threads());
        let shared = panels < weights.panels();
        let (held_images, held_lines) = if shared { (images, lines) } else { (1, task_lines) };

        let plane_lines = held_lines + more_lines;
        let plane = plane_lines * row_width * pitch;
        let offsets = if weights.rows == Rows::Planes {
            let taps = (0..g.kernel_h).flat_map(|y| (0..g.kernel_w).map(move |x| (y, x)));
            taps.flat_map(|(y, x)| {
                let index =
                    planes.iter().position(|&place| place == (y % stride, x % stride)).unwrap_or_default();
                let offset = index * plane + (y / stride * row_width + x / stride) * pitch;
                (0..run).step_by(STEP_PAIRS).map(move |step| offset + step)
            })
            .collect()
        } else {
            (0..run).step_by(STEP_PAIRS).collect()
        };
        let steps = Steps::new(offsets, low);
        // The last tile of rows may end behind the last row.
        let last_row = held_lines * row_width + TILE_ROWS - 2;
        let image = planes.len() * plane;
        let len = (held_images * image).max((held_images - 1) * image + last_row * pitch + steps.reach());
        Self {
            images,
            lines,
            width,
            row_width,
            task_lines,
            more_lines,
            shared,
            plane_lines,
            planes,
            pitch,
            run,
            steps,
            len,
            panels,
        }
    }

    /// Pairs of a line.
    pub(super) fn line_len(&self) -> usize {
        self.row_width * self.pitch
    }

    /// Pairs of a plane.
    pub(super) fn plane_len(&self) -> usize {
        self.plane_lines * self.line_len()
    }

    /// Pairs of an image's planes.
    pub(super) fn image_len(&self) -> usize {
        self.planes.len() * self.plane_len()
    }

    /// Room for the rows.
    pub(super) fn scratch<T: Scalar>(&self, pool: &Arc<Pool<T>>) -> CpuTensor<T> {
        let numbers_of_pairs = size_of::<T>() / size_of::<Bf16Pair<T>>();
        pool.tensor(&[self.len.div_ceil(numbers_of_pairs)])
    }
}
