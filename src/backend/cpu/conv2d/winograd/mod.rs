//! 3×3 convolutions of stride 1 by Winograd's algorithm F(4×4, 3×3).
//!
//! The output is cut into tiles of 4×4 pixels. Each tile's 6×6 inputs are transformed ([`transform`]), which leaves
//! 36 independent products `[tiles, I]·[I, O]`, and the products of a tile are transformed back: 2.25 multiplications
//! an output, channel and input where the definition has 9.
//!
//! Work goes in two steps. First inputs are transformed, `[block, 36, tile, I]`. Then a block of tiles and a panel of
//! output channels go through all 36 products, back to pixels and through bias, residual and ReLU, without leaving the
//! core's second-level cache. With few input channels one core does both for a block; with many, all cores do the
//! first step for a bounded number of blocks, and then the second.

mod transform;

use super::Call;
use super::direct::GAP;
use super::disjoint::Disjoint;
use super::epilogue::Epilogue;
use crate::backend::cpu::instructions::{Instructions, Vectorized};
use crate::backend::cpu::operand::Operand;
use crate::backend::cpu::panels::{MOST_ROWS, PANEL, Panels, Rows, Store, multiply_panel, share};
use crate::backend::{ConvolutionGeometry, ConvolutionWeights};
use crate::tensor::Scalar;
use rayon::prelude::*;
use std::ops::Range;
use transform::{
    LANES, Lanes, OUTPUTS, POINTS, PRODUCTS, transform_input, transform_kernel, transform_output,
};

/// Bytes of transformed inputs held at a time: as many as there are of weights, within these bounds. Both stay within
/// the last-level cache; small weights are read again sooner than large ones.
const LEAST_TRANSFORMED: usize = 2 << 20;
const MOST_TRANSFORMED: usize = 12 << 20;
/// Tiles of a block at most: their products with one panel take 129 KB.
const BLOCK_TILES: usize = 2 * MOST_ROWS;
/// Bytes of a block's transformed inputs that leave room in a core's second-level cache of a megabyte.
const RESIDENT_BYTES: usize = 640 << 10;
/// Blocks that a core takes through both steps come in multiples of this, so that few cores finish together.
const BLOCKS_MULTIPLE: usize = 4;
/// Fewer input channels leave too little to multiply beside the transforms.
const FEWEST_INPUTS: usize = 16;

/// Whether the algorithm computes such a convolution.
pub(super) fn serves(geometry: &ConvolutionGeometry) -> bool {
    geometry.kernel == (3, 3) && geometry.stride == 1 && geometry.inputs >= FEWEST_INPUTS
}

/// The transformed weights: for every panel of output channels 36 matrices `[I, PANEL]`, one after the other in the
/// order in which they are read.
#[derive(Debug)]
pub(super) struct TransformedWeights<O> {
    /// `[36·I, O]` in panels.
    panels: Panels<O>,
}

impl<O: Operand> TransformedWeights<O> {
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
        let padded = inputs.next_multiple_of(O::NUMBERS);
        let panels = Panels::new(PRODUCTS * padded, outputs, |k, output| {
            let (product, input) = (k / padded, k % padded);
            if input == inputs {
                return O::Sum::ZERO;
            }
            O::Sum::from_f64(transformed[output * inputs + input][product / POINTS][product % POINTS])
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

pub(super) fn conv2d<O: Operand>(
    call: &Call<'_, O::Sum>,
    weights: &TransformedWeights<O>,
    out: &mut [O::Sum],
) {
    let g = &call.geometry;
    let grid = Grid { tiles: (g.out_h.div_ceil(OUTPUTS), g.out_w.div_ceil(OUTPUTS)) };
    let images = out.len() / (g.out_h * g.out_w * call.bias.len());
    let tiles = images * grid.tiles.0 * grid.tiles.1;
    let stride = g.inputs.next_multiple_of(LANES) / O::NUMBERS + GAP;
    let tile_bytes = PRODUCTS * stride * size_of::<O>();
    let epilogue = Epilogue::new(call.bias, call.residual, call.relu);
    let out = Disjoint::new(out);
    let panels = &weights.panels;

    // A core does both steps for a block whose inputs stay in its second-level cache beside a panel's products, if
    // there are tiles enough to fill blocks.
    if BLOCK_TILES * tile_bytes <= RESIDENT_BYTES && tiles >= BLOCKS_MULTIPLE * MOST_ROWS {
        let blocks = tiles.div_ceil(BLOCK_TILES).next_multiple_of(BLOCKS_MULTIPLE);
        let block_tiles = tiles.div_ceil(blocks);
        (0..tiles.div_ceil(block_tiles)).into_par_iter().with_max_len(1).for_each(|block| {
            let first = block * block_tiles;
            let tiles = first..(first + block_tiles).min(tiles);
            let mut transformed = call.pool.tensor(&[PRODUCTS, block_tiles, stride]);
            let step = Step { call, grid, tiles, block_tiles, stride };
            let transformed: &mut [O] = bytemuck::cast_slice_mut(transformed.data_mut());
            let shared = Disjoint::new(transformed);
            (0..step.tiles.len()).for_each(|tile| step.transform_input(tile, &shared));
            (0..panels.count()).for_each(|panel| step.multiply(panel, transformed, panels, epilogue, &out));
        });
        return;
    }
    let pass_bytes = panels.bytes().clamp(LEAST_TRANSFORMED, MOST_TRANSFORMED);
    let pass_tiles = (pass_bytes / tile_bytes / BLOCK_TILES).max(1) * BLOCK_TILES;
    for first in (0..tiles).step_by(pass_tiles) {
        let tiles = first..(first + pass_tiles).min(tiles);
        let blocks = tiles.len().div_ceil(BLOCK_TILES);
        let block_tiles = tiles.len().div_ceil(blocks);
        let mut transformed = call.pool.tensor(&[blocks, PRODUCTS, block_tiles, stride]);
        let step = Step { call, grid, tiles, block_tiles, stride };
        let transformed: &mut [O] = bytemuck::cast_slice_mut(transformed.data_mut());
        let shared = Disjoint::new(transformed);
        (0..step.tiles.len()).into_par_iter().for_each(|tile| step.transform_input(tile, &shared));
        // Neighbouring tasks share their panel.
        let tasks = (0..blocks * panels.count()).into_par_iter().with_max_len(1);
        tasks.for_each(|task| step.multiply(task, transformed, panels, epilogue, &out));
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
    /// `[N, H, W, I] → [block, 36, tile, I]`, for one of the tiles.
    fn transform_input<O: Operand<Sum = T>>(&self, tile: usize, transformed: &Disjoint<'_, O>) {
        self.call.instructions.run(InputTask { step: self, tile, transformed });
    }

    /// One block of tiles by one panel.
    fn multiply<O: Operand<Sum = T>>(
        &self,
        task: usize,
        transformed: &[O],
        panels: &Panels<O>,
        epilogue: Epilogue<'_, T>,
        out: &Disjoint<'_, T>,
    ) {
        let blocks = self.tiles.len().div_ceil(self.block_tiles);
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
            epilogue,
            out,
        });
    }
}

/// One tile of the input, all channels.
struct InputTask<'a, O: Operand> {
    step: &'a Step<'a, O::Sum>,
    tile: usize,
    transformed: &'a Disjoint<'a, O>,
}

impl<O: Operand> Vectorized for InputTask<'_, O> {
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
            let mut values = [[O::Sum::ZERO; LANES]; PRODUCTS];
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
                let start = ((block * PRODUCTS + i) * block_tiles + place) * stride + channel / O::NUMBERS;
                // SAFETY: no other task has this tile.
                let out = unsafe { self.transformed.part(start, LANES / O::NUMBERS) };
                O::pack(lanes, out);
            }
        }
    }
}

/// A block of tiles by a panel of output channels.
struct OutputTask<'a, O: Operand> {
    step: &'a Step<'a, O::Sum>,
    instructions: Instructions,
    /// The block's inputs, `[36, tile, I]`.
    transformed: &'a [O],
    /// `[36, I, PANEL]`.
    weights: &'a [O],
    /// Room for `[36, tile, PANEL]`.
    products: &'a mut [O::Sum],
    tiles: Range<usize>,
    /// The panel's first.
    channel: usize,
    epilogue: Epilogue<'a, O::Sum>,
    out: &'a Disjoint<'a, O::Sum>,
}

impl<O: Operand> OutputTask<'_, O> {
    #[inline(always)]
    fn multiply(&mut self) {
        let Step { block_tiles, stride, .. } = *self.step;
        let count = self.tiles.len();
        let depth = self.weights.len() / PRODUCTS;
        let groups = count.div_ceil(MOST_ROWS);
        let group = count.div_ceil(groups);
        for (i, products) in self.products.chunks_exact_mut(count * PANEL).enumerate() {
            let (weights, next) = self.weights[i * depth..].split_at(depth);
            let next = &next[..depth.min(next.len())];
            for (index, products) in products.chunks_mut(group * PANEL).enumerate() {
                let first = index * group;
                let left = Rows {
                    data: &self.transformed[(i * block_tiles + first) * stride..],
                    stride,
                    count: products.len() / PANEL,
                };
                let store = Store { out: products.as_mut_ptr(), stride: PANEL, width: PANEL, finish: None };
                // SAFETY: `products` is borrowed mutably and holds the rows.
                unsafe {
                    multiply_panel(self.instructions, left, weights, share(next, index, groups), store);
                };
            }
        }
    }

    #[inline(always)]
    fn transform_back(&mut self) {
        let g = &self.step.call.geometry;
        let (count, outputs) = (self.tiles.len(), self.epilogue.channels());
        for (place, tile) in self.tiles.clone().enumerate() {
            let (image, tile_y, tile_x) = self.step.grid.place(tile);
            for offset in (0..PANEL).step_by(LANES) {
                let channel = self.channel + offset;
                if channel >= outputs {
                    break;
                }
                let width = LANES.min(outputs - channel);
                let mut values: [Lanes<O::Sum>; PRODUCTS] = std::array::from_fn(|i| {
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
                        self.epilogue.at(pixel, channel).apply(
                            0,
                            &values[(y - top) * POINTS + x - left],
                            out,
                        );
                    }
                }
            }
        }
    }
}

impl<O: Operand> Vectorized for OutputTask<'_, O> {
    #[inline(always)]
    fn run(mut self) {
        self.multiply();
        self.transform_back();
    }
}
