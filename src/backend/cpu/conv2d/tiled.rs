//! Convolution on bfloat16 tiles, every product of the definition.
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

use super::Call;
use super::disjoint::Disjoint;
use super::epilogue::Epilogue;
use super::im2col::{Geometry, gather};
use crate::backend::ConvolutionGeometry;
use crate::backend::cpu::amx::{
    COLUMNS, Product, ROWS, STEP, STEP_PAIRS, STEP_WEIGHTS, Steps, TILE_ROWS, Tiles, Unit,
};
use crate::backend::cpu::instructions::Vectorized;
use crate::backend::cpu::memory::Buffer;
use crate::backend::cpu::operand::{Bf16Pair, Operand};
use crate::tensor::Scalar;
use rayon::prelude::*;
use std::ops::Range;

/// Bytes of a task's inputs that leave room for weights in a core's second-level cache of two megabytes.
const RESIDENT_BYTES: usize = 384 << 10;
/// Tasks a thread: enough that all finish together.
const TASKS_PER_THREAD: usize = 4;
/// Multiplications of a task at least: enough that starting it costs nothing beside it.
const TASK_PRODUCTS: usize = 8 << 20;
/// What rounding a byte of inputs costs beside reading a byte of weights: the numbers it is made of are twice as long,
/// and it is written.
const ROUNDING: usize = 3;
/// Pairs between one pixel's channels and the next's, so that rows of a power of two of bytes do not all want the same
/// place in a cache.
const GAP: usize = 16;

/// How the rows of the left matrix arise from the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rows {
    /// Pixels as they are.
    Pixels,
    /// Gathered patches.
    Patches,
    /// Taps are offsets into planes.
    Planes,
}

/// A convolution's weights in tiles.
#[derive(Debug)]
pub(super) struct TiledWeights<T> {
    /// `[⌈O/32⌉, step, half of the columns, pair, column]`, filled up with zeros.
    tiles: Buffer<Bf16Pair<T>>,
    rows: Rows,
    steps: usize,
    unit: Unit,
}

impl<T: Scalar> TiledWeights<T> {
    /// Lays out the weights `[kh·kw·I, O]` of `element(k, o)`.
    pub(super) fn new(
        geometry: &ConvolutionGeometry,
        unit: Unit,
        element: impl Fn(usize, usize) -> T + Sync,
    ) -> Self {
        let ConvolutionGeometry { outputs, kernel: (kernel_h, kernel_w), inputs, stride, padding } =
            *geometry;
        let taps = kernel_h * kernel_w;
        let rows = match (taps, stride, padding) {
            (1, 1, 0) => Rows::Pixels,
            _ if inputs.is_multiple_of(STEP) => Rows::Planes,
            _ => Rows::Patches,
        };
        // What steps run through without a break.
        let numbers = if rows == Rows::Patches { taps * inputs } else { inputs };
        let padded = numbers.next_multiple_of(STEP);
        let steps = taps * inputs / numbers * padded / STEP;
        let mut tiles = Buffer::zeros(outputs.div_ceil(COLUMNS) * steps * STEP_WEIGHTS);
        tiles.par_chunks_mut(STEP_WEIGHTS).enumerate().for_each(|(index, tiles)| {
            let (panel, step) = (index / steps, index % steps);
            let (run, first) = (step * STEP / padded, step * STEP % padded);
            for (i, pair) in tiles.iter_mut().enumerate() {
                let columns = COLUMNS / 2;
                let (half, row, column) = (i / (STEP_PAIRS * columns), i / columns % STEP_PAIRS, i % columns);
                let output = panel * COLUMNS + half * columns + column;
                let number = |k: usize| {
                    if k < numbers && output < outputs { element(run * numbers + k, output) } else { T::ZERO }
                };
                let k = first + 2 * row;
                *pair = Bf16Pair::of(&[number(k), number(k + 1)]);
            }
        });
        Self { tiles, rows, steps, unit }
    }

    fn panels(&self) -> usize {
        self.tiles.len() / (self.steps * STEP_WEIGHTS)
    }

    /// One panel's weights, `[step, half of the columns, pair, column]`.
    fn panel(&self, index: usize) -> &[Bf16Pair<T>] {
        let len = self.steps * STEP_WEIGHTS;
        &self.tiles[index * len..][..len]
    }
}

/// How the rows of a task lie in its scratch, and how the output is cut into tasks.
#[derive(Debug)]
struct Layout {
    /// Images, or one where rows know nothing of their neighbours.
    images: usize,
    /// Lines of an image's output, and outputs of a line.
    lines: usize,
    width: usize,
    /// Rows of a line: at least as many.
    row_width: usize,
    /// Lines of a task, and those its planes have beside them.
    task_lines: usize,
    more_lines: usize,
    /// Line and column where each plane begins.
    planes: Vec<(usize, usize)>,
    /// Pairs from one row to the next.
    pitch: usize,
    steps: Steps,
    /// Pairs of the scratch.
    len: usize,
    /// Panels of a task.
    panels: usize,
}

impl Layout {
    fn new<T: Scalar>(g: &Geometry, outputs: usize, weights: &TiledWeights<T>) -> Self {
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
        let run = numbers.div_ceil(STEP);
        let pitch = run * STEP_PAIRS + GAP;

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
                (0..run).map(move |step| offset + step * STEP_PAIRS)
            })
            .collect()
        } else {
            (0..run).map(|step| step * STEP_PAIRS).collect()
        };
        let steps = Steps::new(offsets);
        let rows = (task_lines * row_width).next_multiple_of(TILE_ROWS);
        let len = (planes.len() * plane).max((rows - 1) * pitch + steps.reach());
        Self { images, lines, width, row_width, task_lines, more_lines, planes, pitch, steps, len, panels }
    }
}

/// What decides how lines and panels are cut into tasks. Results do not: a sum's order is its steps'.
struct Cut {
    images: usize,
    /// Lines of an image, and those that a task rounds beside its own.
    lines: usize,
    more_lines: usize,
    /// Bytes of a line's inputs once rounded.
    line_bytes: usize,
    /// Multiplications of a line with one panel.
    line_products: usize,
    panels: usize,
    weight_bytes: usize,
    /// Lines of a task come in multiples of this.
    multiple: usize,
}

impl Cut {
    /// Lines and panels of a task. Every task of a block of lines reads its part of the weights, every task of a group of
    /// panels rounds the inputs of its lines again: of the cuts into about `wanted` tasks that whose tasks move the fewest bytes.
    fn best(&self, wanted: usize) -> (usize, usize) {
        let fitting = (RESIDENT_BYTES / self.line_bytes).saturating_sub(self.more_lines).max(self.multiple);
        let most = fitting.min(self.lines);
        let cuts = (self.lines.div_ceil(most)..=wanted.max(self.lines.div_ceil(most))).map(|blocks| {
            let lines = self.lines.div_ceil(blocks).next_multiple_of(self.multiple);
            let blocks = self.images * self.lines.div_ceil(lines);
            let fewest = TASK_PRODUCTS.div_ceil(self.line_products * lines);
            let groups = wanted.div_ceil(blocks).min(self.panels.div_ceil(fewest)).clamp(1, self.panels);
            let rounded = groups * blocks * (lines + self.more_lines) * self.line_bytes;
            (blocks * self.weight_bytes + ROUNDING * rounded, lines, self.panels.div_ceil(groups))
        });
        let (_, lines, panels) = cuts.min().unwrap_or((0, self.lines, self.panels));
        (lines, panels)
    }
}

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
        let Layout { row_width, more_lines, task_lines, pitch, ref planes, .. } = *self.layout;
        let g = &self.call.geometry;
        let input = self.call.input;
        match self.weights.rows {
            Rows::Pixels => {
                let rows: &mut [Bf16Pair<T>] = bytemuck::cast_slice_mut(self.scratch);
                for (pixel, row) in self.lines.clone().zip(rows.chunks_exact_mut(pitch)) {
                    round(&input[pixel * g.inputs..][..g.inputs], row);
                }
            }
            Rows::Patches => {
                let (rows, patch) = self.scratch.split_at_mut(self.scratch.len() - g.patch());
                let rows: &mut [Bf16Pair<T>] = bytemuck::cast_slice_mut(rows);
                for (position, row) in self.lines.clone().zip(rows.chunks_exact_mut(pitch)) {
                    gather(input, g, position, patch);
                    round(patch, row);
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
                                round(&input[pixel * g.inputs..][..g.inputs], row);
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

/// Rounds a row's numbers, and fills the last step up with zeros.
#[inline(always)]
fn round<T: Scalar>(numbers: &[T], row: &mut [Bf16Pair<T>]) {
    let pairs = numbers.len().div_ceil(2);
    Bf16Pair::pack(numbers, &mut row[..pairs]);
    row[pairs..pairs.next_multiple_of(STEP_PAIRS)].fill(bytemuck::Zeroable::zeroed());
}
