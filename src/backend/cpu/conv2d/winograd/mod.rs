//! 3×3 convolutions of stride 1 by Winograd's algorithm F(4×4, 3×3).
//!
//! The output is cut into tiles of 4×4 pixels. Each tile's 6×6 inputs are transformed ([`transform`]), which leaves
//! 36 independent products `[tiles, I]·[I, O]`, and the products of a tile are transformed back: 2.25 multiplications
//! an output, channel and input where the definition has 9.
//!
//! Work goes in two steps, a bounded number of tiles at a time. First all inputs are transformed, `[block, 36, tile,
//! I]`. Then a task takes a block of tiles and a panel of output channels through all 36 products, back to pixels and through
//! bias, residual and ReLU, without leaving the core's second-level cache.

mod transform;

use super::Call;
use super::direct::GAP;
use super::disjoint::Disjoint;
use super::epilogue::Finish;
use crate::backend::cpu::instructions::{Instructions, Vectorized};
use crate::backend::cpu::panels::{MOST_ROWS, PANEL, Panels, Rows, multiply_panel};
use crate::backend::{ConvolutionGeometry, ConvolutionWeights};
use crate::tensor::Scalar;
use rayon::prelude::*;
use std::ops::Range;
use transform::{
    LANES, Lanes, OUTPUTS, POINTS, PRODUCTS, transform_input, transform_kernel, transform_output,
};

/// Bytes of transformed inputs held at a time: they stay within the last-level cache.
const TRANSFORMED_BYTES: usize = 12 << 20;
/// Tiles of a block at most: their products with one panel take 129 KB.
const BLOCK_TILES: usize = 2 * MOST_ROWS;
/// Fewer input channels leave too little to multiply beside the transforms.
const FEWEST_INPUTS: usize = 16;

/// Whether the algorithm computes such a convolution.
pub(super) fn serves(geometry: &ConvolutionGeometry) -> bool {
    geometry.kernel == (3, 3) && geometry.stride == 1 && geometry.inputs >= FEWEST_INPUTS
}

/// The transformed weights: for every panel of output channels 36 matrices `[I, PANEL]`, one after the other in the
/// order in which they are read.
#[derive(Debug)]
pub(super) struct TransformedWeights<T> {
    /// `[36·I, O]` in panels.
    panels: Panels<T>,
}

impl<T: Scalar> TransformedWeights<T> {
    /// Transforms the weights in `f64` and rounds them once.
    pub(super) fn new(weights: &ConvolutionWeights) -> Self {
        let ConvolutionGeometry { outputs, inputs, .. } = weights.geometry();
        let values = weights.weight.data();
        let transformed: Vec<[[f64; POINTS]; POINTS]> = (0..outputs * inputs)
            .into_par_iter()
            .map(|pair| {
                let (output, input) = (pair / inputs, pair % inputs);
                let tap = |i: usize, j: usize| f64::from(values[((output * 3 + i) * 3 + j) * inputs + input]);
                transform_kernel(std::array::from_fn(|i| std::array::from_fn(|j| tap(i, j))))
            })
            .collect();
        let panels = Panels::new(PRODUCTS * inputs, outputs, |k, output| {
            let (product, input) = (k / inputs, k % inputs);
            T::from_f64(transformed[output * inputs + input][product / POINTS][product % POINTS])
        });
        Self { panels }
    }
}

/// Where the tiles of a batch lie.
#[derive(Clone, Copy)]
struct Grid {
    /// Tiles of one image along y and x.
    tiles: (usize, usize),
}

impl Grid {
    /// Image, and the tile's place in it.
    fn place(self, tile: usize) -> (usize, usize, usize) {
        let (rows, columns) = self.tiles;
        (tile / (rows * columns), tile / columns % rows, tile % columns)
    }
}

pub(super) fn conv2d<T: Scalar>(call: &Call<'_, T>, weights: &TransformedWeights<T>, out: &mut [T]) {
    let g = &call.geometry;
    let grid = Grid { tiles: (g.out_h.div_ceil(OUTPUTS), g.out_w.div_ceil(OUTPUTS)) };
    let images = out.len() / (g.out_h * g.out_w * call.bias.len());
    let tiles = images * grid.tiles.0 * grid.tiles.1;
    let stride = g.inputs.next_multiple_of(LANES) + GAP;
    let tile_bytes = PRODUCTS * stride * size_of::<T>();
    let pass_tiles = (TRANSFORMED_BYTES / tile_bytes / BLOCK_TILES).max(1) * BLOCK_TILES;
    let finish = Finish::new(call.bias, call.residual, call.relu);
    let out = Disjoint::new(out);

    for first in (0..tiles).step_by(pass_tiles) {
        let tiles = first..(first + pass_tiles).min(tiles);
        let blocks = tiles.len().div_ceil(BLOCK_TILES);
        let block_tiles = tiles.len().div_ceil(blocks);
        let mut transformed = call.pool.tensor(&[blocks, PRODUCTS, block_tiles, stride]);
        let step = Step { call, grid, tiles, block_tiles, stride };
        step.transform_inputs(transformed.data_mut());
        step.multiply(transformed.data(), &weights.panels, finish, &out);
    }
}

/// Some of the tiles on their way through both steps.
struct Step<'a, T: Scalar> {
    call: &'a Call<'a, T>,
    grid: Grid,
    tiles: Range<usize>,
    /// Tiles of a block.
    block_tiles: usize,
    /// Elements from one tile to the next in the transformed inputs.
    stride: usize,
}

impl<T: Scalar> Step<'_, T> {
    /// `[N, H, W, I] → [block, 36, tile, I]`.
    fn transform_inputs(&self, transformed: &mut [T]) {
        let transformed = Disjoint::new(transformed);
        (0..self.tiles.len()).into_par_iter().for_each(|tile| {
            self.call.instructions.run(InputTask { step: self, tile, transformed: &transformed });
        });
    }

    fn multiply(&self, transformed: &[T], panels: &Panels<T>, finish: Finish<'_, T>, out: &Disjoint<'_, T>) {
        let blocks = self.tiles.len().div_ceil(self.block_tiles);
        // Neighbouring tasks share their panel.
        (0..blocks * panels.count()).into_par_iter().with_max_len(1).for_each(|task| {
            let (block, panel) = (task % blocks, task / blocks);
            let first = block * self.block_tiles;
            let count = self.block_tiles.min(self.tiles.len() - first);
            let mut products = self.call.pool.tensor(&[PRODUCTS, count, PANEL]);
            let size = PRODUCTS * self.block_tiles * self.stride;
            self.call.instructions.run(OutputTask {
                step: self,
                instructions: self.call.instructions,
                transformed: &transformed[block * size..][..size],
                weights: panels.panel(panel),
                products: products.data_mut(),
                tiles: self.tiles.start + first..self.tiles.start + first + count,
                channel: panel * PANEL,
                finish,
                out,
            });
        });
    }
}

/// One tile of the input, all channels.
struct InputTask<'a, T: Scalar> {
    step: &'a Step<'a, T>,
    tile: usize,
    transformed: &'a Disjoint<'a, T>,
}

impl<T: Scalar> Vectorized for InputTask<'_, T> {
    #[inline(always)]
    fn run(self) {
        let Step { call, grid, tiles, block_tiles, stride } = self.step;
        let g = &call.geometry;
        let (image, tile_y, tile_x) = grid.place(tiles.start + self.tile);
        let (block, place) = (self.tile / block_tiles, self.tile % block_tiles);
        // In coordinates shifted by the padding, so that they are never negative.
        let (top, left) = (tile_y * OUTPUTS, tile_x * OUTPUTS);
        let inside = |position: usize, size: usize| (g.padding..g.padding + size).contains(&position);
        for channel in (0..g.inputs).step_by(LANES) {
            let count = LANES.min(g.inputs - channel);
            let mut values = [[T::ZERO; LANES]; PRODUCTS];
            for (i, lanes) in values.iter_mut().enumerate() {
                let (y, x) = (top + i / POINTS, left + i % POINTS);
                if inside(y, g.h) && inside(x, g.w) {
                    let pixel = (image * g.h + y - g.padding) * g.w + x - g.padding;
                    let source = &call.input[pixel * g.inputs + channel..][..count];
                    match source.try_into() {
                        Ok(full) => *lanes = full,
                        Err(_) => lanes[..count].copy_from_slice(source),
                    }
                }
            }
            transform_input(&mut values);
            for (i, lanes) in values.iter().enumerate() {
                let start = ((block * PRODUCTS + i) * block_tiles + place) * stride + channel;
                // SAFETY: no other task has this tile.
                let out = unsafe { self.transformed.part(start, LANES) };
                out.copy_from_slice(lanes);
            }
        }
    }
}

/// A block of tiles by a panel of output channels.
struct OutputTask<'a, T: Scalar> {
    step: &'a Step<'a, T>,
    instructions: Instructions,
    /// The block's inputs, `[36, tile, I]`.
    transformed: &'a [T],
    /// `[36, I, PANEL]`.
    weights: &'a [T],
    /// Room for `[36, tile, PANEL]`.
    products: &'a mut [T],
    tiles: Range<usize>,
    /// The panel's first.
    channel: usize,
    finish: Finish<'a, T>,
    out: &'a Disjoint<'a, T>,
}

impl<T: Scalar> OutputTask<'_, T> {
    #[inline(always)]
    fn multiply(&mut self) {
        let Step { block_tiles, stride, .. } = *self.step;
        let count = self.tiles.len();
        let depth = self.weights.len() / PRODUCTS;
        let group = count.div_ceil(count.div_ceil(MOST_ROWS));
        for (i, products) in self.products.chunks_exact_mut(count * PANEL).enumerate() {
            for (first, products) in (0..count).step_by(group).zip(products.chunks_mut(group * PANEL)) {
                let left = Rows {
                    data: &self.transformed[(i * block_tiles + first) * stride..],
                    stride,
                    count: products.len() / PANEL,
                };
                multiply_panel(self.instructions, left, &self.weights[i * depth..][..depth], products);
            }
        }
    }

    #[inline(always)]
    fn transform_back(&mut self) {
        let g = &self.step.call.geometry;
        let (count, outputs) = (self.tiles.len(), self.finish.channels());
        for (place, tile) in self.tiles.clone().enumerate() {
            let (image, tile_y, tile_x) = self.step.grid.place(tile);
            for offset in (0..PANEL).step_by(LANES) {
                let channel = self.channel + offset;
                if channel >= outputs {
                    break;
                }
                let width = LANES.min(outputs - channel);
                let mut values: [Lanes<T>; PRODUCTS] = std::array::from_fn(|i| {
                    let start = (i * count + place) * PANEL + offset;
                    std::array::from_fn(|lane| self.products[start..start + LANES][lane])
                });
                transform_output(&mut values);
                let (top, left) = (tile_y * OUTPUTS, tile_x * OUTPUTS);
                for y in top..(top + OUTPUTS).min(g.out_h) {
                    for x in left..(left + OUTPUTS).min(g.out_w) {
                        let pixel = (image * g.out_h + y) * g.out_w + x;
                        // SAFETY: no other task has this tile and this panel.
                        let out = unsafe { self.out.part(pixel * outputs + channel, width) };
                        self.finish.apply(pixel, channel, &values[(y - top) * POINTS + x - left], out);
                    }
                }
            }
        }
    }
}

impl<T: Scalar> Vectorized for OutputTask<'_, T> {
    #[inline(always)]
    fn run(mut self) {
        self.multiply();
        self.transform_back();
    }
}
