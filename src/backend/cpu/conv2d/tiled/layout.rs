//! Where the inputs of a task lie once they are rounded.

use super::cut::Cut;
use super::weights::{Rows, TiledWeights};
use crate::backend::cpu::amx::{COLUMNS, ROWS, STEP, STEP_PAIRS, Steps, TILE_ROWS, Written};
use crate::backend::cpu::conv2d::im2col::Geometry;
use crate::backend::cpu::operand::Bf16Pair;
use crate::tensor::Scalar;

/// Pairs between one pixel's channels and the next's, so that rows of a power of two of bytes do not all want the same
/// place in a cache.
const GAP: usize = 16;
/// Tasks a thread: enough that all finish together.
const TASKS_PER_THREAD: usize = 4;

/// How the rows of a task lie in its scratch, and how the output is cut into tasks.
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
        let (task_lines, panels) = cut.best(TASKS_PER_THREAD * rayon::current_num_threads());

        let plane = (task_lines + more_lines) * row_width * pitch;
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
        let rows = (task_lines * row_width).next_multiple_of(TILE_ROWS);
        let len = (planes.len() * plane).max((rows - 1) * pitch + steps.reach());
        Self {
            images,
            lines,
            width,
            row_width,
            task_lines,
            more_lines,
            planes,
            pitch,
            run,
            steps,
            len,
            panels,
        }
    }
}
